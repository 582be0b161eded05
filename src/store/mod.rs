//! Queue, records and events: one trait, whatever keeps them.
//!
//! A store knows what a job's transitions are (`job/`) and makes each of them durable before it
//! returns. It never starts a process, never touches a repository, and does not decide *when*
//! a job moves. `../ARCHITECTURE.md` gives the order of writes and why.

mod agents;
mod crash;
pub mod embedded;
mod event_log;
mod files;
pub mod job_files;
pub mod redis;
pub mod unconfigured;

use crate::event::{Draft, Event};
use crate::job::{JobId, Mark, Record, Spec, Status};
use crate::process::stop::Stop;
use std::fmt;
use std::time::Duration;

/// An attempt's right to write: names the job and the attempt it was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: JobId,
    pub attempt: u32,
}

impl Lease {
    pub fn of(record: &Record) -> Self {
        Self { id: record.id.clone(), attempt: record.attempt }
    }
}

/// A job that was taken: the record of the new attempt, and what stops it when its lease is lost.
pub struct Claim {
    pub record: Record,
    pub stop: Stop,
}

/// What was read, and whether it comes from the second copy because the first cannot be asked.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    pub it: T,
    pub stale: bool,
}

impl<T> Seen<T> {
    pub fn fresh(it: T) -> Self {
        Self { it, stale: false }
    }
}

/// An Idempotency-Key: what it is called here, and the hash of the request it came with.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub name: String,
    pub request: String,
}

/// How an attempt ends its job.
#[derive(Clone, Debug)]
pub enum End {
    /// As the agent's verdict, already in the record, says.
    Verdict,
    Failed(String),
}

#[derive(Debug)]
pub enum Cancelled {
    Unknown,
    /// Too late: this is how it had ended.
    Ended(Record),
    Done {
        record: Record,
        was_running: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It could not be written or read; nothing has changed. Trying again may help.
    Unavailable(String),
    /// The lease is not the job's present one: whoever holds it has to stop.
    Lost,
    /// This Idempotency-Key was used for another request.
    OtherRequest,
    /// The first request with this Idempotency-Key is not answered yet.
    InFlight,
    /// The server was not told where to keep jobs: what to set.
    Unconfigured(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Unavailable(why) | Error::Unconfigured(why) => f.write_str(why),
            Error::Lost => f.write_str("the job is no longer this attempt's"),
            Error::OtherRequest => f.write_str("this Idempotency-Key was used for another request: use a new one"),
            Error::InFlight => {
                f.write_str("a request with this Idempotency-Key is being answered just now: ask again in a moment")
            }
        }
    }
}

pub trait Store: Send + Sync {
    /// Accepted when it returns: the job is on disk and will reach an end. The same `key` with the
    /// same request gives the same job for as long as that is kept.
    fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error>;

    /// The job that waits longest, now running as a new attempt. None after `wait` without one. `only`: of those
    /// that have this profile.
    fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error>;

    /// Whether anything may be claimed here; claims that wait return when not.
    fn open_claims(&self, open: bool);

    /// Records what the attempt achieved, then the event. Durable when it returns. Returns the record.
    fn mark(&self, lease: &Lease, mark: Mark, event: Option<Draft>) -> Result<Record, Error>;

    /// The job is still this attempt's, as far as can be known: asked before anything begins that
    /// others see.
    fn prove(&self, lease: &Lease) -> Result<(), Error>;

    /// Adds an event that changes nothing in the record. Chatter is not synced.
    fn say(&self, lease: &Lease, event: Draft) -> Result<(), Error>;

    /// Ends the job; the first end stays, whoever made it.
    fn finish(&self, lease: &Lease, end: End) -> Result<Record, Error>;

    /// Puts the job at the head of the line. Counts no death.
    fn hand_back(&self, lease: &Lease, why: &str) -> Result<(), Error>;

    /// Cancels a queued or running job; decided when it returns. A running attempt learns of it
    /// by [`Error::Lost`]; its leftovers are listed until [`Store::release`].
    fn cancel(&self, id: &JobId) -> Result<Cancelled, Error>;

    /// Ended jobs whose attempt has not been tidied away yet, after a restart.
    fn leftovers(&self) -> Vec<Record>;

    /// The job has ended, or is another attempt's, and nothing of this attempt is left.
    fn release(&self, lease: &Lease) -> Result<(), Error>;

    fn get(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error>;

    /// The ids that begin with `prefix`, at most two.
    fn matching(&self, prefix: &str) -> Result<Vec<JobId>, Error>;

    /// Newest first.
    fn list(&self, limit: usize, status: Option<Status>) -> Result<Seen<Vec<Record>>, Error>;

    /// The events after number `after`, in order, at most `limit`.
    fn events(&self, id: &JobId, after: u64, limit: usize) -> Result<Vec<Event>, Error>;

    /// The newest job that reported this Claude session.
    fn with_session(&self, session: &str) -> Result<Option<Record>, Error>;

    /// The record once it has ended, or None after `wait`.
    fn wait_for_end(&self, id: &JobId, wait: Duration) -> Result<Option<Record>, Error>;

    /// Expires what nobody claimed in time; returns the ended jobs whose time to live is over.
    fn tend(&self) -> Result<Vec<Record>, Error>;

    /// Forgets an ended job: record and events.
    fn remove(&self, id: &JobId) -> Result<(), Error>;

    /// Takes over what a server that died here left running. To be called once, before the first
    /// claim; waits until its agents are gone, at most `limit`. Returns how many jobs it found.
    fn recover(&self, limit: Duration) -> Result<usize, Error>;

    /// Says, to whoever asks the store, that this server drains, or no longer does. Until when: for
    /// how much longer its jobs may run.
    fn tell_draining(&self, _until: Option<Duration>) -> Result<(), Error> {
        Ok(())
    }

    /// Whether somebody asked this server through the store to drain, and how long its jobs may run.
    fn asked_to_drain(&self) -> Option<Option<Duration>> {
        None
    }

    /// What the store waits for, if it cannot be used just now.
    fn waits_for(&self) -> Option<String> {
        None
    }

    /// It could be used at least once: what it was told of how to reach it is right.
    fn was_reached(&self) -> bool {
        true
    }

    /// Nothing runs here any more, and nothing will.
    fn shut_down(&self) {}
}
