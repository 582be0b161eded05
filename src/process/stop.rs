//! A request to stop one job's attempt, seen by whatever it is doing just then.
//!
//! A stop may hang on a lease: it stops by itself when the lease can no longer be relied on, also in
//! a process that was asleep until then.

use super::sys;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a wait looks at the clock and at the stops it hangs on.
const TICK: Duration = Duration::from_millis(100);
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A user cancelled the job.
    Cancelled,
    /// The server goes away or drains; another attempt goes on with the job.
    HandBack,
    /// The lease can no longer be proved, or is somebody else's.
    Lost,
}

/// Cheap to clone; all clones are one. The first reason stays.
#[derive(Clone)]
pub struct Stop(Arc<Inner>);

struct Inner {
    reason: Mutex<Option<Reason>>,
    told: Condvar,
    /// When the lease runs out, in milliseconds since boot.
    until: AtomicU64,
    /// How long before that everything has to begin to end.
    reserve: Duration,
    others: Vec<Stop>,
}

impl Default for Stop {
    fn default() -> Self {
        Self::new(NEVER, Duration::ZERO, Vec::new())
    }
}

impl Stop {
    fn new(until: u64, reserve: Duration, others: Vec<Stop>) -> Self {
        let (reason, told) = Default::default();
        Self(Arc::new(Inner { reason, told, until: AtomicU64::new(until), reserve, others }))
    }

    /// One that stops by itself `reserve` before the time `until` (since boot), unless that is extended.
    pub fn leased(until: Duration, reserve: Duration) -> Self {
        Self::new(until.as_millis() as u64, reserve, Vec::new())
    }

    /// One that also stops when any of `others` does.
    pub fn with(others: &[&Stop]) -> Self {
        Self::new(NEVER, Duration::ZERO, others.iter().map(|other| (*other).clone()).collect())
    }

    pub fn request(&self, reason: Reason) {
        let mut found = self.lock();
        if found.is_none() {
            *found = Some(reason);
            self.0.told.notify_all();
        }
    }

    /// The lease was renewed. One that ran out already is not brought back.
    pub fn extend(&self, until: Duration) {
        if self.reason().is_none() {
            self.0.until.store(until.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// When the lease runs out, since boot; None: there is no lease.
    pub fn until(&self) -> Option<Duration> {
        let own = Some(self.0.until.load(Ordering::SeqCst)).filter(|at| *at != NEVER).map(Duration::from_millis);
        own.into_iter().chain(self.0.others.iter().filter_map(Stop::until)).min()
    }

    pub fn reason(&self) -> Option<Reason> {
        let found = *self.lock();
        let of_others = || self.0.others.iter().find_map(Stop::reason);
        let of_lease = || (!self.lease_is_good()).then_some(Reason::Lost);
        let reason = found.or_else(of_others).or_else(of_lease);
        if let (None, Some(reason)) = (found, reason) {
            self.request(reason);
        }
        reason
    }

    /// The lease can be relied on no more, whatever was the first reason to stop.
    pub fn is_lost(&self) -> bool {
        self.reason() == Some(Reason::Lost) || !self.lease_is_good()
    }

    fn lease_is_good(&self) -> bool {
        let until = self.0.until.load(Ordering::SeqCst);
        until == NEVER || sys::since_boot() + self.0.reserve < Duration::from_millis(until)
    }

    /// Waits, but no longer than until a stop is requested.
    pub fn pause(&self, limit: Duration) -> Option<Reason> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let reason = self.reason();
            if reason.is_some() || left.is_zero() {
                return reason;
            }
            let found = self.lock();
            if found.is_none() {
                drop(self.0.told.wait_timeout(found, left.min(TICK)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reason>> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_lease_that_ran_out_stops_and_stays_lost() {
        let (now, hour) = (sys::since_boot(), Duration::from_secs(3600));
        let stop = Stop::leased(now + hour, Duration::from_secs(60));
        assert_eq!(stop.reason(), None);
        let with = Stop::with(&[&Stop::default(), &stop]);
        assert_eq!(with.until(), stop.until());
        stop.extend(now + Duration::from_secs(59));
        assert_eq!((stop.reason(), with.reason()), (Some(Reason::Lost), Some(Reason::Lost)));
        stop.extend(now + hour);
        assert_eq!(stop.reason(), Some(Reason::Lost));
        let handed_back = Stop::leased(now, Duration::ZERO);
        handed_back.request(Reason::HandBack);
        assert!(handed_back.reason() == Some(Reason::HandBack) && handed_back.is_lost());
    }
}
