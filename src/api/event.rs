//! What happened to a job, as it is shown.

use crate::event::{self, Kind};
use crate::job::Time;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Opaque; rises within a job, also when texts are compared. To go on after it, send it as `after`.
    pub cursor: String,
    pub time: Time,
    pub attempt: u32,
    pub kind: Kind,
    pub text: String,
    pub tool: Option<String>,
}

impl From<&event::Event> for Event {
    fn from(event: &event::Event) -> Self {
        Self {
            cursor: event.cursor().to_string(),
            time: event.time,
            attempt: event.attempt,
            kind: event.kind,
            text: event.text.clone(),
            tool: event.tool.clone(),
        }
    }
}

/// `GET /jobs/{id}/events`
#[derive(Debug, Serialize, Deserialize)]
pub struct EventPage {
    pub success: bool,
    pub events: Vec<Event>,
    /// Where the next page begins; None: there was nothing yet.
    pub next: Option<String>,
    /// The job has ended, and this page tells of its end: no other follows.
    pub ended: bool,
}
