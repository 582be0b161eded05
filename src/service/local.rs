//! One job in this very process, without a server: what `run --local` does.
//!
//! No Redis; a store of its own below `~/.agenticore/local/`. It shares the clone cache with servers, under its lock.

use super::submit::judge;
use super::{EventWatch, Heard, Refusal};
use crate::api::{Event, Job, JobRequest};
use crate::config::Config;
use crate::event::Cursor;
use crate::job::{JobId, Record};
use crate::pipeline::Runner;
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use crate::store::{Claim, Error, Jobs, Queue, Which, embedded};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the end of a job may go unnoticed, should its thread fail.
const TICK: Duration = Duration::from_millis(500);

/// A job that was taken in, and begins with [`run`](Self::run).
pub struct LocalJob {
    store: Arc<embedded::Embedded>,
    runner: Arc<Runner>,
    id: JobId,
    claim: Option<Claim>,
}

/// Cancels it, from any thread.
pub struct Canceller {
    store: Arc<embedded::Embedded>,
    id: JobId,
    stop: Stop,
}

impl Canceller {
    pub fn cancel(&self) {
        let _ = self.store.cancel(&self.id, None);
        self.stop.request(Reason::Cancelled);
    }
}

fn failed(why: impl ToString) -> Refusal {
    Refusal::CannotRun(why.to_string())
}

impl LocalJob {
    /// Tidies after earlier local runs, and takes the job in. `is_cancelled`: asked once, before it is taken in.
    pub fn submit(config: Config, request: JobRequest, is_cancelled: impl FnOnce() -> bool) -> Result<Self, Refusal> {
        sys::become_subreaper().map_err(|error| failed(format!("cannot become a subreaper: {error}")))?;
        let home = config.own_dir.join("local");
        let earlier = sweep(&config, &home);
        if is_cancelled() {
            return Err(Refusal::Cancelled);
        }
        let directory = home.join(uuid::Uuid::new_v4().to_string());
        let config = config.with_jobs_dir(directory.clone());
        let store = embedded::open(&directory, &config.pod_name).map_err(failed)?;
        let runner = Runner::new(config, store.clone(), store.agents_lock()).map_err(failed)?;
        let runner = Arc::new(runner.that_fails_at_once(earlier));
        let refuse = |refusal: Refusal| {
            let _ = std::fs::remove_dir_all(&directory);
            refusal
        };
        let spec = judge(request, &runner).map_err(refuse)?;
        if let Some(missing) = runner.lacks(&spec.profile) {
            return Err(refuse(failed(format!("the job needs {missing}"))));
        }
        let id = store.submit(spec, None)?.id;
        let claim = store.claim(Duration::ZERO, None)?;
        Ok(Self { store, runner, id, claim })
    }

    pub fn canceller(&self) -> Canceller {
        let stop = self.claim.as_ref().map(|claim| claim.stop.clone()).unwrap_or_default();
        Canceller { store: self.store.clone(), id: self.id.clone(), stop }
    }

    /// Runs it to its end; `tell` hears what happens, as it happens.
    pub fn run(mut self, mut tell: impl FnMut(&Event)) -> Result<Job, Refusal> {
        let mut watch = EventWatch::new(self.store.clone(), self.id.clone(), Cursor::START);
        let runner = self.runner.clone();
        let work = self.claim.take().map(|claim| {
            let worker = std::thread::Builder::new().name("worker-1".into());
            // Runs the one job; ends with it.
            worker.spawn(move || runner.execute(claim)).map_err(failed)
        });
        let worker = work.transpose()?;
        let mut ended = None;
        while ended.is_none() {
            match watch.wait(TICK) {
                Heard::Event(event) => tell(&event),
                Heard::More => ended = watch.read(&mut tell)?,
                Heard::Nothing if worker.as_ref().is_none_or(|worker| worker.is_finished()) => break,
                Heard::Nothing => {}
            }
        }
        if let Some(worker) = worker {
            // Its tree is ended and its worktree tidied before this process goes.
            worker.join().map_err(|_| failed("the runner failed on this job; that is a fault of agenticore"))?;
        }
        self.runner.remove_runtime();
        let record = self.store.get(&self.id)?.it;
        record.map(|record| Job::new(&record, None)).ok_or_else(|| failed("the job's record is gone"))
    }
}

/// Tidies after earlier local runs: those that were killed, and those whose time to live is over. What is left of them,
/// and where.
fn sweep(config: &Config, home: &Path) -> Vec<(Record, PathBuf)> {
    let mut left = Vec::new();
    for directory in std::fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.path()) {
        // One that runs holds its lock.
        let Ok(store) = embedded::open(&directory, &config.pod_name) else { continue };
        if tidy(config, &directory, &store).is_ok_and(|is_empty| is_empty) {
            drop(store);
            let _ = std::fs::remove_dir_all(&directory);
        } else if let Ok(found) = store.list(LOCAL_MOST, Which::All) {
            left.extend(found.it.into_iter().map(|record| (record, directory.clone())));
        }
    }
    left
}

/// One run has one job.
const LOCAL_MOST: usize = 10;

/// True: no job is left there.
fn tidy(config: &Config, directory: &Path, store: &Arc<embedded::Embedded>) -> Result<bool, Error> {
    let config = config.with_jobs_dir(directory.to_owned());
    let runner = Runner::new(config, store.clone(), store.agents_lock()).map_err(Error::Unavailable)?;
    store.recover(Duration::from_secs(5))?;
    runner.clear_runtime();
    while let Ok(Some(Claim { record, .. })) = store.claim(Duration::ZERO, None) {
        if store.cancel(&record.id, None).is_ok() {
            runner.clean_up(&record);
        }
    }
    store.leftovers().iter().for_each(|record| runner.clean_up(record));
    store.tend(&|_| None).unwrap_or_default().iter().for_each(|record| runner.forget(record));
    runner.remove_runtime();
    Ok(store.list(1, Which::All)?.it.is_empty())
}
