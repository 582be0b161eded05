//! Taking jobs: the pop, the claim, and giving back.

use super::held::Held;
use super::scripts::{Said, Write, new_stamp};
use super::{Redis, guard};
use crate::event::{Draft, Kind};
use crate::job::{Job, JobId, Queued, Record, Running, Time};
use crate::process::stop::Stop;
use crate::process::sys;
use crate::store::{Claim, Error, Lease, crash};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long one pop blocks at most.
pub const POP_LIMIT: Duration = Duration::from_secs(1);
/// How often a claim looks again at a job that changes under its hands.
const TRIES: usize = 4;

impl Redis {
    fn may_claim(&self) -> bool {
        self.may_claim.load(Ordering::SeqCst) && !self.ends()
    }

    pub(super) fn claim_next(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error> {
        let until = Instant::now() + wait;
        while self.may_claim() {
            let popped = {
                // One pops for all: the others wait for their turn, on no connection.
                let _turn = guard(&self.one_pops);
                let left = until.saturating_duration_since(Instant::now());
                if !self.may_claim() || left.is_zero() {
                    return Ok(None);
                }
                self.pop(left.min(POP_LIMIT), only)?
            };
            let Some(id) = popped else { continue };
            self.table.begin_claim(&id);
            let claimed = self.take(&id);
            self.table.end_claim(&id);
            if let Some(claim) = claimed? {
                return Ok(Some(claim));
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if !left.is_zero() && !self.ends() {
            self.wait_for_change(left);
        }
        Ok(None)
    }

    /// The job of a popped id, running, if it is still to be had.
    fn take(&self, id: &JobId) -> Result<Option<Claim>, Error> {
        for _ in 0..TRIES {
            if !self.may_claim() {
                // Popped while the pod began to drain: it goes back to the head.
                self.transitions().place(id, true)?;
                return Ok(None);
            }
            let Some((record, stamp)) = self.read_with_stamp(&self.link, id)? else {
                if !self.put_back(&self.transitions(), id)? && self.is_foreign(id)? {
                    self.put_aside(id.as_str())?;
                }
                return Ok(None);
            };
            let Some(job) = self.newest(record)? else {
                self.transitions().place(id, false)?;
                return Ok(None);
            };
            let now = Time::now();
            if job.is_overdue(now) {
                self.seal_and_conclude(&self.transitions(), job.expire(now), &stamp)?;
                return Ok(None);
            }
            match self.claim_this(job, &stamp, now)? {
                (Said::Done, claim) => return Ok(claim),
                (Said::Changed, _) => {}
                _ => return Ok(None),
            }
        }
        // It waits in `running` with nobody's name on it: the reaper puts it back.
        Ok(None)
    }

    /// Something has this id in Redis, but it is no record of ours.
    fn is_foreign(&self, id: &JobId) -> Result<bool, Error> {
        let key = self.keys.job(id);
        let exists = self.link.with(|connection| ::redis::cmd("EXISTS").arg(&key).query::<bool>(connection));
        exists.map_err(Error::Unavailable)
    }

    /// The job as the further of record and open file tells it: after Redis lost its last second, the
    /// file may know of more attempts, and of work that was published.
    fn newest(&self, record: Record) -> Result<Option<Queued>, Error> {
        let in_file = match self.has_copy {
            true => self.files.read_open(&record.id).map_err(Error::Unavailable)?.map(|open| open.record),
            false => None,
        };
        let Job::Queued(job) = Job::from(record) else { return Ok(None) };
        Ok(Some(match in_file {
            Some(file) => job.or_further(file),
            None => job,
        }))
    }

    fn claim_this(&self, job: Queued, read: &str, now: Time) -> Result<(Said, Option<Claim>), Error> {
        let running = job.claim(&self.pod, now);
        let (id, attempt) = (running.id.clone(), running.attempt);
        let token = self.token(attempt);
        let record = Record::from(running.clone());
        let write = Write { record: &record, stamp: &new_stamp() };
        let event = Draft::new(Kind::Claimed, format!("attempt {attempt} on {}", self.pod));
        // The lease is counted from before it was asked for.
        let asked = sys::since_boot();
        let (said, events) = self.transitions().claim(&write, &token, read, self.settings.lease, event)?;
        if said != Said::Done {
            return Ok((said, None));
        }
        crash::point(Kind::Claimed, "after-record");
        let stop = Stop::leased(asked + self.settings.lease, self.settings.reserve);
        // From here on it is renewed, however long the volume takes.
        self.table.insert(Arc::new(Held::new(running, token.clone(), events, stop.clone())));
        let begun = self.may_begin(&id, &token, &record);
        if !matches!(begun, Ok(true)) {
            // Refused: the record names us for an attempt that we do not run, and the next round gives it back.
            self.table.remove(&id, attempt);
        }
        crash::point(Kind::Claimed, "after-event");
        Ok((said, begun?.then_some(Claim { record, stop })))
    }

    /// The job has not ended, and its file says who has it.
    fn may_begin(&self, id: &JobId, token: &str, record: &Record) -> Result<bool, Error> {
        if self.has_copy
            && let Some(outcome) = self.files.read_ended(id).map_err(Error::Unavailable)?
        {
            self.conclude(&self.transitions(), outcome)?;
            return Ok(false);
        }
        self.write_open(token, record)?;
        Ok(true)
    }

    /// Back to the head of the line: the attempt is over here, whatever Redis says.
    pub(super) fn give_back(&self, lease: &Lease, why: &str) -> Result<(), Error> {
        let held = self.held(lease)?;
        let job = held.state().job.clone();
        let done = self.give_back_as(job, &held.token, why, held.stop.until().is_some_and(|at| sys::since_boot() < at));
        // From here on a round finds that the record names us for what we do not run, if that is still so.
        self.table.remove(&lease.id, lease.attempt);
        done
    }

    /// `is_held`: nobody else can have it yet. Otherwise Redis is asked first whose it is.
    fn give_back_as(&self, job: Running, token: &str, why: &str, is_held: bool) -> Result<(), Error> {
        let queued = Record::from(job.hand_back());
        let write = Write { record: &queued, stamp: &new_stamp() };
        let event = Draft::new(Kind::HandedBack, why);
        if is_held {
            self.write_open("", &queued)?;
        }
        let said = match self.transitions().hand_back(&write, token, event) {
            Ok(said) => said,
            Err(error) => {
                if !is_held {
                    // The file says that this was no death, unless a later attempt wrote it.
                    self.write_open("", &queued)?;
                }
                return Err(error);
            }
        };
        match said {
            Said::Done => {
                if !is_held {
                    self.write_open("", &queued)?;
                }
                crash::point(Kind::HandedBack, "after-record");
                Ok(())
            }
            Said::Unknown => self.put_back(&self.transitions(), &queued.id).map(drop),
            _ => Err(Error::Lost),
        }
    }

    /// A record that names this run of this server for an attempt that it does not run: a reply was
    /// lost, or Redis was away when it was given back. Counts no death.
    pub(super) fn give_back_stray(&self, record: Record) -> Result<Said, Error> {
        let Job::Running(job) = Job::from(record) else { return Ok(Said::Same) };
        let (token, attempt) = (self.token(job.attempt), job.attempt);
        let queued = Record::from(job.hand_back());
        let write = Write { record: &queued, stamp: &new_stamp() };
        let event =
            Draft::new(Kind::HandedBack, format!("attempt {attempt} was cut off from Redis; another one goes on"));
        match self.write_open("", &queued) {
            // Redis came back with an older state: the file knows of a later attempt, and so will the next claim.
            Ok(()) | Err(Error::Lost) => self.in_rounds().hand_back(&write, &token, event),
            Err(error) => Err(error),
        }
    }
}
