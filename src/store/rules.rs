//! The one rulebook: what both stores do alike, whatever they keep jobs in.
//!
//! Which end an attempt or a cancel makes, what a submission with a key means, which events there are and which
//! number each has, in which order a job is forgotten. Decides; what is to be kept the store keeps.

use super::job_files::{JobFiles, KeyNote};
use super::{End, Error, Key, files};
use crate::event::{Admission, Cursor, Draft, Event, Kind, admit};
use crate::job::{Ended, Job, JobId, Note, Record, Running, Spec, Time};
use crate::metrics;
use crate::spans;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a job that runs ends as.
pub fn ended(job: Running, end: End, now: Time) -> Ended {
    match end {
        End::Verdict => job.finish(now),
        End::Failed(why) => job.fail(why, now),
    }
}

/// What a cancel makes of a job.
pub enum Cancel {
    /// Too late: it had ended so.
    TooLate(Ended),
    Ends {
        ended: Ended,
        was_running: bool,
    },
}

pub fn cancelled(job: Job, by: Option<&str>, now: Time) -> Cancel {
    match job {
        Job::Queued(job) => Cancel::Ends { ended: job.cancel(by, now), was_running: false },
        Job::Running(job) => Cancel::Ends { ended: job.cancel(by, now), was_running: true },
        Job::Ended(job) => Cancel::TooLate(job),
    }
}

/// How long before it is forgotten an ended job's record is left alone, in seconds: what is written then could come
/// after that.
const LEFT_ALONE: u64 = 10;

/// The record of a job that has ended, with a note; None: it is not one to be changed.
pub fn noted(record: Option<Record>, note: Note, now: Time) -> Option<Record> {
    match Job::from(record?) {
        Job::Ended(job) if !job.is_foreign() && job.leaves_at() > now.plus_seconds(LEFT_ALONE) => {
            Some(job.with_note(note).into())
        }
        _ => None,
    }
}

/// The first event of an attempt.
pub fn claimed(job: &Running) -> Draft {
    let pod = job.pod_name.as_deref().unwrap_or("an unnamed pod");
    Draft::new(Kind::Claimed, format!("attempt {} on {pod}", job.attempt))
}

/// The Idempotency-Keys of submissions that are not answered yet.
#[derive(Default)]
pub struct KeysInFlight(Mutex<HashSet<String>>);

pub struct KeyInFlight<'a> {
    all: &'a KeysInFlight,
    name: String,
}

impl KeysInFlight {
    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error while somebody here has entered with this key.
    pub fn refuse(&self, key: &Key) -> Result<(), Error> {
        if self.lock().contains(&key.name) { Err(Error::InFlight) } else { Ok(()) }
    }

    /// Until the answer is dropped, nobody else here enters with this key.
    pub fn enter(&self, key: &Key) -> Result<KeyInFlight<'_>, Error> {
        match self.lock().insert(key.name.clone()) {
            true => Ok(KeyInFlight { all: self, name: key.name.clone() }),
            false => Err(Error::InFlight),
        }
    }
}

impl Drop for KeyInFlight<'_> {
    fn drop(&mut self) {
        self.all.lock().remove(&self.name);
    }
}

/// What a submission with a key needs of its store.
pub trait KeyedSubmission {
    /// Notes what the key stands for, unless that is noted already; the note that stays.
    fn note(&self, name: &str, note: KeyNote) -> Result<KeyNote, Error>;
    /// What the key stands for, if anything.
    fn noted(&self, name: &str) -> Result<Option<KeyNote>, Error>;
    fn find(&self, id: &JobId) -> Result<Option<Record>, Error>;
    fn accept(&self, id: JobId, spec: Spec) -> Result<Record, Error>;
    /// The job was not accepted, as far as could be seen: the key stands for nothing.
    fn forget(&self, id: &JobId, name: &str);
}

/// The job that `key` stands for, if there is one.
pub fn submitted(store: &impl KeyedSubmission, key: &Key) -> Result<Option<Record>, Error> {
    match store.noted(&key.name)? {
        Some(note) if note.request != key.request => Err(Error::OtherRequest),
        Some(note) => store.find(&note.id),
        None => Ok(None),
    }
}

/// The job that `key` stands for; a new one, if it stands for none yet.
pub fn submit_once(store: &impl KeyedSubmission, spec: Spec, key: &Key) -> Result<Record, Error> {
    let note = store.note(&key.name, KeyNote::new(JobId::random(), &key.request))?;
    if note.request != key.request {
        return Err(Error::OtherRequest);
    }
    match store.find(&note.id)? {
        Some(record) => Ok(record),
        None => {
            // The first caller's submission did not get that far: it is completed under its id.
            let id = note.id.clone();
            let spec = Spec { key: Some(key.name.clone()), ..spec };
            store.accept(note.id, spec).inspect_err(|_| store.forget(&id, &key.name))
        }
    }
}

/// Counted, and told to whoever follows traces: by the one process that ended the job.
pub fn tell_ended(record: &Record) {
    metrics::job_ended(record);
    spans::job_ended(record);
}

/// Removes all that files hold of an ended job. The open file first, or a crash would bring the job back to life;
/// the ended file last, because it names the rest.
pub fn forget_files(files: &JobFiles, id: &JobId, record: Option<&Record>) -> Result<(), Error> {
    let forget = || -> Result<(), String> {
        files::remove(&files.open(id))?;
        if let Some(key) = record.and_then(|record| record.key.as_deref()) {
            files.remove_key(key)?;
        }
        files.outbox.forget(id)?;
        files.remove_journals(id, record.map_or(0, |record| record.attempt))?;
        files::remove(&files.ended(id))
    };
    forget().map_err(Error::Unavailable)
}

/// Gives an attempt's events their numbers, and holds the job to its limit.
pub struct Numbering {
    attempt: u32,
    /// Of the last event of this attempt.
    number: u32,
    /// Events of the job, all attempts together.
    so_far: u32,
}

impl Numbering {
    /// `number`: of the last event that the attempt has written.
    pub fn new(job: &Running, number: u32) -> Self {
        Self { attempt: job.attempt, number, so_far: job.events + number }
    }

    /// The event with its number, unless there are too many. It counts once it is [`wrote`](Self::wrote).
    pub fn next(&self, draft: Draft) -> Option<Event> {
        let Draft { kind, text, tool } = match admit(draft.kind, self.so_far) {
            Admission::Keep => draft,
            Admission::SayCut => Draft::new(Kind::EventsCut, "the agent said more than is kept of a job's events"),
            Admission::Drop => return None,
        };
        let (number, time, attempt) = (self.number + 1, Time::now(), self.attempt);
        Some(Event { number, time, attempt, kind, text, tool, cut: false }.fit())
    }

    pub fn wrote(&mut self) {
        self.number += 1;
        self.so_far += 1;
    }

    pub fn so_far(&self) -> u32 {
        self.so_far
    }
}

fn event(cursor: Cursor, time: Time, kind: Kind, text: impl Into<String>) -> Event {
    let Cursor { attempt, number } = cursor;
    Event { number, time, attempt, kind, text: text.into(), tool: None, cut: false }
}

/// The event of a job's end.
pub fn end_event(record: &Record) -> Event {
    let why = record.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let cursor = Cursor { attempt: record.attempt, number: Cursor::END };
    let time = record.ended_at.unwrap_or(record.created_at);
    event(cursor, time, Kind::Ended, format!("{}{why}", record.status().as_str()))
}

/// What others did to this attempt, if they did.
pub fn handover_event(record: &Record, attempt: u32) -> Option<Event> {
    let handover = record.handovers.iter().rev().find(|handover| handover.attempt == attempt)?;
    let kind = if handover.lost { Kind::WorkerLost } else { Kind::HandedBack };
    Some(event(Cursor { attempt, number: Cursor::HANDOVER }, handover.time, kind, &handover.why))
}

/// The events of a job after `after`, in order, at most `limit`. `own`: those that an attempt wrote itself after a
/// number, at most so many. The others are told by the record, so nobody has to write them, and none can be lost.
pub fn events(
    record: &Record,
    after: Cursor,
    limit: usize,
    mut own: impl FnMut(u32, u32, usize) -> Result<Vec<Event>, Error>,
) -> Result<Vec<Event>, Error> {
    let mut found = Vec::new();
    let queued = event(Cursor { attempt: 0, number: 1 }, record.created_at, Kind::Queued, "");
    found.extend(Some(queued).filter(|event| event.cursor() > after));
    for attempt in after.attempt.max(1)..=record.attempt {
        let left = limit.saturating_sub(found.len());
        if left == 0 {
            break;
        }
        let number = if attempt == after.attempt { after.number } else { 0 };
        if number < Cursor::HANDOVER {
            let own = own(attempt, number, left)?;
            let is_cut = own.len() >= left;
            found.extend(own);
            if is_cut {
                break;
            }
        }
        found.extend(handover_event(record, attempt).filter(|event| event.cursor() > after));
    }
    if record.status().has_ended() && found.len() < limit {
        found.extend(Some(end_event(record)).filter(|event| event.cursor() > after));
    }
    found.truncate(limit);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::queued;

    fn text(events: &[Event]) -> String {
        events.iter().map(|event| format!("{}.{}", event.attempt, event.number)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let first = queued().claim("a", Time(1)).take_back("a went away", Time(2)).claim("b", Time(3));
        let Job::Queued(third) = first.lose_worker("b was lost", true, Time(4)) else { panic!() };
        let record: Record = third.claim("c", Time(5)).finish(Time(6)).into();
        let own = |attempt: u32, after: u32, limit: usize| {
            let all =
                (1..=3).map(|number| Event { attempt, ..event(Cursor { attempt, number }, Time(9), Kind::Pushed, "") });
            Ok(all.filter(|event| event.number > after).take(limit).collect())
        };
        let whole = "0.1 1.1 1.2 1.3 1.999998 2.1 2.2 2.3 2.999998 3.1 3.2 3.3 3.999999";
        assert_eq!(text(&events(&record, Cursor::START, 100, own).unwrap()), whole);
        for limit in 1..=14 {
            let (mut all, mut after) = (Vec::new(), Cursor::START);
            loop {
                let page = events(&record, after, limit, own).unwrap();
                assert!(page.len() <= limit);
                let Some(last) = page.last() else { break };
                after = last.cursor();
                all.extend(page);
            }
            assert_eq!(text(&all), whole, "pages of {limit}");
        }
    }

    #[test]
    fn a_job_has_five_thousand_events_at_most() {
        let mut job = queued().claim("a", Time(1));
        job.count_events(10);
        let mut numbering = Numbering::new(&job, 0);
        let mut cut = 0;
        for _ in 0..6_000 {
            if let Some(event) = numbering.next(Draft::new(Kind::AgentText, "x")) {
                cut += u32::from(event.kind == Kind::EventsCut);
                numbering.wrote();
            }
        }
        assert!(numbering.so_far() <= crate::event::EVENTS_LIMIT && cut == 1);
        assert!(numbering.next(Draft::new(Kind::Pushed, "")).is_some());
    }

    #[test]
    fn one_at_a_time_enters_with_a_key() {
        let (keys, key) = (KeysInFlight::default(), Key { name: "k".into(), request: "r".into() });
        let entered = keys.enter(&key).ok().unwrap();
        assert_eq!(keys.enter(&key).err(), Some(Error::InFlight));
        drop(entered);
        assert!(keys.enter(&key).is_ok());
    }
}
