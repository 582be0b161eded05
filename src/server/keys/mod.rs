//! The keys that requests may carry: those of AGENTICORE_API_KEYS, those of a file that is read again when it changes,
//! and one of this process for the commands of its own pod.
//!
//! Kept as SHA-256 alone, compared in constant time. Never logs a key.

mod file;
pub mod own;

pub use file::{Entry, expires, in_clear, is_name, is_reserved, line, read};

use crate::job::Time;
use crate::log;
use crate::service::{Caller, Scope};
use ring::digest::{SHA256, digest};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How often the file is looked at: a change is heeded within five seconds.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How the keys of AGENTICORE_API_KEYS are called, with a number behind it.
const OF_SETTINGS: &str = "api-key-";

pub struct Keys {
    /// From the settings.
    fixed: Vec<Entry>,
    file: Option<PathBuf>,
    of_file: RwLock<Vec<Entry>>,
    own: Option<own::OwnKey>,
    ends: Arc<AtomicBool>,
}

/// Why none of the keys that were offered will do.
#[derive(Debug, PartialEq)]
pub enum Unfit {
    /// None was offered, or none is known.
    Unknown,
    /// It is known, and its time is over.
    Expired(String),
}

impl Keys {
    /// `own`: what commands of this pod may use. The error says what is wrong with the file.
    pub fn new(keys: &[String], file: Option<PathBuf>, own: Option<own::OwnKey>) -> Result<Arc<Self>, String> {
        let fixed = keys.iter().enumerate().map(|(at, key)| Entry {
            name: format!("{OF_SETTINGS}{}", at + 1),
            hash: hash(key.as_bytes()),
            scope: Scope::Admin,
            expires: None,
            max_queued: None,
        });
        let of_file = file.as_deref().map(read).transpose()?.unwrap_or_default();
        let fixed = fixed.collect();
        Ok(Arc::new(Self { fixed, file, of_file: RwLock::new(of_file), own, ends: Arc::default() }))
    }

    /// Requests have to carry one.
    pub fn are_wanted(&self) -> bool {
        !self.fixed.is_empty() || self.file.is_some()
    }

    /// Who it is that offers these, the first that is known. Without any key set it is anybody.
    pub fn find(&self, offered: &[&str], now: Time) -> Result<Caller, Unfit> {
        if !self.are_wanted() {
            return Ok(Caller::anybody());
        }
        let of_file = self.of_file.read().unwrap_or_else(PoisonError::into_inner);
        let mut expired = None;
        // An empty one was not offered.
        for offer in offered.iter().filter(|offer| !offer.is_empty()) {
            let offer = hash(offer.as_bytes());
            if self.own.as_ref().is_some_and(|own| own.is(&offer)) {
                return Ok(own::caller());
            }
            match self.entry(&of_file, &offer) {
                Some(entry) if entry.expires.is_none_or(|end| now < end) => return Ok(entry.caller()),
                Some(entry) => expired = Some(entry.name.clone()),
                None => {}
            }
        }
        Err(expired.map_or(Unfit::Unknown, Unfit::Expired))
    }

    /// The first that is this key: those of the settings stand before those of the file. All are compared, whichever
    /// fits.
    fn entry<'a>(&'a self, of_file: &'a [Entry], key: &[u8; 32]) -> Option<&'a Entry> {
        let all = self.fixed.iter().chain(of_file).filter(|entry| same(&entry.hash, key));
        all.fold(None, |first, entry| first.or(Some(entry)))
    }

    /// The same caller as things stand now: the key may have gone meanwhile, or may do less.
    pub fn again(&self, caller: &Caller, now: Time) -> Result<Caller, Unfit> {
        let Some(key) = &caller.key else { return Ok(caller.clone()) };
        let of_file = self.of_file.read().unwrap_or_else(PoisonError::into_inner);
        match self.entry(&of_file, key) {
            Some(entry) if entry.expires.is_none_or(|end| now < end) => Ok(entry.caller()),
            Some(entry) => Err(Unfit::Expired(entry.name.clone())),
            None => Err(Unfit::Unknown),
        }
    }

    /// Reads the file again when it changes; a broken one changes nothing, and is said once.
    pub fn follow_file(self: &Arc<Self>) -> std::io::Result<()> {
        let Some(path) = self.file.clone() else { return Ok(()) };
        // Whatever it held at the start: it may have changed since.
        let (keys, mut last) = (self.clone(), Err(String::new()));
        // Ends with the server, or soon after.
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            let mut next = Instant::now() + LOOK_AGAIN;
            while !keys.ends.load(Ordering::SeqCst) {
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
                if Instant::now() < next {
                    continue;
                }
                next = Instant::now() + LOOK_AGAIN;
                let now = file::bytes(&path);
                if now == last {
                    continue;
                }
                last = now;
                match read(&path) {
                    Ok(entries) => {
                        let mut known = keys.of_file.write().unwrap_or_else(PoisonError::into_inner);
                        if *known != entries {
                            log::info(&format!("{}: {} keys are known now", path.display(), entries.len()));
                            *known = entries;
                        }
                    }
                    Err(why) => log::warn(&format!("{why}; the keys stay as they were")),
                }
            }
        })?;
        Ok(())
    }

    /// The server goes: its own key is of no use any more.
    pub fn close(&self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(own) = &self.own {
            own.remove();
        }
    }
}

impl Entry {
    fn caller(&self) -> Caller {
        let name = Some(self.name.clone());
        let (scope, max_queued, key) = (self.scope, self.max_queued, Some(self.hash));
        Caller { name, scope, max_queued, key, ..Caller::anybody() }
    }
}

pub fn hash(key: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, key).as_ref());
    hash
}

/// Takes as long whatever they are.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_file(text: &str) -> (tempfile::TempDir, Arc<Keys>) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("keys.yml");
        std::fs::write(&path, text).unwrap();
        let keys = Keys::new(&["old".into()], Some(path), None).unwrap();
        (place, keys)
    }

    #[test]
    fn a_key_is_wanted_once_there_are_keys() {
        let none = Keys::new(&[], None, None).unwrap();
        assert_eq!(none.find(&[], Time(0)), Ok(Caller::anybody()));
        let keys = Keys::new(&["one".into(), "two".into()], None, None).unwrap();
        let name = |offered: &[&str]| keys.find(offered, Time(0)).map(|caller| caller.name.unwrap());
        assert_eq!(name(&["two"]), Ok("api-key-2".into()));
        assert_eq!(name(&["x", "one"]), Ok("api-key-1".into()));
        for wrong in [&[][..], &["on"], &["onee"], &[""]] {
            assert_eq!(name(wrong), Err(Unfit::Unknown), "{wrong:?}");
        }
    }

    #[test]
    fn keys_of_a_file_have_scopes_and_an_end() {
        let text = "- {name: ci, key: secret-of-ci, scopes: [read, submit], expires: 2026-01-02, max_queued: 5}\n";
        let (_place, keys) = of_file(text);
        let caller = keys.find(&["secret-of-ci"], Time(0)).unwrap();
        assert_eq!((caller.name.as_deref(), caller.scope, caller.max_queued), (Some("ci"), Scope::Submit, Some(5)));
        let later = Time(4_000_000_000_000);
        assert_eq!(keys.find(&["secret-of-ci"], later), Err(Unfit::Expired("ci".into())));
        assert_eq!(keys.find(&["old"], later).unwrap().scope, Scope::Admin);
        let empty = of_file("[]").1;
        assert_eq!(empty.find(&[], Time(0)), Err(Unfit::Unknown), "an empty list lets nobody in");
    }
}
