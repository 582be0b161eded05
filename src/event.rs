//! What happened to a job, in order: one event after another, each with its cursor.
//!
//! Pure. Decides how large an event may be and how many a job may have; never stores one.

use crate::job::{Time, cut};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most bytes one event takes as JSON; longer ones are cut and say so.
pub const EVENT_LIMIT: usize = 16 * 1024;
/// The most events a job has.
pub const EVENTS_LIMIT: u32 = 5_000;
/// Events beyond this number are kept for what the runner itself reports.
const CHATTER_LIMIT: u32 = EVENTS_LIMIT - 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Queued,
    Claimed,
    Cloning,
    WorktreeReady,
    AgentStarted,
    /// What the agent said.
    AgentText,
    /// A tool the agent used, `tool` names it.
    AgentTool,
    /// What the tool answered.
    AgentToolResult,
    /// Anything else worth a line: a retry, a denied tool, output that is no event.
    AgentNotice,
    AgentEnded,
    Committed,
    Pushed,
    PrOpened,
    /// Publishing did not happen, or not yet, and why.
    PublishNotice,
    HandedBack,
    WorkerLost,
    /// The agent said more than is kept.
    EventsCut,
    Ended,
}

impl Kind {
    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        use Kind::*;
        match self {
            Queued => "queued",
            Claimed => "claimed",
            Cloning => "cloning",
            WorktreeReady => "worktree_ready",
            AgentStarted => "agent_started",
            AgentText => "agent_text",
            AgentTool => "agent_tool",
            AgentToolResult => "agent_tool_result",
            AgentNotice => "agent_notice",
            AgentEnded => "agent_ended",
            Committed => "committed",
            Pushed => "pushed",
            PrOpened => "pr_opened",
            PublishNotice => "publish_notice",
            HandedBack => "handed_back",
            WorkerLost => "worker_lost",
            EventsCut => "events_cut",
            Ended => "ended",
        }
    }

    /// Chatter is the agent's own; it is not synced and is the first to be dropped.
    pub fn is_chatter(self) -> bool {
        use Kind::*;
        matches!(self, AgentText | AgentTool | AgentToolResult | AgentNotice)
    }
}

/// Where an event stands among those of its job. As a text it is opaque to users: the same whoever gives it out,
/// and it rises, also when texts are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor {
    pub attempt: u32,
    /// Starts at 1 in each attempt and rises by one, but for the two below.
    pub number: u32,
}

impl Cursor {
    /// Before the first event.
    pub const START: Cursor = Cursor { attempt: 0, number: 0 };
    /// The number of what others did to an attempt: they took the job from it.
    pub const HANDOVER: u32 = 999_998;
    /// The number of the job's end.
    pub const END: u32 = 999_999;

    /// `other` is what comes directly after this one, as far as that can be told without asking the record.
    pub fn is_followed_by(self, other: Cursor) -> bool {
        other.attempt == self.attempt && other.number == self.number + 1
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (attempt, number) = text.split_once('-')?;
        let read = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self { attempt: read(attempt)?, number: read(number)? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:05}-{:06}", self.attempt, self.number)
    }
}

/// An event before the store gave it a number.
#[derive(Clone, Debug)]
pub struct Draft {
    pub kind: Kind,
    pub text: String,
    pub tool: Option<String>,
}

impl Draft {
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), tool: None }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Within its attempt, see [`Cursor`].
    pub number: u32,
    pub time: Time,
    pub attempt: u32,
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// The text was longer than an event may be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Event {
    pub fn cursor(&self) -> Cursor {
        Cursor { attempt: self.attempt, number: self.number }
    }

    /// The event as one line of JSON.
    pub fn to_line(&self) -> String {
        // Text, numbers and names: there is nothing here that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same, cut so that it takes [`EVENT_LIMIT`] bytes at most as a line.
    pub fn fit(mut self) -> Self {
        self.tool = self.tool.map(|tool| cut(tool, 256));
        let mut room = EVENT_LIMIT;
        loop {
            if self.text.len() > room {
                self.text = cut(self.text, room);
                self.cut = true;
            }
            let length = self.to_line().len();
            if length <= EVENT_LIMIT {
                return self;
            }
            // JSON's escapes made it longer than the text: take off at least that much.
            room = self.text.len().saturating_sub((length - EVENT_LIMIT).div_ceil(6).max(16));
        }
    }
}

/// What becomes of the next event of a job that has `so_far` of them.
#[derive(PartialEq, Eq, Debug)]
pub enum Admission {
    Keep,
    /// Keep nothing of it, but say once that events are being dropped.
    SayCut,
    Drop,
}

pub fn admit(kind: Kind, so_far: u32) -> Admission {
    match kind {
        kind if kind.is_chatter() && so_far == CHATTER_LIMIT => Admission::SayCut,
        kind if kind.is_chatter() && so_far > CHATTER_LIMIT => Admission::Drop,
        _ if so_far + 1 >= EVENTS_LIMIT => Admission::Drop,
        _ => Admission::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: String) -> Event {
        Event { number: 1, time: Time(0), attempt: 1, kind: Kind::AgentText, text, tool: None, cut: false }
    }

    #[test]
    fn a_line_is_never_longer_than_the_limit() {
        for text in ["x".repeat(100_000), "\u{0}".repeat(20_000), "ä\"\\".repeat(9_000), "😀".repeat(50_000)] {
            let line = event(text).fit().to_line();
            assert!(line.len() <= EVENT_LIMIT && line.len() > EVENT_LIMIT / 2, "{}", line.len());
            let back: Event = serde_json::from_str(&line).unwrap();
            assert!(back.cut && back.text.ends_with("[cut]"));
        }
        let short = event("hello".into()).fit().to_line();
        assert!(!short.contains("cut"), "{short}");
    }

    #[test]
    fn chatter_gives_way_to_what_the_runner_reports() {
        assert_eq!(admit(Kind::AgentText, CHATTER_LIMIT - 1), Admission::Keep);
        assert_eq!(admit(Kind::AgentText, CHATTER_LIMIT), Admission::SayCut);
        assert_eq!(admit(Kind::AgentText, CHATTER_LIMIT + 1), Admission::Drop);
        assert_eq!(admit(Kind::Pushed, CHATTER_LIMIT + 1), Admission::Keep);
        assert_eq!(admit(Kind::Claimed, EVENTS_LIMIT - 1), Admission::Drop);
    }

    #[test]
    fn cursors_rise_as_texts_too_and_are_read_strictly() {
        let at = |attempt, number| Cursor { attempt, number };
        let rising =
            [Cursor::START, at(0, 1), at(1, 9), at(1, 10), at(1, Cursor::HANDOVER), at(2, 1), at(10, Cursor::END)];
        let texts = rising.map(|cursor| cursor.to_string());
        assert!(rising.is_sorted() && texts.is_sorted(), "{texts:?}");
        assert!(texts.iter().zip(rising).all(|(text, cursor)| Cursor::parse(text) == Some(cursor)));
        for wrong in ["", "1", "-", "1-", "a-1", "1-+1", "1-2-3", "99999999999-1"] {
            assert_eq!(Cursor::parse(wrong), None, "{wrong}");
        }
        assert!(at(1, 9).is_followed_by(at(1, 10)) && !at(1, 9).is_followed_by(at(2, 1)));
    }
}
