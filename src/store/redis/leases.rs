//! The thread that keeps what this server holds: renews its leases and clone locks in one round trip
//! each, and learns what was decided elsewhere (a cancel, a takeover, a wish to drain).
//!
//! It waits for nobody: no lock that is held over a write, no connection but its own.

use super::attempts::RedisAttempt;
use super::clone_locks::CloneLocks;
use super::context::Access;
use super::held::Attempts;
use super::own_state::OwnState;
use super::scripts::{Answer, Write, has_ended, new_stamp};
use crate::log;
use crate::process::stop::Reason;
use crate::process::sys;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon a decision that fell elsewhere is seen here.
const WATCH: Duration = Duration::from_millis(400);
/// How soon a cancel is seen that Redis does not tell of.
const OUTCOMES: Duration = Duration::from_secs(1);
/// How long after its lease's end an attempt that hangs is no longer waited for.
const HUNG: Duration = Duration::from_secs(1);
/// How soon a renewal that failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long what a pod says of itself stays without being said again, in leases.
const STATE_LEASES: u32 = 3;

pub struct LeaseKeeper {
    pub access: Arc<Access>,
    pub attempts: Arc<Attempts>,
    pub locks: Arc<CloneLocks>,
    pub own: Arc<OwnState>,
}

impl LeaseKeeper {
    pub fn keep(&self) {
        let (ctx, link) = (&self.access.ctx, &self.access.link);
        let (mut renew_at, mut was_away, mut format_is_known) = (Instant::now(), false, false);
        while !ctx.ends() {
            let mut held = self.attempts.all();
            held.retain(|attempt| self.is_kept(attempt));
            if Instant::now() >= renew_at {
                let renewed = self.renew_all(&held);
                let pause = if renewed.is_ok() { ctx.settings.renew } else { AGAIN.min(ctx.settings.renew) };
                renew_at = Instant::now() + pause;
                match renewed {
                    Ok(()) if was_away => log::info("Redis is back"),
                    Err(why) if !was_away => log::warn(&format!("waiting for Redis: {why}")),
                    _ => {}
                }
                was_away = link.trouble().is_some();
                // Another server may have upgraded what is there while it was away.
                format_is_known &= !was_away;
                if !was_away && !format_is_known {
                    format_is_known = self.own.check_format(ctx, link).is_ok();
                }
                if !was_away {
                    self.own.set_reached();
                }
            }
            if self.own.is_draining() && !was_away {
                // Somebody waits for it.
                let _ = self.say_state(&held);
            }
            if !was_away {
                self.send_unsent(&held);
            }
            if !was_away && self.watch(&held).is_err() {
                renew_at = Instant::now();
            }
            ctx.pause(WATCH);
        }
    }

    /// What was said while Redis was away, for those who follow it now.
    fn send_unsent(&self, held: &[Arc<RedisAttempt>]) {
        for attempt in held {
            if let Some(mut state) = attempt.try_state() {
                // What is refused stays, and is tried again.
                let _ = attempt.send_unsent(&self.access, &mut state);
            }
        }
    }

    /// One that is lost is not renewed. Its attempt gives it back; should that hang, it is not waited for once its
    /// lease is over, its agent ends with it, and a round finds that nobody runs it.
    fn is_kept(&self, attempt: &RedisAttempt) -> bool {
        let is_lost = attempt.stop.is_lost();
        if is_lost && attempt.stop.until().is_some_and(|until| until + HUNG < sys::since_boot()) {
            self.attempts.remove(attempt);
        }
        !is_lost
    }

    fn renew_all(&self, held: &[Arc<RedisAttempt>]) -> Result<(), String> {
        // What is to be kept first: a Redis that is out of memory still renews.
        if !held.is_empty() {
            self.renew_leases(held)?;
        }
        self.locks.renew(&self.access)?;
        self.access.ctx.clock.compare(&self.access.link)?;
        self.say_state(held)
    }

    fn renew_leases(&self, held: &[Arc<RedisAttempt>]) -> Result<(), String> {
        // The lease is counted from before it was asked for.
        let asked = sys::since_boot();
        let lease = self.access.ctx.settings.lease;
        let named: Vec<_> = held.iter().map(|attempt| (attempt.id.clone(), attempt.token.clone())).collect();
        let answers = self.access.steps().renew(&named, lease).map_err(|error| error.to_string())?;
        for (attempt, answer) in held.iter().zip(answers) {
            match answer {
                Answer::Done => attempt.stop.extend(asked + lease),
                Answer::Ended => attempt.stop.request(Reason::Cancelled),
                Answer::Unknown => {
                    // What is wrong with one keeps the others from nothing.
                    if let Err(why) = self.put_back(attempt) {
                        log::job(&attempt.id).warn(format!("Redis does not take its record back: {why}"));
                    }
                }
                // Its lease is as it was: the stop knows its end.
                Answer::Unleased => {}
                _ => {
                    crate::metrics::event("lost_lease");
                    attempt.stop.request(Reason::Lost);
                }
            }
        }
        Ok(())
    }

    /// Redis lost the record: it gets ours, as it is in memory, and the next round takes the lease again.
    fn put_back(&self, attempt: &RedisAttempt) -> Result<(), String> {
        let ctx = &self.access.ctx;
        if !attempt.is_to_be_put_back(ctx) {
            attempt.stop.request(Reason::Cancelled);
            return Ok(());
        }
        // A write under way meets the same, and puts it back itself.
        let Some(record) = attempt.try_state().map(|state| state.record()) else { return Ok(()) };
        let write = Write { record: &record, stamp: &new_stamp() };
        self.access.put(&write, &attempt.token, true).map_err(|error| error.to_string())?;
        let asked = sys::since_boot();
        let named = [(attempt.id.clone(), attempt.token.clone())];
        let answers = self.access.steps().renew(&named, ctx.settings.lease).map_err(|error| error.to_string())?;
        if answers == [Answer::Done] {
            attempt.stop.extend(asked + ctx.settings.lease);
        }
        Ok(())
    }

    fn say_state(&self, held: &[Arc<RedisAttempt>]) -> Result<(), String> {
        let running: Vec<_> = held.iter().map(|attempt| attempt.id.as_str()).collect();
        let ctx = &self.access.ctx;
        self.own.say(ctx, &self.access.link, &running, ctx.settings.lease * STATE_LEASES)
    }

    /// What was decided elsewhere, in one round trip.
    fn watch(&self, held: &[Arc<RedisAttempt>]) -> Result<(), String> {
        let ctx = &self.access.ctx;
        let draining = ctx.keys.draining(&ctx.pod);
        let answers = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            pipe.cmd("GET").arg(&draining);
            for attempt in held {
                pipe.cmd("HGET").arg(ctx.keys.job(&attempt.id)).arg("status");
            }
            pipe.ignore_errors().query::<Vec<::redis::RedisResult<Option<String>>>>(connection)
        })?;
        let answers: Vec<Option<String>> = answers.into_iter().map(|answer| answer.ok().flatten()).collect();
        if let Some(Some(flag)) = answers.first()
            && self.own.heed_flag(ctx, flag)
        {
            // A wish that was heeded is not heeded again by a later drain.
            self.access.steps().remove_flag(&draining, flag).map_err(|error| error.to_string())?;
        }
        for (attempt, status) in held.iter().zip(answers.iter().skip(1)) {
            if status.as_deref().is_some_and(has_ended) {
                attempt.stop.request(Reason::Cancelled);
            }
        }
        Ok(())
    }
}

/// A cancel does not need Redis: it is the ended file. On a thread of its own, so that neither a slow volume nor a
/// silent Redis holds up the other; it also writes the events that were held back for the volume.
pub fn watch_volume(access: &Access, attempts: &Attempts) {
    let ctx = &access.ctx;
    while ctx.has_copy && !ctx.ends() {
        for attempt in attempts.all() {
            if let Ok(Some(_)) = ctx.files.read_ended(&attempt.id) {
                attempt.stop.request(Reason::Cancelled);
            }
            if let Some(mut state) = attempt.try_state() {
                state.flush_if_due();
            }
        }
        ctx.pause(OUTCOMES);
    }
}
