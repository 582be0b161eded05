//! What can be asked of agenticore: typed requests, typed refusals. REST and the command line are thin above it.
//!
//! It knows no HTTP status, no JSON-RPC code, no exit code; each door maps a [`Refusal`] to its own. Nobody above
//! names the store, the pool or the runner.

mod caller;
mod changes;
pub mod checkouts;
mod filter;
mod jobs;
pub mod local;
mod plans;
mod pod;
mod rate;
mod refusal;
pub mod remote_drain;
mod session;
mod submit;
mod watching;
mod webhooks;
mod worktrees;

pub use crate::store::watch::Posted;
pub use caller::{Caller, Scope};
pub use changes::{ChangePageWatch, ChangeWatch, HeardChange};
pub use refusal::Refusal;
pub use session::Session;
pub use submit::SentKey;
pub use watching::{EndWatch, EventWatch, Heard, Look, ServerEventWatch, WaitsForPage};

/// What was read, and whether it comes from the second copy.
pub use crate::store::Seen;

use crate::api::Job;
use crate::config::Config;
use crate::fleet::pool::Pool;
use crate::job::{Record, Status};
use crate::log;
use crate::pipeline::Runner;
use crate::spans;
use crate::store::redis::server_locks;
use crate::store::unconfigured::Unconfigured;
use crate::store::{embedded, redis};
use crate::volume;
use crate::webhook::Teller;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A server, apart from its doors.
pub struct Service {
    runner: Arc<Runner>,
    pool: Pool,
    workers: usize,
    rates: rate::Rates,
    /// Held from counting the jobs that wait to handing another one in.
    last_place: Mutex<()>,
    /// Tells others of jobs, until the server goes.
    teller: Mutex<Option<Teller>>,
    /// What keeps the shared volume for a server without Redis alone.
    _alone: Option<File>,
}

/// A server without Redis that has the jobs of some settings.
pub struct Holder {
    /// Its process; empty: not known.
    pub process: String,
    /// Its URL; None: it serves MCP on standard input alone.
    pub url: Option<String>,
}

/// How long a server that starts gets to say where it listens.
const SAYS_WHERE: Duration = Duration::from_secs(10);

/// The server without Redis that has the jobs of these settings already.
pub fn holder(config: &Config) -> Option<Holder> {
    if config.redis.is_some() || config.wants_redis {
        return None;
    }
    let until = Instant::now() + SAYS_WHERE;
    let (process, place) = loop {
        let (process, place) = embedded::holder(&config.jobs_dir)?;
        if !place.is_empty() || Instant::now() >= until {
            break (process, place);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    Some(Holder { process, url: Some(place).filter(|place| place.starts_with("http")) })
}

impl Service {
    /// Opens the store that the settings ask for, and starts the workers. The error is a sentence.
    pub fn start(config: Config) -> Result<Self, String> {
        spans::start(&config)?;
        let (runner, alone) = open(config)?;
        let is_configured = runner.config.redis.is_some() || !runner.config.wants_redis;
        let workers = if is_configured { runner.config.max_parallel_jobs } else { 0 };
        let pool =
            Pool::start(runner.clone(), workers).map_err(|error| format!("cannot start the workers: {error}"))?;
        let teller = Teller::start(&runner.config, runner.store.clone());
        let teller = teller.map_err(|error| format!("cannot start a thread: {error}"))?;
        let (rates, last_place) = (rate::Rates::default(), Mutex::default());
        Ok(Self { runner, pool, workers, rates, last_place, teller: Mutex::new(teller), _alone: alone })
    }

    /// Tells others on this machine where the server listens.
    pub fn say_where(&self, place: &str) {
        let config = self.config();
        if config.redis.is_none()
            && !config.wants_redis
            && let Err(why) = embedded::say_where(&config.jobs_dir, place)
        {
            log::warn(&why);
        }
    }

    pub fn config(&self) -> &Config {
        &self.runner.config
    }

    /// How many jobs run here at once.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Drains for the settings' grace, or less once `hurry` says so; returns when nothing runs.
    pub fn finish_jobs(&self, hurry: impl Fn() -> bool) {
        let config = self.config();
        self.pool.shut_down(config.shutdown_grace, config.claude.kill_grace, hurry);
    }

    /// The last call: nothing is asked any more.
    pub fn close(&self) {
        drop(self.teller.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.runner.store.shut_down();
        self.runner.remove_runtime();
        spans::finish();
    }

    /// The record as it is shown, and if it waits for something that an operator has to do, for what.
    fn shown(&self, record: &Record) -> Job {
        let is_queued = record.status() == Status::Queued;
        let of_last = || record.waits_because.as_ref().map(|why| format!("a server that can run it: {why}"));
        // In a fleet others take it.
        let drains = || {
            let is_alone = self.config().redis.is_none() && self.pool.drain().progress().draining;
            let why = "this server, which drains: `agenticore drain --cancel` takes that back, a restart ends it";
            is_alone.then(|| why.to_owned())
        };
        let waits_for = || {
            drains()
                .or_else(|| self.runner.why_not_here(record))
                .or_else(|| self.runner.waits_for_pod(record))
                .or_else(of_last)
        };
        Job::new(record, if is_queued { waits_for() } else { None })
    }
}

/// The store that the settings ask for, and a runner on it; a server without Redis also gets what
/// keeps the shared volume for it alone.
fn open(config: Config) -> Result<(Arc<Runner>, Option<File>), String> {
    if config.redis.is_none() && config.wants_redis {
        let why = format!(
            "a Redis to keep jobs in: {}, {}",
            config.where_to_set("redis-url", "REDIS_URL"),
            config.then_restart()
        );
        let store = Arc::new(Unconfigured::new(why));
        let config = config.beside_the_server();
        let no_agents = config.runtime_dir.with_extension("agents");
        return Ok((Arc::new(Runner::new(config, store, no_agents)?), None));
    }
    let config = if config.redis.is_some() { config.for_fleet() } else { config };
    for lack in volume::prepare(&config)? {
        log::warn(&lack);
    }
    let Some(settings) = config.redis.clone() else {
        let alone = config.shared_root.as_deref().map(|root| server_locks::lock_volume(root, None)).transpose()?;
        let store = embedded::open(&config.jobs_dir, &config.pod_name)?;
        let agents_lock = store.agents_lock();
        return Ok((Arc::new(Runner::new(config, store, agents_lock)?), alone));
    };
    if !config.has_second_copy() {
        log::warn(
            "the job files are no second copy, because AGENTICORE_JOBS_DIR does not lie below \
             AGENTICORE_SHARED_FS_ROOT: jobs are as safe as Redis keeps them, and a cancel needs Redis",
        );
    }
    let store = redis::open(&config, &settings)?;
    Ok((Arc::new(Runner::in_fleet(config, store)?), None))
}
