//! `--help`, made from the table of commands.

use super::commands::{COMMANDS, Flag, Row, find};
use crate::server;

/// About a command, or about everything.
pub fn text(command: Option<&str>) -> String {
    match command.and_then(find) {
        Some(row) => of_command(row),
        None => everything(),
    }
}

fn of_command(row: &Row) -> String {
    let word = row.word.map(|word| format!(" {word}")).unwrap_or_default();
    let flags = if row.flags.is_empty() { "" } else { " [flags]" };
    let mut text = format!("agenticore {}{word}{flags}\n\n{}\n", row.name, row.about);
    let shown: Vec<(String, &str)> = row.flags.iter().map(|flag| (shown(flag), flag.help)).collect();
    let width = shown.iter().map(|(left, _)| left.chars().count()).max().unwrap_or(0).min(28);
    if !shown.is_empty() {
        text.push('\n');
    }
    for (left, help) in shown {
        match left.chars().count() <= width {
            true => text.push_str(&format!("  {left:width$}  {help}\n")),
            false => text.push_str(&format!("  {left}\n  {:width$}  {help}\n", "")),
        }
    }
    if row.name == "serve" {
        text.push_str(&format!("\nWhat it answers (docs/rest.md says more):\n\n{}", server::shown_routes()));
    }
    if !row.more.is_empty() {
        text.push_str(&format!("\n{}", row.more));
    }
    text
}

fn shown(flag: &Flag) -> String {
    let short = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
    let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}--{}{value}", flag.name)
}

fn everything() -> String {
    let mut commands = String::new();
    for row in &COMMANDS {
        let usage = format!("agenticore {} {}", row.name, row.word.unwrap_or_default());
        commands.push_str(&format!("  {usage:30} {}\n", row.summary));
    }
    format!(
        "\
agenticore runs coding agents: it takes tasks, queues them, runs `claude -p` for each in a worktree of
its own, and opens a pull request with what came out.

{commands}
`agenticore COMMAND --help` says more. A first run, without a server:

  agenticore run --local \"add a README\" --repo https://github.com/you/project

Exit codes: 0 done, 1 failed, 2 bad usage, 3 drained but jobs were put back, 4 cancelled or expired,
5 succeeded but not published, 6 server unreachable, 130 stopped by Ctrl-C: a job goes on. Clients
look for the server at AGENTICORE_URL, or else at AGENTICORE_HOST:AGENTICORE_PORT.
"
    )
}

/// Each command's page, for the documentation.
#[cfg(test)]
pub fn of_all() -> Vec<(String, String)> {
    let pages = COMMANDS.iter().map(|row| (format!("agenticore {}", row.name), of_command(row)));
    std::iter::once(("agenticore".to_owned(), everything())).chain(pages).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal_and_names_every_flag() {
        for row in &COMMANDS {
            let text = text(Some(row.name));
            assert!(row.flags.iter().all(|flag| text.contains(&format!("--{}", flag.name))), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        }
        assert!(COMMANDS.iter().all(|row| everything().contains(row.summary)));
    }
}
