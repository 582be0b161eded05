//! The changes of all jobs, for those who watch them all.

use super::{Hub, Waker, lock};
use crate::change::{CHANGES_LIMIT, Change, Moment};
use crate::job::{JobId, Status, Time};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// How many changes wait for one who watches at most.
const BUFFER_LIMIT: usize = 1_000;

#[derive(Default)]
pub struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    changes: VecDeque<Change>,
    behind: bool,
    waker: Option<Waker>,
}

/// The latest changes, where no other server makes any.
#[derive(Default)]
pub struct Latest(VecDeque<Change>);

/// What one who watches hears next.
#[derive(Debug, PartialEq)]
pub enum NextChange {
    Nothing,
    Change(Change),
    /// More happened than is held here: read it, from your cursor on.
    Behind,
}

/// One who watches all jobs. Dropping it ends that.
pub struct ChangeWatcher {
    hub: Arc<Hub>,
    shared: Arc<Shared>,
}

impl Hub {
    /// Begin with this, then read what there is.
    pub fn watch_changes(self: &Arc<Self>) -> ChangeWatcher {
        let shared = Arc::<Shared>::default();
        lock(&self.watched).all.push(shared.clone());
        self.changed.notify_all();
        ChangeWatcher { hub: self.clone(), shared }
    }

    /// A job has another status: here, where no other server makes changes, it gets its cursor.
    pub fn make_change(&self, job: &JobId, status: Status) {
        let change = {
            let mut latest = lock(&self.latest);
            let last = latest.0.back().map_or(Moment::START, |change| change.cursor);
            let change = Change { cursor: last.next(Time::now()), job: job.clone(), status };
            latest.0.push_back(change.clone());
            let excess = latest.0.len().saturating_sub(CHANGES_LIMIT);
            latest.0.drain(..excess);
            change
        };
        self.tell_change(&change);
    }

    /// Those that were made here.
    pub fn changes_made(&self, after: Moment, limit: usize) -> Vec<Change> {
        lock(&self.latest).0.iter().filter(|change| change.cursor > after).take(limit).cloned().collect()
    }

    pub fn tell_change(&self, change: &Change) {
        self.watch_all(|state| {
            if state.changes.len() >= BUFFER_LIMIT {
                (state.changes, state.behind) = (VecDeque::new(), true);
            }
            state.changes.extend((!state.behind).then(|| change.clone()));
        });
    }

    /// Changes may have been missed.
    pub fn tell_changes_behind(&self) {
        self.watch_all(|state| (state.changes, state.behind) = (VecDeque::new(), true));
    }

    fn watch_all(&self, change: impl Fn(&mut State)) {
        let all: Vec<Arc<Shared>> = lock(&self.watched).all.clone();
        for shared in all {
            let waker = {
                let mut state = lock(&shared.0);
                change(&mut state);
                state.waker.clone()
            };
            if let Some(waker) = waker {
                waker();
            }
        }
    }
}

impl ChangeWatcher {
    /// Never blocks.
    pub fn next(&self) -> NextChange {
        let mut state = lock(&self.shared.0);
        match state.changes.pop_front() {
            Some(change) => NextChange::Change(change),
            None if state.behind => NextChange::Behind,
            None => NextChange::Nothing,
        }
    }

    /// From now on `waker` is called when there is news; at once, if there is some.
    pub fn on_news(&self, waker: Waker) {
        let has_news = {
            let mut state = lock(&self.shared.0);
            state.waker = Some(waker.clone());
            state.behind || !state.changes.is_empty()
        };
        if has_news {
            waker();
        }
    }

    /// To be called *before* changes are read: what is told from here on is held again.
    pub fn catch_up(&self) {
        lock(&self.shared.0).behind = false;
    }
}

impl Drop for ChangeWatcher {
    fn drop(&mut self) {
        lock(&self.hub.watched).all.retain(|shared| !Arc::ptr_eq(shared, &self.shared));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_in_order_and_one_who_does_not_keep_up_is_told() {
        let (hub, id) = (Arc::new(Hub::default()), JobId::random());
        hub.make_change(&id, Status::Queued);
        let watcher = hub.watch_changes();
        hub.make_change(&id, Status::Running);
        let made = hub.changes_made(Moment::START, 10);
        assert_eq!((made.len(), hub.changes_made(made[0].cursor, 10)), (2, vec![made[1].clone()]));
        assert_eq!(watcher.next(), NextChange::Change(made[1].clone()));
        assert_eq!(watcher.next(), NextChange::Nothing);
        for _ in 0..=BUFFER_LIMIT {
            hub.make_change(&id, Status::Queued);
        }
        assert_eq!(watcher.next(), NextChange::Behind);
        watcher.catch_up();
        hub.make_change(&id, Status::Cancelled);
        assert!(matches!(watcher.next(), NextChange::Change(change) if change.status == Status::Cancelled));
        for _ in 0..CHANGES_LIMIT {
            hub.make_change(&id, Status::Queued);
        }
        assert_eq!(hub.changes_made(Moment::START, usize::MAX).len(), CHANGES_LIMIT);
        drop(watcher);
        assert!(!hub.wait_for_watchers(std::time::Duration::ZERO));
    }
}
