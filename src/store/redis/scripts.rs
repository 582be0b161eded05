//! The transitions, each one Lua script (`scripts/`): called here and nowhere else.
//!
//! Repeated by the same caller, each answers as the first time.

use super::keys::Keys;
use super::link::Link;
use crate::event::{Cursor, Event};
use crate::job::{JobId, Purpose, Record, Status, Time};
use crate::store::Error;
use ::redis::{RedisResult, Script};
use std::sync::LazyLock;
use std::time::Duration;

macro_rules! scripts {
    ($($name:ident $file:literal)*) => {$(
        static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("scripts/_common.lua"), include_str!($file))));
    )*};
}
scripts! {
    PUT "scripts/put.lua"
    CLAIM "scripts/claim.lua"
    MARK "scripts/mark.lua"
    REQUEUE "scripts/requeue.lua"
    SEAL "scripts/seal.lua"
    CLOSE "scripts/close.lua"
    AMEND "scripts/amend.lua"
    RELIST "scripts/relist.lua"
    REMOVE "scripts/remove.lua"
}
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
pub static AUTOSCALE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/autoscale.lua")));
pub static PICK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/pick.lua")));
static LOCKS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/locks.lua")));
static ASIDE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/aside.lua")));
static UNSET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/unset.lua")));
static ENDED: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/ended.lua")));

/// How long Redis keeps an ended job beyond its time to live, so that whoever forgets it finds it.
const SLACK: Duration = Duration::from_secs(3600);

/// What a script answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// Redis has no such job.
    Unknown,
    /// It is another attempt's, or waits.
    Lost,
    /// The lease ran out; the record still names its holder.
    Unleased,
    /// Its outcome is decided.
    Sealed,
    Ended,
    /// Something changed since it was read.
    Changed,
    /// Nothing to be done.
    Same,
}

impl Answer {
    fn parse(word: &str) -> Result<Self, String> {
        Ok(match word {
            "done" | "held" => Answer::Done,
            "unknown" => Answer::Unknown,
            "lost" | "queued" | "running" => Answer::Lost,
            "unleased" => Answer::Unleased,
            "sealed" => Answer::Sealed,
            "ended" | "succeeded" | "failed" | "cancelled" | "expired" => Answer::Ended,
            "changed" => Answer::Changed,
            "same" => Answer::Same,
            other => return Err(format!("a script in Redis answered `{other}`, which is not one of ours")),
        })
    }
}

pub struct Transitions<'a> {
    pub link: &'a Link,
    pub keys: &'a Keys,
}

/// A record as a transition writes it.
pub struct Write<'a> {
    pub record: &'a Record,
    /// Names this state of it: whoever acts on what was read says which state that was.
    pub stamp: &'a str,
}

pub fn new_stamp() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

pub fn json(record: &Record) -> String {
    // Text, numbers and names: there is nothing in a record that JSON cannot hold.
    serde_json::to_string(record).unwrap_or_default()
}

/// An event on its way into its job's stream. Redis takes each place in a stream once: a call that is repeated
/// meets its own event, and what an attempt says after it was taken over is refused.
pub struct StreamEvent {
    pub at: Cursor,
    pub line: String,
    /// What lies before this is taken out of the stream.
    pub keep_from: Option<Cursor>,
}

impl StreamEvent {
    pub fn new(event: &Event) -> Self {
        Self { at: event.cursor(), line: event.to_line(), keep_from: None }
    }

    fn arguments(event: Option<&Self>) -> [String; 3] {
        let Some(event) = event else { return Default::default() };
        [stream_id(event.at), event.line.clone(), event.keep_from.map(stream_id).unwrap_or_default()]
    }
}

/// A cursor as Redis's streams write it.
pub fn stream_id(cursor: Cursor) -> String {
    format!("{}-{}", cursor.attempt, cursor.number)
}

/// When it expires unless somebody runs it; empty: it does not.
fn due_of(record: &Record) -> String {
    record.due().map(|due| due.0.to_string()).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().max(1) as u64
}

impl Transitions<'_> {
    fn run(&self, script: &Script, id: &JobId, more: &[String], arguments: &[&str]) -> Result<(Answer, String), Error> {
        let call = |connection: &mut ::redis::Connection| -> RedisResult<(String, Option<String>)> {
            let mut invocation = script.prepare_invoke();
            for key in self.keys.of_script(id).iter().chain(more) {
                invocation.key(key);
            }
            invocation.arg(id.as_str());
            for argument in arguments {
                invocation.arg(*argument);
            }
            invocation.invoke(connection)
        };
        let (word, value) = self.link.with(call).map_err(Error::Unavailable)?;
        Ok((Answer::parse(&word).map_err(Error::Unavailable)?, value.unwrap_or_default()))
    }

    /// `head`: of the line. Its own holder's lease, if it was running, is for the next renewal to take.
    pub fn put(&self, write: &Write, holder: &str, head: bool) -> Result<Answer, Error> {
        let record = write.record;
        let status = record.status().as_str();
        let end = if head { "head" } else { "tail" };
        let (attempt, created) = (record.attempt.to_string(), record.created_at.0.to_string());
        let (json, id) = (json(record), &record.id);
        let due = due_of(record);
        let (set, pod) = (set_of(record.purpose), record.runs_on.as_deref().unwrap_or_default());
        let arguments = [status, &json, &attempt, holder, write.stamp, &created, end, &due, set, pod];
        Ok(self.run(&PUT, id, &[], &arguments)?.0)
    }

    /// `read`: the state in which it was found. `event`: the attempt's first. `trims`: events of earlier attempts
    /// may leave Redis, because the volume has them.
    pub fn claim(
        &self,
        write: &Write,
        token: &str,
        read: &str,
        lease: Duration,
        event: Option<&StreamEvent>,
        trims: bool,
    ) -> Result<Answer, Error> {
        let record = write.record;
        let (attempt, lease) = (record.attempt.to_string(), milliseconds(lease).to_string());
        let [at, line, _] = StreamEvent::arguments(event);
        let keep_from = Cursor { attempt: record.attempt.saturating_sub(1), number: 0 };
        let keep_from = if trims { stream_id(keep_from) } else { String::new() };
        let arguments = [token, read, &json(record), &attempt, &lease, write.stamp, &at, &line, &keep_from];
        Ok(self.run(&CLAIM, &record.id, &[], &arguments)?.0)
    }

    /// The holder's own: record, event, both or neither.
    pub fn mark(
        &self,
        id: &JobId,
        token: &str,
        write: Option<&Write>,
        event: Option<&StreamEvent>,
    ) -> Result<Answer, Error> {
        let (record, stamp) = write.map(|write| (json(write.record), write.stamp)).unwrap_or_default();
        let [at, line, keep_from] = StreamEvent::arguments(event);
        Ok(self.run(&MARK, id, &[], &[token, &record, stamp, &at, &line, &keep_from])?.0)
    }

    /// By the holder.
    pub fn hand_back(&self, write: &Write, token: &str, event: Option<&Event>) -> Result<Answer, Error> {
        self.back(write, token, "", event)
    }

    /// By whoever found it without a lease, in the state `read`.
    pub fn take_back(&self, write: &Write, read: &str, event: Option<&Event>) -> Result<Answer, Error> {
        self.back(write, "", read, event)
    }

    fn back(&self, write: &Write, token: &str, read: &str, event: Option<&Event>) -> Result<Answer, Error> {
        let (json, attempt) = (json(write.record), write.record.attempt.to_string());
        let event = event.map(StreamEvent::new);
        let [at, line, _] = StreamEvent::arguments(event.as_ref());
        let due = due_of(write.record);
        let arguments = [token, read, &json, write.stamp, &attempt, &at, &line, &due];
        Ok(self.run(&REQUEUE, &write.record.id, &[], &arguments)?.0)
    }

    /// Decides the outcome; returns the one that is sealed, or that the job ended with. An empty
    /// `token`: not the holder, but nothing changed since the state `read`.
    pub fn seal(&self, outcome: &Record, token: &str, read: &str) -> Result<(Answer, Option<Record>), Error> {
        let arguments = [token, read, &json(outcome), &new_stamp()];
        let (said, found) = self.run(&SEAL, &outcome.id, &[], &arguments)?;
        Ok((said, serde_json::from_str(&found).ok()))
    }

    /// `events_stay`: how long the job's events stay in Redis, if less than its record.
    pub fn close(
        &self,
        outcome: &Record,
        leaves_at: Time,
        event: &Event,
        events_stay: Option<Duration>,
    ) -> Result<Answer, Error> {
        let ended = outcome.ended_at.unwrap_or(outcome.created_at);
        let ttl = Duration::from_millis(leaves_at.since(ended).max(0) as u64) + SLACK;
        let [at, line, _] = StreamEvent::arguments(Some(&StreamEvent::new(event)));
        let session = match outcome.had_session() {
            Some(session) => self.keys.session(session),
            None => self.keys.job(&outcome.id),
        };
        let arguments = [
            outcome.status().as_str(),
            &json(outcome),
            &outcome.attempt.to_string(),
            &outcome.created_at.0.to_string(),
            &leaves_at.0.to_string(),
            &milliseconds(ttl).to_string(),
            &new_stamp(),
            &at,
            &line,
            &milliseconds(events_stay.map_or(ttl, |stay| stay.min(ttl))).to_string(),
            set_of(outcome.purpose),
        ];
        Ok(self.run(&CLOSE, &outcome.id, &[session], &arguments)?.0)
    }

    /// What is noted of a job after its end.
    pub fn amend(&self, record: &Record) -> Result<Answer, Error> {
        Ok(self.run(&AMEND, &record.id, &[], &[&json(record)])?.0)
    }

    /// Puts an id into the list that its status says. `unpop`: one that was popped and never claimed goes back as
    /// well.
    pub fn relist(&self, id: &JobId, unpop: bool) -> Result<Answer, Error> {
        Ok(self.run(&RELIST, id, &[], &[if unpop { "1" } else { "0" }])?.0)
    }

    pub fn remove(&self, id: &JobId) -> Result<Answer, Error> {
        Ok(self.run(&REMOVE, id, &[], &[])?.0)
    }

    /// All leases of this pod in one round trip; an answer for each.
    pub fn renew(&self, held: &[(JobId, String)], lease: Duration) -> Result<Vec<Answer>, Error> {
        let call = |connection: &mut ::redis::Connection| -> RedisResult<Vec<String>> {
            let mut invocation = RENEW.prepare_invoke();
            invocation.arg(milliseconds(lease));
            for (id, token) in held {
                invocation.key(self.keys.job(id)).key(self.keys.lease(id)).arg(token);
            }
            invocation.invoke(connection)
        };
        let words = self.link.with(call).map_err(Error::Unavailable)?;
        words.iter().map(|word| Answer::parse(word).map_err(Error::Unavailable)).collect()
    }

    /// Puts aside what stands where a job's record should be, if it still is `record`; empty: a key of another type.
    pub fn put_aside(&self, id: &JobId, record: &str, stays: Duration) -> Result<bool, Error> {
        let call = |connection: &mut ::redis::Connection| {
            let mut invocation = ASIDE.prepare_invoke();
            invocation.key(self.keys.job(id)).key(self.keys.foreign_job(id)).key(self.keys.jobs());
            invocation.arg(record).arg(id.as_str()).arg(milliseconds(stays)).invoke::<bool>(connection)
        };
        self.link.with(call).map_err(Error::Unavailable)
    }

    /// Removes a flag that still has this value.
    pub fn remove_flag(&self, key: &str, value: &str) -> Result<(), Error> {
        let call =
            |connection: &mut ::redis::Connection| UNSET.prepare_invoke().key(key).arg(value).invoke::<()>(connection);
        self.link.with(call).map_err(Error::Unavailable)
    }

    /// Which of these jobs do not live any more, as far as Redis knows: one call for all.
    pub fn not_living(&self, ids: &[JobId]) -> Result<Vec<bool>, Error> {
        let call = |connection: &mut ::redis::Connection| -> RedisResult<Vec<bool>> {
            let mut invocation = ENDED.prepare_invoke();
            for id in ids {
                invocation.key(self.keys.job(id));
            }
            invocation.invoke(connection)
        };
        self.link.with(call).map_err(Error::Unavailable)
    }

    /// Renews clone locks, or releases them (no `lease`); whether each still was its owner's.
    pub fn locks(&self, held: &[(String, String)], lease: Option<Duration>) -> Result<Vec<bool>, String> {
        let call = |connection: &mut ::redis::Connection| -> RedisResult<Vec<bool>> {
            let mut invocation = LOCKS.prepare_invoke();
            invocation.arg(lease.map_or(0, milliseconds));
            for (name, token) in held {
                invocation.key(self.keys.clone_lock(name)).arg(token);
            }
            invocation.invoke(connection)
        };
        self.link.with(call)
    }
}

/// The list, beside that of all, which jobs that are there for this stand in.
pub fn set_of(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Task => "",
        Purpose::Plan => "plans",
        Purpose::Worktree => "worktrees",
    }
}

/// The status field of a job's hash.
pub fn has_ended(status: &str) -> bool {
    status != "sealed" && Status::parse(status).is_none_or(Status::has_ended)
}
