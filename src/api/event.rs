//! What happened to a job, as it is shown.

use crate::change;
use crate::event::{self, Kind};
use crate::job::{JobId, Status, Time};
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

/// A job's change of status, among those of all jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Opaque; rises over all jobs. To go on after it, send it as `after`.
    pub cursor: String,
    pub time: Time,
    pub job: JobId,
    pub status: Status,
}

impl From<&change::Change> for Change {
    fn from(change: &change::Change) -> Self {
        let (cursor, time) = (change.cursor.to_string(), change.cursor.time());
        Self { cursor, time, job: change.job.clone(), status: change.status }
    }
}

/// `GET /events`
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangePage {
    pub success: bool,
    pub events: Vec<Change>,
    /// Where the next page begins; None: there was nothing yet.
    pub next: Option<String>,
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
