//! Queue, records and events: the same traits, whatever keeps them.
//!
//! Cut by who uses them: [`Jobs`] for the service, [`Queue`] for the workers, [`Attempt`] for the one that runs a job,
//! [`Presence`] for the drain, [`Mail`] for connections. What all stores do alike is in `rules`, what all have to do in
//! `conformance`.
//!
//! A store knows what a job's transitions are (`job/`) and makes each of them durable before it returns. It never
//! starts a process, never touches a repository, and does not decide *when* a job moves. ARCHITECTURE.md gives the
//! order of writes and why.

mod agents;
#[cfg(test)]
mod conformance;
pub mod crash;
pub mod embedded;
mod files;
pub mod job_files;
mod journal;
pub mod outbox;
pub mod redis;
mod rules;
pub mod unconfigured;
pub mod watch;

use crate::api::Pod;
use crate::change::{Change, Moment};
use crate::event::{Cursor, Draft, Event};
use crate::job::{JobId, Mark, Note, Purpose, Queued, Record, Running, Spec, Status, Time};
use crate::process::stop::Stop;
use outbox::Outbox;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use watch::{ChangeWatcher, Hub, Interest, Mailbox, Posted, Watcher};

/// A job that was taken: the record of the new attempt, what it may write with, and what stops it.
pub struct Claim {
    pub record: Record,
    pub attempt: Arc<dyn Attempt>,
    /// Says stop when the job is cancelled, when this pod goes away, and when the lease is lost.
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

/// Which jobs a list is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    All,
    Of(Status),
    /// Those that are there for this, which is not a task.
    For(Purpose),
}

/// Where a job stands in a list, which stays where it is while others come and go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub created_at: Time,
    pub id: JobId,
}

impl Place {
    pub fn of(record: &Record) -> Self {
        Self { created_at: record.created_at, id: record.id.clone() }
    }
}

impl Which {
    pub fn has(self, status: Status, purpose: Purpose) -> bool {
        match self {
            Which::All => true,
            Which::Of(wanted) => status == wanted,
            // A worktree that was not made is none.
            Which::For(Purpose::Worktree) if status.has_ended() && status != Status::Succeeded => false,
            Which::For(wanted) => purpose == wanted,
        }
    }
}

/// How an attempt ends its job.
#[derive(Clone, Debug)]
pub enum End {
    /// As the agent's verdict, already in the record, says.
    Verdict,
    Failed(String),
}

/// Why an attempt gives its job back: in a sentence, which its event tells.
#[derive(Clone, Debug)]
pub enum Back {
    /// This server goes away, or has lost its lease.
    Leaves(String),
    /// This server cannot run it; another one may, or this one later. The job expires if none can.
    Cannot(String),
    /// The same, but this server can run other jobs.
    TooLarge(String),
}

impl Back {
    pub fn why(&self) -> &str {
        let (Back::Leaves(why) | Back::Cannot(why) | Back::TooLarge(why)) = self;
        why
    }

    /// The same, which also says what is lost by it.
    pub fn with(self, lost: Option<String>) -> Self {
        let add = |why: String| match &lost {
            Some(lost) => format!("{why}; {lost}"),
            None => why,
        };
        match self {
            Back::Leaves(why) => Back::Leaves(add(why)),
            Back::Cannot(why) => Back::Cannot(add(why)),
            Back::TooLarge(why) => Back::TooLarge(add(why)),
        }
    }

    /// What becomes of the job.
    fn apply(&self, job: Running) -> Queued {
        match self {
            Back::Leaves(_) => job.hand_back(),
            Back::Cannot(why) => job.set_aside(why, false),
            Back::TooLarge(why) => job.set_aside(why, true),
        }
    }
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

/// What is asked about jobs, and done to them, from outside: for the service.
pub trait Jobs: Send + Sync {
    /// Accepted when it returns: the job is on disk and will reach an end. The same `key` with the
    /// same request gives the same job for as long as that is kept.
    fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error>;

    /// The job that this key with this request stands for already.
    fn submitted(&self, key: &Key) -> Result<Option<Record>, Error>;

    /// A job that waits, and names this prepared worktree.
    fn waiting_in(&self, worktree: &Record) -> Result<Option<JobId>, Error>;

    /// Cancels a queued or running job; decided when it returns. A running attempt learns of it by its stop and by
    /// [`Error::Lost`]; what it leaves is listed by [`Queue::leftovers`] until [`Queue::release`]. `by`: the name of
    /// the key that it is cancelled with.
    fn cancel(&self, id: &JobId, by: Option<&str>) -> Result<Cancelled, Error>;

    /// Notes something in the record of an ended job; of two notes of one kind the latest stays. A job that is not
    /// known, or is about to be forgotten, is left alone.
    fn note(&self, id: &JobId, note: Note) -> Result<(), Error>;

    fn get(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error>;

    /// The ids that begin with `prefix`, at most two.
    fn matching(&self, prefix: &str) -> Result<Vec<JobId>, Error>;

    /// Newest first.
    fn list(&self, limit: usize, which: Which) -> Result<Seen<Vec<Record>>, Error> {
        self.list_after(limit, which, None)
    }

    /// The same, behind a place in the list. Costs what it gives, however many jobs there are.
    fn list_after(&self, limit: usize, which: Which, after: Option<&Place>) -> Result<Seen<Vec<Record>>, Error>;

    /// How many jobs wait before this one, which is queued. None: it does not wait here, or so many do that they were
    /// not counted ([`AHEAD_MOST`]).
    fn ahead(&self, record: &Record) -> Result<Option<usize>, Error>;

    /// What is still to be told of jobs. None: nobody is told anything.
    fn outbox(&self) -> Option<&Outbox> {
        None
    }

    /// How many jobs wait, and since when the oldest of them does.
    fn waiting(&self) -> Result<(usize, Option<Time>), Error>;

    /// The newest ended job that reported this Claude session.
    fn with_session(&self, session: &str) -> Result<Option<Record>, Error>;

    /// The events of `record`'s job after a cursor, in order and without a gap, at most `limit`. Read the record
    /// first: once that has ended, what follows an empty answer is nothing.
    fn events(&self, record: &Record, after: Cursor, limit: usize) -> Result<Vec<Event>, Error>;

    /// Watches a job; begin with this, then read what there is.
    fn watch(&self, id: &JobId, interest: Interest, after: Cursor) -> Watcher;

    /// The changes of all jobs after a cursor, at most `limit`, of the last few thousand.
    fn changes(&self, after: Moment, limit: usize) -> Result<Vec<Change>, Error>;

    /// Watches all jobs; begin with this, then read what there is.
    fn watch_changes(&self) -> ChangeWatcher;
}

/// So far from its head a line is looked through for a job's place.
pub const AHEAD_MOST: usize = 10_000;

/// What a server says of itself, beside what it runs.
#[derive(Clone, Default, Debug)]
pub struct About {
    /// How many jobs it may run at once.
    pub slots: usize,
    /// What it lacks, a line each.
    pub unwell: Vec<String>,
}

/// Why a server could not run a job. None: it could.
pub type Lacks<'a> = dyn Fn(&Record) -> Option<String> + 'a;

/// Where workers take jobs from, and what is looked after when they are over: for the pool and the runner.
pub trait Queue: Send + Sync {
    /// Takes over what a server that died here left running. To be called once, before the first
    /// claim; waits until its agents are gone, at most `limit`. Returns how many jobs it found.
    fn recover(&self, limit: Duration) -> Result<usize, Error>;

    /// The job that waits longest, now running as a new attempt. None after `wait` without one. `only`: of those
    /// that have this profile, or need no agent.
    fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error>;

    /// Whether anything may be claimed here; claims that wait return when not.
    fn open_claims(&self, open: bool);

    /// Ended jobs whose attempt has not been tidied away yet, after a restart.
    fn leftovers(&self) -> Vec<Record>;

    /// Nothing is left of the attempts at this job, which has ended or is another's.
    fn release(&self, record: &Record) -> Result<(), Error>;

    /// Expires what nobody claimed in time; returns the ended jobs whose time to live is over. `lacks`: why this server
    /// could not run a job, for its error.
    fn tend(&self, lacks: &Lacks) -> Result<Vec<Record>, Error>;

    /// Forgets an ended job: record and events.
    fn remove(&self, id: &JobId) -> Result<(), Error>;
}

/// One attempt's right to write. Each call fails with [`Error::Lost`] once the job is not this attempt's any more.
pub trait Attempt: Send + Sync {
    /// Records what the attempt achieved, then the event. Durable when it returns. Returns the record.
    fn mark(&self, mark: Mark, event: Option<Draft>) -> Result<Record, Error>;

    /// The job is still this attempt's, as far as can be known: asked before anything begins that
    /// others see.
    fn prove(&self) -> Result<(), Error>;

    /// Adds an event that changes nothing in the record. Chatter is not synced.
    fn say(&self, event: Draft) -> Result<(), Error>;

    /// Ends the job; the first end stays, whoever made it.
    fn finish(&self, end: End) -> Result<Record, Error>;

    /// Puts the job at the head of the line. Counts no death.
    fn hand_back(&self, back: Back) -> Result<(), Error>;

    /// The attempt is over here, whatever became of the job.
    fn release(&self) -> Result<(), Error>;
}

/// This server as others see it through the store: for the drain, for `/ready`, and for the end.
pub trait Presence: Send + Sync {
    /// Says of this server what others may want to know.
    fn tell(&self, _about: About) {}

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

    /// What is wrong with this server itself, so that requests should go to others.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// It could be used at least once: what it was told of how to reach it is right.
    fn was_reached(&self) -> bool {
        true
    }

    /// What all servers of the fleet said of themselves lately. Without one this server is all there is.
    fn pods(&self) -> Result<Vec<Pod>, Error> {
        Ok(Vec::new())
    }

    /// Whether a server of this pod lives. Without a fleet this one is the only one.
    fn lives(&self, _pod: &str) -> Result<bool, Error> {
        Ok(false)
    }

    /// Nothing runs here any more, and nothing will.
    fn shut_down(&self) {}
}

/// Messages to somebody who is connected to one server, from whichever server gets them: for MCP's older transport.
/// Without a fleet the hub is all there is.
pub trait Mail: Send + Sync {
    fn hub(&self) -> &Arc<Hub>;

    /// A box that is emptied here, for as long as it is held and [kept](Self::keep_mailbox).
    fn open_mailbox(&self, id: &str) -> Result<Mailbox, Error> {
        Ok(self.hub().open_mailbox(id))
    }

    /// Says that a box is still there; to be called each [`KEEP_MAILBOX`].
    fn keep_mailbox(&self, _id: &str) -> Result<(), Error> {
        Ok(())
    }

    /// Into a box that any server holds.
    fn post(&self, id: &str, message: &str) -> Result<Posted, Error> {
        Ok(self.hub().put_mail(id, message))
    }

    /// Empties a box.
    fn take_mail(&self, mailbox: &Mailbox) -> Result<Vec<String>, Error> {
        Ok(mailbox.take())
    }
}

/// How often whoever holds a mailbox says so.
pub const KEEP_MAILBOX: Duration = Duration::from_secs(20);

/// All of it. `docs/store.md` says how a third one would be written; `conformance` is what it has to pass.
pub trait Store: Jobs + Queue + Presence + Mail {}

impl<T: Jobs + Queue + Presence + Mail> Store for T {}
