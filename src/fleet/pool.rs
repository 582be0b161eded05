//! The workers: named threads that claim jobs and run them, and the keeper that lets old ones go.

use super::drain::{Drain, Drainer};
use crate::job::JobId;
use crate::log;
use crate::pipeline::Runner;
use crate::process::children;
use crate::process::stop::{Reason, Stop};
use crate::store::{Cancelled, Claim, End, Error, Lease};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker waits for a job before it looks whether it shall go.
const CLAIM_WAIT: Duration = Duration::from_millis(500);
/// How long to wait after the store refused, before it is asked again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(2);
/// How soon a store that was away is asked again for a job.
const AWAY_PAUSE: Duration = Duration::from_millis(250);
/// How often overdue and outlived jobs are looked for.
const KEEPER_PERIOD: Duration = Duration::from_secs(1);
/// How long one try waits for the agents of a server that died: their supervisors give them 2 s.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

/// A job and its attempt: an earlier attempt that hangs may not have ended here yet when a later one begins.
type Attempt = (JobId, u32);

pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

pub(super) struct Shared {
    pub(super) runner: Arc<Runner>,
    running: Mutex<HashMap<Attempt, Stop>>,
    /// Told when a job leaves `running`, and when the pool goes away.
    left: Condvar,
    goes_away: AtomicBool,
    pub(super) drain: Mutex<Drain>,
}

impl Pool {
    /// Starts `workers` threads. They begin once what an earlier server left is taken over.
    pub fn start(runner: Arc<Runner>, workers: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            runner,
            running: Mutex::default(),
            left: Condvar::new(),
            goes_away: AtomicBool::new(false),
            drain: Mutex::default(),
        });
        let mut threads = Vec::new();
        let keeper = shared.clone();
        // Takes over at start and starts the workers' work, then expires and forgets jobs.
        let ready = Arc::new((Mutex::new(false), Condvar::new()));
        let tell = ready.clone();
        threads.push(std::thread::Builder::new().name("keeper".into()).spawn(move || keeper.keep(&tell))?);
        let drain = shared.clone();
        // Watches a drain's limit, and for the wish to drain; ends when the pool goes away.
        threads.push(std::thread::Builder::new().name("drain".into()).spawn(move || drain.watch_drain())?);
        for number in 1..=workers {
            let (worker, ready) = (shared.clone(), ready.clone());
            // Runs one job at a time; ends when the pool goes away.
            let work = move || {
                let is_ready = ready.0.lock().unwrap_or_else(PoisonError::into_inner);
                drop(ready.1.wait_while(is_ready, |is_ready| !*is_ready).unwrap_or_else(PoisonError::into_inner));
                worker.work();
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(work)?);
        }
        Ok(Self { shared, threads })
    }

    pub fn canceller(&self) -> Canceller {
        Canceller(self.shared.clone())
    }

    pub fn drainer(&self) -> Drainer {
        Drainer(self.shared.clone())
    }

    /// Drains for `grace`, in which `ending` is what ending an agent takes, or less once `hurry` says so.
    /// Returns when nothing runs.
    pub fn shut_down(self, grace: Duration, ending: Duration, hurry: impl Fn() -> bool) {
        let drainer = self.drainer();
        drainer.begin(grace.saturating_sub(ending));
        let count = self.shared.running().len();
        if count > 0 {
            log::info(&format!("waiting up to {} s for {count} running jobs", grace.as_secs()));
        }
        while !self.shared.running().is_empty() {
            if hurry() {
                drainer.begin(Duration::ZERO);
            }
            drop(self.shared.left.wait_timeout(self.shared.running(), Duration::from_millis(50)));
        }
        self.shared.goes_away.store(true, Ordering::SeqCst);
        self.shared.left.notify_all();
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Cancels jobs: in the store, and where they run.
#[derive(Clone)]
pub struct Canceller(Arc<Shared>);

impl Canceller {
    pub fn cancel(&self, id: &JobId) -> Result<Cancelled, Error> {
        let cancelled = self.0.runner.store.cancel(id)?;
        if let Cancelled::Done { was_running: true, .. } = &cancelled {
            let running = self.0.running();
            running.iter().filter(|((of, _), _)| of == id).for_each(|(_, stop)| stop.request(Reason::Cancelled));
        }
        Ok(cancelled)
    }
}

impl Shared {
    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<Attempt, Stop>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self, id: &JobId) -> bool {
        self.running().keys().any(|(of, _)| of == id)
    }

    pub(super) fn goes_away(&self) -> bool {
        self.goes_away.load(Ordering::SeqCst)
    }

    /// Waits, but no longer than until the pool goes away.
    pub(super) fn pause(&self, limit: Duration) {
        drop(self.left.wait_timeout_while(self.running(), limit, |_| !self.goes_away()));
    }

    fn work(&self) {
        while !self.goes_away() {
            match self.runner.store.claim(CLAIM_WAIT, self.runner.runs_only()) {
                Ok(Some(claim)) => self.run(claim),
                Ok(None) => {}
                // A store that is away says so itself.
                Err(_) if self.runner.store.waits_for().is_some() => self.pause(AWAY_PAUSE),
                Err(error) => {
                    log::warn(&format!("no job can be claimed: {error}"));
                    self.pause(REFUSAL_PAUSE);
                }
            }
        }
    }

    fn run(&self, claim: Claim) {
        let Claim { record, stop } = claim;
        let (id, lease) = (record.id.clone(), Lease::of(&record));
        let attempt = (id.clone(), record.attempt);
        // One that was claimed just before a drain's limit is among those that the limit ends …
        self.running().insert(attempt.clone(), stop.clone());
        // … unless nobody looks at that any more.
        if self.goes_away() {
            stop.request(Reason::HandBack);
        }
        // A cancel that came between the claim and the line above found nobody to tell.
        if self.runner.store.get(&id).is_ok_and(|found| found.it.is_none_or(|job| job.status().has_ended())) {
            stop.request(Reason::Cancelled);
        }
        // A fault in one job's path ends that job and nothing else.
        if catch_unwind(AssertUnwindSafe(|| self.runner.attempt(record, &stop))).is_err() {
            let why = "the runner failed on this job; that is a fault of agenticore: its log says more".to_owned();
            if let Err(error) = self.runner.store.finish(&lease, End::Failed(why)) {
                log::warn(&format!("job {id}: {error}"));
                // Nobody runs it: it is found so, and goes on elsewhere.
                let _ = self.runner.store.release(&lease);
            }
        }
        self.running().remove(&attempt);
        self.note_left(&id, stop.reason());
        self.left.notify_all();
    }

    fn keep(&self, ready: &(Mutex<bool>, Condvar)) {
        let store = &self.runner.store;
        loop {
            let error = match store.recover(RECOVERY_LIMIT) {
                Ok(0) => break,
                Ok(count) => break log::info(&format!("took over {count} jobs that an earlier server left running")),
                Err(error) => error,
            };
            log::warn(&format!("jobs of an earlier server cannot be taken over yet: {error}"));
            self.pause(REFUSAL_PAUSE);
            if self.goes_away() {
                break;
            }
        }
        self.runner.clear_runtime();
        *ready.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ready.1.notify_all();
        let mut next = Instant::now();
        while !self.goes_away() {
            if Instant::now() >= next {
                children::reap_strays();
                self.tidy_leftovers();
                self.let_old_ones_go();
                self.runner.sweep_worktrees(|id| self.runs(id));
                next = Instant::now() + KEEPER_PERIOD;
            }
            // Also told when a job ends, and when the pool goes away.
            drop(self.left.wait_timeout(self.running(), KEEPER_PERIOD));
        }
        // A job that ended since the last round is not left for the next server.
        self.tidy_leftovers();
        self.runner.sweep_worktrees(|id| self.runs(id));
    }

    fn tidy_leftovers(&self) {
        self.runner.store.leftovers().iter().for_each(|record| self.runner.clean_up(record));
    }

    fn let_old_ones_go(&self) {
        if self.runner.store.waits_for().is_some() {
            return;
        }
        match self.runner.store.tend() {
            Ok(mut over) => {
                // A cancelled job whose attempt is still being tidied away waits for that.
                over.retain(|record| !self.runs(&record.id));
                over.iter().for_each(|record| self.runner.forget(record));
            }
            // A store that is away says so itself.
            Err(_) if self.runner.store.waits_for().is_some() => {}
            Err(error) => log::warn(&format!("old jobs cannot be looked after: {error}")),
        }
    }
}
