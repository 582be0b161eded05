//! Clone locks of a fleet: SET NX PX with an owner's token, renewed with the leases, released by its
//! owner only.
//!
//! Whoever cannot renew in time is stopped before the lock can pass to somebody else.

use super::context::Access;
use super::scripts::new_stamp;
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub struct CloneLocks {
    access: Arc<Access>,
    /// Repository → token, and what stops the one who works under the lock.
    held: Mutex<HashMap<String, (String, Stop)>>,
}

/// One clone lock that is held. Dropping it releases it.
pub struct CloneLock {
    locks: Arc<CloneLocks>,
    name: String,
    token: String,
    pub stop: Stop,
}

impl CloneLocks {
    pub fn new(access: Arc<Access>) -> Self {
        Self { access, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, (String, Stop)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lock of the repository `name` if it is free.
    pub fn try_lock(self: &Arc<Self>, name: &str) -> Result<Option<CloneLock>, String> {
        let (ctx, link) = (&self.access.ctx, &self.access.link);
        let token = format!("{}{}", ctx.holder_prefix(), new_stamp());
        let key = ctx.keys.clone_lock(name);
        let asked = sys::since_boot();
        let lease = ctx.settings.lease.as_millis() as u64;
        let taken = link.with(|connection| {
            ::redis::cmd("SET").arg(&key).arg(&token).arg("NX").arg("PX").arg(lease).query::<Option<String>>(connection)
        });
        let taken = match taken {
            Ok(taken) => taken.is_some(),
            Err(why) => {
                // It may be ours all the same: it is given back, or runs out.
                let _ = self.access.steps().locks(&[(name.to_owned(), token)], None);
                return Err(why);
            }
        };
        // A call that was repeated finds its own token there.
        if !taken && !self.is_lock_of(&key, &token)? {
            return Ok(None);
        }
        let stop = Stop::leased(asked + ctx.settings.lease, ctx.settings.reserve);
        self.held().insert(name.to_owned(), (token.clone(), stop.clone()));
        Ok(Some(CloneLock { locks: self.clone(), name: name.to_owned(), token, stop }))
    }

    fn is_lock_of(&self, key: &str, token: &str) -> Result<bool, String> {
        let get =
            |connection: &mut ::redis::Connection| ::redis::cmd("GET").arg(key).query::<Option<String>>(connection);
        Ok(self.access.link.with(get)?.as_deref() == Some(token))
    }

    /// `access`: the connections of whoever renews.
    pub fn renew(&self, access: &Access) -> Result<(), String> {
        let held: Vec<_> = self.held().iter().map(|(name, (token, _))| (name.clone(), token.clone())).collect();
        if held.is_empty() {
            return Ok(());
        }
        let asked = sys::since_boot();
        let lease = access.ctx.settings.lease;
        let answers = access.steps().locks(&held, Some(lease))?;
        let locks = self.held();
        for ((name, token), is_ours) in held.iter().zip(answers) {
            match locks.get(name).filter(|(of, _)| of == token) {
                Some((_, stop)) if is_ours => stop.extend(asked + lease),
                Some((_, stop)) => stop.request(Reason::Lost),
                None => {}
            }
        }
        Ok(())
    }
}

impl Drop for CloneLock {
    fn drop(&mut self) {
        self.locks.held().remove(&self.name);
        let held = [(self.name.clone(), self.token.clone())];
        if let Err(why) = self.locks.access.steps().locks(&held, None) {
            crate::log::warn(&format!("the clone lock of {} is not released but runs out: {why}", self.name));
        }
    }
}
