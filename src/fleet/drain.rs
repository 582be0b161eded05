//! Draining: no job is begun any more, what runs may end, and at the limit the rest goes back to the
//! head of the queue. Everything else goes on.

use super::pool::Shared;
use crate::job::JobId;
use crate::log;
use crate::process::stop::Reason;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the limit, and the wish to drain, are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the store is told again that could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct Drain {
    /// When what still runs goes back; None: not draining.
    until: Option<Instant>,
    handed_back: Vec<JobId>,
    /// The store has not taken in the last change yet.
    untold: bool,
}

/// How far a drain has come.
pub struct Progress {
    pub draining: bool,
    pub running: Vec<JobId>,
    pub handed_back: Vec<JobId>,
    pub left: Duration,
}

#[derive(Clone)]
pub struct Drainer(pub(super) Arc<Shared>);

impl Drainer {
    /// From now on nothing is begun; what runs gets `limit`. Asked again, the new limit counts.
    pub fn begin(&self, limit: Duration) {
        self.0.begin_drain(limit);
    }

    /// Jobs are begun again. What was handed back stays handed back.
    pub fn take_back(&self) {
        self.0.take_back_drain();
    }

    pub fn progress(&self) -> Progress {
        let mut running: Vec<JobId> = self.0.running().keys().map(|(id, _)| id.clone()).collect();
        running.sort();
        let drain = self.0.drain();
        Progress {
            draining: drain.until.is_some(),
            running,
            handed_back: drain.handed_back.clone(),
            left: drain.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now())),
        }
    }
}

impl Shared {
    fn drain(&self) -> MutexGuard<'_, Drain> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_drain(&self, limit: Duration) {
        {
            let mut drain = self.drain();
            if drain.until.is_none() {
                drain.handed_back.clear();
            }
            if drain.until.is_none() {
                log::info(&format!("draining: nothing is begun any more, and what runs gets {} s", limit.as_secs()));
            }
            drain.until = Some(Instant::now() + limit);
        }
        self.runner.store.open_claims(false);
        self.tell_store();
    }

    fn take_back_drain(&self) {
        if self.goes_away() || self.drain().until.take().is_none() {
            return;
        }
        self.runner.store.open_claims(true);
        self.tell_store();
        log::info("the drain was taken back: jobs are begun again");
    }

    fn tell_store(&self) {
        let until = self.drain().until;
        let told = self.runner.store.tell_draining(until.map(|at| at.saturating_duration_since(Instant::now())));
        self.drain().untold = told.is_err();
    }

    /// Notes how a job left, for the one who waits for the drain.
    pub(super) fn note_left(&self, id: &JobId, reason: Option<Reason>) {
        if reason == Some(Reason::HandBack) {
            self.drain().handed_back.push(id.clone());
        }
    }

    pub(super) fn watch_drain(&self) {
        let mut tell_at = Instant::now();
        while !self.goes_away() {
            match self.runner.store.asked_to_drain() {
                Some(Some(limit)) => {
                    log::info(&format!("asked through Redis to drain within {} s", limit.as_secs()));
                    self.begin_drain(limit);
                }
                Some(None) => self.take_back_drain(),
                _ => {}
            }
            let (is_over, untold) = {
                let drain = self.drain();
                (drain.until.is_some_and(|until| until <= Instant::now()), drain.untold)
            };
            if is_over {
                for ((id, _), stop) in self.running().iter().filter(|(_, stop)| stop.reason().is_none()) {
                    log::info(&format!("the drain's time is up: job {id} goes back to the queue"));
                    stop.request(Reason::HandBack);
                }
            }
            if untold && Instant::now() >= tell_at {
                tell_at = Instant::now() + TELL_AGAIN;
                self.tell_store();
            }
            self.pause(TICK);
        }
    }
}
