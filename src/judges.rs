//! What judges texts from outside and touches nothing: opened for the loops that try them (`tests/fuzz`).

pub use crate::agent::stream;
pub use crate::profile::parse as profile;
pub use crate::server::head;
pub use crate::trace_context::TraceParent;
pub use crate::workspace::{refname, url};

pub mod api {
    pub use crate::api::{JobRequest, PlanRequest, RetryRequest, WorktreeRequest, cursor, moment};
}

pub mod shown {
    pub use crate::cli::{Cut, cut};
    pub use crate::plain::{line, text};

    /// In columns of a terminal.
    pub fn width(text: &str) -> usize {
        unicode_width::UnicodeWidthStr::width(text)
    }
}

pub mod addresses {
    pub use crate::addresses::{is_public, spelled};
}

pub mod webhook {
    pub use crate::webhook::{judge, shown};
}
