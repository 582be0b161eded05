//! What this server says of itself to others: whether it drains, what it gave back, whether Redis was ever there.

use super::admin::PodState;
use super::context::Context;
use super::keys::FORMAT;
use super::link::Link;
use crate::api::Pod;
use crate::job::{JobId, Time};
use crate::log;
use crate::store::{About, Error};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ends the draining flag that the server wrote itself.
const OWN_WORD: &str = "heeded";
/// The flag outlives the pod, so that its jobs are not counted as deaths; not for ever, in seconds.
pub const FLAG_STAYS: u64 = 86_400;

#[derive(Default)]
pub struct OwnState {
    draining: AtomicBool,
    reached: AtomicBool,
    /// Since the drain began.
    handed_back: Mutex<Vec<JobId>>,
    asked_to_drain: Mutex<Option<Option<Duration>>>,
    /// Incarnations of other servers that said they are this pod.
    namesakes: Mutex<Vec<String>>,
    /// What this server told of itself.
    about: Mutex<About>,
    /// Why nothing may be written there: its keys are in a format that this version does not know.
    too_new: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OwnState {
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    pub fn was_reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }

    pub fn set_reached(&self) {
        self.reached.store(true, Ordering::SeqCst);
    }

    pub fn too_new(&self) -> Option<String> {
        lock(&self.too_new).clone()
    }

    pub fn tell(&self, about: About) {
        *lock(&self.about) = about;
    }

    pub fn note_handed_back(&self, id: &JobId) {
        if self.is_draining() {
            lock(&self.handed_back).push(id.clone());
        }
    }

    pub fn take_wish_to_drain(&self) -> Option<Option<Duration>> {
        lock(&self.asked_to_drain).take()
    }

    /// Tells the reapers, too, that what this run of this pod leaves behind is no death.
    pub fn set_draining(&self, ctx: &Context, link: &Link, for_longer: Option<Duration>) -> Result<(), Error> {
        if !self.draining.swap(for_longer.is_some(), Ordering::SeqCst) {
            lock(&self.handed_back).clear();
        }
        let key = ctx.keys.draining(&ctx.pod);
        let written = link.with(|connection| match for_longer {
            None => ::redis::cmd("DEL").arg(&key).exec(connection),
            Some(limit) => {
                let until = Time::now().0.saturating_add(limit.as_millis() as i64);
                let value = format!("{} {until} {OWN_WORD}", ctx.incarnation);
                ::redis::cmd("SET").arg(&key).arg(value).arg("EX").arg(FLAG_STAYS).exec(connection)
            }
        });
        written.map_err(Error::Unavailable)
    }

    /// `INCARNATION MILLISECONDS`, or `INCARNATION cancel`, as another process wrote it. What this server wrote
    /// itself has a third word, and says nothing new. True: it was a wish to end the drain, and may go.
    pub fn heed_flag(&self, ctx: &Context, flag: &str) -> bool {
        let Some((incarnation, rest)) = flag.split_once(' ') else { return false };
        if incarnation != ctx.incarnation {
            return false;
        }
        let wanted = match rest {
            // Where nothing drains there is nothing to end, and nothing to remember for a later drain.
            "cancel" if !self.is_draining() => return true,
            "cancel" => None,
            until => {
                let Ok(until) = until.parse::<i64>() else { return false };
                Some(Duration::from_millis(until.saturating_sub(Time::now().0).max(0) as u64))
            }
        };
        *lock(&self.asked_to_drain) = Some(wanted);
        wanted.is_none()
    }

    /// What a `drain` that cannot reach the server, and `doctor`, ask for. Stays for `stays` without being said again.
    pub fn say(&self, ctx: &Context, link: &Link, running: &[&str], stays: Duration) -> Result<(), String> {
        let about = lock(&self.about).clone();
        let state = serde_json::json!({
            "format": FORMAT,
            "incarnation": ctx.incarnation,
            "running": running,
            "draining": self.is_draining(),
            "handed_back": *lock(&self.handed_back),
            "time": Time::now(),
            "version": env!("CARGO_PKG_VERSION"),
            "slots": about.slots,
            "unwell": about.unwell,
        });
        let key = ctx.keys.pod(&ctx.pod);
        let before = link.with(|connection| {
            let mut set = ::redis::cmd("SET");
            set.arg(&key).arg(state.to_string()).arg("PX").arg(stays.as_millis() as u64).arg("GET");
            set.query::<Option<String>>(connection)
        })?;
        self.notice_namesake(ctx, before);
        Ok(())
    }

    /// What all servers said of themselves lately, by name; without those that are not counted any more
    /// (`autoscale`).
    pub fn of_all(ctx: &Context, link: &Link) -> Result<Vec<Pod>, String> {
        let mut names: Vec<String> =
            link.with(|connection| ::redis::cmd("HKEYS").arg(ctx.keys.pods()).query(connection))?;
        names.sort();
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = names.iter().map(|name| ctx.keys.pod(name)).collect();
        let told: Vec<Option<String>> = link.with(|connection| ::redis::cmd("MGET").arg(&keys).query(connection))?;
        let states = told.into_iter().map(|text| serde_json::from_str::<PodState>(&text?).ok());
        let pods = names.into_iter().zip(states).filter_map(|(name, state)| Some(state?.shown(name)));
        Ok(pods.collect())
    }

    /// What stood there before was ours, or of the run before this one, unless another server has our name.
    fn notice_namesake(&self, ctx: &Context, before: Option<String>) {
        let before = before.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let Some(other) = before.and_then(|state| state["incarnation"].as_str().map(str::to_owned)) else { return };
        let mut seen = lock(&self.namesakes);
        if other != ctx.incarnation {
            seen.push(other.clone());
            // The run before this one does not come back.
            if seen.iter().filter(|one| **one == other).count() == 3 {
                log::warn(&format!(
                    "another server says that it is the pod {}: drains and takeovers go wrong until each has its own \
                     AGENTICORE_POD_NAME",
                    ctx.pod
                ));
            }
        }
    }

    /// Compares the format of the keys in Redis with what this version knows; notes ours where there is none.
    pub fn check_format(&self, ctx: &Context, link: &Link) -> Result<(), String> {
        let key = ctx.keys.format();
        let there = link.with(|connection| {
            ::redis::cmd("SET").arg(&key).arg(FORMAT).arg("NX").arg("GET").query::<Option<String>>(connection)
        })?;
        let found = there.and_then(|text| text.parse::<u32>().ok()).unwrap_or(FORMAT);
        *lock(&self.too_new) = (found > FORMAT).then(|| {
            format!(
                "a newer agenticore: the keys in Redis have format {found}, this version knows up to {FORMAT}; \
                 upgrade this \
                 server, or give it another REDIS_KEY_PREFIX"
            )
        });
        Ok(())
    }

    /// This pod is not there any more: nobody waits for it.
    pub fn forget_pod(ctx: &Context, link: &Link) {
        let key = ctx.keys.pod(&ctx.pod);
        // Nothing depends on it: it runs out by itself.
        let _ = link.with(|connection| ::redis::cmd("DEL").arg(&key).exec(connection));
    }
}
