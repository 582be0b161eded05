//! A request to stop one job's attempt, seen by whatever it is doing just then.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A user cancelled the job.
    Cancelled,
    /// The server goes away; another attempt goes on with the job.
    HandBack,
}

/// Cheap to clone; all clones are one. The first reason stays.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<Option<Reason>>, Condvar)>);

impl Stop {
    pub fn request(&self, reason: Reason) {
        let mut found = self.lock();
        if found.is_none() {
            *found = Some(reason);
            self.0.1.notify_all();
        }
    }

    pub fn reason(&self) -> Option<Reason> {
        *self.lock()
    }

    /// Waits, but no longer than until a stop is requested.
    pub fn pause(&self, limit: Duration) -> Option<Reason> {
        let until = Instant::now() + limit;
        let mut found = self.lock();
        while found.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            found = self.0.1.wait_timeout(found, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *found
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reason>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let stop = Stop::default();
        assert_eq!(stop.pause(Duration::from_millis(1)), None);
        stop.request(Reason::Cancelled);
        stop.request(Reason::HandBack);
        assert_eq!(stop.pause(Duration::from_secs(60)), Some(Reason::Cancelled));
    }
}
