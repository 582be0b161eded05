//! The store of a server that was not told where to keep jobs: it refuses everything, and says what to set.
//!
//! Writes nothing and knows nothing.

use super::{Cancelled, Claim, End, Error, Key, Lease, Seen, Store};
use crate::event::{Draft, Event};
use crate::job::{JobId, Mark, Record, Spec, Status};
use std::time::Duration;

pub struct Unconfigured {
    /// What is missing, and what to do.
    pub why: String,
}

impl Unconfigured {
    fn refuse<T>(&self) -> Result<T, Error> {
        Err(Error::Unconfigured(self.why.clone()))
    }
}

impl Store for Unconfigured {
    fn submit(&self, _: Spec, _: Option<&Key>) -> Result<Record, Error> {
        self.refuse()
    }

    fn claim(&self, wait: Duration, _: Option<&str>) -> Result<Option<Claim>, Error> {
        std::thread::sleep(wait);
        Ok(None)
    }

    fn open_claims(&self, _: bool) {}

    fn mark(&self, _: &Lease, _: Mark, _: Option<Draft>) -> Result<Record, Error> {
        self.refuse()
    }

    fn prove(&self, _: &Lease) -> Result<(), Error> {
        self.refuse()
    }

    fn say(&self, _: &Lease, _: Draft) -> Result<(), Error> {
        self.refuse()
    }

    fn finish(&self, _: &Lease, _: End) -> Result<Record, Error> {
        self.refuse()
    }

    fn hand_back(&self, _: &Lease, _: &str) -> Result<(), Error> {
        self.refuse()
    }

    fn cancel(&self, _: &JobId) -> Result<Cancelled, Error> {
        self.refuse()
    }

    fn leftovers(&self) -> Vec<Record> {
        Vec::new()
    }

    fn release(&self, _: &Lease) -> Result<(), Error> {
        self.refuse()
    }

    fn get(&self, _: &JobId) -> Result<Seen<Option<Record>>, Error> {
        self.refuse()
    }

    fn matching(&self, _: &str) -> Result<Vec<JobId>, Error> {
        self.refuse()
    }

    fn list(&self, _: usize, _: Option<Status>) -> Result<Seen<Vec<Record>>, Error> {
        self.refuse()
    }

    fn events(&self, _: &JobId, _: u64, _: usize) -> Result<Vec<Event>, Error> {
        self.refuse()
    }

    fn with_session(&self, _: &str) -> Result<Option<Record>, Error> {
        self.refuse()
    }

    fn wait_for_end(&self, _: &JobId, _: Duration) -> Result<Option<Record>, Error> {
        self.refuse()
    }

    fn tend(&self) -> Result<Vec<Record>, Error> {
        self.refuse()
    }

    fn remove(&self, _: &JobId) -> Result<(), Error> {
        self.refuse()
    }

    fn recover(&self, _: Duration) -> Result<usize, Error> {
        Ok(0)
    }

    fn waits_for(&self) -> Option<String> {
        Some(self.why.clone())
    }

    fn was_reached(&self) -> bool {
        false
    }
}
