//! Which attempts this server has, and which it claims just now: one of each job at most.

use super::attempts::RedisAttempt;
use crate::job::JobId;
use crate::process::stop::Reason;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All of them.
#[derive(Default)]
pub struct Attempts {
    held: Mutex<HashMap<JobId, Arc<RedisAttempt>>>,
    /// Being claimed just now: their records may name us already.
    claiming: Mutex<HashSet<JobId>>,
}

/// A claim that is under way. Dropping it ends that.
pub struct Claiming<'a> {
    attempts: &'a Attempts,
    id: JobId,
}

impl Attempts {
    fn held(&self) -> MutexGuard<'_, HashMap<JobId, Arc<RedisAttempt>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claiming(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.claiming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None: the job is claimed or run here already, by another worker.
    pub fn begin_claim(&self, id: &JobId) -> Option<Claiming<'_>> {
        let mut claiming = self.claiming();
        if self.held().contains_key(id) || !claiming.insert(id.clone()) {
            return None;
        }
        Some(Claiming { attempts: self, id: id.clone() })
    }

    /// An attempt of the same job that is there already is told to stop: the job is not its any more.
    pub fn insert(&self, attempt: Arc<RedisAttempt>) {
        if let Some(before) = self.held().insert(attempt.id.clone(), attempt) {
            before.stop.request(Reason::Lost);
        }
    }

    pub fn get(&self, id: &JobId) -> Option<Arc<RedisAttempt>> {
        self.held().get(id).cloned()
    }

    pub fn has(&self, attempt: &RedisAttempt) -> bool {
        self.held().get(&attempt.id).is_some_and(|held| held.token == attempt.token)
    }

    /// Lets go of this attempt; another one of the same job stays.
    pub fn remove(&self, attempt: &RedisAttempt) {
        let mut held = self.held();
        if held.get(&attempt.id).is_some_and(|one| one.token == attempt.token) {
            held.remove(&attempt.id);
        }
    }

    pub fn is_ours(&self, id: &JobId) -> bool {
        self.claiming().contains(id) || self.held().contains_key(id)
    }

    pub fn all(&self) -> Vec<Arc<RedisAttempt>> {
        self.held().values().cloned().collect()
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        self.attempts.claiming().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Q2 of the faults that were found: two workers of one pod ran one job, and one removed the other's directory.
    #[test]
    fn two_workers_of_one_pod_never_claim_one_job() {
        let (attempts, id) = (Attempts::default(), JobId::random());
        let first = attempts.begin_claim(&id);
        assert!(first.is_some() && attempts.begin_claim(&id).is_none() && attempts.is_ours(&id));
        drop(first);
        assert!(!attempts.is_ours(&id) && attempts.begin_claim(&id).is_some());
    }
}
