//! The store of a fleet: Redis holds queue, records, leases and events; the job files on the shared
//! volume are the second copy, and the ended file is the outcome.
//!
//! Every step is one script (`scripts.rs`), and answers the same when it is repeated. What a server may
//! write for a job it proves by the job's lease. See ARCHITECTURE.md, "A fleet".

pub mod bystander;
mod claim;
mod held;
pub mod keys;
mod leases;
mod link;
mod load;
pub mod lock;
mod outcome;
pub mod place;
mod pop;
mod reads;
mod reap;
mod scripts;
mod submit;
mod sweep;

use super::job_files::JobFiles;
use super::{Cancelled, Claim, End, Error, Key, Lease, Seen, Store, agents, crash};
use crate::config::{self, Config};
use crate::event::{Draft, Event};
use crate::job::{JobId, Mark, Record, Spec, Status};
use crate::process::stop::Reason;
use held::{Held, Table};
use keys::Keys;
use link::{Address, Link};
use scripts::{Said, Transitions, Write, new_stamp};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Redis {
    settings: config::Redis,
    keys: Keys,
    /// For what is asked of this server, and for what its jobs write.
    link: Link,
    /// For the pop alone, which blocks.
    pops: Link,
    /// For renewing, which waits for nobody.
    renewals: Link,
    /// For reaping.
    rounds: Link,
    /// For sweeping.
    sweeps: Link,
    /// For what an autoscaler reads: should that not work, everything else does.
    loads: Link,
    files: JobFiles,
    /// The job files lie on the shared volume.
    has_copy: bool,
    pod: String,
    /// This run of this server; another run of the same pod has another one.
    incarnation: String,
    table: Table,
    /// How many jobs this pod may run at once.
    workers: usize,
    /// Any job may be taken here, not just some.
    takes_any: AtomicBool,
    /// Pods of lower ordinals that stand idle: they go first.
    idle_below: AtomicU64,
    /// More waited at the last look than the idle ones need.
    has_plenty: AtomicBool,
    /// Jobs that this pod saw waiting and left to them, and since when.
    left_to_others: Mutex<HashMap<String, Instant>>,
    locks: lock::Held,
    may_claim: AtomicBool,
    one_pops: Mutex<()>,
    /// Told when a job ends here, and when claims open or close.
    changed: (Mutex<()>, Condvar),
    keys_in_flight: Mutex<HashSet<String>>,
    asked_to_drain: Mutex<Option<Option<Duration>>>,
    draining: AtomicBool,
    /// Since the drain began.
    handed_back: Mutex<Vec<JobId>>,
    /// Incarnations of other servers that said they are this pod.
    namesake: Mutex<Vec<String>>,
    agents: PathBuf,
    ends: AtomicBool,
    reached: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held for as long as the server lives: its runtime directory, and its place on the shared volume.
    _locks: Vec<File>,
}

/// Opens the store for a pod. Redis need not be there yet. Fails when this pod's place is taken, when
/// a server without Redis uses the shared volume, or when the job files cannot be written.
pub fn open(config: &Config, settings: &config::Redis) -> Result<Arc<Redis>, String> {
    let files = JobFiles::new(&config.jobs_dir);
    files.prepare()?;
    let (place, agents) = place::take_place(config)?;
    let mut locks = vec![place];
    let identity = format!("{}, keys {}, database {}", settings.shown(), settings.prefix, settings.database);
    locks.extend(config.shared_root.as_deref().map(|root| place::take_share(root, Some(&identity))).transpose()?);
    let address = Address::new(settings.clone())?;
    // The pop blocks for at most a second of it; a reply that comes later would lose the popped id.
    let pop_limit = settings.timeout + claim::POP_LIMIT;
    let store = Arc::new(Redis {
        keys: Keys::new(&settings.prefix),
        link: Link::new(&address, None),
        pops: Link::new(&address, Some(pop_limit)),
        renewals: Link::new(&address, None),
        rounds: Link::new(&address, None),
        sweeps: Link::new(&address, None),
        loads: Link::new(&address, None),
        files,
        has_copy: config.has_second_copy(),
        pod: config.pod_name.clone(),
        incarnation: new_stamp()[..12].to_owned(),
        table: Table::default(),
        workers: config.max_parallel_jobs,
        takes_any: AtomicBool::new(false),
        idle_below: AtomicU64::new(0),
        has_plenty: AtomicBool::new(false),
        left_to_others: Mutex::default(),
        locks: lock::Held::default(),
        may_claim: AtomicBool::new(true),
        one_pops: Mutex::default(),
        changed: Default::default(),
        keys_in_flight: Mutex::default(),
        asked_to_drain: Mutex::default(),
        draining: AtomicBool::new(false),
        handed_back: Mutex::default(),
        namesake: Mutex::default(),
        agents,
        ends: AtomicBool::new(false),
        reached: AtomicBool::new(false),
        threads: Mutex::default(),
        settings: settings.clone(),
        _locks: locks,
    });
    store.start("leases", Redis::keep_leases)?;
    store.start("load", Redis::keep_saying_load)?;
    store.start("outcomes", Redis::watch_outcomes)?;
    store.start("reaper", Redis::make_rounds)?;
    store.start("sweeper", Redis::sweep_on)?;
    Ok(store)
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Redis {
    fn start(self: &Arc<Self>, name: &str, work: fn(&Self)) -> Result<(), String> {
        let store = self.clone();
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&store));
        guard(&self.threads).push(thread.map_err(|error| format!("cannot start a thread: {error}"))?);
        Ok(())
    }

    /// The file that supervisors hold a shared flock of.
    pub fn agents_lock(&self) -> PathBuf {
        self.agents.clone()
    }

    fn transitions(&self) -> Transitions<'_> {
        Transitions { link: &self.link, keys: &self.keys }
    }

    /// For the thread that makes the rounds.
    fn in_rounds(&self) -> Transitions<'_> {
        Transitions { link: &self.rounds, keys: &self.keys }
    }

    fn token(&self, attempt: u32) -> String {
        format!("{}/{}/{attempt}", self.pod, self.incarnation)
    }

    fn held(&self, lease: &Lease) -> Result<Arc<Held>, Error> {
        let held = self.table.get(&lease.id).ok_or(Error::Lost)?;
        if held.attempt == lease.attempt { Ok(held) } else { Err(Error::Lost) }
    }

    /// What an answer other than "done" to the holder of a job means.
    fn refused(&self, held: &Held, state: &held::State, said: Said) -> Error {
        match said {
            Said::Unknown => self.put_back_own(held, state),
            Said::Unleased => Error::Unavailable("the job's lease is being renewed".into()),
            Said::Ended | Said::Sealed => {
                held.stop.request(Reason::Cancelled);
                Error::Lost
            }
            _ => {
                held.stop.request(Reason::Lost);
                Error::Lost
            }
        }
    }

    /// Redis lost the record of a job that runs here: it gets it back, unless the job has ended.
    fn put_back_own(&self, held: &Held, state: &held::State) -> Error {
        if self.has_copy && !matches!(self.files.read_ended(&held.id), Ok(None)) {
            held.stop.request(Reason::Cancelled);
            return Error::Lost;
        }
        let record = state.record();
        let write = Write { record: &record, stamp: &new_stamp() };
        match self.transitions().put(&write, &held.token, true, None) {
            Ok(_) => Error::Unavailable("Redis had lost the job's record, which was put back".into()),
            Err(error) => error,
        }
    }

    fn write_open(&self, holder: &str, record: &Record) -> Result<(), Error> {
        if !self.has_copy {
            return Ok(());
        }
        // Never over a later attempt's.
        let there = self.files.read_open(&record.id).map_err(Error::Unavailable)?;
        if there.is_some_and(|there| there.record.attempt > record.attempt) {
            return Err(Error::Lost);
        }
        self.files.write_open(0, holder, record).map_err(Error::Unavailable)
    }

    fn tell_changed(&self) {
        drop(guard(&self.changed.0));
        self.changed.1.notify_all();
    }

    /// Waits until something changed here, at most `limit`.
    fn wait_for_change(&self, limit: Duration) {
        drop(self.changed.1.wait_timeout(guard(&self.changed.0), limit));
    }

    /// Waits, but no longer than until the server goes.
    fn pause(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.ends() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }
}

impl Store for Redis {
    fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error> {
        self.accept(spec, key)
    }

    fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error> {
        self.claim_next(wait, only)
    }

    fn open_claims(&self, open: bool) {
        self.may_claim.store(open, Ordering::SeqCst);
        self.tell_changed();
    }

    fn mark(&self, lease: &Lease, mark: Mark, event: Option<Draft>) -> Result<Record, Error> {
        let held = self.held(lease)?;
        let mut state = held.state();
        let (mut job, waits) = (state.job.clone(), mark.may_wait());
        job.mark(mark);
        let kind = event.as_ref().map(|event| event.kind);
        let event = event.and_then(|draft| state.number(draft));
        let line = event.map(|(at, draft)| (at, scripts::line(Some(draft), lease.attempt)));
        let (record, has_event) = (Record::from(job.clone()), line.is_some());
        let write = Write { record: &record, stamp: &new_stamp() };
        match self.transitions().mark(&lease.id, &held.token, Some(&write), line)? {
            Said::Done => {}
            said => return Err(self.refused(&held, &state, said)),
        }
        kind.inspect(|kind| crash::point(*kind, "after-record"));
        if !waits {
            self.write_open(&held.token, &record)?;
        }
        state.job = job;
        if has_event {
            state.wrote();
        }
        kind.inspect(|kind| crash::point(*kind, "after-event"));
        Ok(record)
    }

    fn prove(&self, lease: &Lease) -> Result<(), Error> {
        let held = self.held(lease)?;
        match self.transitions().mark(&lease.id, &held.token, None, None)? {
            Said::Done => {}
            said => return Err(self.refused(&held, &held.state(), said)),
        }
        if self.has_copy && self.files.read_ended(&lease.id).map_err(Error::Unavailable)?.is_some() {
            held.stop.request(Reason::Cancelled);
            return Err(Error::Lost);
        }
        if held.stop.reason() == Some(Reason::Lost) { Err(Error::Lost) } else { Ok(()) }
    }

    fn say(&self, lease: &Lease, event: Draft) -> Result<(), Error> {
        let held = self.held(lease)?;
        let mut state = held.state();
        let kind = event.kind;
        let Some((at, draft)) = state.number(event) else { return Ok(()) };
        match self.transitions().mark(
            &lease.id,
            &held.token,
            None,
            Some((at, scripts::line(Some(draft), lease.attempt))),
        )? {
            Said::Done => state.wrote(),
            said => return Err(self.refused(&held, &state, said)),
        }
        crash::point(kind, "after-event");
        Ok(())
    }

    fn finish(&self, lease: &Lease, end: End) -> Result<Record, Error> {
        self.end_job(lease, end)
    }

    fn hand_back(&self, lease: &Lease, why: &str) -> Result<(), Error> {
        if self.draining.load(Ordering::SeqCst) {
            guard(&self.handed_back).push(lease.id.clone());
        }
        self.give_back(lease, why)
    }

    fn cancel(&self, id: &JobId) -> Result<Cancelled, Error> {
        self.cancel_job(id)
    }

    fn leftovers(&self) -> Vec<Record> {
        Vec::new()
    }

    fn release(&self, lease: &Lease) -> Result<(), Error> {
        self.table.remove(&lease.id, lease.attempt);
        Ok(())
    }

    fn get(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error> {
        self.read(id)
    }

    fn matching(&self, prefix: &str) -> Result<Vec<JobId>, Error> {
        self.read_matching(prefix)
    }

    fn list(&self, limit: usize, status: Option<Status>) -> Result<Seen<Vec<Record>>, Error> {
        self.read_page(limit, status)
    }

    fn events(&self, id: &JobId, after: u64, limit: usize) -> Result<Vec<Event>, Error> {
        self.read_events(id, after, limit)
    }

    fn with_session(&self, session: &str) -> Result<Option<Record>, Error> {
        self.read_with_session(session)
    }

    fn wait_for_end(&self, id: &JobId, wait: Duration) -> Result<Option<Record>, Error> {
        self.read_when_ended(id, wait)
    }

    fn tend(&self) -> Result<Vec<Record>, Error> {
        self.expire_and_collect()
    }

    fn remove(&self, id: &JobId) -> Result<(), Error> {
        self.forget(id)
    }

    fn recover(&self, limit: Duration) -> Result<usize, Error> {
        agents::wait(&self.agents, limit).map(|()| 0)
    }

    fn tell_draining(&self, until: Option<Duration>) -> Result<(), Error> {
        if !self.draining.swap(until.is_some(), Ordering::SeqCst) {
            guard(&self.handed_back).clear();
        }
        self.write_draining(until)
    }

    fn asked_to_drain(&self) -> Option<Option<Duration>> {
        guard(&self.asked_to_drain).take()
    }

    fn waits_for(&self) -> Option<String> {
        self.renewals.trouble().or_else(|| self.link.trouble())
    }

    fn was_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    fn shut_down(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.tell_changed();
        for thread in std::mem::take(&mut *guard(&self.threads)) {
            let _ = thread.join();
        }
        self.say_goodbye();
    }
}
