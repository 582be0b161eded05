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

type Callback = Box<dyn FnOnce(Reason) + Send>;

#[derive(Default)]
struct State {
    reason: Option<Reason>,
    callback: Option<Callback>,
}

/// Cheap to clone; all clones are one. The first reason stays.
#[derive(Clone, Default)]
pub struct Stop(Arc<(Mutex<State>, Condvar)>);

impl Stop {
    pub fn request(&self, reason: Reason) {
        let mut state = self.lock();
        if state.reason.is_none() {
            state.reason = Some(reason);
            if let Some(callback) = state.callback.take() {
                callback(reason);
            }
            self.0.1.notify_all();
        }
    }

    pub fn reason(&self) -> Option<Reason> {
        self.lock().reason
    }

    /// Calls `callback` once, at the request or at once if it was made before. A later callback
    /// takes the place of an earlier one.
    pub fn on_request(&self, callback: impl FnOnce(Reason) + Send + 'static) {
        let mut state = self.lock();
        match state.reason {
            Some(reason) => callback(reason),
            None => state.callback = Some(Box::new(callback)),
        }
    }

    /// Waits, but no longer than until a stop is requested.
    pub fn pause(&self, limit: Duration) -> Option<Reason> {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.reason.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.reason
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_late_callbacks_hear_of_it() {
        let stop = Stop::default();
        assert_eq!(stop.pause(Duration::from_millis(1)), None);
        stop.request(Reason::Cancelled);
        stop.request(Reason::HandBack);
        let (tell, heard) = std::sync::mpsc::channel();
        stop.on_request(move |reason| tell.send(reason).unwrap());
        assert_eq!(heard.recv(), Ok(Reason::Cancelled));
        assert_eq!(stop.pause(Duration::from_secs(60)), Some(Reason::Cancelled));
    }
}
