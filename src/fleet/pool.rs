//! The workers: named threads that claim jobs and run them, and the keeper that lets old ones go.

use crate::job::{JobId, Record};
use crate::log;
use crate::pipeline::Runner;
use crate::process::children;
use crate::process::stop::{Reason, Stop};
use crate::store::{Cancelled, End, Error, Lease};
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
/// How often overdue and outlived jobs are looked for.
const KEEPER_PERIOD: Duration = Duration::from_secs(1);
/// How long one try waits for the agents of a server that died: their supervisors give them 2 s.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    runner: Arc<Runner>,
    running: Mutex<HashMap<JobId, Stop>>,
    /// Told when a job leaves `running`.
    left: Condvar,
    goes_away: AtomicBool,
    /// The grace is over: whatever runs, or begins to run, is handed back.
    ends_now: AtomicBool,
}

impl Pool {
    /// Starts `workers` threads. They begin once what an earlier server left is taken over.
    pub fn start(runner: Arc<Runner>, workers: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            runner,
            running: Mutex::default(),
            left: Condvar::new(),
            goes_away: AtomicBool::new(false),
            ends_now: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        let keeper = shared.clone();
        // Takes over at start and starts the workers' work, then expires and forgets jobs.
        let ready = Arc::new((Mutex::new(false), Condvar::new()));
        let tell = ready.clone();
        threads.push(std::thread::Builder::new().name("keeper".into()).spawn(move || keeper.keep(&tell))?);
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

    /// No new job; the running ones get `grace`, or less once `hurry` says so, and then go back to
    /// the queue. Returns when nothing runs.
    pub fn shut_down(self, grace: Duration, hurry: impl Fn() -> bool) {
        self.shared.goes_away.store(true, Ordering::SeqCst);
        self.shared.runner.store.close_claims();
        self.shared.left.notify_all();
        let until = Instant::now() + grace;
        let mut running = self.shared.running();
        if !running.is_empty() {
            log::info(&format!("waiting up to {} s for {} running jobs", grace.as_secs(), running.len()));
        }
        while !running.is_empty() && Instant::now() < until && !hurry() {
            running = self
                .shared
                .left
                .wait_timeout(running, Duration::from_millis(50))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        self.shared.ends_now.store(true, Ordering::SeqCst);
        for stop in running.values() {
            stop.request(Reason::HandBack);
        }
        drop(running);
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
        if let Cancelled::Done { was_running: true, .. } = &cancelled
            && let Some(stop) = self.0.running().get(id)
        {
            stop.request(Reason::Cancelled);
        }
        Ok(cancelled)
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<JobId, Stop>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_away(&self) -> bool {
        self.goes_away.load(Ordering::SeqCst)
    }

    /// Waits, but no longer than until the pool goes away.
    fn pause(&self, limit: Duration) {
        drop(self.left.wait_timeout_while(self.running(), limit, |_| !self.goes_away()));
    }

    fn work(&self) {
        while !self.goes_away() {
            match self.runner.store.claim(CLAIM_WAIT) {
                Ok(Some(record)) => self.run(record),
                Ok(None) => {}
                Err(error) => {
                    log::warn(&format!("no job can be claimed: {error}"));
                    self.pause(REFUSAL_PAUSE);
                }
            }
        }
    }

    fn run(&self, record: Record) {
        let (id, lease) = (record.id.clone(), Lease::of(&record));
        let stop = Stop::default();
        {
            let mut running = self.running();
            running.insert(id.clone(), stop.clone());
            // Claimed just before claims were closed: it was not among those that were told.
            if self.ends_now.load(Ordering::SeqCst) {
                stop.request(Reason::HandBack);
            }
        }
        // A cancel that came between the claim and the line above found nobody to tell.
        if self.runner.store.get(&id).is_ok_and(|found| found.is_none_or(|job| job.status().has_ended())) {
            stop.request(Reason::Cancelled);
        }
        // A fault in one job's path ends that job and nothing else.
        if catch_unwind(AssertUnwindSafe(|| self.runner.attempt(record, &stop))).is_err() {
            let why = "the runner failed on this job; that is a fault of agenticore: its log says more".to_owned();
            if let Err(error) = self.runner.store.finish(&lease, End::Failed(why)) {
                log::warn(&format!("job {id}: {error}"));
            }
        }
        self.running().remove(&id);
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
                next = Instant::now() + KEEPER_PERIOD;
            }
            // Also told when a job ends, and when the pool goes away.
            drop(self.left.wait_timeout(self.running(), KEEPER_PERIOD));
        }
        // A job that ended since the last round is not left for the next server.
        self.tidy_leftovers();
    }

    fn tidy_leftovers(&self) {
        self.runner.store.leftovers().iter().for_each(|record| self.runner.clean_up(record));
    }

    fn let_old_ones_go(&self) {
        match self.runner.store.tend() {
            Ok(mut over) => {
                // A cancelled job whose attempt is still being tidied away waits for that.
                over.retain(|record| !self.running().contains_key(&record.id));
                over.iter().for_each(|record| self.runner.forget(record));
            }
            Err(error) => log::warn(&format!("old jobs cannot be looked after: {error}")),
        }
    }
}
