//! The store of a fleet: Redis holds queue, records, leases and events; the job files on the shared
//! volume are the second copy, and the ended file is the outcome.
//!
//! Every step is one script (`scripts.rs`), and answers the same when it is repeated. What a server may
//! write for a job it proves by the job's lease. See ARCHITECTURE.md, "A fleet".
//!
//! Each part owns what it uses: `submissions`, `claims` (with `pop`), `attempts`, `keeper`, `load`, `reap`, `sweep`,
//! `tail`, `clone_locks`, `own_state`, `held`, `clock`. What several do alike is in `context`, `reads` and `outcomes`.

pub mod admin;
mod attempts;
mod autoscale;
mod claims;
mod clock;
pub mod clone_locks;
mod context;
mod held;
pub mod keys;
mod leases;
mod link;
mod mail;
mod outcomes;
mod own_state;
mod pop;
mod reads;
mod reap;
mod scripts;
pub mod server_locks;
mod submissions;
mod sweep;
mod tail;

use super::outbox::Outbox;
use super::watch::{ChangeWatcher, Hub, Interest, Mailbox, Posted, Watcher};
use super::{About, Cancelled, Claim, Error, Jobs, Key, Lacks, Mail, Place, Presence, Queue, Seen, Which, agents};
use crate::api::Pod;
use crate::change::{Change, Moment};
use crate::config::{self, Config};
use crate::event::{Cursor, Event};
use crate::job::{JobId, Note, Record, Spec, Time};
use crate::process::stop::Reason;
use attempts::Pen;
use autoscale::Load;
use claims::{Claims, Gate};
use clone_locks::CloneLocks;
use context::{Access, Context};
use held::Attempts;
use leases::LeaseKeeper;
use link::Address;
use own_state::OwnState;
use pop::{Pops, Precedence};
use reap::Reaper;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use submissions::Submissions;
use sweep::Sweeper;
use tail::Tail;

pub struct Redis {
    /// For what is asked of this server, and for what its jobs write.
    access: Arc<Access>,
    /// For renewing, which waits for nobody.
    renewals: Arc<Access>,
    submissions: Submissions,
    claims: Claims,
    gate: Arc<Gate>,
    attempts: Arc<Attempts>,
    clone_locks: Arc<CloneLocks>,
    own: Arc<OwnState>,
    tail: Arc<Tail>,
    agents: PathBuf,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held for as long as the server lives: its runtime directory, and its share of the volume.
    _locks: Vec<File>,
}

/// Opens the store for a pod. Redis need not be there yet. Fails when another server runs as this pod, when
/// a server without Redis uses the shared volume, or when the job files cannot be written.
pub fn open(config: &Config, settings: &config::Redis) -> Result<Arc<Redis>, String> {
    let ctx = Arc::new(Context::new(config, settings));
    ctx.files.prepare()?;
    let (pod_lock, agents) = server_locks::lock_pod(config)?;
    let mut locks = vec![pod_lock];
    let identity = format!("{}, keys {}, database {}", settings.shown(), settings.prefix, settings.database);
    let share = config.shared_root.as_deref().map(|root| server_locks::lock_volume(root, Some(&identity)));
    locks.extend(share.transpose()?);
    let address = Address::new(settings.clone())?;
    let own_connections = || Access::new(&ctx, &address);
    let blocking = |blocks: Duration| Access::blocking(&ctx, &address, settings.timeout + blocks);

    let access = Arc::new(own_connections());
    let (gate, precedence, own) = (Arc::<Gate>::default(), Arc::<Precedence>::default(), Arc::<OwnState>::default());
    let attempts = Arc::<Attempts>::default();
    let clone_locks = Arc::new(CloneLocks::new(access.clone()));
    let tail = Arc::new(Tail::new(blocking(tail::BLOCK), access.clone()));
    let pen = Arc::new(Pen { access: access.clone(), attempts: attempts.clone(), own: own.clone() });
    // The pop blocks for at most a second of it; a reply that comes later would lose the popped id.
    let pops = Pops::new(blocking(claims::POP_LIMIT), access.clone(), precedence.clone());
    let store = Redis {
        submissions: Submissions::new(access.clone()),
        claims: Claims::new(access.clone(), pen, pops, gate.clone()),
        gate: gate.clone(),
        attempts: attempts.clone(),
        clone_locks: clone_locks.clone(),
        own: own.clone(),
        tail: tail.clone(),
        agents,
        threads: Mutex::default(),
        _locks: locks,
        renewals: Arc::new(own_connections()),
        access,
    };

    let keeper = LeaseKeeper {
        access: store.renewals.clone(),
        attempts: attempts.clone(),
        locks: clone_locks,
        own: own.clone(),
    };
    store.start("leases", move || keeper.keep())?;
    let workers = config.max_parallel_jobs;
    let following = tail.clone();
    let load = Load { access: own_connections(), attempts: attempts.clone(), gate, precedence, own, tail, workers };
    store.start("load", move || load.keep_saying())?;
    let reaper = Reaper { access: own_connections(), attempts: attempts.clone() };
    store.start("reaper", move || reaper.make_rounds())?;
    let sweeper = Sweeper { access: own_connections(), gone: HashMap::new() };
    store.start("sweeper", move || sweeper.sweep_on())?;
    let volume = own_connections();
    store.start("outcomes", move || leases::watch_volume(&volume, &attempts))?;
    store.start("tail", move || following.follow())?;
    Ok(Arc::new(store))
}

impl Redis {
    /// Starts a thread that ends when the server goes.
    fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(work);
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// The file that supervisors hold a shared flock of.
    pub fn agents_lock(&self) -> PathBuf {
        self.agents.clone()
    }

    pub fn clone_locks(&self) -> Arc<CloneLocks> {
        self.clone_locks.clone()
    }
}

impl Jobs for Redis {
    fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error> {
        self.submissions.submit(spec, key)
    }

    fn submitted(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.submissions.submitted(key)
    }

    fn waiting_in(&self, worktree: &Record) -> Result<Option<JobId>, Error> {
        let Some(pod) = &worktree.worktree_on else { return Ok(None) };
        for id in self.access.ids_waiting_for(pod)? {
            let job = self.access.read(&id)?.it;
            if job.is_some_and(|job| job.worktree_id.as_ref() == Some(&worktree.id)) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn cancel(&self, id: &JobId, by: Option<&str>) -> Result<Cancelled, Error> {
        let cancelled = self.access.cancel(id, by)?;
        if let (Cancelled::Done { .. }, Some(attempt)) = (&cancelled, self.attempts.get(id)) {
            attempt.stop.request(Reason::Cancelled);
        }
        Ok(cancelled)
    }

    fn note(&self, id: &JobId, note: Note) -> Result<(), Error> {
        self.access.note(id, note)
    }

    fn get(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error> {
        self.access.read(id)
    }

    fn matching(&self, prefix: &str) -> Result<Vec<JobId>, Error> {
        self.access.read_matching(prefix)
    }

    fn list_after(&self, limit: usize, which: Which, after: Option<&Place>) -> Result<Seen<Vec<Record>>, Error> {
        self.access.read_page(limit, which, after)
    }

    fn ahead(&self, record: &Record) -> Result<Option<usize>, Error> {
        self.access.read_ahead(record)
    }

    fn outbox(&self) -> Option<&Outbox> {
        Some(&self.access.ctx.files.outbox)
    }

    fn waiting(&self) -> Result<(usize, Option<Time>), Error> {
        self.access.read_waiting()
    }

    fn with_session(&self, session: &str) -> Result<Option<Record>, Error> {
        self.access.read_with_session(session)
    }

    fn events(&self, record: &Record, after: Cursor, limit: usize) -> Result<Vec<Event>, Error> {
        self.access.read_events(record, after, limit)
    }

    fn watch(&self, id: &JobId, interest: Interest, after: Cursor) -> Watcher {
        let watcher = self.access.ctx.hub.watch(id, interest, after);
        if interest == Interest::Events {
            self.tail.begin_to_read();
        }
        watcher
    }

    fn changes(&self, after: Moment, limit: usize) -> Result<Vec<Change>, Error> {
        self.access.read_changes(after, limit)
    }

    fn watch_changes(&self) -> ChangeWatcher {
        self.access.ctx.hub.watch_changes()
    }
}

impl Mail for Redis {
    fn hub(&self) -> &Arc<Hub> {
        &self.access.ctx.hub
    }

    fn open_mailbox(&self, id: &str) -> Result<Mailbox, Error> {
        let mailbox = self.hub().open_mailbox(id);
        self.access.keep_mailbox(id)?;
        self.tail.begin_to_read();
        Ok(mailbox)
    }

    fn keep_mailbox(&self, id: &str) -> Result<(), Error> {
        self.access.keep_mailbox(id)
    }

    fn post(&self, id: &str, message: &str) -> Result<Posted, Error> {
        self.access.post(id, message)
    }

    fn take_mail(&self, mailbox: &Mailbox) -> Result<Vec<String>, Error> {
        self.access.take_mail(mailbox)
    }
}

impl Queue for Redis {
    fn recover(&self, limit: Duration) -> Result<usize, Error> {
        agents::wait(&self.agents, limit).map(|()| 0)
    }

    fn claim(&self, wait: Duration, only: Option<&str>) -> Result<Option<Claim>, Error> {
        self.claims.claim(wait, only)
    }

    fn open_claims(&self, open: bool) {
        self.gate.set(open);
    }

    fn leftovers(&self) -> Vec<Record> {
        Vec::new()
    }

    fn release(&self, record: &Record) -> Result<(), Error> {
        if let Some(attempt) = self.attempts.get(&record.id).filter(|attempt| attempt.number == record.attempt) {
            self.attempts.remove(&attempt);
        }
        Ok(())
    }

    fn tend(&self, lacks: &Lacks) -> Result<Vec<Record>, Error> {
        self.access.expire_and_collect(lacks)
    }

    fn remove(&self, id: &JobId) -> Result<(), Error> {
        self.access.forget(id)
    }
}

impl Presence for Redis {
    fn tell(&self, about: About) {
        self.own.tell(about);
    }

    fn tell_draining(&self, until: Option<Duration>) -> Result<(), Error> {
        self.own.set_draining(&self.access.ctx, &self.access.link, until)
    }

    fn asked_to_drain(&self) -> Option<Option<Duration>> {
        self.own.take_wish_to_drain()
    }

    fn waits_for(&self) -> Option<String> {
        self.own.too_new().or_else(|| self.renewals.link.trouble()).or_else(|| self.access.link.trouble())
    }

    fn trouble(&self) -> Option<String> {
        self.access.ctx.clock.is_wrong()
    }

    fn pods(&self) -> Result<Vec<Pod>, Error> {
        OwnState::of_all(&self.access.ctx, &self.access.link).map_err(Error::Unavailable)
    }

    fn lives(&self, pod: &str) -> Result<bool, Error> {
        self.access.lives(pod)
    }

    fn was_reached(&self) -> bool {
        self.own.was_reached()
    }

    fn shut_down(&self) {
        self.access.ctx.end();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
        OwnState::forget_pod(&self.access.ctx, &self.access.link);
    }
}
