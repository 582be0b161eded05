//! Why something that was asked for is not done. Each door has one function that maps these to its own answers.

use crate::api::Job;
use crate::store;
use std::fmt;

#[derive(Debug)]
pub enum Refusal {
    /// What was asked cannot be right.
    Invalid {
        /// What is wrong with it: a field, a parameter, a header.
        field: &'static str,
        why: String,
    },
    /// The key may not: a sentence.
    Forbidden(String),
    /// Too much at once; the seconds after which it may be tried again.
    Busy { why: String, retry_after: u64 },
    /// The server itself has as much as it may; the seconds after which it may be tried again.
    Full { why: String, retry_after: u64 },
    /// There is no such job.
    Unknown(String),
    /// There is no such thing: a sentence.
    NotFound(String),
    /// It does not fit what there is: a sentence.
    Conflict(String),
    /// The beginning of an id fits several jobs.
    Ambiguous(String),
    /// The job had ended otherwise: so.
    TooLate(Box<Job>),
    /// The job has not ended: so it stands.
    TooEarly(Box<Job>),
    /// This Idempotency-Key was used for another request.
    OtherRequest,
    /// The first request with this Idempotency-Key is not answered yet.
    InFlight,
    /// The server goes, and that is not taken back.
    Closing,
    /// The server was not told enough: what to do.
    Unconfigured(String),
    /// Cancelled by whoever asked, before it began.
    Cancelled,
    /// It cannot be run on this machine as it is, or the run went wrong: why.
    CannotRun(String),
    /// It could not be done now; nothing has changed.
    Unavailable(String),
}

impl Refusal {
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Refusal::Invalid { field, why: why.into() }
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::OtherRequest => Refusal::OtherRequest,
            store::Error::InFlight => Refusal::InFlight,
            store::Error::Unconfigured(why) => Refusal::Unconfigured(why),
            store::Error::Unavailable(_) | store::Error::Lost => Refusal::Unavailable(error.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Refusal::Invalid { why, .. } => f.write_str(why),
            Refusal::NotFound(why)
            | Refusal::Conflict(why)
            | Refusal::Forbidden(why)
            | Refusal::Busy { why, .. }
            | Refusal::Full { why, .. } => f.write_str(why),
            Refusal::Unknown(id) => write!(f, "no such job: {id}"),
            Refusal::Ambiguous(id) => write!(f, "`{id}` begins the id of several jobs: give more of it"),
            Refusal::TooLate(job) => write!(f, "job {} has ended already: it {}", job.id, job.status.as_str()),
            Refusal::TooEarly(job) => write!(
                f,
                "job {} is {}: only a job that has ended can be retried or resumed; wait for it, or cancel it first",
                job.id,
                job.status.as_str()
            ),
            Refusal::OtherRequest => store::Error::OtherRequest.fmt(f),
            Refusal::InFlight => store::Error::InFlight.fmt(f),
            Refusal::Closing => {
                f.write_str("the server was told to go, and goes once its jobs are over: that cannot be taken back")
            }
            Refusal::Unconfigured(why) => write!(f, "this server takes no jobs yet, because it needs {why}"),
            Refusal::CannotRun(why) => f.write_str(why),
            Refusal::Cancelled => f.write_str("cancelled before the job began"),
            Refusal::Unavailable(why) => write!(f, "the job store cannot be used just now: {why}"),
        }
    }
}
