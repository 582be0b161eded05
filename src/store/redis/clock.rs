//! The time of a fleet, which is Redis': a pod whose own clock is wrong must not let other pods' jobs expire.

use super::link::Link;
use crate::job::Time;
use crate::log;
use std::sync::Mutex;
use std::sync::PoisonError;

/// Clocks that differ by less, in milliseconds, are one.
const SAME: i64 = 1_000;
/// A pod whose clock is further off than this, in milliseconds, takes no job, lets none expire, and is not ready: what
/// else it does by the time (certificates, logins) would go wrong.
const FAR_OFF: i64 = 60_000;

#[derive(Default)]
pub struct Clock {
    /// How far Redis is ahead of this pod, in milliseconds. None: it was never asked.
    ahead: Mutex<Option<i64>>,
}

impl Clock {
    pub fn now(&self) -> Time {
        let ahead = self.ahead().filter(|ahead| ahead.abs() >= SAME).unwrap_or(0);
        Time(Time::now().0.saturating_add(ahead))
    }

    fn ahead(&self) -> Option<i64> {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what hangs on the time may be decided here: it is known, and this pod's clock is not far off.
    pub fn is_good(&self) -> bool {
        self.ahead().is_some() && self.is_wrong().is_none()
    }

    /// Asks Redis for the time.
    pub fn compare(&self, link: &Link) -> Result<(), String> {
        let (before, of_redis, after) = link.with(|connection| {
            let before = Time::now().0;
            let (seconds, microseconds) = ::redis::cmd("TIME").query::<(i64, i64)>(connection)?;
            Ok((before, seconds * 1000 + microseconds / 1000, Time::now().0))
        })?;
        let was_wrong = self.is_wrong().is_some();
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner) = Some(of_redis - (before + after) / 2);
        match self.is_wrong() {
            Some(why) if !was_wrong => log::warn(&format!("waiting for {why}")),
            None if was_wrong => log::info("this pod's clock is right again"),
            _ => {}
        }
        Ok(())
    }

    /// Why this pod does nothing that hangs on the time, and what to do.
    pub fn is_wrong(&self) -> Option<String> {
        let ahead = self.ahead().filter(|ahead| ahead.abs() > FAR_OFF)?;
        let (seconds, side) = (ahead.abs() / 1000, if ahead > 0 { "behind" } else { "ahead of" });
        Some(format!(
            "this pod's clock, which is {seconds} s {side} Redis': set its machine's clock right (NTP); it takes no \
             job until then"
        ))
    }
}
