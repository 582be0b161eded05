//! To hear of a change without asking for it.
//!
//! The hub knows who in this process watches which job. The store tells it what happens: the embedded one as it
//! writes, the one on Redis from the one thread that follows its streams. It never blocks, never reads anything,
//! and knows of no store.
//!
//! How to watch without missing anything: begin to watch, *then* read what there is. A watcher that is told it is
//! [`News::Behind`] reads on from its cursor, and says how far it has read.

mod changes;
mod mailbox;

pub use changes::{ChangeWatcher, NextChange};
pub use mailbox::{BYTES_LIMIT, MESSAGES_LIMIT, Mailbox, Posted};

use crate::event::{Cursor, Event};
use crate::job::JobId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a watcher's buffer holds at most, in bytes of text. Events are shared by all who watch a job.
const BUFFER_LIMIT: usize = 256 * 1024;

/// What somebody wants to hear of a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    /// That it has ended.
    End,
    /// Everything that happens.
    Events,
}

#[derive(Clone, Debug)]
pub enum News {
    /// What happened next.
    Event(Arc<Event>),
    /// More happened than is held here: read it, from your cursor on.
    Behind,
    /// The job has ended: read what is left, and its record.
    Ended,
}

/// Called when there is news; must not block.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
pub struct Hub {
    watched: Mutex<Watched>,
    latest: Mutex<changes::Latest>,
    /// Told when somebody begins to watch, and by [`Hub::wake`].
    changed: Condvar,
}

#[derive(Default)]
struct Watched {
    jobs: HashMap<JobId, Vec<Arc<Shared>>>,
    mailboxes: HashMap<String, Arc<mailbox::Shared>>,
    closed_mailboxes: Vec<String>,
    /// Of those who watch all jobs.
    all: Vec<Arc<changes::Shared>>,
    /// Rises when the set of jobs whose events are watched changes.
    version: u64,
}

struct Shared {
    interest: Interest,
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Of the last event that was given out or read.
    at: Option<Cursor>,
    behind: bool,
    ended: bool,
    waker: Option<Waker>,
}

/// One who watches a job. Dropping it ends that.
pub struct Watcher {
    hub: Arc<Hub>,
    id: JobId,
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// `after`: what lies before it is known already.
    pub fn watch(self: &Arc<Self>, id: &JobId, interest: Interest, after: Cursor) -> Watcher {
        let state = State { at: Some(after), ..State::default() };
        let shared = Arc::new(Shared { interest, state: Mutex::new(state), told: Condvar::new() });
        let mut watched = lock(&self.watched);
        watched.jobs.entry(id.clone()).or_default().push(shared.clone());
        watched.version += u64::from(interest == Interest::Events);
        drop(watched);
        self.changed.notify_all();
        Watcher { hub: self.clone(), id: id.clone(), shared }
    }

    fn of(&self, id: &JobId) -> Vec<Arc<Shared>> {
        lock(&self.watched).jobs.get(id).cloned().unwrap_or_default()
    }

    /// Something happened to a job.
    pub fn tell(&self, id: &JobId, event: &Event) {
        let of_job = self.of(id);
        if of_job.is_empty() {
            return;
        }
        let event = Arc::new(event.clone());
        for watcher in of_job.iter().filter(|watcher| watcher.interest == Interest::Events) {
            watcher.change(|state| state.take(event.clone()));
        }
    }

    /// A job has ended. Its watchers hear nothing else of it.
    pub fn tell_end(&self, id: &JobId) {
        self.of(id).iter().for_each(|watcher| watcher.change(|state| state.ended = true));
    }

    /// Something may have been missed, of this job.
    pub fn tell_behind(&self, id: &JobId) {
        let of_job = self.of(id);
        let with_events = of_job.iter().filter(|watcher| watcher.interest == Interest::Events);
        with_events.for_each(|watcher| watcher.change(State::fall_behind));
    }

    /// The jobs that are watched.
    pub fn jobs(&self) -> Vec<JobId> {
        lock(&self.watched).jobs.keys().cloned().collect()
    }

    /// The jobs whose events are watched, and a number that changes when these do.
    pub fn jobs_with_events(&self) -> (Vec<JobId>, u64) {
        let watched = lock(&self.watched);
        let with_events =
            watched.jobs.iter().filter(|(_, all)| all.iter().any(|watcher| watcher.interest == Interest::Events));
        (with_events.map(|(id, _)| id.clone()).collect(), watched.version)
    }

    /// Waits until somebody watches something, or until [`Hub::wake`]; at most `limit`. Whether anybody does.
    pub fn wait_for_watchers(&self, limit: Duration) -> bool {
        let is_idle =
            |watched: &Watched| watched.jobs.is_empty() && watched.mailboxes.is_empty() && watched.all.is_empty();
        let watched = lock(&self.watched);
        if !is_idle(&watched) {
            return true;
        }
        let (watched, _) = self.changed.wait_timeout(watched, limit).unwrap_or_else(PoisonError::into_inner);
        !is_idle(&watched)
    }

    pub fn wake(&self) {
        drop(lock(&self.watched));
        self.changed.notify_all();
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = lock(&self.state);
            change(&mut state);
            state.waker.clone()
        };
        self.told.notify_all();
        if let Some(waker) = waker {
            waker();
        }
    }
}

impl State {
    fn take(&mut self, event: Arc<Event>) {
        let size = event.text.len() + 200;
        if self.behind || self.ended {
            return;
        }
        if self.bytes + size > BUFFER_LIMIT {
            return self.fall_behind();
        }
        self.bytes += size;
        self.events.push_back(event);
    }

    fn fall_behind(&mut self) {
        self.events.clear();
        (self.bytes, self.behind) = (0, true);
    }

    fn next(&mut self) -> Option<News> {
        if self.ended {
            return Some(News::Ended);
        }
        while let Some(event) = self.events.front().cloned() {
            let (at, cursor) = (self.at.unwrap_or(Cursor::START), event.cursor());
            if cursor > at && !at.is_followed_by(cursor) {
                // What lies between was not told here.
                self.fall_behind();
                break;
            }
            self.events.pop_front();
            self.bytes -= event.text.len() + 200;
            if cursor > at {
                self.at = Some(cursor);
                return Some(News::Event(event));
            }
        }
        self.behind.then_some(News::Behind)
    }
}

impl Watcher {
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// What there is to hear, if there is something. [`News::Behind`] is said again until
    /// [`has_read`](Self::has_read), [`News::Ended`] for ever.
    pub fn next(&self) -> Option<News> {
        lock(&self.shared.state).next()
    }

    /// The job has ended. Unlike [`next`](Self::next) it takes nothing of what there is to hear.
    pub fn has_ended(&self) -> bool {
        lock(&self.shared.state).ended
    }

    /// The same as [`next`](Self::next), waiting for `limit` at most.
    pub fn wait(&self, limit: Duration) -> Option<News> {
        let until = Instant::now() + limit;
        let mut state = lock(&self.shared.state);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let news = state.next();
            if news.is_some() || left.is_zero() {
                return news;
            }
            state = self.shared.told.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// From now on `waker` is called when there is news; at once, if there is some.
    pub fn on_news(&self, waker: Waker) {
        let has_news = {
            let mut state = lock(&self.shared.state);
            state.waker = Some(waker.clone());
            state.ended || state.behind || !state.events.is_empty()
        };
        if has_news {
            waker();
        }
    }

    /// To be called *before* events are read: what is told from here on is held again.
    pub fn catch_up(&self) {
        lock(&self.shared.state).behind = false;
    }

    /// Everything up to this event was read.
    pub fn has_read(&self, up_to: Cursor) {
        let mut state = lock(&self.shared.state);
        state.at = state.at.max(Some(up_to));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut watched = lock(&self.hub.watched);
        if let Some(of_job) = watched.jobs.get_mut(&self.id) {
            of_job.retain(|watcher| !Arc::ptr_eq(watcher, &self.shared));
            if of_job.is_empty() {
                watched.jobs.remove(&self.id);
            }
        }
        watched.version += u64::from(self.shared.interest == Interest::Events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::job::Time;

    fn event(attempt: u32, number: u32, text: &str) -> Event {
        Event { number, time: Time(0), attempt, kind: Kind::AgentText, text: text.into(), tool: None, cut: false }
    }

    fn said(news: Option<News>) -> String {
        match news {
            Some(News::Event(event)) => format!("{}.{}", event.attempt, event.number),
            Some(other) => format!("{other:?}"),
            None => "nothing".into(),
        }
    }

    #[test]
    fn nothing_comes_twice_and_a_gap_is_noticed() {
        let (hub, id) = (Arc::new(Hub::default()), JobId::random());
        let watcher = hub.watch(&id, Interest::Events, Cursor { attempt: 1, number: 2 });
        for number in [1, 2, 3, 3, 4, 7] {
            hub.tell(&id, &event(1, number, "x"));
        }
        hub.tell(&JobId::random(), &event(1, 5, "x"));
        let heard: Vec<String> = (0..4).map(|_| said(watcher.next())).collect();
        assert_eq!(heard, ["1.3", "1.4", "Behind", "Behind"]);
        watcher.catch_up();
        watcher.has_read(Cursor { attempt: 1, number: 7 });
        hub.tell(&id, &event(1, 7, "x"));
        hub.tell(&id, &event(1, 8, "x"));
        assert_eq!((said(watcher.next()), said(watcher.next())), ("1.8".into(), "nothing".into()));
        hub.tell(&id, &event(2, 1, "another attempt: what ended the first one has to be read"));
        assert_eq!(said(watcher.next()), "Behind");
        hub.tell_end(&id);
        assert_eq!((said(watcher.next()), said(watcher.next())), ("Ended".into(), "Ended".into()));
    }

    #[test]
    fn one_who_does_not_keep_up_costs_no_more_than_its_buffer() {
        let (hub, id) = (Arc::new(Hub::default()), JobId::random());
        let watcher = hub.watch(&id, Interest::Events, Cursor { attempt: 1, number: 0 });
        for number in 1..=1_000 {
            hub.tell(&id, &event(1, number, &"x".repeat(10_000)));
            assert!(lock(&watcher.shared.state).bytes <= BUFFER_LIMIT);
        }
        assert_eq!(said(watcher.next()), "Behind");
        drop(watcher);
        assert!(hub.jobs().is_empty() && !hub.wait_for_watchers(Duration::ZERO));
    }

    #[test]
    fn one_who_waits_for_the_end_hears_of_nothing_else() {
        let (hub, id) = (Arc::new(Hub::default()), JobId::random());
        let watcher = hub.watch(&id, Interest::End, Cursor::START);
        let woken = Arc::new(Mutex::new(0));
        let counter = woken.clone();
        watcher.on_news(Arc::new(move || *lock(&counter) += 1));
        hub.tell(&id, &event(1, 1, "x"));
        hub.tell_behind(&id);
        assert_eq!((said(watcher.next()), *lock(&woken)), ("nothing".into(), 0));
        hub.tell_end(&id);
        assert_eq!((said(watcher.next()), *lock(&woken)), ("Ended".into(), 1));
    }
}
