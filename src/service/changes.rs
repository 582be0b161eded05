//! To hear of all jobs' changes without asking for them.

use super::{Refusal, Service, WaitsForPage};
use crate::api::{Change, ChangePage, ChangesRequest};
use crate::change::Moment;
use crate::store::Store;
use crate::store::watch::{ChangeWatcher, NextChange, Waker};
use std::sync::Arc;
use std::time::Instant;

/// How many changes a stream reads at once.
const AT_ONCE: usize = 500;

/// One who follows the changes of all jobs. Nothing comes twice; nothing is missed of the last few thousand.
pub struct ChangeWatch {
    store: Arc<dyn Store>,
    watcher: ChangeWatcher,
    /// Up to where it was told.
    cursor: Moment,
    /// There may be something to be read.
    has_more: bool,
}

/// What a [`ChangeWatch`] has at hand.
pub enum HeardChange {
    Nothing,
    Change(Change),
    /// It has to [`read`](ChangeWatch::read).
    More,
}

impl Service {
    /// The changes after a cursor that there are now.
    pub fn changes(&self, request: &ChangesRequest) -> Result<ChangePage, Refusal> {
        let changes = self.runner.store.changes(request.after, request.limit)?;
        let last = changes.last().map_or(request.after, |change| change.cursor);
        Ok(page(changes.iter().map(Change::from).collect(), last))
    }

    pub fn watch_changes(&self, after: Moment) -> ChangeWatch {
        let store = self.runner.store.clone();
        // Watched before anything is read, so that nothing falls between.
        let watcher = store.watch_changes();
        ChangeWatch { store, watcher, cursor: after, has_more: true }
    }
}

fn page(events: Vec<Change>, last: Moment) -> ChangePage {
    ChangePage { success: true, events, next: (last != Moment::START).then(|| last.to_string()) }
}

impl ChangeWatch {
    pub fn on_news(&self, waker: Waker) {
        self.watcher.on_news(waker);
    }

    /// Never blocks.
    pub fn next(&mut self) -> HeardChange {
        while !self.has_more {
            match self.watcher.next() {
                NextChange::Nothing => return HeardChange::Nothing,
                NextChange::Behind => self.has_more = true,
                // It was read before it was told.
                NextChange::Change(change) if change.cursor <= self.cursor => {}
                NextChange::Change(change) => {
                    self.cursor = change.cursor;
                    return HeardChange::Change(Change::from(&change));
                }
            }
        }
        HeardChange::More
    }

    /// What there is after what was told, `limit` at most; it may block for as long as the store does.
    fn read_some(&mut self, limit: usize) -> Result<Vec<Change>, Refusal> {
        self.watcher.catch_up();
        let changes = self.store.changes(self.cursor, limit)?;
        self.has_more = changes.len() == limit;
        self.cursor = changes.last().map_or(self.cursor, |change| change.cursor);
        Ok(changes.iter().map(Change::from).collect())
    }

    pub fn read(&mut self) -> Result<Vec<Change>, Refusal> {
        self.read_some(AT_ONCE)
    }
}

/// One who waits for a page of changes that is not empty, for a while.
pub struct ChangePageWatch {
    watch: ChangeWatch,
    limit: usize,
    until: Instant,
    /// What was told while nobody looked.
    heard: Vec<Change>,
}

impl ChangePageWatch {
    pub fn new(service: &Service, request: &ChangesRequest) -> Self {
        let watch = service.watch_changes(request.after);
        Self { watch, limit: request.limit, until: Instant::now() + request.wait, heard: Vec::new() }
    }
}

impl WaitsForPage for ChangePageWatch {
    type Page = ChangePage;

    fn until(&self) -> Instant {
        self.until
    }

    fn on_news(&self, waker: Waker) {
        self.watch.on_news(waker);
    }

    fn has_news(&mut self) -> bool {
        match self.watch.next() {
            HeardChange::Nothing => !self.heard.is_empty(),
            HeardChange::More => true,
            HeardChange::Change(change) => {
                self.heard.push(change);
                true
            }
        }
    }

    fn look(&mut self) -> Result<Option<ChangePage>, Refusal> {
        let mut changes = std::mem::take(&mut self.heard);
        if changes.is_empty() {
            changes = self.watch.read_some(self.limit)?;
        }
        let is_over = !changes.is_empty() || self.until <= Instant::now();
        Ok(is_over.then(|| page(changes, self.watch.cursor)))
    }

    fn empty(&self) -> ChangePage {
        page(Vec::new(), self.watch.cursor)
    }
}
