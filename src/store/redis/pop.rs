//! Taking an id off the queue: what waits for this pod alone, the oldest, the oldest unless an idle pod of a lower
//! ordinal wants it, or the oldest of one profile.
//!
//! An id that was taken lies in `running` until it is claimed; should this pod die between, a round finds it.

use super::context::Access;
use super::{reads, scripts};
use crate::job::{JobId, Record};
use crate::log;
use crate::store::Error;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a pod that lets others go first looks. One that it saw twice it takes: nobody waits for more than
/// two looks, which is less than 200 ms.
const COURTESY: Duration = Duration::from_millis(80);
/// How many jobs are left to others at once.
const MOST_LEFT: u64 = 64;
/// How often the queue is searched for a job of one profile.
const SEARCH: Duration = Duration::from_secs(1);
/// How much of the queue is searched, and how much of it in one round trip.
const SEARCHED: isize = 20_000;
const CHUNK: isize = 500;

/// Who goes first where there is less work than pods: what this pod says of itself, and knows of others.
#[derive(Default)]
pub struct Precedence {
    /// Any job may be taken here, not just some.
    pub takes_any: AtomicBool,
    /// Pods of lower ordinals that stand idle: they go first.
    pub idle_below: AtomicU64,
    /// More waited at the last look than the idle ones need.
    has_plenty: AtomicBool,
    /// Jobs that this pod saw waiting and left to them, and since when.
    left_to_others: Mutex<HashMap<String, Instant>>,
}

pub struct Pops {
    /// The pop blocks: it has connections of its own.
    blocking: Access,
    access: Arc<Access>,
    precedence: Arc<Precedence>,
}

impl Pops {
    pub fn new(blocking: Access, access: Arc<Access>, precedence: Arc<Precedence>) -> Self {
        Self { blocking, access, precedence }
    }

    fn left_to_others(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.precedence.left_to_others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next id, or none within `wait`. `only`: of this profile alone, or without an agent.
    pub fn pop(&self, wait: Duration, only: Option<&str>) -> Result<Option<JobId>, Error> {
        self.precedence.takes_any.store(only.is_none(), Ordering::SeqCst);
        let popped = match only {
            Some(profile) => return self.pop_of(profile, wait),
            None => self.take_own()?,
        };
        let popped = match popped {
            Some(own) => Some(own),
            None if self.precedence.idle_below.load(Ordering::SeqCst) > 0 => self.pop_courteously(wait)?,
            None => self.pop_next(wait)?,
        };
        let Some(text) = popped else { return Ok(None) };
        let id = JobId::parse(&text);
        if id.is_none() {
            self.put_aside(&text)?;
        }
        Ok(id)
    }

    /// What was taken off the queue and is nothing that this program put there.
    pub fn put_aside(&self, text: &str) -> Result<(), Error> {
        let foreign = self.access.ctx.keys.foreign();
        let shown = crate::job::cut(text.to_owned(), 80);
        log::warn(&format!("the queue held `{shown}`, which is no job of this program: it was put aside in {foreign}"));
        let moved = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            pipe.cmd("LREM").arg(self.access.ctx.keys.running()).arg(0).arg(text);
            pipe.cmd("LREM").arg(&foreign).arg(0).arg(text);
            pipe.cmd("LPUSH").arg(&foreign).arg(text);
            pipe.query::<()>(connection)
        });
        moved.map_err(Error::Unavailable)
    }

    /// The oldest that waits for this pod alone. It is looked for before each pop, so within a second.
    fn take_own(&self) -> Result<Option<String>, Error> {
        let keys = &self.access.ctx.keys;
        self.take_oldest_of(&keys.queue_of(&self.access.ctx.pod))
    }

    fn pop_next(&self, wait: Duration) -> Result<Option<String>, Error> {
        let popped = self.blocking.link.with(|connection| {
            let mut pop = ::redis::cmd("BRPOPLPUSH");
            pop.arg(self.access.ctx.keys.queue()).arg(self.access.ctx.keys.running()).arg(wait.as_secs_f64().max(0.01));
            pop.query::<Option<String>>(connection)
        });
        popped.map_err(Error::Unavailable)
    }

    /// With less work than pods the low ordinals work, so that the high ones can be removed.
    fn pop_courteously(&self, wait: Duration) -> Result<Option<String>, Error> {
        // There was more than the others need a moment ago: nobody looks before each job of a long queue.
        if self.precedence.has_plenty.load(Ordering::SeqCst) {
            let taken = self.take_oldest()?;
            self.precedence.has_plenty.store(taken.is_some(), Ordering::SeqCst);
            if taken.is_some() {
                return Ok(taken);
            }
        }
        let until = Instant::now() + wait;
        loop {
            let idle_below = self.precedence.idle_below.load(Ordering::SeqCst);
            // The oldest last, and no more than could be left to others.
            let waiting = self.blocking.link.with(|connection| {
                let most = idle_below.min(MOST_LEFT) as isize + 1;
                ::redis::cmd("LRANGE")
                    .arg(self.access.ctx.keys.queue())
                    .arg(-most)
                    .arg(-1)
                    .query::<Vec<String>>(connection)
            });
            let waiting = waiting.map_err(Error::Unavailable)?;
            let is_enough_for_all = waiting.len() as u64 > idle_below.min(MOST_LEFT);
            if is_enough_for_all || waiting.last().is_some_and(|oldest| self.was_left(oldest)) {
                self.precedence.has_plenty.store(is_enough_for_all, Ordering::SeqCst);
                return self.take_oldest();
            }
            self.leave(waiting);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(COURTESY.min(left));
        }
    }

    fn take_oldest(&self) -> Result<Option<String>, Error> {
        self.take_oldest_of(&self.access.ctx.keys.queue())
    }

    fn take_oldest_of(&self, line: &str) -> Result<Option<String>, Error> {
        let running = self.access.ctx.keys.running();
        let taken =
            self.blocking.link.with(|connection| ::redis::cmd("RPOPLPUSH").arg(line).arg(&running).query(connection));
        taken.map_err(Error::Unavailable)
    }

    /// It was seen a while ago, and nobody took it.
    fn was_left(&self, id: &str) -> bool {
        self.left_to_others().get(id).is_some_and(|since| since.elapsed() >= COURTESY)
    }

    fn leave(&self, waiting: Vec<String>) {
        let mut left = self.left_to_others();
        let now = Instant::now();
        *left = waiting
            .into_iter()
            .map(|id| (left.get(&id).copied().unwrap_or(now), id))
            .map(|(at, id)| (id, at))
            .collect();
    }

    fn pop_of(&self, profile: &str, wait: Duration) -> Result<Option<JobId>, Error> {
        let began = Instant::now();
        let found = self.search(profile)?;
        if found.is_none() {
            // Nobody else of this pod searches meanwhile; a long queue is searched less often.
            self.access.ctx.pause(wait.min(SEARCH.max(began.elapsed() * 5)));
        }
        let Some(id) = found else { return Ok(None) };
        let taken = self.access.link.with(|connection| {
            let mut call = scripts::PICK.prepare_invoke();
            call.key(self.access.ctx.keys.queue())
                .key(self.access.ctx.keys.running())
                .arg(id.as_str())
                .invoke::<u64>(connection)
        });
        Ok((taken.map_err(Error::Unavailable)? == 1).then_some(id))
    }

    /// The oldest job of `profile` among the first of the queue.
    fn search(&self, profile: &str) -> Result<Option<JobId>, Error> {
        for chunk in 0..SEARCHED / CHUNK {
            let (searched, found) = self.search_chunk(profile, chunk)?;
            if found.is_some() || searched < CHUNK as usize {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// How many ids were looked at, and the first that fits.
    fn search_chunk(&self, profile: &str, chunk: isize) -> Result<(usize, Option<JobId>), Error> {
        let (from, to) = (-(chunk + 1) * CHUNK, -chunk * CHUNK - 1);
        let found = self.access.link.with(|connection| {
            let ids: Vec<String> =
                ::redis::cmd("LRANGE").arg(self.access.ctx.keys.queue()).arg(from).arg(to).query(connection)?;
            let searched = ids.len();
            let ids: Vec<JobId> = ids.iter().rev().filter_map(|text| JobId::parse(text)).collect();
            if ids.is_empty() {
                return Ok((searched, None));
            }
            let mut pipe = ::redis::pipe();
            for id in &ids {
                pipe.cmd("HGET").arg(self.access.ctx.keys.job(id)).arg("record");
            }
            let records: Vec<::redis::RedisResult<Option<String>>> = pipe.ignore_errors().query(connection)?;
            let records: Vec<Option<String>> = records.into_iter().map(|record| record.ok().flatten()).collect();
            let is_wanted = |text: &Option<String>| {
                let has = |record: &Record| record.profile == profile || !record.purpose.needs_agent();
                text.as_deref().is_some_and(|text| reads::parse(text).is_ok_and(|record| has(&record)))
            };
            let fits = ids.into_iter().zip(&records).find(|(_, record)| is_wanted(record)).map(|(id, _)| id);
            Ok((searched, fits))
        });
        found.map_err(Error::Unavailable)
    }
}
