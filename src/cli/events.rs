//! How events look to a person: text as text, a tool call in a line, long output folded, the time since the job's
//! begin.
//!
//! The same events give the same lines whether they come one by one or all at once.

use super::show::{Colour, Cut, cut, is_colourful, paint_if, plain};
use crate::api::Event;
use crate::event::Kind;
use crate::job::Time;
use crate::process::sys;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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
        Self { begin, width: width.max(MARGIN + 4), colour: is_colourful(is_terminal) }
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
                vec![cut_end(&format!("{tool}: {}", one_line(&text)), room)]
            }
            Kind::AgentToolResult | Kind::AgentNotice => folded(&text, room),
            // The mark before it says that it is a note.
            Kind::PublishNotice => wrapped(&one_line(&text), room),
            _ if text.is_empty() => vec![name],
            // An address that is cut is none.
            _ => wrapped(&format!("{name}: {}", one_line(&text)), room),
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

fn cut_end(text: &str, room: usize) -> String {
    cut(text, room, Cut::End)
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ⏎ ")
}

/// The first lines, and how many there are more.
fn folded(text: &str, room: usize) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let mut shown: Vec<String> = lines.iter().take(SHOWN_LINES).map(|line| cut_end(line, room)).collect();
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

/// Cut between words where that can be. Counts columns: some characters take two.
fn wrapped(line: &str, room: usize) -> Vec<String> {
    let (mut lines, mut used) = (vec![String::new()], 0);
    for word in line.split_inclusive(' ') {
        if used > 0 && used + word.trim_end().width() > room {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            let width = c.width().unwrap_or(0);
            if used + width > room && c != ' ' {
                lines.push(String::new());
                used = 0;
            }
            if let Some(last) = lines.last_mut() {
                last.push(c);
            }
            used += width;
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

    /// A job as `logs` shows it, at four widths. `WRITE_GOLDEN=1` writes it anew.
    #[test]
    fn the_story_of_a_job_is_shown_as_it_was() {
        let long =
            "I looked at the parser, found that an empty line ends the whole input, and wrote a test for that first.";
        let events = [
            (0, Kind::Queued, ""),
            (1, Kind::Claimed, "attempt 1 on agenticore-0"),
            (2, Kind::WorktreeReady, "/worktrees/3f2a1b9c-0000-4000-8000-000000000000 at main (59f6f8c2b3af)"),
            (9, Kind::AgentText, long),
            (
                9,
                Kind::AgentText,
                "文字化けした名前のファイルがありましたので、名前を付け直してから、もう一度すべてのテストを実行しました。",
            ),
            (12, Kind::AgentTool, "cargo test --workspace --all-features -- --nocapture parser::tests::an_empty_line"),
            (75, Kind::AgentToolResult, "running 3 tests\n.\n.\nF\n\nfailures:\n  an_empty_line\nerror: test failed"),
            (3_700, Kind::AgentEnded, "succeeded"),
            (3_701, Kind::PublishNotice, "pushing: the remote hung up; trying again in 0.5 s"),
            (3_702, Kind::PrOpened, "https://github.com/you/project/pull/41"),
            (3_702, Kind::Ended, "succeeded"),
        ];
        let mut shown = String::new();
        for width in [60, 80, 120, NO_TERMINAL] {
            let printer = EventPrinter { begin: Time(0), width, colour: false };
            let name = if width == NO_TERMINAL { "no terminal".to_owned() } else { width.to_string() };
            shown.push_str(&format!("== {name}\n"));
            for (seconds, kind, text) in events {
                let tool = (kind == Kind::AgentTool).then(|| "Bash".to_owned());
                let (cursor, time) = (String::new(), Time(seconds * 1000));
                let text = printer.text(&Event { cursor, time, attempt: 1, kind, text: text.into(), tool });
                assert!(text.lines().all(|line| line.width() <= width), "{width}: {text}");
                shown.push_str(&text);
            }
        }
        crate::golden::check("logs.txt", &shown);
    }
}
