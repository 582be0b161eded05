//! Points in time. Pure but for [`Time::now`], the one way the clock is read.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A point in time: milliseconds since 1970 in UTC, RFC 3339 on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Time(pub i64);

impl Time {
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond() + test_offset())
    }

    pub fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add((seconds as i64).saturating_mul(1000)))
    }

    /// Milliseconds from `earlier` to this time; negative when the clock went back.
    pub fn since(self, earlier: Time) -> i64 {
        self.0 - earlier.0
    }
}

/// How wrong the clock is that a test gives this process, in milliseconds. Debug builds only.
#[cfg(debug_assertions)]
fn test_offset() -> i64 {
    use std::sync::LazyLock;
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        let seconds = std::env::var("AGENTICORE_TEST_CLOCK").ok().and_then(|text| text.parse::<i64>().ok());
        seconds.unwrap_or(0).saturating_mul(1000)
    });
    *OFFSET
}

#[cfg(not(debug_assertions))]
fn test_offset() -> i64 {
    0
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let stamp = jiff::Timestamp::from_millisecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{stamp:.3}")
    }
}

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let stamp: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(stamp.as_millisecond()))
    }
}
