//! What every part of the store knows and none changes; and the store's actions over one set of connections.

use super::clock::Clock;
use super::keys::Keys;
use super::link::{Address, Link};
use super::scripts::{Transitions, new_stamp};
use crate::config::{self, Config};
use crate::job::{Record, Time};
use crate::store::Error;
use crate::store::job_files::JobFiles;
use crate::store::watch::Hub;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub struct Context {
    pub settings: config::Redis,
    pub keys: Keys,
    pub files: JobFiles,
    /// The job files lie on the shared volume.
    pub has_copy: bool,
    pub pod: String,
    /// This run of this server; another run of the same pod has another one.
    pub incarnation: String,
    pub hub: Arc<Hub>,
    pub clock: Clock,
    /// Without a second copy: held by whoever closes a job here.
    pub closing: Mutex<()>,
    ends: AtomicBool,
}

impl Context {
    pub fn new(config: &Config, settings: &config::Redis) -> Self {
        Self {
            keys: Keys::new(&settings.prefix),
            settings: settings.clone(),
            files: JobFiles::new(&config.jobs_dir),
            has_copy: config.has_second_copy(),
            pod: config.pod_name.clone(),
            incarnation: new_stamp()[..12].to_owned(),
            hub: Arc::new(Hub::default()),
            clock: Clock::default(),
            closing: Mutex::default(),
            ends: AtomicBool::new(false),
        }
    }

    /// The fleet's time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Begins the name of every holder of this run of this server.
    pub fn holder_prefix(&self) -> String {
        format!("{}/{}/", self.pod, self.incarnation)
    }

    /// Names one claim: `pod/incarnation/attempt.nonce`. Two claims of one attempt are not the same holder.
    pub fn new_token(&self, attempt: u32) -> String {
        format!("{}{attempt}.{}", self.holder_prefix(), &new_stamp()[..8])
    }

    /// Writes a job's open file, but never over a later attempt's.
    pub fn write_open(&self, holder: &str, record: &Record) -> Result<(), Error> {
        if !self.has_copy {
            return Ok(());
        }
        let there = self.files.read_open(&record.id).map_err(Error::Unavailable)?;
        if there.is_some_and(|there| there.record.attempt > record.attempt) {
            return Err(Error::Lost);
        }
        self.files.write_open(0, holder, record).map_err(Error::Unavailable)
    }

    /// Waits, but no longer than until the server goes.
    pub fn pause(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while !self.ends() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.hub.wake();
    }

    pub fn ends(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }
}

/// What can be done in Redis and with the job files over one set of connections. Each part of the store that must
/// wait for no other has one of its own; `reads.rs` and `outcomes.rs` say what it can do.
pub struct Access {
    pub ctx: Arc<Context>,
    pub link: Link,
}

impl Access {
    pub fn new(ctx: &Arc<Context>, address: &Arc<Address>) -> Self {
        Self { ctx: ctx.clone(), link: Link::new(address, None) }
    }

    /// One whose calls may take as long as `read_limit`, because they block.
    pub fn blocking(ctx: &Arc<Context>, address: &Arc<Address>, read_limit: Duration) -> Self {
        Self { ctx: ctx.clone(), link: Link::new(address, Some(read_limit)) }
    }

    pub fn steps(&self) -> Transitions<'_> {
        Transitions { link: &self.link, keys: &self.ctx.keys }
    }

    /// Takes the turn of this pod at something that one pod does for all, once every `period`.
    pub fn take_turn(&self, what: &str, period: Duration) -> Result<bool, Error> {
        let taken = self.link.with(|connection| {
            let mut set = ::redis::cmd("SET");
            set.arg(self.ctx.keys.turn(what)).arg(&self.ctx.incarnation);
            set.arg("NX").arg("PX").arg(period.as_millis().max(1) as u64);
            set.query::<Option<String>>(connection)
        });
        Ok(taken.map_err(Error::Unavailable)?.is_some())
    }
}
