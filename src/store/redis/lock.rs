//! Clone locks of a fleet: SET NX PX with an owner's token, renewed with the leases, released by its
//! owner only.
//!
//! Whoever cannot renew in time is stopped before the lock can pass to somebody else.

use super::scripts::{Transitions, new_stamp};
use super::{Redis, guard};
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Repository → token, and what stops the one who works under the lock.
#[derive(Default)]
pub struct Held(Mutex<HashMap<String, (String, Stop)>>);

/// One clone lock that is held. Dropping it releases it.
pub struct CloneLock {
    store: Arc<Redis>,
    name: String,
    token: String,
    pub stop: Stop,
}

impl Redis {
    /// Takes the lock of the repository `name` if it is free.
    pub fn try_lock(self: &Arc<Self>, name: &str) -> Result<Option<CloneLock>, String> {
        let token = format!("{}/{}/{}", self.pod, self.incarnation, new_stamp());
        let key = self.keys.clone_lock(name);
        let asked = sys::since_boot();
        let lease = self.settings.lease.as_millis() as u64;
        let taken = self.link.with(|connection| {
            ::redis::cmd("SET").arg(&key).arg(&token).arg("NX").arg("PX").arg(lease).query::<Option<String>>(connection)
        });
        let taken = match taken {
            Ok(taken) => taken.is_some(),
            Err(why) => {
                // It may be ours all the same: it is given back, or runs out.
                let _ = self.transitions().locks(&[(name.to_owned(), token)], None);
                return Err(why);
            }
        };
        // A call that was repeated finds its own token there.
        if !taken && !self.is_lock_of(&key, &token)? {
            return Ok(None);
        }
        let stop = Stop::leased(asked + self.settings.lease, self.settings.reserve);
        guard(&self.locks.0).insert(name.to_owned(), (token.clone(), stop.clone()));
        Ok(Some(CloneLock { store: self.clone(), name: name.to_owned(), token, stop }))
    }

    fn is_lock_of(&self, key: &str, token: &str) -> Result<bool, String> {
        let there = self.link.with(|connection| ::redis::cmd("GET").arg(key).query::<Option<String>>(connection))?;
        Ok(there.as_deref() == Some(token))
    }

    pub(super) fn renew_locks(&self) -> Result<(), String> {
        let held: Vec<_> =
            guard(&self.locks.0).iter().map(|(name, (token, _))| (name.clone(), token.clone())).collect();
        if held.is_empty() {
            return Ok(());
        }
        let asked = sys::since_boot();
        let own = Transitions { link: &self.renewals, keys: &self.keys };
        let answers = own.locks(&held, Some(self.settings.lease))?;
        let locks = guard(&self.locks.0);
        for ((name, token), is_ours) in held.iter().zip(answers) {
            match locks.get(name).filter(|(of, _)| of == token) {
                Some((_, stop)) if is_ours => stop.extend(asked + self.settings.lease),
                Some((_, stop)) => stop.request(Reason::Lost),
                None => {}
            }
        }
        Ok(())
    }
}

impl Drop for CloneLock {
    fn drop(&mut self) {
        guard(&self.store.locks.0).remove(&self.name);
        let held = [(self.name.clone(), self.token.clone())];
        if let Err(why) = self.store.transitions().locks(&held, None) {
            crate::log::warn(&format!("the clone lock of {} is not released but runs out: {why}", self.name));
        }
    }
}
