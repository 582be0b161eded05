//! Who may run beside others: a job that a worker was lost with runs alone next, so that the others on its server do
//! not pay for it, nor it for them.

use crate::process::stop::Stop;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often one that waits looks whether it was told to stop.
const TICK: Duration = Duration::from_millis(100);

#[derive(Default)]
struct State {
    /// Run beside one another.
    together: usize,
    /// Wait to run alone: nothing is begun meanwhile.
    waiting: usize,
    /// One runs alone.
    alone: bool,
}

#[derive(Default)]
pub struct Solo {
    state: Mutex<State>,
    changed: Condvar,
}

/// While it is held the job runs. Dropping it lets others run.
pub struct Place<'a> {
    solo: &'a Solo,
    alone: bool,
}

impl Solo {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing runs alone here, or is about to.
    pub fn may_begin(&self) -> bool {
        let state = self.lock();
        !state.alone && state.waiting == 0
    }

    /// A job that runs alone was claimed: from here on nothing is begun, until it has [entered](Self::enter) and left.
    pub fn announce(&self) {
        self.lock().waiting += 1;
    }

    /// One that was announced does not run here after all.
    pub fn withdraw(&self) {
        self.lock().waiting -= 1;
        self.changed.notify_all();
    }

    /// Waits until the job may run; None: it was told to stop before. `alone`: it was announced.
    pub fn enter(&self, alone: bool, stop: &Stop) -> Option<Place<'_>> {
        let mut state = self.lock();
        while state.alone || (alone && state.together > 0) {
            if stop.reason().is_some() {
                state.waiting -= usize::from(alone);
                self.changed.notify_all();
                return None;
            }
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        match alone {
            true => (state.waiting, state.alone) = (state.waiting - 1, true),
            false => state.together += 1,
        }
        Some(Place { solo: self, alone })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.solo.lock();
        match self.alone {
            true => state.alone = false,
            false => state.together -= 1,
        }
        self.solo.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::stop::Reason;
    use std::sync::Arc;

    #[test]
    fn one_that_runs_alone_waits_for_the_others_and_they_for_it() {
        let (solo, stop) = (Arc::new(Solo::default()), Stop::default());
        let (first, second) = (solo.enter(false, &stop).unwrap(), solo.enter(false, &stop).unwrap());
        let waiting = std::thread::spawn({
            let (solo, stop) = (solo.clone(), stop.clone());
            solo.announce();
            move || solo.enter(true, &stop).map(drop).is_some()
        });
        drop(first);
        assert!(!solo.may_begin(), "it waits for the second too");
        drop(second);
        assert!(waiting.join().unwrap() && solo.may_begin());
    }

    #[test]
    fn one_that_is_told_to_stop_waits_no_longer() {
        let (solo, stop) = (Solo::default(), Stop::default());
        let _other = solo.enter(false, &stop).unwrap();
        solo.announce();
        stop.request(Reason::Cancelled);
        assert!(solo.enter(true, &stop).is_none() && solo.may_begin());
    }
}
