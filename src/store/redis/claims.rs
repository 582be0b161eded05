//! Taking jobs: from the popped id to an attempt that may begin; and giving back what nobody here runs.

use super::attempts::{Pen, RedisAttempt};
use super::context::Access;
use super::held::Attempts;
use super::pop::Pops;
use super::scripts::{Answer, StreamEvent, Write, new_stamp};
use crate::event::{Event, Kind};
use crate::job::{Job, JobId, Queued, Record, Status, Time};
use crate::process::stop::Stop;
use crate::process::sys;
use crate::store::{Claim, Error, crash};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one pop blocks at most.
pub const POP_LIMIT: Duration = Duration::from_secs(1);
/// How often a claim looks again at a job that changes under its hands.
const TRIES: usize = 4;
/// How long an id waits that this very server still runs, before it is looked at again.
const OURS_PAUSE: Duration = Duration::from_millis(200);

/// Whether jobs may be taken here.
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Default for Gate {
    fn default() -> Self {
        Self { open: Mutex::new(true), changed: Condvar::new() }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set(&self, open: bool) {
        *self.lock() = open;
        self.changed.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.lock()
    }

    /// Waits until it opens or closes, at most `limit`.
    fn wait(&self, limit: Duration) {
        drop(self.changed.wait_timeout(self.lock(), limit));
    }
}

pub struct Claims {
    access: Arc<Access>,
    pen: Arc<Pen>,
    attempts: Arc<Attempts>,
    pops: Pops,
    gate: Arc<Gate>,
    /// One pops for all: the others wait for their turn, on no connection.
    turn: Mutex<()>,
}

impl Claims {
    pub fn new(access: Arc<Access>, pen: Arc<Pen>, pops: Pops, gate: Arc<Gate>) -> Self {
        Self { access, attempts: pen.attempts.clone(), pen, pops, gate, turn: Mutex::default() }
    }

    fn may_claim(&self) -> bool {
        let ctx = &self.access.ctx;
        self.gate.is_open() && !ctx.ends() && self.pen.own.too_new().is_none() && ctx.clock.is_good()
    }

    pub fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error> {
        let until = Instant::now() + wait;
        while self.may_claim() {
            let popped = {
                let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                let left = until.saturating_duration_since(Instant::now());
                if !self.may_claim() || left.is_zero() {
                    return Ok(None);
                }
                self.pops.pop(left.min(POP_LIMIT), only)?
            };
            let Some(id) = popped else { continue };
            let Some(claiming) = self.attempts.begin_claim(&id) else {
                // Redis forgot that we have it. Our attempt learns of that, gives up, and the job is free.
                self.access.steps().relist(&id, true)?;
                self.access.ctx.pause(OURS_PAUSE);
                continue;
            };
            let claimed = self.take(&id);
            drop(claiming);
            if let Some(claim) = claimed? {
                return Ok(Some(claim));
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() && !self.access.ctx.ends() {
            self.gate.wait(left);
        }
        Ok(None)
    }

    /// The job of a popped id, running, if it is still to be had.
    fn take(&self, id: &JobId) -> Result<Option<Claim>, Error> {
        let access = &self.access;
        for _ in 0..TRIES {
            if !self.may_claim() {
                // Popped while the pod began to drain: it goes back to the head.
                access.steps().relist(id, true)?;
                return Ok(None);
            }
            let Some((record, stamp)) = access.read_with_stamp(id)? else {
                if !access.put_back(id, true)? && self.is_foreign(id)? {
                    self.pops.put_aside(id.as_str())?;
                }
                return Ok(None);
            };
            let Some(job) = self.newest(record)? else {
                access.steps().relist(id, false)?;
                return Ok(None);
            };
            let now = access.ctx.now();
            if job.is_overdue(now) {
                access.seal_and_conclude(job.expire(None, now), &stamp)?;
                return Ok(None);
            }
            match self.claim_this(job, &stamp, now)? {
                (Answer::Done, claim) => return Ok(claim),
                (Answer::Changed, _) => {}
                _ => return Ok(None),
            }
        }
        // It waits in `running` with nobody's name on it: the reaper puts it back.
        Ok(None)
    }

    /// Something has this id in Redis, but it is no record of ours.
    fn is_foreign(&self, id: &JobId) -> Result<bool, Error> {
        let key = self.access.ctx.keys.job(id);
        let exists = self.access.link.with(|connection| ::redis::cmd("EXISTS").arg(&key).query::<bool>(connection));
        exists.map_err(Error::Unavailable)
    }

    /// The job as the further of record and open file tells it: after Redis lost its last second, the
    /// file may know of more attempts, and of work that was published.
    fn newest(&self, record: Record) -> Result<Option<Queued>, Error> {
        let ctx = &self.access.ctx;
        let in_file = match ctx.has_copy {
            true => ctx.files.read_open(&record.id).map_err(Error::Unavailable)?.map(|open| open.record),
            false => None,
        };
        if ctx.has_copy && in_file.is_none() && record.status() == Status::Queued {
            // Somebody removed it, and Redis knows that the job lives.
            ctx.files.write_open_once(&record).map_err(Error::Unavailable)?;
        }
        let Job::Queued(job) = Job::from(record) else { return Ok(None) };
        Ok(Some(match in_file {
            Some(file) => job.or_further(file),
            None => job,
        }))
    }

    fn claim_this(&self, job: Queued, read: &str, now: Time) -> Result<(Answer, Option<Claim>), Error> {
        let ctx = &self.access.ctx;
        let running = job.claim(&ctx.pod, now);
        let token = ctx.new_token(running.attempt);
        let record = Record::from(running.clone());
        let write = Write { record: &record, stamp: &new_stamp() };
        let first = RedisAttempt::first_event(&running);
        let event = first.as_ref().map(StreamEvent::new);
        // The lease is counted from before it was asked for.
        let asked = sys::since_boot();
        let lease = ctx.settings.lease;
        let answer = self.access.steps().claim(&write, &token, read, lease, event.as_ref(), ctx.has_copy)?;
        if answer != Answer::Done {
            return Ok((answer, None));
        }
        crash::point(Kind::Claimed, "after-record");
        let stop = Stop::leased(asked + lease, ctx.settings.reserve);
        // From here on it is renewed, however long the volume takes.
        let attempt = Arc::new(RedisAttempt::new(self.pen.clone(), running, token, stop.clone()));
        self.attempts.insert(attempt.clone());
        let may_begin = self.may_begin(&attempt, &record, first.as_ref());
        if !matches!(may_begin, Ok(true)) {
            // Refused: the record names us for an attempt that we do not run, and the next round gives it back.
            self.attempts.remove(&attempt);
        }
        crash::point(Kind::Claimed, "after-event");
        Ok((answer, may_begin?.then_some(Claim { record, attempt, stop })))
    }

    /// Removes the open file that came too late, if it is this attempt's and no job stands behind it.
    fn take_back_file(&self, attempt: &RedisAttempt) -> Result<(), Error> {
        let files = &self.access.ctx.files;
        let is_ours = || files.read_open(&attempt.id).map(|open| open.is_some_and(|open| open.holder == attempt.token));
        if self.access.read_with_stamp(&attempt.id)?.is_none() && is_ours().map_err(Error::Unavailable)? {
            crate::store::files::remove(&files.open(&attempt.id)).map_err(Error::Unavailable)?;
        }
        Ok(())
    }

    /// The job has not ended, and its file says who has it.
    fn may_begin(&self, attempt: &RedisAttempt, record: &Record, first: Option<&Event>) -> Result<bool, Error> {
        let ctx = &self.access.ctx;
        if ctx.has_copy
            && let Some(outcome) = ctx.files.read_ended(&record.id).map_err(Error::Unavailable)?
        {
            self.access.conclude(outcome)?;
            return Ok(false);
        }
        if ctx.has_copy {
            match ctx.files.read_open(&record.id).map_err(Error::Unavailable)? {
                // This pod slept: the job has ended since, and was forgotten.
                None => return Ok(false),
                Some(there) if there.record.attempt > record.attempt => return Err(Error::Lost),
                Some(_) => ctx.files.write_open(0, &attempt.token, record).map_err(Error::Unavailable)?,
            }
            if attempt.stop.is_lost() {
                // It slept between the two: what it wrote may bring a job back that is forgotten.
                return self.take_back_file(attempt).map(|()| false);
            }
        }
        attempt.begin(first);
        Ok(true)
    }
}
