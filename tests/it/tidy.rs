//! The house stays readable: each module says what it is for, no line is too long, no file hides another.

use std::path::{Path, PathBuf};

const WIDEST: usize = 120;
/// Longer than this a file holds more than one thing.
const LONGEST: usize = 450;

fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, ending: &str, into: &mut Vec<PathBuf>) {
        for path in std::fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                walk(&path, ending, into);
            } else if path.extension().is_some_and(|found| found == ending) {
                into.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(below), ending, &mut found);
    assert!(!found.is_empty(), "{below}");
    found
}

fn assert_none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn each_module_says_what_it_is_for() {
    let silent =
        files("src", "rs").into_iter().filter(|path| !std::fs::read_to_string(path).unwrap().starts_with("//!"));
    assert_none("no //! on its first line", silent.map(|path| path.display().to_string()).collect());
}

#[test]
fn no_line_is_too_long_and_no_file_either() {
    let (mut wide, mut long) = (Vec::new(), Vec::new());
    let sources = [files("src", "rs"), files("src", "lua")].concat();
    for path in &sources {
        let text = std::fs::read_to_string(path).unwrap();
        let is_data = |line: &str| line.contains("r#\"");
        let too_wide = text.lines().enumerate().filter(|(_, line)| line.chars().count() > WIDEST && !is_data(line));
        wide.extend(too_wide.map(|(at, _)| format!("{}:{}", path.display(), at + 1)));
        let own = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        if own > LONGEST {
            long.push(format!("{}: {own} lines without its tests", path.display()));
        }
    }
    assert_none("lines of more than 120 characters", wide);
    assert_none("files that hold too much", long);
}

#[test]
fn documentation_fits_the_screen() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| root.join(name))
        .into();
    pages.extend(files("docs", "md"));
    let mut wide = Vec::new();
    for path in pages {
        let mut is_code = false;
        for (at, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            is_code ^= line.trim_start().starts_with("```");
            if !is_code && !line.starts_with('|') && line.chars().count() > WIDEST {
                wide.push(format!("{}:{}", path.display(), at + 1));
            }
        }
    }
    assert_none("lines of more than 120 characters", wide);
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = ["TODO", "FIXME", "XXX", "unimplemented!", "todo!"];
    let left = files("src", "rs").into_iter().filter(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        marks.iter().any(|mark| text.contains(mark))
    });
    assert_none("something is left to be done", left.map(|path| path.display().to_string()).collect());
}

/// What is released says so, and what says so is what is released.
#[test]
fn the_changelog_and_the_versions_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let first = read("CHANGELOG.md").lines().find(|line| line.starts_with("## ")).map(str::to_owned).unwrap();
    assert!(first.split([' ', '(']).any(|word| word == version), "CHANGELOG.md begins with `{first}`, not {version}");
    let chart = read("charts/agenticore/Chart.yaml");
    for line in [format!("version: {version}"), format!("appVersion: v{version}")] {
        assert!(chart.lines().any(|found| found == line), "Chart.yaml should say `{line}`");
    }
}

/// A page that is named is there, and so is the heading that a link leads to.
#[test]
fn links_in_the_documentation_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    let pages = names.iter().map(|name| root.join(name)).chain(files("docs", "md"));
    let anchor = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    let mut lost = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = std::fs::read_to_string(&target).ok();
            let has = |text: &String| text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            let is_there = if heading.is_empty() { target.exists() } else { found.as_ref().is_some_and(has) };
            if !is_there {
                lost.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert_none("links that lead nowhere", lost);
}

/// Nobody above the service names what is below it; `doctor` alone looks there.
#[test]
fn doors_go_through_the_service() {
    let below = ["crate::store", "crate::pipeline", "crate::fleet", "crate::workspace"];
    let mut found = Vec::new();
    for path in [files("src/server", "rs"), files("src/cli", "rs")].concat() {
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.lines().filter(|line| below.iter().any(|name| line.contains(name)));
        found.extend(names.map(|line| format!("{}: {}", path.display(), line.trim())));
    }
    assert_none("a door that goes past the service", found);
}

/// No part uses what stands above it in ARCHITECTURE.md.
#[test]
fn nothing_uses_what_stands_above_it() {
    let layers: [&[&str]; 9] = [
        &["cli"],
        &["doctor", "server"],
        &["service"],
        &["fleet"],
        &["checkouts", "pipeline"],
        &["agent", "workspace", "profile", "forge", "webhook"],
        &["store", "volume"],
        &["process"],
        &[
            "api",
            "change",
            "config",
            "event",
            "job",
            "suggest",
            "redact",
            "log",
            "tls",
            "plain",
            "metrics",
            "trace_context",
            "addresses",
            "spans",
            "web",
        ],
    ];
    // The shapes of profiles are told by profiles; a volume is told by settings.
    let allowed = [("api", "profile"), ("api", "checkouts"), ("config", "process")];
    let of = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for path in files("src", "rs") {
        let own = path.strip_prefix(&root).unwrap().iter().next().unwrap().to_string_lossy().replace(".rs", "");
        let Some(at) = of(&own) else { continue };
        let text = std::fs::read_to_string(&path).unwrap();
        for part in text.split("crate::").skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if of(&name).is_some_and(|used| used < at) && !allowed.contains(&(own.as_str(), name.as_str())) {
                found.push(format!("{} uses crate::{name}", path.display()));
            }
        }
    }
    found.dedup();
    assert_none("a part that uses what stands above it", found);
}
