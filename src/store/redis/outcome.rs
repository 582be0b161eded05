//! How a job ends: sealed by the one who may, made the outcome by link(2), closed by anybody.
//!
//! Where the job files are no second copy, the seal itself decides.

use super::Redis;
use super::scripts::{Said, Transitions, Write, new_stamp};
use crate::event::{Draft, Kind};
use crate::job::{Ended, Job, JobId, Record, Status, Time};
use crate::process::stop::Reason;
use crate::store::{Cancelled, End, Error, Lease, crash, files};

impl Redis {
    /// By the holder.
    pub(super) fn end_job(&self, lease: &Lease, end: End) -> Result<Record, Error> {
        let held = self.held(lease)?;
        let job = held.state().job.clone();
        let now = Time::now();
        let outcome = Record::from(match end {
            End::Verdict => job.finish(now),
            End::Failed(why) => job.fail(why, now),
        });
        let (said, sealed) = self.transitions().seal(&outcome, &held.token, "")?;
        let outcome = match (said, sealed) {
            (Said::Sealed | Said::Ended, Some(outcome)) => outcome,
            (said, _) => return Err(self.refused(&held, &held.state(), said)),
        };
        crash::point(Kind::Ended, "after-seal");
        let ended = self.conclude(&self.transitions(), outcome)?;
        self.table.remove(&lease.id, lease.attempt);
        Ok(ended)
    }

    /// By whoever found a job that nobody holds in the state `read`. False: it was somebody's after all.
    pub(super) fn seal_and_conclude(&self, steps: &Transitions, outcome: Ended, read: &str) -> Result<bool, Error> {
        match steps.seal(&outcome.into(), "", read)? {
            (Said::Sealed | Said::Ended, Some(outcome)) => self.conclude(steps, outcome).map(|_| true),
            _ => Ok(false),
        }
    }

    /// Makes `outcome` the job's, unless there is one; Redis follows. Returns the one that stays.
    /// Anybody may, any number of times.
    pub(super) fn conclude(&self, steps: &Transitions, outcome: Record) -> Result<Record, Error> {
        let outcome = match self.has_copy {
            true => self.files.link_ended(outcome).map_err(Error::Unavailable)?,
            false => outcome,
        };
        crash::point(Kind::Ended, "after-record");
        self.close(steps, &outcome)?;
        crash::point(Kind::Ended, "after-event");
        Ok(outcome)
    }

    /// Redis, and the open file, follow an outcome that stands.
    pub(super) fn close(&self, steps: &Transitions, outcome: &Record) -> Result<(), Error> {
        let Job::Ended(ended) = Job::from(outcome.clone()) else {
            return Err(Error::Unavailable(format!("the outcome of job {} is none", outcome.id)));
        };
        let why = outcome.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let event = Draft::new(Kind::Ended, format!("{}{why}", outcome.status().as_str()));
        steps.close(outcome, ended.leaves_at(), event)?;
        if self.has_copy {
            files::remove(&self.files.open(&outcome.id)).map_err(Error::Unavailable)?;
        }
        self.tell_changed();
        Ok(())
    }

    /// Decided by the link of the ended file, with Redis or without; where there is no second copy,
    /// by the seal.
    pub(super) fn cancel_job(&self, id: &JobId) -> Result<Cancelled, Error> {
        if self.has_copy
            && let Some(ended) = self.files.read_ended(id).map_err(Error::Unavailable)?
        {
            return Ok(Cancelled::Ended(ended));
        }
        let Some(record) = self.read(id)?.it else { return Ok(Cancelled::Unknown) };
        let now = Time::now();
        let (wish, was_running) = match Job::from(record) {
            Job::Queued(job) => (job.cancel(now), false),
            Job::Running(job) => (job.cancel(now), true),
            Job::Ended(job) => return Ok(Cancelled::Ended(job.into())),
        };
        let wish = Record::from(wish);
        let decided = match self.has_copy {
            true => self.files.link_ended(wish.clone()).map_err(Error::Unavailable)?,
            false => match self.transitions().seal(&wish, "!", "")? {
                (Said::Sealed | Said::Ended, Some(outcome)) => outcome,
                _ => return Ok(Cancelled::Unknown),
            },
        };
        if let Err(error) = self.close(&self.transitions(), &decided) {
            // The outcome stands; whoever sees it next closes the record.
            crate::log::warn(&format!("job {id} is {}; Redis learns of it later: {error}", decided.status().as_str()));
        }
        let is_this = decided.status() == Status::Cancelled && decided.ended_at == wish.ended_at;
        if !is_this {
            return Ok(Cancelled::Ended(decided));
        }
        if let Some(held) = self.table.get(id) {
            held.stop.request(Reason::Cancelled);
        }
        Ok(Cancelled::Done { record: decided, was_running })
    }

    /// An id that Redis has no record of: back from its file, or out of the lists if it has none.
    /// True: there is a record again.
    pub(super) fn put_back(&self, steps: &Transitions, id: &JobId) -> Result<bool, Error> {
        if let Some(outcome) = self.files.read_ended(id).map_err(Error::Unavailable)? {
            self.close(steps, &outcome)?;
            return Ok(true);
        }
        let Some(open) = self.files.read_open(id).map_err(Error::Unavailable)? else {
            steps.place(id, false)?;
            return Ok(false);
        };
        let write = Write { record: &open.record, stamp: &new_stamp() };
        // One that was begun was at the head of the line before.
        let was_begun = open.record.attempt > 0;
        let event = (!was_begun).then(|| Draft::new(Kind::Queued, ""));
        steps.put(&write, &open.holder, was_begun, event)?;
        Ok(true)
    }

    /// Ended jobs whose time to live is over leave, with all that the store has of them.
    pub(super) fn forget(&self, id: &JobId) -> Result<(), Error> {
        let record = self.read(id)?.it;
        if record.as_ref().is_some_and(|record| !record.status().has_ended()) {
            return Ok(());
        }
        // First, or a crash between the two would bring the job back to life.
        files::remove(&self.files.open(id)).map_err(Error::Unavailable)?;
        if let Some(key) = record.and_then(|record| record.key) {
            self.files.remove_key(&key).map_err(Error::Unavailable)?;
            let key = self.keys.idempotency(&key);
            self.link.with(|connection| ::redis::cmd("DEL").arg(&key).exec(connection)).map_err(Error::Unavailable)?;
        }
        self.transitions().remove(id)?;
        files::remove(&self.files.events(id)).map_err(Error::Unavailable)?;
        files::remove(&self.files.ended(id)).map_err(Error::Unavailable)
    }

    /// Expires what nobody took in time, and finds the ended jobs whose time is over. One pod does it
    /// for all.
    pub(super) fn expire_and_collect(&self) -> Result<Vec<Record>, Error> {
        if self.ends() || !self.is_our_turn("tend", std::time::Duration::from_secs(1))? {
            return Ok(Vec::new());
        }
        let now = Time::now();
        for id in self.oldest(&self.keys.due(), now.0)? {
            let (record, stamp) = match self.read_with_stamp(&self.link, &id) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) if self.link.trouble().is_some() => return Err(error),
                Err(error) => {
                    crate::log::warn(&format!("job {id}: {error}"));
                    continue;
                }
            };
            if let Job::Queued(job) = Job::from(record)
                && job.is_overdue(now)
            {
                self.seal_and_conclude(&self.transitions(), job.expire(now), &stamp)?;
            }
        }
        let mut over = Vec::new();
        for id in self.oldest(&self.keys.over(), now.0)? {
            match self.read(&id)?.it {
                Some(record) if record.status().has_ended() => over.push(record),
                Some(_) => {}
                None => self.forget(&id)?,
            }
        }
        Ok(over)
    }
}
