//! Draining: no job is begun any more, what runs may end, and at the limit the rest goes back to the
//! head of the queue. Everything else goes on.

use super::running::Running;
use crate::job::JobId;
use crate::log;
use crate::process::stop::Reason;
use crate::store::Store;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the limit, and the wish to drain, are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the store is told again that could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(2);

#[derive(Default)]
struct State {
    /// When what still runs goes back; None: not draining.
    until: Option<Instant>,
    handed_back: Vec<JobId>,
    /// The store has not taken in the last change yet.
    untold: bool,
    /// The server goes: nothing takes this drain back.
    closes: bool,
}

/// How far a drain has come.
pub struct Progress {
    pub draining: bool,
    pub running: Vec<JobId>,
    pub handed_back: Vec<JobId>,
    pub left: Duration,
}

/// The server goes: it will begin no job again.
#[derive(Debug, PartialEq)]
pub struct Closing;

pub struct Drain {
    store: Arc<dyn Store>,
    running: Arc<Running>,
    state: Mutex<State>,
    /// Held over all that a change consists of, so that two of them do not mix.
    change: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drain {
    pub fn new(store: Arc<dyn Store>, running: Arc<Running>) -> Self {
        Self { store, running, state: Mutex::default(), change: Mutex::default() }
    }

    /// From now on nothing is begun; what runs gets `limit`. Asked again, the new limit counts.
    pub fn begin(&self, limit: Duration) {
        let _change = lock(&self.change);
        {
            let mut state = lock(&self.state);
            if state.until.is_none() {
                state.handed_back.clear();
                log::info(&format!("draining: nothing is begun any more, and what runs gets {} s", limit.as_secs()));
            }
            state.until = Some(Instant::now() + limit);
        }
        self.store.open_claims(false);
        self.tell_store();
    }

    /// The same, for good: the server goes.
    pub fn close(&self, limit: Duration) {
        lock(&self.state).closes = true;
        self.begin(limit);
    }

    /// Jobs are begun again. What was handed back stays handed back.
    pub fn take_back(&self) -> Result<(), Closing> {
        let _change = lock(&self.change);
        {
            let mut state = lock(&self.state);
            if state.closes {
                return Err(Closing);
            }
            if state.until.take().is_none() {
                return Ok(());
            }
        }
        self.store.open_claims(true);
        self.tell_store();
        log::info("the drain was taken back: jobs are begun again");
        Ok(())
    }

    pub fn progress(&self) -> Progress {
        let running = self.running.ids();
        let state = lock(&self.state);
        Progress {
            draining: state.until.is_some(),
            running,
            handed_back: state.handed_back.clone(),
            left: state.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now())),
        }
    }

    fn tell_store(&self) {
        let until = lock(&self.state).until;
        let told = self.store.tell_draining(until.map(|at| at.saturating_duration_since(Instant::now())));
        lock(&self.state).untold = told.is_err();
    }

    /// Notes how a job left, for the one who waits for the drain.
    pub fn note_left(&self, id: &JobId, reason: Option<Reason>) {
        if reason == Some(Reason::HandBack) {
            lock(&self.state).handed_back.push(id.clone());
        }
    }

    /// On a thread of its own, until the server goes.
    pub fn watch(&self) {
        let mut tell_at = Instant::now();
        while !self.running.goes_away() {
            match self.store.asked_to_drain() {
                Some(Some(limit)) => {
                    log::info(&format!("asked through Redis to drain within {} s", limit.as_secs()));
                    self.begin(limit);
                }
                // One that cannot be taken back any more goes on.
                Some(None) => drop(self.take_back()),
                None => {}
            }
            let (is_over, untold) = {
                let state = lock(&self.state);
                (state.until.is_some_and(|until| until <= Instant::now()), state.untold)
            };
            if is_over {
                for id in self.running.stop_all(Reason::HandBack) {
                    log::job(&id).info("its time is up: it goes back to the queue");
                }
            }
            if untold && Instant::now() >= tell_at {
                tell_at = Instant::now() + TELL_AGAIN;
                let _change = lock(&self.change);
                self.tell_store();
            }
            self.running.pause(TICK);
        }
    }
}
