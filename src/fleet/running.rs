//! What runs on this server just now, and whether the server goes: what pool, drain and cancel share.

use crate::job::JobId;
use crate::process::stop::{Reason, Stop};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A job and its attempt: an earlier attempt that hangs may not have ended here yet when a later one begins.
pub type AttemptId = (JobId, u32);

#[derive(Default)]
pub struct Running {
    stops: Mutex<HashMap<AttemptId, Stop>>,
    /// Told when a job leaves, and when the server goes.
    changed: Condvar,
    goes_away: AtomicBool,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptId, Stop>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, attempt: AttemptId, stop: Stop) {
        self.lock().insert(attempt, stop);
    }

    pub fn remove(&self, attempt: &AttemptId) {
        self.lock().remove(attempt);
        self.changed.notify_all();
    }

    pub fn runs(&self, id: &JobId) -> bool {
        self.lock().keys().any(|(of, _)| of == id)
    }

    /// In the order of their ids.
    pub fn ids(&self) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.lock().keys().map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Stops the attempts at a job.
    pub fn stop(&self, id: &JobId, reason: Reason) {
        self.lock().iter().filter(|((of, _), _)| of == id).for_each(|(_, stop)| stop.request(reason));
    }

    /// Stops everything that was not told to stop yet; the ids of what was.
    pub fn stop_all(&self, reason: Reason) -> Vec<JobId> {
        let running = self.lock();
        let going_on = running.iter().filter(|(_, stop)| stop.reason().is_none());
        going_on.map(|((id, _), stop)| (stop.request(reason), id.clone()).1).collect()
    }

    /// Waits for a change, at most `limit`.
    pub fn wait(&self, limit: Duration) {
        drop(self.changed.wait_timeout(self.lock(), limit));
    }

    /// Waits, but no longer than until the server goes.
    pub fn pause(&self, limit: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), limit, |_| !self.goes_away()));
    }

    pub fn go_away(&self) {
        self.goes_away.store(true, Ordering::SeqCst);
        self.changed.notify_all();
    }

    pub fn goes_away(&self) -> bool {
        self.goes_away.load(Ordering::SeqCst)
    }
}
