//! Documentation that is printed from the house's tables: commands, settings, routes. `make docs` writes it anew; the
//! tests here fail when it says something else than the tables do.

use crate::cli::help_of_all;
use crate::config::settings_table;
use crate::server::{Access, routes_table};
use std::path::Path;

/// Stands before what is printed in a page that says more; what follows up to [`END`] is replaced.
const BEGIN: &str = "<!-- printed by `make docs` -->";
const END: &str = "<!-- printed up to here -->";

fn check(page: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{page} has no {BEGIN}"));
    let (now, after) = rest.split_once(END).unwrap_or_else(|| panic!("{page} has no {END}"));
    let wanted = format!("\n\n{}\n\n", printed.trim_end());
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        return std::fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    }
    assert!(now == wanted, "docs/{page} says something else than the table in the source: run `make docs`");
}

#[test]
fn the_commands_are_as_the_table_says() {
    let pages = help_of_all().into_iter().map(|(name, help)| format!("## {name}\n\n```\n{}\n```\n", help.trim_end()));
    check("commands.md", &pages.collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_settings_are_as_the_table_says() {
    let mut text = "| variable | in `config.yml` | default | what |\n|---|---|---|---|\n".to_owned();
    for row in settings_table() {
        let default = if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
        let allowed = row.kind.allowed();
        let allowed = if allowed == "any text" { String::new() } else { format!(" ({allowed})") };
        let cell = |text: String| text.replace('|', "\\|");
        let what = cell(format!("{}{allowed}", row.help));
        text.push_str(&format!("| `{}` | `{}` | {} | {what} |\n", row.variable, row.key, cell(default)));
    }
    check("settings.md", &text);
}

#[test]
fn the_routes_are_as_the_table_says() {
    let mut text = "| | route | scope | parameters | what |\n|---|---|---|---|---|\n".to_owned();
    for route in routes_table() {
        let parameters: Vec<String> = route.parameters.iter().map(|name| format!("`{name}`")).collect();
        let what = route.summary.split(':').next().unwrap_or_default().replace('|', "\\|");
        let needs = match route.access {
            Access::Public => "",
            Access::Needs(scope) | Access::Pod(scope) => scope.as_str(),
        };
        text.push_str(&format!(
            "| {} | `{}` | {needs} | {} | {what} |\n",
            route.method,
            route.path,
            parameters.join(", ")
        ));
    }
    check("rest.md", &text);
}

#[test]
fn the_errors_are_as_the_table_says() {
    let one = |kind: &crate::api::ProblemKind| {
        format!("## {}\n\n{}. {}.\n\nWhat to do: {}.\n", kind.slug, kind.status, kind.title, kind.what_to_do)
    };
    check("errors.md", &crate::api::PROBLEM_KINDS.iter().map(one).collect::<Vec<_>>().join("\n"));
}
