//! The manual page, printed from the table of commands. Pure.

use super::commands::COMMANDS;

/// What roff would take for an order of its own.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.lines()
        .map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() })
        .collect::<Vec<_>>()
        .join("\n")
}

pub fn text() -> String {
    let about = "Takes coding tasks, queues them, runs `claude -p` for each in a git worktree of its own, and opens a \
                 pull request with what came out. Without a command it is the server.";
    let head = [
        &format!(".TH AGENTICORE 1 \"\" \"agenticore {}\" \"User Commands\"", env!("CARGO_PKG_VERSION")),
        ".SH NAME",
        "agenticore \\- run coding agents: tasks in, pull requests out",
        ".SH SYNOPSIS",
        ".B agenticore",
        ".I COMMAND",
        "[flags]",
        ".SH DESCRIPTION",
        &roff(about),
        ".SH COMMANDS\n",
    ];
    let mut text = head.join("\n");
    for row in &COMMANDS {
        let word = row.word.map(|word| format!(" \\fI{}\\fR", roff(word))).unwrap_or_default();
        text.push_str(&format!(".SS \"\\fB{}\\fR{word}\"\n{}\n", row.name, roff(row.about)));
        for flag in row.flags {
            let short = flag.short.map(|letter| format!("\\fB\\-{letter}\\fR, ")).unwrap_or_default();
            let value = flag.value.map(|value| format!(" \\fI{}\\fR", roff(value))).unwrap_or_default();
            text.push_str(&format!(".TP\n{short}\\fB\\-\\-{}\\fR{value}\n{}\n", roff(flag.name), roff(flag.help)));
        }
    }
    let end = [
        ".SH EXIT STATUS",
        "0 done, 1 failed, 2 bad usage, 3 drained but jobs were put back, 4 cancelled or expired,",
        "5 succeeded but not published, 6 server unreachable.",
        ".SH ENVIRONMENT",
        "Each setting is a variable;",
        ".B agenticore config",
        "shows all of them, their values, and where those came from.",
        ".SH FILES",
        "~/.agenticore/config.yml, ~/.agenticore/profiles/\n",
    ];
    text.push_str(&end.join("\n"));
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_has_every_command_and_no_order_by_accident() {
        let page = super::text();
        for row in &super::COMMANDS {
            assert!(page.contains(&format!("\\fB{}\\fR", row.name)), "{}", row.name);
        }
        let known = [".TH", ".SH", ".SS", ".TP", ".B", ".I"];
        let orders = page.lines().filter(|line| line.starts_with(['.', '\'']));
        assert!(orders.into_iter().all(|line| known.iter().any(|order| line.starts_with(order))));
        crate::golden::check("man.1", &page.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }
}
