//! The workers: named threads that claim jobs and run them; and the keeper, which takes over at start and forgets
//! jobs whose time is over.

use super::drain::Drain;
use super::running::Running;
use super::solo::Solo;
use crate::api::{Check, Stops};
use crate::job::JobId;
use crate::log;
use crate::pipeline::Runner;
use crate::pipeline::parking::Permit;
use crate::process::children;
use crate::process::stop::Reason;
use crate::profile::SELF_TEST;
use crate::store::{About, Back, Cancelled, Claim, End, Error};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a server says at its start that it has; `status` shows all.
const FOUND_FIRST: [&str; 4] = ["claude", "login", "git", "redis"];
/// How long a worker waits for a job before it looks whether it shall go.
const CLAIM_WAIT: Duration = Duration::from_millis(500);
/// How long to wait after the store refused, before it is asked again.
const REFUSAL_PAUSE: Duration = Duration::from_secs(2);
/// How soon a store that was away is asked again for a job.
const AWAY_PAUSE: Duration = Duration::from_millis(250);
/// How often the machine is measured.
const MEASURE_PERIOD: Duration = Duration::from_secs(2);
/// In how many of these rounds all is looked at that others may ask for: profiles are read for it.
const TELL_EVERY: u64 = 5;
/// How often overdue and outlived jobs are looked for.
const KEEPER_PERIOD: Duration = Duration::from_secs(1);
/// How many jobs are forgotten in one round: each has files to be removed, and what else the keeper does waits.
const FORGOTTEN_AT_ONCE: usize = 20;
/// How long one try waits for the agents of a server that died: their supervisors give them 2 s.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);

pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    runner: Arc<Runner>,
    running: Arc<Running>,
    drain: Arc<Drain>,
    solo: Solo,
    /// How many jobs run here at once.
    slots: usize,
    /// Of the one that claims.
    turn: Mutex<()>,
}

/// Workers may begin.
type Ready = (Mutex<bool>, Condvar);

fn tell(ready: &Ready) {
    *ready.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    ready.1.notify_all();
}

impl Pool {
    /// Starts `workers` threads. They begin once what an earlier server left is taken over.
    pub fn start(runner: Arc<Runner>, workers: usize) -> std::io::Result<Self> {
        let running = Arc::<Running>::default();
        let drain = Arc::new(Drain::new(runner.store.clone(), running.clone()));
        let shared =
            Arc::new(Shared { runner, running, drain, solo: Solo::default(), slots: workers, turn: Mutex::default() });
        let mut threads = Vec::new();
        let keeper = shared.clone();
        // Takes over at start and starts the workers' work, then expires and forgets jobs.
        let ready: Arc<Ready> = Arc::new((Mutex::new(false), Condvar::new()));
        let tell = ready.clone();
        threads.push(std::thread::Builder::new().name("keeper".into()).spawn(move || keeper.clone().keep(&tell))?);
        let measurer = shared.clone();
        // Measures disks and programs, which may take long or never end; nobody waits for it.
        std::thread::Builder::new().name("machine".into()).spawn(move || measurer.measure())?;
        let drain = shared.drain.clone();
        // Watches a drain's limit, and for the wish to drain; ends when the server goes.
        threads.push(std::thread::Builder::new().name("drain".into()).spawn(move || drain.watch())?);
        for number in 1..=workers {
            let (worker, ready) = (shared.clone(), ready.clone());
            // Runs one job at a time; ends when the server goes.
            let work = move || {
                let is_ready = ready.0.lock().unwrap_or_else(PoisonError::into_inner);
                drop(ready.1.wait_while(is_ready, |is_ready| !*is_ready).unwrap_or_else(PoisonError::into_inner));
                worker.work();
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(work)?);
        }
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    pub fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    /// Cancels a job: in the store, and where it runs.
    pub fn cancel(&self, id: &JobId, by: Option<&str>) -> Result<Cancelled, Error> {
        let cancelled = self.shared.runner.store.cancel(id, by)?;
        if let Cancelled::Done { was_running: true, .. } = &cancelled {
            self.shared.running.stop(id, Reason::Cancelled);
        }
        Ok(cancelled)
    }

    /// Drains for `grace`, in which `ending` is what ending an agent takes, or less once `hurry` says so.
    /// Returns when nothing runs, and its threads have ended.
    pub fn shut_down(&self, grace: Duration, ending: Duration, hurry: impl Fn() -> bool) {
        let Shared { running, drain, .. } = &*self.shared;
        drain.close(grace.saturating_sub(ending));
        let count = running.ids().len();
        if count > 0 {
            log::info(&format!("waiting up to {} s for {count} running jobs", grace.as_secs()));
        }
        while !running.is_empty() {
            if hurry() {
                drain.close(Duration::ZERO);
            }
            running.wait(Duration::from_millis(50));
        }
        running.go_away();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self) {
        let (store, running) = (&self.runner.store, &self.running);
        while !running.goes_away() {
            if !self.solo.may_begin() {
                running.pause(AWAY_PAUSE);
                continue;
            }
            let stopped = self.runner.stopped();
            if stopped >= Stops::Jobs {
                running.pause(AWAY_PAUSE);
                continue;
            }
            let permit = self.runner.parking.permit();
            let only = match &permit {
                Permit::Everything | Permit::Probe { .. } => (stopped == Stops::Agents).then_some(SELF_TEST),
                Permit::Parked { all: false, .. } => Some(SELF_TEST),
                Permit::Parked { all: true, left } => {
                    running.pause((*left).clamp(AWAY_PAUSE, CLAIM_WAIT));
                    continue;
                }
            };
            // One at a time, so that none is claimed beside one that runs alone.
            let claimed = {
                let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
                // It may have been parked while this worker waited for its turn.
                let may_claim = !matches!(permit, Permit::Everything) || self.runner.parking.trouble().is_none();
                let claimed = if may_claim && self.solo.may_begin() { store.claim(CLAIM_WAIT, only) } else { Ok(None) };
                if let Ok(Some(claim)) = &claimed
                    && claim.record.runs_alone
                {
                    self.solo.announce();
                }
                claimed
            };
            match claimed {
                Ok(Some(claim)) if matches!(permit, Permit::Everything) && self.is_parked_for(&claim) => {
                    self.give_back(claim);
                }
                Ok(Some(claim)) => self.run(claim),
                Ok(None) => {}
                // A store that is away says so itself.
                Err(_) if store.waits_for().is_some() => running.pause(AWAY_PAUSE),
                Err(error) => {
                    log::warn(&format!("no job can be claimed: {error}"));
                    running.pause(REFUSAL_PAUSE);
                }
            }
        }
    }

    /// This server was parked while it waited for this job.
    fn is_parked_for(&self, claim: &Claim) -> bool {
        match self.runner.parking.permit() {
            Permit::Everything => false,
            Permit::Probe { .. } | Permit::Parked { all: true, .. } => true,
            Permit::Parked { all: false, .. } => {
                claim.record.purpose.needs_agent() && claim.record.profile != SELF_TEST
            }
        }
    }

    fn give_back(&self, claim: Claim) {
        let why = self.runner.parking.trouble().map(|(trouble, _)| trouble.why).unwrap_or_default();
        if claim.record.runs_alone {
            self.solo.withdraw();
        }
        if let Err(error) = claim.attempt.hand_back(Back::Cannot(why)) {
            log::job(&claim.record.id).warn(&error);
            let _ = claim.attempt.release();
        }
    }

    fn run(&self, claim: Claim) {
        let (id, attempt, stop) = (claim.record.id.clone(), claim.attempt.clone(), claim.stop.clone());
        let attempt_id = (id.clone(), claim.record.attempt);
        // One that was claimed just before a drain's limit is among those that the limit ends …
        self.running.insert(attempt_id.clone(), stop.clone());
        // … unless nobody looks at that any more.
        if self.running.goes_away() {
            stop.request(Reason::HandBack);
        }
        // A cancel that came between the claim and the line above found nobody to tell.
        if self.runner.store.get(&id).is_ok_and(|found| found.it.is_none_or(|job| job.status().has_ended())) {
            stop.request(Reason::Cancelled);
        }
        // One that was told to stop meanwhile ends as if it had begun.
        let _place = self.solo.enter(claim.record.runs_alone, &stop);
        // A fault in one job's path ends that job and nothing else.
        if catch_unwind(AssertUnwindSafe(|| self.runner.execute(claim))).is_err() {
            let why = "the runner failed on this job; that is a fault of agenticore: its log says more".to_owned();
            if let Err(error) = attempt.finish(End::Failed(why)) {
                log::job(&id).warn(&error);
                // Nobody runs it: it is found so, and goes on elsewhere.
                let _ = attempt.release();
            }
        }
        self.drain.note_left(&id, stop.reason());
        self.running.remove(&attempt_id);
    }

    fn keep(self: Arc<Self>, ready: &Arc<Ready>) {
        let (store, running) = (&self.runner.store, &self.running);
        loop {
            let error = match store.recover(RECOVERY_LIMIT) {
                Ok(0) => break,
                Ok(count) => break log::info(&format!("took over {count} jobs that an earlier server left running")),
                Err(error) => error,
            };
            log::warn(&format!("jobs of an earlier server cannot be taken over yet: {error}"));
            running.pause(REFUSAL_PAUSE);
            if running.goes_away() {
                break;
            }
        }
        self.runner.clear_runtime();
        let (shared, begins) = (self.clone(), ready.clone());
        // Clones and installs what agents are to have; ends with that. Jobs wait for it, and nothing else does.
        let set_up = std::thread::Builder::new().name("checkouts".into()).spawn(move || {
            shared.runner.checkouts().set_up().iter().for_each(|why| log::warn(why));
            tell(&begins);
        });
        if set_up.is_err() {
            tell(ready);
        }
        let mut next = Instant::now();
        while !running.goes_away() {
            if Instant::now() >= next {
                children::reap_strays();
                self.tidy_leftovers();
                self.forget_expired();
                self.runner.tend_prepared();
                self.runner.sweep_worktrees(|id| running.runs(id));
                next = Instant::now() + KEEPER_PERIOD;
            }
            // Also told when a job ends, and when the server goes.
            running.wait(KEEPER_PERIOD);
        }
        // Workers that wait to begin end.
        tell(ready);
        // A job that ended since the last round is not left for the next server.
        self.tidy_leftovers();
        self.runner.sweep_worktrees(|id| running.runs(id));
    }

    fn measure(&self) {
        let runner = &self.runner;
        let (mut was_well, mut is_first, mut rounds) = (true, true, 0..);
        while !self.running.goes_away() {
            runner.machine.measure(&runner.config);
            if std::mem::take(&mut is_first) {
                let checks = runner.checks();
                let (first, more): (Vec<&Check>, Vec<&Check>) = checks
                    .iter()
                    .filter(|check| check.ok)
                    .partition(|check| FOUND_FIRST.contains(&check.name.as_str()));
                let told = |checks: Vec<&Check>| checks.into_iter().map(Check::shown).collect::<Vec<_>>().join("; ");
                log::info(&format!("found {}", told(first)));
                log::debug(&format!("found {}", told(more)));
            }
            if rounds.next().is_some_and(|round: u64| round.is_multiple_of(TELL_EVERY)) {
                runner.store.tell(About { slots: self.slots, unwell: runner.unwell() });
            }
            let unwell = runner.why_machine_unwell();
            match &unwell {
                Some(why) if was_well => log::warn(&format!("no job is begun here until this is put right: {why}")),
                None if !was_well => log::info("jobs can be begun here again"),
                _ => {}
            }
            was_well = unwell.is_none();
            self.running.pause(MEASURE_PERIOD);
        }
    }

    fn tidy_leftovers(&self) {
        self.runner.store.leftovers().iter().for_each(|record| self.runner.clean_up(record));
    }

    fn forget_expired(&self) {
        if self.runner.store.waits_for().is_some() {
            return;
        }
        match self.runner.store.tend(&|record| self.runner.why_not_here(record)) {
            Ok(mut over) => {
                // A cancelled job whose attempt is still being tidied away waits for that.
                over.retain(|record| !self.running.runs(&record.id));
                over.iter().take(FORGOTTEN_AT_ONCE).for_each(|record| self.runner.forget(record));
            }
            // A store that is away says so itself.
            Err(_) if self.runner.store.waits_for().is_some() => {}
            Err(error) => log::warn(&format!("old jobs cannot be looked after: {error}")),
        }
    }
}
