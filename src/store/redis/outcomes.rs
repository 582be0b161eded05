//! How a job ends: sealed by the one who may, made the outcome by link(2), closed by anybody.
//!
//! Where the job files are no second copy, the seal itself decides.

use super::context::Access;
use super::link::WRONG_TYPE;
use super::reads::FOREIGN_STAYS;
use super::scripts::{Answer, Write, new_stamp};
use crate::event::Kind;
use crate::job::{Ended, Job, JobId, Note, Record, Status};
use crate::log;
use crate::store::outbox::About;
use crate::store::rules::{self, Cancel};
use crate::store::{Cancelled, Error, Lacks, crash, files};
use std::sync::PoisonError;
use std::time::Duration;

/// How long the events of a job that has ended stay in Redis, where the volume has them too: for those who read
/// them just now.
const EVENTS_STAY: Duration = Duration::from_secs(300);

impl Access {
    /// By whoever found a job that nobody holds in the state `read`. False: it was somebody's after all.
    pub fn seal_and_conclude(&self, outcome: Ended, read: &str) -> Result<bool, Error> {
        match self.steps().seal(&outcome.into(), "", read)? {
            (Answer::Sealed | Answer::Ended, Some(outcome)) => self.conclude(outcome).map(|_| true),
            _ => Ok(false),
        }
    }

    /// Makes `outcome` the job's, unless there is one; Redis follows. Returns the one that stays.
    /// Anybody may, any number of times: it is told once.
    pub fn conclude(&self, outcome: Record) -> Result<Record, Error> {
        let outcome = match self.ctx.has_copy {
            true => self.decide(outcome)?,
            false => outcome,
        };
        crash::point(Kind::Ended, "after-record");
        self.close(&outcome)?;
        crash::point(Kind::Ended, "after-event");
        Ok(outcome)
    }

    /// By the link of the ended file, which one alone can make; it tells of the end.
    fn decide(&self, outcome: Record) -> Result<Record, Error> {
        let (outcome, is_new) = self.ctx.files.link_ended(outcome).map_err(Error::Unavailable)?;
        if is_new {
            rules::tell_ended(&outcome);
        }
        Ok(outcome)
    }

    /// All follows a record in Redis that has ended already, and was told then: the second copy, if it lacks it, and
    /// the lists.
    pub fn follow(&self, ended: Record) -> Result<(), Error> {
        let outcome = match self.ctx.has_copy {
            true => self.ctx.files.link_ended(ended).map_err(Error::Unavailable)?.0,
            false => ended,
        };
        self.close(&outcome)
    }

    /// Redis, and the open file, follow an outcome that stands. Without a second copy this is what happens once.
    pub fn close(&self, outcome: &Record) -> Result<(), Error> {
        let Job::Ended(ended) = Job::from(outcome.clone()) else {
            return Err(Error::Unavailable(format!("the outcome of job {} does not say how it ended", outcome.id)));
        };
        // With a second copy it was noted before that copy had the end. Without one, two threads here are one after the
        // other: what the first of them noted is its server's to tell.
        let _alone = (!self.ctx.has_copy).then(|| self.ctx.closing.lock().unwrap_or_else(PoisonError::into_inner));
        let noted_here =
            !self.ctx.has_copy && self.ctx.files.outbox.note(outcome, About::Ended).map_err(Error::Unavailable)?;
        let events_stay = self.ctx.has_copy.then_some(EVENTS_STAY);
        let said = self.steps().close(outcome, ended.leaves_at(), &rules::end_event(outcome), events_stay)?;
        match said {
            Answer::Done if !self.ctx.has_copy => rules::tell_ended(outcome),
            // Another server closed it, and has it to tell.
            Answer::Ended if noted_here => {
                let _ = self.ctx.files.outbox.drop_waiting(&outcome.id, About::Ended);
            }
            _ => {}
        }
        if self.ctx.has_copy {
            files::remove(&self.ctx.files.open(&outcome.id)).map_err(Error::Unavailable)?;
        }
        self.ctx.hub.tell_end(&outcome.id);
        Ok(())
    }

    /// Decided by the link of the ended file, with Redis or without; where there is no second copy,
    /// by the seal.
    pub fn cancel(&self, id: &JobId, by: Option<&str>) -> Result<Cancelled, Error> {
        let ctx = &self.ctx;
        if ctx.has_copy
            && let Some(ended) = ctx.files.read_ended(id).map_err(Error::Unavailable)?
        {
            return Ok(Cancelled::Ended(ended));
        }
        let Some(record) = self.read(id)?.it else { return Ok(Cancelled::Unknown) };
        let (wanted, was_running) = match rules::cancelled(Job::from(record), by, self.ctx.now()) {
            Cancel::Ends { ended, was_running } => (Record::from(ended), was_running),
            Cancel::TooLate(job) => return Ok(Cancelled::Ended(job.into())),
        };
        let decided = match ctx.has_copy {
            true => self.decide(wanted.clone())?,
            false => match self.steps().seal(&wanted, "!", "")? {
                (Answer::Sealed | Answer::Ended, Some(outcome)) => outcome,
                _ => return Ok(Cancelled::Unknown),
            },
        };
        if let Err(error) = self.close(&decided) {
            // The outcome stands; whoever sees it next closes the record.
            log::job(id).warn(format!("it is {}; Redis learns of it later: {error}", decided.status().as_str()));
        }
        let is_this = decided.status() == Status::Cancelled && decided.ended_at == wanted.ended_at;
        if !is_this {
            return Ok(Cancelled::Ended(decided));
        }
        Ok(Cancelled::Done { record: decided, was_running })
    }

    /// In the file first: it is what Redis is made of again.
    pub fn note(&self, id: &JobId, note: Note) -> Result<(), Error> {
        let files = &self.ctx.files;
        let ended = match self.ctx.has_copy {
            true => files.read_ended(id).map_err(Error::Unavailable)?,
            false => self.read(id)?.it,
        };
        let Some(record) = rules::noted(ended, note, self.ctx.now()) else { return Ok(()) };
        if self.ctx.has_copy {
            files.amend_ended(&record).map_err(Error::Unavailable)?;
        }
        self.steps().amend(&record).map(drop)
    }

    /// An id that Redis has no record of: back from its file, or out of the lists if it has none.
    /// True: there is a record again.
    /// `head`: of the line, if it waits.
    pub fn put_back(&self, id: &JobId, head: bool) -> Result<bool, Error> {
        let files = &self.ctx.files;
        if let Some(outcome) = files.read_ended(id).map_err(Error::Unavailable)? {
            self.close(&outcome)?;
            return Ok(true);
        }
        let Some(open) = files.read_open(id).map_err(Error::Unavailable)? else {
            self.steps().relist(id, false)?;
            return Ok(false);
        };
        let write = Write { record: &open.record, stamp: &new_stamp() };
        self.put(&write, &open.holder, head)?;
        Ok(true)
    }

    /// Puts a record where Redis has none; what else stands in its place is put aside.
    pub fn put(&self, write: &Write, holder: &str, head: bool) -> Result<Answer, Error> {
        match self.steps().put(write, holder, head) {
            Err(Error::Unavailable(why)) if why.starts_with(WRONG_TYPE) => {
                self.steps().put_aside(&write.record.id, "", FOREIGN_STAYS)?;
                self.steps().put(write, holder, head)
            }
            other => other,
        }
    }

    /// Ended jobs whose time to live is over leave, with all that the store has of them.
    pub fn forget(&self, id: &JobId) -> Result<(), Error> {
        let record = self.read(id)?.it;
        if record.as_ref().is_some_and(|record| !record.status().has_ended()) {
            return Ok(());
        }
        if !self.ctx.has_copy
            && let Some(key) = record.as_ref().and_then(|record| record.key.as_deref())
        {
            let key = self.ctx.keys.idempotency(key);
            let removed = self.link.with(|connection| ::redis::cmd("DEL").arg(&key).exec(connection));
            removed.map_err(Error::Unavailable)?;
        }
        // Redis before the ended file: what Redis still knows is found again, and forgotten then.
        files::remove(&self.ctx.files.open(id)).map_err(Error::Unavailable)?;
        self.steps().remove(id)?;
        rules::forget_files(&self.ctx.files, id, record.as_ref())
    }

    /// Expires what nobody took in time, and finds the ended jobs whose time is over. One pod does it
    /// for all.
    pub fn expire_and_collect(&self, lacks: &Lacks) -> Result<Vec<Record>, Error> {
        if self.ctx.ends() || !self.ctx.clock.is_good() || !self.take_turn("tend", Duration::from_secs(1))? {
            return Ok(Vec::new());
        }
        let now = self.ctx.now();
        for id in self.oldest(&self.ctx.keys.due(), now.0)? {
            let (record, stamp) = match self.read_with_stamp(&id) {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(error) if self.link.trouble().is_some() => return Err(error),
                Err(error) => {
                    log::job(&id).warn(&error);
                    continue;
                }
            };
            if let Job::Queued(job) = Job::from(record)
                && job.is_overdue(now)
            {
                let why = lacks(&job);
                self.seal_and_conclude(job.expire(why, now), &stamp)?;
            }
        }
        let mut over = Vec::new();
        for id in self.oldest(&self.ctx.keys.over(), now.0)? {
            match self.read(&id)?.it {
                Some(record) if record.status().has_ended() => over.push(record),
                Some(_) => {}
                None => self.forget(&id)?,
            }
        }
        Ok(over)
    }
}
