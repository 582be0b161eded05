//! The thread that keeps what this server holds: renews its leases and clone locks in one round trip
//! each, and learns what was decided elsewhere (a cancel, a takeover, a wish to drain).
//!
//! It waits for nobody: no lock that is held over a write, no connection but its own.

use super::held::Held;
use super::scripts::{Said, Transitions, Write, has_ended, new_stamp};
use super::{Redis, guard};
use crate::log;
use crate::process::stop::Reason;
use crate::process::sys;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How soon a decision that fell elsewhere is seen here.
const WATCH: Duration = Duration::from_millis(400);
/// Ends the draining flag that the server wrote itself.
const OWN_WORD: &str = "heeded";
/// How soon a cancel is seen that Redis does not tell of.
const OUTCOMES: Duration = Duration::from_secs(1);
/// How long after its lease's end an attempt that hangs is no longer waited for.
const LET_GO: Duration = Duration::from_secs(1);
/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long what a pod says of itself stays without being said again, in leases.
const STATE_LEASES: u32 = 3;

impl Redis {
    pub(super) fn keep_leases(&self) {
        let (mut renew_at, mut was_away) = (Instant::now(), false);
        while !self.ends() {
            let mut held = self.table.all();
            held.retain(|held| self.is_kept(held));
            if Instant::now() >= renew_at {
                let renewed = self.renew_all(&held);
                let pause = if renewed.is_ok() { self.settings.renew } else { AGAIN.min(self.settings.renew) };
                renew_at = Instant::now() + pause;
                match renewed {
                    Ok(()) if was_away => log::info("Redis is back"),
                    Err(why) if !was_away => log::warn(&format!("waiting for Redis: {why}")),
                    _ => {}
                }
                was_away = self.renewals.trouble().is_some();
                if !was_away {
                    self.reached.store(true, Ordering::SeqCst);
                }
            }
            if self.draining.load(Ordering::SeqCst) && !was_away {
                // Somebody waits for it.
                let _ = self.say_state(&held);
            }
            if !was_away && self.watch(&held).is_err() {
                renew_at = Instant::now();
            }
            self.pause(WATCH);
        }
    }

    /// One that is lost is not renewed. Its attempt gives it back; should that hang, it is let go once its
    /// lease is over, and its agent with it, and a round finds that nobody runs it.
    fn is_kept(&self, held: &Held) -> bool {
        let is_lost = held.stop.is_lost();
        if is_lost && held.stop.until().is_some_and(|until| until + LET_GO < sys::since_boot()) {
            self.table.remove(&held.id, held.attempt);
        }
        !is_lost
    }

    /// A cancel does not need Redis: it is the ended file. On a thread of its own, so that neither a slow
    /// volume nor a silent Redis holds up the other.
    pub(super) fn watch_outcomes(&self) {
        while self.has_copy && !self.ends() {
            self.look_for_outcomes();
            self.pause(OUTCOMES);
        }
    }

    fn own(&self) -> Transitions<'_> {
        Transitions { link: &self.renewals, keys: &self.keys }
    }

    fn renew_all(&self, held: &[Arc<Held>]) -> Result<(), String> {
        // What is to be kept first: a Redis that is out of memory still renews.
        if !held.is_empty() {
            self.renew_leases(held)?;
        }
        self.renew_locks()?;
        self.say_state(held)
    }

    fn renew_leases(&self, held: &[Arc<Held>]) -> Result<(), String> {
        // The lease is counted from before it was asked for.
        let asked = sys::since_boot();
        let named: Vec<_> = held.iter().map(|held| (held.id.clone(), held.token.clone())).collect();
        let answers = self.own().renew(&named, self.settings.lease).map_err(|error| error.to_string())?;
        for (held, said) in held.iter().zip(answers) {
            match said {
                Said::Done => held.stop.extend(asked + self.settings.lease),
                Said::Ended => held.stop.request(Reason::Cancelled),
                Said::Unknown => self.put_back_held(held)?,
                // Its lease is as it was: the stop knows its end.
                Said::Unleased => {}
                _ => held.stop.request(Reason::Lost),
            }
        }
        Ok(())
    }

    /// Redis lost the record: it gets ours, as it is in the open file or in memory, and the next round
    /// takes the lease again.
    fn put_back_held(&self, held: &Held) -> Result<(), String> {
        if let Ok(Some(_)) = self.files.read_ended(&held.id) {
            held.stop.request(Reason::Cancelled);
            return Ok(());
        }
        // A write under way meets the same, and puts it back itself.
        let Some(record) = held.try_state().map(|state| state.record()) else { return Ok(()) };
        let write = Write { record: &record, stamp: &new_stamp() };
        self.own().put(&write, &held.token, true, None).map_err(|error| error.to_string())?;
        let asked = sys::since_boot();
        let named = [(held.id.clone(), held.token.clone())];
        let answers = self.own().renew(&named, self.settings.lease).map_err(|error| error.to_string())?;
        if answers == [Said::Done] {
            held.stop.extend(asked + self.settings.lease);
        }
        Ok(())
    }

    /// What a `drain` that cannot reach the server, and `doctor`, ask for.
    fn say_state(&self, held: &[Arc<Held>]) -> Result<(), String> {
        let running: Vec<_> = held.iter().map(|held| held.id.as_str()).collect();
        let state = serde_json::json!({
            "incarnation": self.incarnation,
            "running": running,
            "draining": self.draining.load(Ordering::SeqCst),
            "handed_back": *guard(&self.handed_back),
            "time": crate::job::Time::now(),
        });
        let key = self.keys.pod(&self.pod);
        let stays = (self.settings.lease * STATE_LEASES).as_millis() as u64;
        let before = self.renewals.with(|connection| {
            let mut set = ::redis::cmd("SET");
            set.arg(&key).arg(state.to_string()).arg("PX").arg(stays).arg("GET");
            set.query::<Option<String>>(connection)
        })?;
        self.notice_namesake(before);
        Ok(())
    }

    /// What stood there before was ours, or of the run before this one, unless another server has our name.
    fn notice_namesake(&self, before: Option<String>) {
        let before = before.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let Some(other) = before.and_then(|state| state["incarnation"].as_str().map(str::to_owned)) else { return };
        let mut seen = guard(&self.namesake);
        if other != self.incarnation {
            seen.push(other.clone());
            // The run before this one does not come back.
            if seen.iter().filter(|one| **one == other).count() == 3 {
                log::warn(&format!(
                    "another server says that it is the pod {}: drains and takeovers go wrong until each has its own \
                     AGENTICORE_POD_NAME",
                    self.pod
                ));
            }
        }
    }

    /// What was decided elsewhere, in one round trip.
    fn watch(&self, held: &[Arc<Held>]) -> Result<(), String> {
        let draining = self.keys.draining(&self.pod);
        let answers = self.renewals.with(|connection| {
            let mut pipe = ::redis::pipe();
            pipe.cmd("GET").arg(&draining);
            for held in held {
                pipe.cmd("HGET").arg(self.keys.job(&held.id)).arg("status");
            }
            pipe.query::<Vec<Option<String>>>(connection)
        })?;
        if let Some(Some(wish)) = answers.first() {
            self.heed_draining(wish);
        }
        for (held, status) in held.iter().zip(answers.iter().skip(1)) {
            if status.as_deref().is_some_and(has_ended) {
                held.stop.request(Reason::Cancelled);
            }
        }
        Ok(())
    }

    fn look_for_outcomes(&self) {
        for held in self.table.all() {
            if let Ok(Some(_)) = self.files.read_ended(&held.id) {
                held.stop.request(Reason::Cancelled);
            }
        }
    }

    /// `INCARNATION MILLISECONDS`, or `INCARNATION cancel`, as another process wrote it. What this server wrote
    /// itself has a third word, and says nothing new.
    fn heed_draining(&self, wish: &str) {
        let Some((incarnation, rest)) = wish.split_once(' ') else { return };
        if incarnation != self.incarnation {
            return;
        }
        let wish = match rest {
            "cancel" => None,
            until => {
                let Ok(until) = until.parse::<i64>() else { return };
                Some(Duration::from_millis(until.saturating_sub(crate::job::Time::now().0).max(0) as u64))
            }
        };
        *guard(&self.asked_to_drain) = Some(wish);
    }

    /// Tells the reapers that what this run of this pod leaves behind is no death.
    pub(super) fn write_draining(&self, for_longer: Option<Duration>) -> Result<(), crate::store::Error> {
        let key = self.keys.draining(&self.pod);
        let written = self.link.with(|connection| match for_longer {
            None => ::redis::cmd("DEL").arg(&key).exec(connection),
            Some(limit) => {
                let until = crate::job::Time::now().0.saturating_add(limit.as_millis() as i64);
                let value = format!("{} {until} {OWN_WORD}", self.incarnation);
                // It outlives the pod, so that its jobs are not counted as deaths; not for ever.
                ::redis::cmd("SET").arg(&key).arg(value).arg("EX").arg(86_400).exec(connection)
            }
        });
        written.map_err(crate::store::Error::Unavailable)
    }

    /// This pod is not there any more: nobody waits for it.
    pub(super) fn say_goodbye(&self) {
        let key = self.keys.pod(&self.pod);
        // Nothing depends on it: it runs out by itself.
        let _ = self.link.with(|connection| ::redis::cmd("DEL").arg(&key).exec(connection));
    }
}
