//! The store without Redis: files in the jobs directory, one server per directory.
//!
//! ```text
//! .lock               flock of the one server
//! .agents             flock, shared, of every supervisor that server started
//! …                   the jobs' files: see `job_files`
//! ```
//!
//! Order of writes: record, then event. Ending: ended file, event, open file removed. The open
//! file of a job that was cancelled while it ran goes when its attempt has been tidied away.
//! Never holds the index's lock while it writes a file; takes a job's lock before the index's.

mod index;
mod startup;

pub use startup::open;

use super::event_log::{self, EventLog};
use super::job_files::{JobFiles, KeyNote};
use super::{Cancelled, Claim, End, Error, Key, Lease, Seen, Store, crash, files};
use crate::event::{Draft, Event, Kind};
use crate::job::{Ended, Job, JobId, Mark, Queued, Record, Spec, Status, Time};
use crate::process::stop::Stop;
use index::{Cell, Index, lock};
use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a question about old jobs waits at start, while the directory is being read.
const HISTORY_LIMIT: Duration = Duration::from_secs(30);

pub struct Embedded {
    paths: JobFiles,
    pod: String,
    index: Mutex<Index>,
    /// Told of every submission, hand-back and end.
    changed: Condvar,
    /// Idempotency-Keys of submissions that are not answered yet.
    keys_in_flight: Mutex<HashSet<String>>,
    _lock: File,
}

/// A job that lives.
struct Live {
    job: Job,
    place: i64,
    log: EventLog,
}

impl Embedded {
    /// The file that supervisors hold a shared flock of.
    pub fn agents_lock(&self) -> PathBuf {
        agents_lock(&self.paths)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, once it knows the ended jobs.
    fn whole_index(&self) -> Result<MutexGuard<'_, Index>, Error> {
        let (index, wait) = self
            .changed
            .wait_timeout_while(self.index(), HISTORY_LIMIT, |index| !index.ended_are_known)
            .unwrap_or_else(PoisonError::into_inner);
        if wait.timed_out() {
            return Err(Error::Unavailable("the job history is still being read: try again".into()));
        }
        Ok(index)
    }

    fn cell(&self, id: &JobId) -> Option<Cell> {
        self.index().live.get(id).cloned()
    }

    fn read_ended(&self, id: &JobId) -> Result<Option<Record>, Error> {
        self.paths.read_ended(id).map_err(Error::Unavailable)
    }

    fn write_open(&self, place: i64, record: &Record) -> Result<(), Error> {
        self.paths.write_open(place, "", record).map_err(Error::Unavailable)
    }

    /// Runs `change` on the job that `lease` names, if it still is that attempt's.
    fn with_lease<T>(&self, lease: &Lease, change: impl FnOnce(&mut Live) -> Result<T, Error>) -> Result<T, Error> {
        let cell = self.cell(&lease.id).ok_or(Error::Lost)?;
        let mut live = lock(&cell);
        match &live.job {
            Job::Running(job) if job.attempt == lease.attempt => change(&mut live),
            _ => Err(Error::Lost),
        }
    }

    /// Makes `ended` the outcome, unless there is one. Returns the one that stays. `tidy`: nothing
    /// of an attempt is left, so the open file goes too.
    fn close(&self, live: &mut Live, ended: Ended, tidy: bool) -> Result<Record, Error> {
        let record = self.paths.link_ended(ended.into()).map_err(Error::Unavailable)?;
        crash::point(Kind::Ended, "after-record");
        live.job = Job::from(record.clone());
        if !live.log.has_end() {
            self.append(live, ended_event(&record));
        }
        crash::point(Kind::Ended, "after-event");
        live.log.rest();
        if tidy && let Err(why) = files::remove(&self.paths.open(&record.id)) {
            crate::log::warn(&why);
        }
        let mut index = self.index();
        index.live.remove(&record.id);
        index.leave_line(live.place);
        index.note(&live.job);
        drop(index);
        self.changed.notify_all();
        Ok(record)
    }

    /// An event that cannot be written is not worth a job: it is reported and lost.
    fn append(&self, live: &mut Live, event: Draft) {
        let kind = event.kind;
        if let Err(why) = live.log.append(event, live.job.attempt) {
            crate::log::warn(&format!("an event of job {} is lost: {why}", live.job.id));
        }
        if kind != Kind::Ended {
            crash::point(kind, "after-event");
        }
    }

    /// Puts a job at the head of the line.
    fn requeue(&self, live: &mut Live, job: Queued, event: Draft) -> Result<(), Error> {
        let place = self.index().first_place();
        self.write_open(place, &job)?;
        crash::point(event.kind, "after-record");
        let id = job.id.clone();
        live.job = Job::Queued(job);
        live.place = place;
        self.append(live, event);
        live.log.rest();
        let mut index = self.index();
        index.note(&live.job);
        index.queue(place, id);
        drop(index);
        self.changed.notify_all();
        Ok(())
    }

    fn keys(&self) -> MutexGuard<'_, HashSet<String>> {
        self.keys_in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit_once(&self, spec: Spec, key: &Key) -> Result<Record, Error> {
        let note = KeyNote { id: JobId::random(), request: key.request.clone() };
        let note = self.paths.note_key(&key.name, note).map_err(Error::Unavailable)?;
        if note.request != key.request {
            return Err(Error::OtherRequest);
        }
        match self.get(&note.id)?.it {
            Some(record) => Ok(record),
            // The first caller's submission did not get that far: it is completed under its id.
            None => self.accept(note.id, Spec { key: Some(key.name.clone()), ..spec }).inspect_err(|_| {
                // Nothing was accepted: the key stands for nothing.
                let _ = self.paths.remove_key(&key.name);
            }),
        }
    }

    fn accept(&self, id: JobId, spec: Spec) -> Result<Record, Error> {
        let job = Queued::new(id, spec, Time::now());
        let record = Record::from(job.clone());
        let events = self.paths.events(&job.id);
        let mut log = EventLog::open(events.clone()).map_err(Error::Unavailable)?;
        let place = self.index().last_place();
        let written = log
            .append(Draft::new(Kind::Queued, ""), 0)
            .map_err(Error::Unavailable)
            .and_then(|()| self.write_open(place, &record));
        if let Err(error) = written {
            // Events without a job mean nothing; they go, if the disk lets them.
            let _ = files::remove(&events);
            let _ = files::remove(&self.paths.open(&record.id));
            return Err(error);
        }
        log.rest();
        crash::point(Kind::Queued, "after-record");
        let id = record.id.clone();
        let live = Live { job: Job::Queued(job), place, log };
        let mut index = self.index();
        index.note(&live.job);
        index.live.insert(id.clone(), Arc::new(Mutex::new(live)));
        index.queue(place, id);
        drop(index);
        self.changed.notify_all();
        Ok(record)
    }

    /// The first in line, and when it was taken: read under the lock, so that jobs start in the order
    /// of the line also by their times.
    fn take_first(&self, wait: Duration, only: Option<&str>) -> Option<(i64, Cell, Time)> {
        let until = Instant::now() + wait;
        let mut index = self.index();
        loop {
            if let Some((place, cell)) = index.take_first(only) {
                return Some((place, cell, Time::now()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || index.is_closed {
                return None;
            }
            index = self.changed.wait_timeout(index, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The job in `cell`, running, if it is still queued. One that is overdue expires instead.
    fn claim_this(&self, cell: &Cell, place: i64, now: Time) -> Result<Option<Record>, Error> {
        let mut live = lock(cell);
        let Job::Queued(job) = &live.job else { return Ok(None) };
        if job.is_overdue(now) {
            let ended = job.clone().expire(now);
            self.close(&mut live, ended, true)?;
            return Ok(None);
        }
        let running = job.clone().claim(&self.pod, now);
        self.write_open(place, &running)?;
        crash::point(Kind::Claimed, "after-record");
        live.job = Job::Running(running);
        let claimed = format!("attempt {} on {}", live.job.attempt, self.pod);
        self.append(&mut live, Draft::new(Kind::Claimed, claimed));
        self.index().note(&live.job);
        Ok(Some((*live.job).clone()))
    }

    fn expire(&self, id: &JobId, now: Time) -> Result<(), Error> {
        let Some(cell) = self.cell(id) else { return Ok(()) };
        let mut live = lock(&cell);
        match &live.job {
            Job::Queued(job) if job.is_overdue(now) => {
                let ended = job.clone().expire(now);
                self.close(&mut live, ended, true).map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// What supervisors of this directory's server hold.
fn agents_lock(paths: &JobFiles) -> PathBuf {
    paths.directory().join(".agents")
}

fn ended_event(record: &Record) -> Draft {
    let why = record.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    Draft::new(Kind::Ended, format!("{}{why}", record.status().as_str()))
}

impl Store for Embedded {
    fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error> {
        let Some(key) = key else { return self.accept(JobId::random(), spec) };
        if !self.keys().insert(key.name.clone()) {
            return Err(Error::InFlight);
        }
        let done = self.submit_once(spec, key);
        self.keys().remove(&key.name);
        done
    }

    fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error> {
        let until = Instant::now() + wait;
        while let Some((place, cell, now)) = self.take_first(until.saturating_duration_since(Instant::now()), only) {
            match self.claim_this(&cell, place, now) {
                Ok(None) => {}
                Ok(Some(record)) => return Ok(Some(Claim { record, stop: Stop::default() })),
                Err(error) => {
                    let id = lock(&cell).job.id.clone();
                    self.index().queue(place, id);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn open_claims(&self, open: bool) {
        self.index().is_closed = !open;
        self.changed.notify_all();
    }

    fn mark(&self, lease: &Lease, mark: Mark, event: Option<Draft>) -> Result<Record, Error> {
        self.with_lease(lease, |live| {
            let Job::Running(mut job) = live.job.clone() else { return Err(Error::Lost) };
            let waits = mark.may_wait();
            job.mark(mark);
            if !waits {
                self.write_open(live.place, &job)?;
            }
            live.job = Job::Running(job);
            if let Some(event) = event {
                crash::point(event.kind, "after-record");
                self.append(live, event);
            }
            self.index().note(&live.job);
            Ok((*live.job).clone())
        })
    }

    fn prove(&self, lease: &Lease) -> Result<(), Error> {
        self.with_lease(lease, |_| Ok(()))
    }

    fn say(&self, lease: &Lease, event: Draft) -> Result<(), Error> {
        self.with_lease(lease, |live| {
            self.append(live, event);
            Ok(())
        })
    }

    fn finish(&self, lease: &Lease, end: End) -> Result<Record, Error> {
        self.with_lease(lease, |live| {
            let Job::Running(job) = live.job.clone() else { return Err(Error::Lost) };
            let now = Time::now();
            let ended = match end {
                End::Verdict => job.finish(now),
                End::Failed(why) => job.fail(why, now),
            };
            self.close(live, ended, true)
        })
    }

    fn hand_back(&self, lease: &Lease, why: &str) -> Result<(), Error> {
        self.with_lease(lease, |live| {
            let Job::Running(job) = live.job.clone() else { return Err(Error::Lost) };
            self.requeue(live, job.hand_back(), Draft::new(Kind::HandedBack, why))
        })
    }

    fn cancel(&self, id: &JobId) -> Result<Cancelled, Error> {
        let Some(cell) = self.cell(id) else {
            return Ok(self.read_ended(id)?.map_or(Cancelled::Unknown, Cancelled::Ended));
        };
        let mut live = lock(&cell);
        let now = Time::now();
        let (ended, was_running) = match &live.job {
            Job::Queued(job) => (job.clone().cancel(now), false),
            Job::Running(job) => (job.clone().cancel(now), true),
            Job::Ended(job) => return Ok(Cancelled::Ended(job.clone().into())),
        };
        // A job that was handed back may have left something too.
        let is_tidy = ended.attempt == 0;
        let record = self.close(&mut live, ended, is_tidy)?;
        if !is_tidy && !was_running {
            self.index().leftovers.push(id.clone());
        }
        if record.status() != Status::Cancelled {
            return Ok(Cancelled::Ended(record));
        }
        Ok(Cancelled::Done { record, was_running })
    }

    fn leftovers(&self) -> Vec<Record> {
        let ids = self.index().leftovers.clone();
        ids.iter().filter_map(|id| self.read_ended(id).ok().flatten()).collect()
    }

    fn release(&self, lease: &Lease) -> Result<(), Error> {
        let id = &lease.id;
        files::remove(&self.paths.open(id)).map_err(Error::Unavailable)?;
        self.index().leftovers.retain(|left| left != id);
        Ok(())
    }

    fn get(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error> {
        let found = match self.cell(id) {
            Some(cell) => Some((*lock(&cell).job).clone()),
            None => self.read_ended(id)?,
        };
        Ok(Seen::fresh(found))
    }

    fn matching(&self, prefix: &str) -> Result<Vec<JobId>, Error> {
        Ok(self.whole_index()?.matching(prefix))
    }

    fn list(&self, limit: usize, status: Option<Status>) -> Result<Seen<Vec<Record>>, Error> {
        let wanted = self.whole_index()?.newest(limit, status);
        // One that is removed meanwhile is left out.
        let found = wanted.iter().filter_map(|id| self.get(id).map(|seen| seen.it).transpose());
        found.collect::<Result<_, _>>().map(Seen::fresh)
    }

    fn events(&self, id: &JobId, after: u64, limit: usize) -> Result<Vec<Event>, Error> {
        event_log::read(&self.paths.events(id), after, limit).map_err(Error::Unavailable)
    }

    fn with_session(&self, session: &str) -> Result<Option<Record>, Error> {
        let found = self.whole_index()?.with_session(session);
        found.map_or(Ok(None), |id| self.get(&id).map(|seen| seen.it))
    }

    fn wait_for_end(&self, id: &JobId, wait: Duration) -> Result<Option<Record>, Error> {
        let waited = self.changed.wait_timeout_while(self.index(), wait, |index| index.live.contains_key(id));
        let lives = waited.unwrap_or_else(PoisonError::into_inner).0.live.contains_key(id);
        if lives { Ok(None) } else { self.read_ended(id) }
    }

    fn tend(&self) -> Result<Vec<Record>, Error> {
        let now = Time::now();
        let (queued, over) = {
            let index = self.index();
            (index.queued(), index.over(now))
        };
        for id in queued {
            self.expire(&id, now)?;
        }
        Ok(over.iter().filter_map(|id| self.read_ended(id).ok().flatten()).collect())
    }

    fn remove(&self, id: &JobId) -> Result<(), Error> {
        // First, or a crash between the two would bring the job back to life.
        files::remove(&self.paths.open(id)).map_err(Error::Unavailable)?;
        self.index().leftovers.retain(|left| left != id);
        if let Some(key) = self.read_ended(id)?.and_then(|record| record.key) {
            self.paths.remove_key(&key).map_err(Error::Unavailable)?;
        }
        files::remove(&self.paths.events(id)).map_err(Error::Unavailable)?;
        files::remove(&self.paths.ended(id)).map_err(Error::Unavailable)?;
        self.index().forget(id);
        Ok(())
    }

    fn recover(&self, limit: Duration) -> Result<usize, Error> {
        startup::recover(self, limit)
    }
}

#[cfg(test)]
mod tests;
