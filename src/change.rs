//! A change of a job's status, among those of all jobs, and its cursor. Pure.

use crate::job::{JobId, Status, Time};
use std::fmt;

/// The most changes that are kept, the latest ones; Redis keeps about as many.
pub const CHANGES_LIMIT: usize = 4_000;

#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub cursor: Moment,
    pub job: JobId,
    pub status: Status,
}

/// When a change was written down: a time, and a number among those of the same millisecond. As a text it is opaque
/// to users, and it rises, also when texts are compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment {
    pub milliseconds: u64,
    pub number: u64,
}

impl Moment {
    /// Before the first change.
    pub const START: Moment = Moment { milliseconds: 0, number: 0 };

    pub fn time(self) -> Time {
        Time(self.milliseconds as i64)
    }

    /// The first one after `self` that is not before `now`.
    pub fn next(self, now: Time) -> Self {
        let milliseconds = now.0.max(0) as u64;
        if milliseconds > self.milliseconds {
            Self { milliseconds, number: 0 }
        } else {
            Self { number: self.number + 1, ..self }
        }
    }

    /// As users send it back, or as Redis names the entries of a stream.
    pub fn parse(text: &str) -> Option<Self> {
        let (milliseconds, number) = text.split_once('-')?;
        let read = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self { milliseconds: read(milliseconds)?, number: read(number)? })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:015}-{:06}", self.milliseconds, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_rise_whatever_the_clock_does() {
        let first = Moment::START.next(Time(5_000));
        let (same, back, later) = (first.next(Time(5_000)), first.next(Time(4_000)), first.next(Time(5_001)));
        assert!(first < same && first < back && same < later);
        assert_eq!(Moment::parse(&later.to_string()), Some(later));
        assert!(first.to_string() < same.to_string() && same.to_string() < later.to_string());
        assert_eq!(Moment::parse("1732000000000-3"), Some(Moment { milliseconds: 1_732_000_000_000, number: 3 }));
        for bad in ["", "x", "5", "-", "1-", "1-x", "+1-1"] {
            assert_eq!(Moment::parse(bad), None, "{bad}");
        }
    }
}
