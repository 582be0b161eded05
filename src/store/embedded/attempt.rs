//! An attempt at a job of the embedded store: what it may write.

use super::{Core, Live, index::lock};
use crate::event::{Draft, Kind};
use crate::job::{Job, JobId, Mark, Record, Running, Time};
use crate::store::{Attempt, Back, End, Error, crash, files, rules};
use std::sync::Arc;

pub struct EmbeddedAttempt {
    core: Arc<Core>,
    id: JobId,
    number: u32,
}

impl EmbeddedAttempt {
    pub fn new(core: Arc<Core>, record: &Record) -> Self {
        Self { core, id: record.id.clone(), number: record.attempt }
    }

    /// Hands back what could not be handed back before.
    pub fn hand_back_again(core: &Arc<Core>) {
        let left = std::mem::take(&mut core.index().not_handed_back);
        for (id, number, back) in left {
            // What fails is noted again; what is another attempt's by now is not ours to touch.
            let _ = Self { core: core.clone(), id, number }.hand_back(back);
        }
    }

    /// Runs `change` on the job, if it still is this attempt's.
    fn change<T>(&self, change: impl FnOnce(&mut Live, Running) -> Result<T, Error>) -> Result<T, Error> {
        let cell = self.core.cell(&self.id).ok_or(Error::Lost)?;
        let mut live = lock(&cell);
        match live.job.clone() {
            Job::Running(mut job) if job.attempt == self.number => {
                if let Some((_, numbering)) = &live.log {
                    job.count_events(numbering.so_far());
                }
                change(&mut live, job)
            }
            _ => Err(Error::Lost),
        }
    }
}

impl Attempt for EmbeddedAttempt {
    fn mark(&self, mark: Mark, event: Option<Draft>) -> Result<Record, Error> {
        self.change(|live, mut job| {
            let waits = mark.may_wait();
            job.mark(mark);
            if !waits {
                self.core.write_open(live.position, &job)?;
            }
            live.job = Job::Running(job);
            if let Some(event) = event {
                crash::point(event.kind, "after-record");
                self.core.append(live, event);
            }
            self.core.note(&mut self.core.index(), &live.job);
            Ok((*live.job).clone())
        })
    }

    fn prove(&self) -> Result<(), Error> {
        self.change(|_, _| Ok(()))
    }

    fn say(&self, event: Draft) -> Result<(), Error> {
        self.change(|live, _| {
            self.core.append(live, event);
            Ok(())
        })
    }

    fn finish(&self, end: End) -> Result<Record, Error> {
        self.change(|live, job| self.core.close(live, rules::ended(job, end, Time::now()), true))
    }

    fn hand_back(&self, back: Back) -> Result<(), Error> {
        let done = self.change(|live, job| {
            let log = live.log.take();
            let requeued = self.core.requeue(live, back.apply(job));
            live.log = log;
            requeued?;
            crash::point(Kind::HandedBack, "after-record");
            // Nobody else can have the job before this is over: its lock is held.
            self.core.append(live, Draft::new(Kind::HandedBack, back.why()));
            live.log = None;
            Ok(())
        });
        if let Err(Error::Unavailable(_)) = &done {
            // Nobody runs it from here on: it is tried again with the next round of the keeper.
            self.core.index().not_handed_back.push((self.id.clone(), self.number, back));
        }
        done
    }

    fn release(&self) -> Result<(), Error> {
        self.core.release(&self.id)
    }
}

impl Core {
    pub(super) fn release(&self, id: &JobId) -> Result<(), Error> {
        files::remove(&self.files.open(id)).map_err(Error::Unavailable)?;
        self.index().leftovers.retain(|left| left != id);
        Ok(())
    }
}
