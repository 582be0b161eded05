//! The jobs that this server runs: what it may write with, and what it has written.

use crate::event::{Admission, Draft, Kind, admit};
use crate::job::{JobId, Record, Running};
use crate::process::stop::Stop;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub struct Held {
    pub id: JobId,
    pub attempt: u32,
    /// `pod/incarnation/attempt`: who the record names as its holder.
    pub token: String,
    /// Holds the lease's end.
    pub stop: Stop,
    state: Mutex<State>,
}

/// As Redis has it.
pub struct State {
    pub job: Running,
    /// Number of the last event of this attempt, and how many the job has in all.
    sequence: u64,
    events: u64,
}

impl State {
    pub fn record(&self) -> Record {
        self.job.clone().into()
    }

    /// The event and its place in the stream, unless there are too many already. It counts once it is
    /// written, see [`wrote`](Self::wrote).
    pub fn number(&self, draft: Draft) -> Option<(String, Draft)> {
        let draft = match admit(draft.kind, self.events) {
            Admission::Keep => draft,
            Admission::SayCut => Draft::new(Kind::EventsCut, "the agent said more than is kept of a job's events"),
            Admission::Drop => return None,
        };
        Some((format!("{}-{}", self.job.attempt, self.sequence + 1), draft))
    }

    pub fn wrote(&mut self) {
        self.sequence += 1;
        self.events += 1;
    }
}

impl Held {
    pub fn new(job: Running, token: String, events: u64, stop: Stop) -> Self {
        let (id, attempt) = (job.id.clone(), job.attempt);
        Self { id, attempt, token, stop, state: Mutex::new(State { job, sequence: 0, events }) }
    }

    /// None while a write for it is under way.
    pub fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All of them.
#[derive(Default)]
pub struct Table {
    held: Mutex<HashMap<JobId, Arc<Held>>>,
    /// Being claimed just now: their records may name us already.
    claiming: Mutex<HashSet<JobId>>,
}

impl Table {
    fn held(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Held>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claiming(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.claiming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin_claim(&self, id: &JobId) {
        self.claiming().insert(id.clone());
    }

    /// After [`insert`](Self::insert), or when nothing came of it.
    pub fn end_claim(&self, id: &JobId) {
        self.claiming().remove(id);
    }

    pub fn insert(&self, held: Arc<Held>) {
        self.held().insert(held.id.clone(), held);
    }

    pub fn get(&self, id: &JobId) -> Option<Arc<Held>> {
        self.held().get(id).cloned()
    }

    /// Lets go of this attempt; a later one of the same job stays.
    pub fn remove(&self, id: &JobId, attempt: u32) {
        let mut held = self.held();
        if held.get(id).is_some_and(|one| one.attempt == attempt) {
            held.remove(id);
        }
    }

    pub fn is_ours(&self, id: &JobId) -> bool {
        self.claiming().contains(id) || self.held().contains_key(id)
    }

    pub fn all(&self) -> Vec<Arc<Held>> {
        self.held().values().cloned().collect()
    }
}
