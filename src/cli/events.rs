//! How events look to a person: text as text, a tool call in a line, long output folded, the time since the job's
//! begin.
//!
//! The same events give the same lines whether they come one by one or all at once.

use super::show::{Colour, is_colourful, paint_if, plain};
use crate::api::Event;
use crate::event::Kind;
use crate::job::Time;
use crate::process::sys;
use std::io::IsTerminal;
use std::os::fd::AsFd;

/// Lines of a tool's output that are shown.
const SHOWN_LINES: usize = 5;
/// The width where no terminal tells one: long lines stay whole for those who search in them, but not for ever.
const NO_TERMINAL: usize = 1_000;
/// Of the time and the mark before each line.
const MARGIN: usize = 14;

pub struct EventPrinter {
    begin: Time,
    width: usize,
    colour: bool,
}

impl EventPrinter {
    /// `begin`: of the job. `to`: where it will be printed.
    pub fn new(begin: Time, to: &(impl IsTerminal + AsFd)) -> Self {
        let is_terminal = to.is_terminal();
        let width = sys::terminal_width(to.as_fd()).filter(|_| is_terminal).map_or(NO_TERMINAL, usize::from);
        Self { begin, width: width.max(MARGIN + 20), colour: is_colourful(is_terminal) }
    }

    pub fn text(&self, event: &Event) -> String {
        let (mark, colour) = mark(event);
        let since = event.time.since(self.begin).max(0) / 1000;
        let time = match since / 3600 {
            0 => format!("{}:{:02}", since / 60, since % 60),
            hours => format!("{hours}:{:02}:{:02}", since / 60 % 60, since % 60),
        };
        let lines = self.lines(event);
        let paint = |text: &str, colour| paint_if(self.colour, text, colour);
        let mut shown = String::new();
        for (at, line) in lines.iter().enumerate() {
            let margin = match at {
                0 => format!("{} {}", paint(&format!("{time:>7}"), Colour::Dim), paint(&format!("{mark:5}"), colour)),
                _ => " ".repeat(MARGIN - 1),
            };
            shown.push_str(format!("{margin} {line}").trim_end());
            shown.push('\n');
        }
        shown
    }

    fn lines(&self, event: &Event) -> Vec<String> {
        let room = self.width - MARGIN;
        let text = plain(&event.text).replace('\t', "    ");
        let name = event.kind.as_str().replace('_', " ");
        match event.kind {
            Kind::AgentText => text.trim_end().lines().flat_map(|line| wrapped(line, room)).collect(),
            Kind::AgentTool => {
                let tool = event.tool.as_deref().map_or_else(|| "tool".to_owned(), plain);
                vec![cut(&format!("{tool}: {}", one_line(&text)), room)]
            }
            Kind::AgentToolResult | Kind::AgentNotice => folded(&text, room),
            _ if text.is_empty() => vec![name],
            _ => vec![cut(&format!("{name}: {}", one_line(&text)), room)],
        }
    }
}

fn mark(event: &Event) -> (&'static str, Colour) {
    match event.kind {
        Kind::AgentText => ("says", Colour::Bold),
        Kind::AgentTool => ("does", Colour::Blue),
        Kind::AgentToolResult if event.text.starts_with("error: ") => ("fails", Colour::Red),
        Kind::AgentToolResult => ("sees", Colour::Dim),
        Kind::AgentNotice | Kind::PublishNotice | Kind::EventsCut | Kind::WorkerLost | Kind::HandedBack => {
            ("note", Colour::Yellow)
        }
        Kind::PrOpened | Kind::Pushed | Kind::Committed => ("work", Colour::Green),
        _ => ("job", Colour::Dim),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ⏎ ")
}

fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room { text.to_owned() } else { text.chars().take(room - 1).chain(['…']).collect() }
}

/// The first lines, and how many there are more.
fn folded(text: &str, room: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut shown: Vec<String> = lines.iter().take(SHOWN_LINES).map(|line| cut(line, room)).collect();
    match lines.len().saturating_sub(SHOWN_LINES) {
        0 => {}
        1 => shown.push("… one more line".into()),
        more => shown.push(format!("… {more} more lines")),
    }
    if shown.is_empty() {
        shown.push("(nothing)".into());
    }
    shown
}

/// Cut between words where that can be.
fn wrapped(line: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split_inclusive(' ') {
        let used = lines.last().map_or(0, |line| line.chars().count());
        if used > 0 && used + word.trim_end().chars().count() > room {
            lines.push(String::new());
        }
        let mut rest: Vec<char> = word.chars().collect();
        while rest.len() > room {
            let longer = rest.split_off(room);
            lines.push(rest.into_iter().collect());
            lines.push(String::new());
            rest = longer;
        }
        if let Some(last) = lines.last_mut() {
            last.extend(rest);
        }
    }
    lines.retain(|line| !line.is_empty());
    if lines.is_empty() { vec![String::new()] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: usize, kind: Kind, text: &str) -> String {
        let printer = EventPrinter { begin: Time(0), width, colour: false };
        let tool = (kind == Kind::AgentTool).then(|| "Bash".to_owned());
        printer.text(&Event { cursor: String::new(), time: Time(65_000), attempt: 1, kind, text: text.into(), tool })
    }

    #[test]
    fn each_kind_is_shown_as_a_person_wants_to_read_it() {
        for (kind, text, expected) in [
            (Kind::AgentText, "first\n\nsecond", "   1:05 says  first\n\n              second\n"),
            (Kind::AgentTool, "ls\n -l", "   1:05 does  Bash: ls ⏎ -l\n"),
            (Kind::AgentToolResult, "error: no", "   1:05 fails error: no\n"),
            (Kind::AgentToolResult, "", "   1:05 sees  (nothing)\n"),
            (Kind::Claimed, "attempt 1 on a", "   1:05 job   claimed: attempt 1 on a\n"),
            (Kind::Queued, "", "   1:05 job   queued\n"),
            (Kind::AgentText, "a\u{1b}[2Jb", "   1:05 says  a\u{fffd}[2Jb\n"),
        ] {
            assert_eq!(shown(100, kind, text), expected);
        }
        let folded = shown(100, Kind::AgentToolResult, "1\n2\n3\n4\n5\n6\n7");
        assert!(folded.starts_with("   1:05 sees  1\n              2\n"), "{folded}");
        assert!(folded.lines().count() == 6 && folded.ends_with("              … 2 more lines\n"), "{folded}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let long = format!("{} {}", "word ".repeat(60), "x".repeat(200));
        for kind in [Kind::AgentText, Kind::AgentTool, Kind::AgentToolResult, Kind::Pushed, Kind::AgentNotice] {
            let text = shown(60, kind, &long);
            assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        }
        assert_eq!(shown(60, Kind::AgentText, &long).matches('x').count(), 200, "text is never cut");
    }
}
