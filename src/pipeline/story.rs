//! Which of a job's events the server's log tells, and in which word. Pure.

use crate::event::Kind;
use crate::log::Level;

/// The most of a step's detail that the log repeats, in bytes; the record has all of it.
pub const DETAIL_LIMIT: usize = 300;

/// None: what the agent says and does, or what the log has from elsewhere.
pub fn told_of(kind: Kind) -> Option<(Level, &'static str)> {
    Some(match kind {
        Kind::Claimed => (Level::Info, "claimed"),
        // Progress; it would be dozens of lines.
        Kind::Cloning => (Level::Debug, "cloning"),
        Kind::WorktreeReady => (Level::Info, "cloned"),
        Kind::AgentStarted => (Level::Info, "agent started"),
        Kind::AgentEnded => (Level::Info, "agent ended"),
        Kind::Committed => (Level::Info, "committed"),
        Kind::Pushed => (Level::Info, "pushed"),
        Kind::PrOpened => (Level::Info, "published"),
        Kind::PublishNotice => (Level::Info, "note"),
        _ => return None,
    })
}

/// The others tell of something on the way.
pub fn is_end_of_step(kind: Kind) -> bool {
    !matches!(kind, Kind::Claimed | Kind::Cloning | Kind::PublishNotice)
}
