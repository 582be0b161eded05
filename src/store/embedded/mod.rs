//! The store without Redis: files in the jobs directory, one server per directory.
//!
//! ```text
//! .lock               flock of the one server; in it, its process and where it listens
//! .agents             flock, shared, of every supervisor that server started
//! …                   the jobs' files: see `job_files`
//! ```
//!
//! Order of writes: record, then event. Ending: ended file, open file removed. The open file of a job that was
//! cancelled while it ran goes when its attempt has been tidied away.
//! Never holds the index's lock while it writes a file; takes a job's lock before the index's.

mod attempt;
mod index;
mod startup;

pub use startup::{holder, open, say_where};

use super::job_files::{JobFiles, KeyNote};
use super::journal::{self, Chatter, Journal};
use super::outbox::Outbox;
use super::rules::{self, Cancel, KeyedSubmission, KeysInFlight, Numbering};
use super::watch::{ChangeWatcher, Hub, Interest, Watcher};
use super::{Cancelled, Claim, Error, Jobs, Key, Lacks, Mail, Place, Presence, Queue, Seen, Which, crash, files};
use crate::change::{Change, Moment};
use crate::event::{Cursor, Draft, Event, Kind};
use crate::job::{Ended, Job, JobId, Note, Queued, Record, Running, Spec, Status, Time};
use crate::log;
use crate::process::stop::Stop;
use attempt::EmbeddedAttempt;
use index::{Cell, Index, lock};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a question about old jobs waits at start, while the directory is being read.
const HISTORY_LIMIT: Duration = Duration::from_secs(30);

pub struct Embedded(Arc<Core>);

struct Core {
    files: JobFiles,
    pod: String,
    index: Mutex<Index>,
    /// Told of every submission, hand-back and end.
    changed: Condvar,
    keys_in_flight: KeysInFlight,
    hub: Arc<Hub>,
    /// The server before this one did.
    ended_in_order: bool,
    _lock: File,
}

/// A job that lives.
struct Live {
    job: Job,
    /// Its number in the line.
    position: i64,
    /// What the attempt that runs writes of what happens.
    log: Option<(Journal, Numbering)>,
}

impl Embedded {
    /// The file that supervisors hold a shared flock of.
    pub fn agents_lock(&self) -> PathBuf {
        agents_lock(&self.0.files)
    }
}

impl Core {
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

    /// What a listing asks for is known; those who watch all jobs hear of it.
    fn note(&self, index: &mut Index, job: &Job) {
        if index.note(job) {
            self.hub.make_change(&job.id, job.status());
        }
    }

    fn cell(&self, id: &JobId) -> Option<Cell> {
        self.index().live.get(id).cloned()
    }

    fn read_ended(&self, id: &JobId) -> Result<Option<Record>, Error> {
        self.files.read_ended(id).map_err(Error::Unavailable)
    }

    fn get(&self, id: &JobId) -> Result<Option<Record>, Error> {
        match self.cell(id) {
            Some(cell) => Ok(Some((*lock(&cell).job).clone())),
            None => self.read_ended(id),
        }
    }

    fn write_open(&self, position: i64, record: &Record) -> Result<(), Error> {
        self.files.write_open(position, "", record).map_err(Error::Unavailable)
    }

    /// Makes `ended` the outcome, unless there is one. Returns the one that stays. `tidy`: nothing
    /// of an attempt is left, so the open file goes too.
    fn close(&self, live: &mut Live, ended: Ended, tidy: bool) -> Result<Record, Error> {
        let (record, is_new) = self.files.link_ended(ended.into()).map_err(Error::Unavailable)?;
        crash::point(Kind::Ended, "after-record");
        live.job = Job::from(record.clone());
        live.log = None;
        if tidy && let Err(why) = files::remove(&self.files.open(&record.id)) {
            log::warn(&why);
        }
        let mut index = self.index();
        index.live.remove(&record.id);
        index.leave_line(live.position);
        self.note(&mut index, &live.job);
        drop(index);
        self.changed.notify_all();
        self.hub.tell_end(&record.id);
        crash::point(Kind::Ended, "after-event");
        if is_new {
            rules::tell_ended(&record);
        }
        Ok(record)
    }

    /// Writes an event of the attempt that runs. One that cannot be written is not worth a job: it is reported.
    fn append(&self, live: &mut Live, draft: Draft) {
        let kind = draft.kind;
        if let Some((journal, numbering)) = &mut live.log
            && let Some(event) = numbering.next(draft)
        {
            numbering.wrote();
            journal.append(&event);
            self.hub.tell(&live.job.id, &event);
        }
        crash::point(kind, "after-event");
    }

    /// Puts a job at the head of the line, where it has been written already that it is queued.
    fn requeue(&self, live: &mut Live, job: Queued) -> Result<(), Error> {
        let position = self.index().first_position();
        self.write_open(position, &job)?;
        let id = job.id.clone();
        live.job = Job::Queued(job);
        live.position = position;
        live.log = None;
        let mut index = self.index();
        self.note(&mut index, &live.job);
        index.queue(position, id);
        drop(index);
        self.changed.notify_all();
        Ok(())
    }

    fn accept(&self, id: JobId, spec: Spec) -> Result<Record, Error> {
        let job = Queued::new(id, spec, Time::now());
        let record = Record::from(job.clone());
        let position = self.index().last_position();
        if let Err(error) = self.write_open(position, &record) {
            // It was refused: nothing may be left that a restart would take for a job.
            let _ = files::remove(&self.files.open(&record.id));
            return Err(error);
        }
        crash::point(Kind::Queued, "after-record");
        let id = record.id.clone();
        let live = Live { job: Job::Queued(job), position, log: None };
        let mut index = self.index();
        self.note(&mut index, &live.job);
        index.live.insert(id.clone(), Arc::new(Mutex::new(live)));
        index.queue(position, id);
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
            if let Some((position, cell)) = index.take_first(only) {
                return Some((position, cell, Time::now()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || index.is_closed {
                return None;
            }
            index = self.changed.wait_timeout(index, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The job in `cell`, running, if it is still queued. One that is overdue expires instead.
    fn claim_this(&self, cell: &Cell, position: i64, now: Time) -> Result<Option<Record>, Error> {
        let mut live = lock(cell);
        let Job::Queued(job) = &live.job else { return Ok(None) };
        if job.is_overdue(now) {
            let ended = job.clone().expire(None, now);
            self.close(&mut live, ended, true)?;
            return Ok(None);
        }
        let running = job.clone().claim(&self.pod, now);
        self.write_open(position, &running)?;
        crash::point(Kind::Claimed, "after-record");
        live.log = Some(self.begin_log(&running));
        let event = rules::claimed(&running);
        live.job = Job::Running(running);
        self.append(&mut live, event);
        self.note(&mut self.index(), &live.job);
        Ok(Some((*live.job).clone()))
    }

    fn begin_log(&self, job: &Running) -> (Journal, Numbering) {
        let path = self.files.journal(&job.id, job.attempt);
        let journal = Journal::open(path, job.id.clone(), Chatter::AtOnce);
        let numbering = Numbering::new(job, journal.last());
        (journal, numbering)
    }

    fn expire(&self, id: &JobId, lacks: &Lacks, now: Time) -> Result<(), Error> {
        let Some(cell) = self.cell(id) else { return Ok(()) };
        let mut live = lock(&cell);
        match &live.job {
            Job::Queued(job) if job.is_overdue(now) => {
                let ended = job.clone().expire(lacks(&live.job), now);
                self.close(&mut live, ended, true).map(drop)
            }
            _ => Ok(()),
        }
    }
}

/// What supervisors of this directory's server hold.
fn agents_lock(files: &JobFiles) -> PathBuf {
    files.directory().join(".agents")
}

impl KeyedSubmission for Core {
    fn note(&self, name: &str, note: KeyNote) -> Result<KeyNote, Error> {
        self.files.note_key(name, note).map_err(Error::Unavailable)
    }

    fn noted(&self, name: &str) -> Result<Option<KeyNote>, Error> {
        self.files.read_key(name).map_err(Error::Unavailable)
    }

    fn find(&self, id: &JobId) -> Result<Option<Record>, Error> {
        self.get(id)
    }

    fn accept(&self, id: JobId, spec: Spec) -> Result<Record, Error> {
        Core::accept(self, id, spec)
    }

    fn forget(&self, id: &JobId, name: &str) {
        // Unless the job is there after all.
        if !self.files.open(id).exists() && !self.files.ended(id).exists() {
            let _ = self.files.remove_key(name);
        }
    }
}

impl Jobs for Embedded {
    fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error> {
        let Some(key) = key else { return self.0.accept(JobId::random(), spec) };
        let _entered = self.0.keys_in_flight.enter(key)?;
        rules::submit_once(&*self.0, spec, key)
    }

    fn submitted(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.0.keys_in_flight.refuse(key)?;
        rules::submitted(&*self.0, key)
    }

    fn waiting_in(&self, worktree: &Record) -> Result<Option<JobId>, Error> {
        let waiting = self.0.index().queued();
        let names_it = |id: &JobId| {
            let cell = self.0.cell(id)?;
            (lock(&cell).job.worktree_id.as_ref() == Some(&worktree.id)).then(|| id.clone())
        };
        Ok(waiting.iter().find_map(names_it))
    }

    fn cancel(&self, id: &JobId, by: Option<&str>) -> Result<Cancelled, Error> {
        let core = &self.0;
        let Some(cell) = core.cell(id) else {
            return Ok(core.read_ended(id)?.map_or(Cancelled::Unknown, Cancelled::Ended));
        };
        let mut live = lock(&cell);
        let (ended, was_running) = match rules::cancelled(live.job.clone(), by, Time::now()) {
            Cancel::Ends { ended, was_running } => (ended, was_running),
            Cancel::TooLate(job) => return Ok(Cancelled::Ended(job.into())),
        };
        // A job that was handed back may have left something too.
        let is_tidy = ended.attempt == 0;
        let record = core.close(&mut live, ended, is_tidy)?;
        if !is_tidy && !was_running {
            core.index().leftovers.push(id.clone());
        }
        if record.status() != Status::Cancelled {
            return Ok(Cancelled::Ended(record));
        }
        Ok(Cancelled::Done { record, was_running })
    }

    fn note(&self, id: &JobId, note: Note) -> Result<(), Error> {
        let ended = self.0.read_ended(id)?;
        let noted = rules::noted(ended, note, Time::now());
        noted.map_or(Ok(()), |record| self.0.files.amend_ended(&record).map_err(Error::Unavailable))
    }

    fn get(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error> {
        self.0.get(id).map(Seen::fresh)
    }

    fn matching(&self, prefix: &str) -> Result<Vec<JobId>, Error> {
        Ok(self.0.whole_index()?.matching(prefix))
    }

    fn list_after(&self, limit: usize, which: Which, after: Option<&Place>) -> Result<Seen<Vec<Record>>, Error> {
        let wanted = self.0.whole_index()?.newest(limit, which, after);
        // One that is removed meanwhile is left out.
        let found = wanted.iter().filter_map(|id| self.0.get(id).transpose());
        found.collect::<Result<_, _>>().map(Seen::fresh)
    }

    fn ahead(&self, record: &Record) -> Result<Option<usize>, Error> {
        Ok(self.0.index().ahead(&record.id))
    }

    fn outbox(&self) -> Option<&Outbox> {
        Some(&self.0.files.outbox)
    }

    fn waiting(&self) -> Result<(usize, Option<Time>), Error> {
        Ok(self.0.index().waiting())
    }

    fn with_session(&self, session: &str) -> Result<Option<Record>, Error> {
        let found = self.0.whole_index()?.with_session(session);
        found.map_or(Ok(None), |id| self.0.get(&id))
    }

    fn events(&self, record: &Record, after: Cursor, limit: usize) -> Result<Vec<Event>, Error> {
        rules::events(record, after, limit, |attempt, number, limit| {
            journal::read(&self.0.files.journal(&record.id, attempt), number, limit).map_err(Error::Unavailable)
        })
    }

    fn watch(&self, id: &JobId, interest: Interest, after: Cursor) -> Watcher {
        self.0.hub.watch(id, interest, after)
    }

    fn changes(&self, after: Moment, limit: usize) -> Result<Vec<Change>, Error> {
        Ok(self.0.hub.changes_made(after, limit))
    }

    fn watch_changes(&self) -> ChangeWatcher {
        self.0.hub.watch_changes()
    }
}

impl Queue for Embedded {
    fn recover(&self, limit: Duration) -> Result<usize, Error> {
        startup::recover(&self.0, limit)
    }

    fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error> {
        let core = &self.0;
        let until = Instant::now() + wait;
        while let Some((position, cell, now)) = core.take_first(until.saturating_duration_since(Instant::now()), only) {
            match core.claim_this(&cell, position, now) {
                Ok(None) => {}
                Ok(Some(record)) => {
                    let attempt = Arc::new(EmbeddedAttempt::new(core.clone(), &record));
                    return Ok(Some(Claim { record, attempt, stop: Stop::default() }));
                }
                Err(error) => {
                    let id = lock(&cell).job.id.clone();
                    core.index().queue(position, id);
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    fn open_claims(&self, open: bool) {
        self.0.index().is_closed = !open;
        self.0.changed.notify_all();
    }

    fn leftovers(&self) -> Vec<Record> {
        let ids = self.0.index().leftovers.clone();
        ids.iter().filter_map(|id| self.0.read_ended(id).ok().flatten()).collect()
    }

    fn release(&self, record: &Record) -> Result<(), Error> {
        self.0.release(&record.id)
    }

    fn tend(&self, lacks: &Lacks) -> Result<Vec<Record>, Error> {
        EmbeddedAttempt::hand_back_again(&self.0);
        let now = Time::now();
        let (queued, over) = {
            let index = self.0.index();
            (index.queued(), index.over(now))
        };
        for id in queued {
            self.0.expire(&id, lacks, now)?;
        }
        Ok(over.iter().filter_map(|id| self.0.read_ended(id).ok().flatten()).collect())
    }

    fn remove(&self, id: &JobId) -> Result<(), Error> {
        let record = self.0.read_ended(id)?;
        rules::forget_files(&self.0.files, id, record.as_ref())?;
        let mut index = self.0.index();
        index.leftovers.retain(|left| left != id);
        index.forget(id);
        Ok(())
    }
}

impl Mail for Embedded {
    fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }
}

impl Presence for Embedded {
    fn shut_down(&self) {
        startup::say_end(self.0.files.directory());
    }
}
