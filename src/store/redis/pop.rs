//! Taking an id off the queue: the oldest, the oldest unless an idle pod of a lower ordinal wants it, or the
//! oldest of one profile.
//!
//! An id that was taken lies in `running` until it is claimed; should this pod die between, a round finds it.

use super::{Redis, reads};
use crate::job::JobId;
use crate::log;
use crate::store::Error;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a pod that lets others go first looks. One that it saw twice it takes: nobody waits for more than
/// two looks, which is less than 200 ms.
const COURTESY: Duration = Duration::from_millis(80);
/// How often the queue is searched for a job of one profile.
const SEARCH: Duration = Duration::from_secs(1);
/// How much of the queue is searched.
const SEARCHED: isize = 1000;

impl Redis {
    /// The next id, or none within `wait`. `only`: of this profile alone.
    pub(super) fn pop(&self, wait: Duration, only: Option<&str>) -> Result<Option<JobId>, Error> {
        self.takes_any.store(only.is_none(), Ordering::SeqCst);
        let popped = match only {
            Some(profile) => return self.pop_of(profile, wait),
            None if self.idle_below.load(Ordering::SeqCst) > 0 => self.pop_courteously(wait)?,
            None => self.pop_next(wait)?,
        };
        let Some(text) = popped else { return Ok(None) };
        let id = JobId::parse(&text);
        if id.is_none() {
            let shown = crate::job::cut(text.clone(), 80);
            log::warn(&format!("the queue held `{shown}`, which is no job id: it was taken out"));
            let gone = self
                .link
                .with(|connection| ::redis::cmd("LREM").arg(self.keys.running()).arg(0).arg(&text).exec(connection));
            gone.map_err(Error::Unavailable)?;
        }
        Ok(id)
    }

    fn pop_next(&self, wait: Duration) -> Result<Option<String>, Error> {
        let popped = self.pops.with(|connection| {
            let mut pop = ::redis::cmd("BRPOPLPUSH");
            pop.arg(self.keys.queue()).arg(self.keys.running()).arg(wait.as_secs_f64().max(0.01));
            pop.query::<Option<String>>(connection)
        });
        popped.map_err(Error::Unavailable)
    }

    /// With less work than pods the low ordinals work, so that the high ones can be removed.
    fn pop_courteously(&self, wait: Duration) -> Result<Option<String>, Error> {
        let until = Instant::now() + wait;
        let mut seen = None;
        loop {
            let (length, first) = self
                .pops
                .with(|connection| {
                    let mut pipe = ::redis::pipe();
                    pipe.cmd("LLEN").arg(self.keys.queue());
                    pipe.cmd("LINDEX").arg(self.keys.queue()).arg(-1);
                    pipe.query::<(u64, Option<String>)>(connection)
                })
                .map_err(Error::Unavailable)?;
            let is_enough_for_all = length > self.idle_below.load(Ordering::SeqCst);
            if first.is_some() && (is_enough_for_all || first == seen) {
                let taken = self.pops.with(|connection| {
                    ::redis::cmd("RPOPLPUSH").arg(self.keys.queue()).arg(self.keys.running()).query(connection)
                });
                return taken.map_err(Error::Unavailable);
            }
            seen = first;
            if Instant::now() + COURTESY > until && seen.is_none() {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                return Ok(None);
            }
            std::thread::sleep(COURTESY);
        }
    }

    fn pop_of(&self, profile: &str, wait: Duration) -> Result<Option<JobId>, Error> {
        let found = self.search(profile)?;
        if found.is_none() {
            // Nobody else of this pod searches meanwhile.
            self.pause(wait.min(SEARCH));
        }
        let Some(id) = found else { return Ok(None) };
        let taken = self.link.with(|connection| {
            let mut call = super::scripts::PICK.prepare_invoke();
            call.key(self.keys.queue()).key(self.keys.running()).arg(id.as_str()).invoke::<u64>(connection)
        });
        Ok((taken.map_err(Error::Unavailable)? == 1).then_some(id))
    }

    /// The oldest job of `profile` in the queue.
    fn search(&self, profile: &str) -> Result<Option<JobId>, Error> {
        let found = self.link.with(|connection| {
            let ids: Vec<String> =
                ::redis::cmd("LRANGE").arg(self.keys.queue()).arg(-SEARCHED).arg(-1).query(connection)?;
            let ids: Vec<JobId> = ids.iter().rev().filter_map(|text| JobId::parse(text)).collect();
            if ids.is_empty() {
                return Ok(None);
            }
            let mut pipe = ::redis::pipe();
            for id in &ids {
                pipe.cmd("HGET").arg(self.keys.job(id)).arg("record");
            }
            let records: Vec<Option<String>> = pipe.query(connection)?;
            let is_wanted = |text: &Option<String>| {
                text.as_deref().is_some_and(|text| reads::parse(text).is_ok_and(|record| record.profile == profile))
            };
            Ok(ids.into_iter().zip(&records).find(|(_, record)| is_wanted(record)).map(|(id, _)| id))
        });
        found.map_err(Error::Unavailable)
    }
}
