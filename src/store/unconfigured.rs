//! The store of a server that was not told where to keep jobs: it refuses everything, and says what to set.
//!
//! Writes nothing and knows nothing.

use super::watch::{ChangeWatcher, Hub, Interest, Watcher};
use super::{Cancelled, Claim, Error, Jobs, Key, Lacks, Mail, Place, Presence, Queue, Seen, Which};
use crate::change::{Change, Moment};
use crate::event::{Cursor, Event};
use crate::job::{JobId, Note, Record, Spec, Time};
use std::sync::Arc;
use std::time::Duration;

pub struct Unconfigured {
    /// What is missing, and what to do.
    why: String,
    hub: Arc<Hub>,
}

impl Unconfigured {
    pub fn new(why: String) -> Self {
        Self { why, hub: Arc::default() }
    }

    fn refuse<T>(&self) -> Result<T, Error> {
        Err(Error::Unconfigured(self.why.clone()))
    }
}

impl Jobs for Unconfigured {
    fn submit(&self, _: Spec, _: Option<&Key>) -> Result<Record, Error> {
        self.refuse()
    }

    fn submitted(&self, _: &Key) -> Result<Option<Record>, Error> {
        self.refuse()
    }

    fn waiting_in(&self, _: &Record) -> Result<Option<JobId>, Error> {
        self.refuse()
    }

    fn cancel(&self, _: &JobId, _: Option<&str>) -> Result<Cancelled, Error> {
        self.refuse()
    }

    fn note(&self, _: &JobId, _: Note) -> Result<(), Error> {
        self.refuse()
    }

    fn get(&self, _: &JobId) -> Result<Seen<Option<Record>>, Error> {
        self.refuse()
    }

    fn matching(&self, _: &str) -> Result<Vec<JobId>, Error> {
        self.refuse()
    }

    fn list_after(&self, _: usize, _: Which, _: Option<&Place>) -> Result<Seen<Vec<Record>>, Error> {
        self.refuse()
    }

    fn ahead(&self, _: &Record) -> Result<Option<usize>, Error> {
        self.refuse()
    }

    fn waiting(&self) -> Result<(usize, Option<Time>), Error> {
        self.refuse()
    }

    fn with_session(&self, _: &str) -> Result<Option<Record>, Error> {
        self.refuse()
    }

    fn events(&self, _: &Record, _: Cursor, _: usize) -> Result<Vec<Event>, Error> {
        self.refuse()
    }

    fn watch(&self, id: &JobId, interest: Interest, after: Cursor) -> Watcher {
        self.hub.watch(id, interest, after)
    }

    fn changes(&self, after: Moment, limit: usize) -> Result<Vec<Change>, Error> {
        Ok(self.hub.changes_made(after, limit))
    }

    fn watch_changes(&self) -> ChangeWatcher {
        self.hub.watch_changes()
    }
}

impl Queue for Unconfigured {
    fn recover(&self, _: Duration) -> Result<usize, Error> {
        Ok(0)
    }

    fn claim(&self, wait: Duration, _: Option<&str>) -> Result<Option<Claim>, Error> {
        std::thread::sleep(wait);
        Ok(None)
    }

    fn open_claims(&self, _: bool) {}

    fn leftovers(&self) -> Vec<Record> {
        Vec::new()
    }

    fn release(&self, _: &Record) -> Result<(), Error> {
        self.refuse()
    }

    fn tend(&self, _: &Lacks) -> Result<Vec<Record>, Error> {
        self.refuse()
    }

    fn remove(&self, _: &JobId) -> Result<(), Error> {
        self.refuse()
    }
}

impl Mail for Unconfigured {
    fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }
}

impl Presence for Unconfigured {
    fn waits_for(&self) -> Option<String> {
        Some(self.why.clone())
    }

    fn was_reached(&self) -> bool {
        false
    }
}
