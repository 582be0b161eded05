//! How often a key may hand something in: a bucket for each, which fills again as time goes by. Pure but for the lock.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// More names than there are keys would be a fault; so many are kept at most.
const NAMES_MOST: usize = 10_000;

#[derive(Default)]
pub struct Rates {
    /// What each has left, and when that was so.
    buckets: Mutex<HashMap<String, (f64, Instant)>>,
}

impl Rates {
    /// Takes one of `per_minute` from the bucket of `name`; or says in how many seconds there is one.
    pub fn take(&self, name: &str, per_minute: u64, now: Instant) -> Result<(), u64> {
        if per_minute == 0 {
            return Ok(());
        }
        let (full, each) = (per_minute as f64, 60.0 / per_minute as f64);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= NAMES_MOST {
            // What was full again has nothing to remember.
            buckets.retain(|_, (_, since)| now.duration_since(*since) < Duration::from_secs(60));
        }
        let (left, since) = buckets.entry(name.to_owned()).or_insert((full, now));
        *left = (*left + now.saturating_duration_since(*since).as_secs_f64() / each).min(full);
        *since = now;
        if *left >= 1.0 {
            *left -= 1.0;
            return Ok(());
        }
        Err(((1.0 - *left) * each).ceil().max(1.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let (rates, begin) = (Rates::default(), Instant::now());
        for _ in 0..6 {
            assert_eq!(rates.take("ci", 6, begin), Ok(()));
        }
        assert_eq!(rates.take("ci", 6, begin), Err(10));
        assert_eq!(rates.take("other", 6, begin), Ok(()), "one key's flood is its own");
        assert_eq!(rates.take("ci", 6, begin + Duration::from_secs(4)), Err(6));
        assert_eq!(rates.take("ci", 6, begin + Duration::from_secs(10)), Ok(()));
        assert_eq!(rates.take("ci", 0, begin), Ok(()), "no limit");
    }
}
