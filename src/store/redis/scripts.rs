//! The transitions, each one Lua script (`scripts/`): called here and nowhere else.
//!
//! Repeated by the same caller, each answers as the first time.

use super::keys::Keys;
use super::link::Link;
use crate::event::{Draft, Event};
use crate::job::{JobId, Record, Status, Time};
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
    BACK "scripts/back.lua"
    SEAL "scripts/seal.lua"
    CLOSE "scripts/close.lua"
    PLACE "scripts/place.lua"
    REMOVE "scripts/remove.lua"
}
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/renew.lua")));
pub static LOAD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/load.lua")));
pub static PICK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/pick.lua")));
static LOCKS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/locks.lua")));

/// How long Redis keeps an ended job beyond its time to live, so that whoever forgets it finds it.
const SLACK: Duration = Duration::from_secs(3600);

/// What a script said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
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

impl Said {
    fn parse(word: &str) -> Result<Self, String> {
        Ok(match word {
            "done" | "held" => Said::Done,
            "unknown" => Said::Unknown,
            "lost" | "queued" | "running" => Said::Lost,
            "unleased" => Said::Unleased,
            "sealed" => Said::Sealed,
            "ended" | "succeeded" | "failed" | "cancelled" | "expired" => Said::Ended,
            "changed" => Said::Changed,
            "same" => Said::Same,
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

/// The event as it lies in the stream; its number is the place it has there.
pub fn line(event: Option<Draft>, attempt: u32) -> String {
    let Some(Draft { kind, text, tool }) = event else { return String::new() };
    Event { number: 0, time: Time::now(), attempt, kind, text, tool, cut: false }.to_line()
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().max(1) as u64
}

impl Transitions<'_> {
    fn run(&self, script: &Script, id: &JobId, more: &[String], arguments: &[&str]) -> Result<(Said, String), Error> {
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
        Ok((Said::parse(&word).map_err(Error::Unavailable)?, value.unwrap_or_default()))
    }

    /// `head`: of the line. Its own holder's lease, if it was running, is for the next renewal to take.
    pub fn put(&self, write: &Write, holder: &str, head: bool, event: Option<Draft>) -> Result<Said, Error> {
        let record = write.record;
        let status = record.status().as_str();
        let place = if head { "head" } else { "tail" };
        let (attempt, created) = (record.attempt.to_string(), record.created_at.0.to_string());
        let event = line(event, record.attempt);
        let (json, id) = (json(record), &record.id);
        let never_claimed = record.status() == Status::Queued && record.attempt == 0;
        let due = record.created_at.plus_seconds(record.ttl_seconds).0.to_string();
        let due = if never_claimed { due.as_str() } else { "" };
        let arguments = [status, &json, &attempt, holder, write.stamp, &created, place, &event, due];
        Ok(self.run(&PUT, id, &[], &arguments)?.0)
    }

    /// How many events the job has, if it is claimed.
    pub fn claim(
        &self,
        write: &Write,
        token: &str,
        read: &str,
        lease: Duration,
        event: Draft,
    ) -> Result<(Said, u64), Error> {
        let record = write.record;
        let (attempt, lease) = (record.attempt.to_string(), milliseconds(lease).to_string());
        let event = line(Some(event), record.attempt);
        let arguments = [token, read, &json(record), &attempt, &lease, write.stamp, &event];
        let (said, count) = self.run(&CLAIM, &record.id, &[], &arguments)?;
        Ok((said, count.parse().unwrap_or(0)))
    }

    /// The holder's own: record, event, both or neither.
    pub fn mark(
        &self,
        id: &JobId,
        token: &str,
        write: Option<&Write>,
        event: Option<(String, String)>,
    ) -> Result<Said, Error> {
        let (record, stamp) = write.map(|write| (json(write.record), write.stamp)).unwrap_or_default();
        let (at, event) = event.unwrap_or_default();
        Ok(self.run(&MARK, id, &[], &[token, &record, stamp, &at, &event])?.0)
    }

    /// By the holder.
    pub fn hand_back(&self, write: &Write, token: &str, event: Draft) -> Result<Said, Error> {
        let (json, attempt) = (json(write.record), write.record.attempt.to_string());
        let event = line(Some(event), write.record.attempt);
        let arguments = [token, "", &json, write.stamp, &attempt, &event];
        Ok(self.run(&BACK, &write.record.id, &[], &arguments)?.0)
    }

    /// By whoever found it without a lease, in the state `read`.
    pub fn take_back(&self, write: &Write, read: &str, event: Draft) -> Result<Said, Error> {
        let (json, attempt) = (json(write.record), write.record.attempt.to_string());
        let event = line(Some(event), write.record.attempt);
        Ok(self.run(&BACK, &write.record.id, &[], &["", read, &json, write.stamp, &attempt, &event])?.0)
    }

    /// Decides the outcome; returns the one that is sealed, or that the job ended with. An empty
    /// `token`: not the holder, but nothing changed since the state `read`.
    pub fn seal(&self, outcome: &Record, token: &str, read: &str) -> Result<(Said, Option<Record>), Error> {
        let arguments = [token, read, &json(outcome), &new_stamp()];
        let (said, found) = self.run(&SEAL, &outcome.id, &[], &arguments)?;
        Ok((said, serde_json::from_str(&found).ok()))
    }

    pub fn close(&self, outcome: &Record, leaves_at: Time, event: Draft) -> Result<Said, Error> {
        let ended = outcome.ended_at.unwrap_or(outcome.created_at);
        let ttl = Duration::from_millis(leaves_at.since(ended).max(0) as u64) + SLACK;
        let event = line(Some(event), outcome.attempt);
        let session = match &outcome.session_id {
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
            &event,
        ];
        Ok(self.run(&CLOSE, &outcome.id, &[session], &arguments)?.0)
    }

    /// `unpop`: one that was popped and never claimed goes back as well.
    pub fn place(&self, id: &JobId, unpop: bool) -> Result<Said, Error> {
        Ok(self.run(&PLACE, id, &[], &[if unpop { "1" } else { "0" }])?.0)
    }

    pub fn remove(&self, id: &JobId) -> Result<Said, Error> {
        Ok(self.run(&REMOVE, id, &[], &[])?.0)
    }

    /// All leases of this pod in one round trip; an answer for each.
    pub fn renew(&self, held: &[(JobId, String)], lease: Duration) -> Result<Vec<Said>, Error> {
        let call = |connection: &mut ::redis::Connection| -> RedisResult<Vec<String>> {
            let mut invocation = RENEW.prepare_invoke();
            invocation.arg(milliseconds(lease));
            for (id, token) in held {
                invocation.key(self.keys.job(id)).key(self.keys.lease(id)).arg(token);
            }
            invocation.invoke(connection)
        };
        let words = self.link.with(call).map_err(Error::Unavailable)?;
        words.iter().map(|word| Said::parse(word).map_err(Error::Unavailable)).collect()
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

/// The status field of a job's hash.
pub fn has_ended(status: &str) -> bool {
    status != "sealed" && Status::parse(status).is_none_or(Status::has_ended)
}
