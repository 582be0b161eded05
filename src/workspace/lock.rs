//! One lock per repository: flock between processes, or the fleet's in Redis where several pods share
//! the caches; a queue between the threads of this one.
//!
//! Nobody goes on without the lock: a wait that is over its limit is an error.

use super::regular_file;
use crate::job::Time;
use crate::process::stop::{Reason, Stop};
use crate::store::redis::clone_locks::{CloneLock, CloneLocks};
use fs2::FileExt;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a stop, or another process's release, is looked for.
const TICK: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Turn {
    taken: Mutex<bool>,
    freed: Condvar,
}

/// How often a lock that another pod holds is asked for.
const FLEET_TICK: Duration = Duration::from_millis(100);

/// The locks of one process.
#[derive(Default)]
pub struct Locks {
    turns: Mutex<HashMap<String, Arc<Turn>>>,
    fleet: Option<Arc<CloneLocks>>,
}

/// How often it is noted that the holder gets on.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// In the locked directory: when its holder got on last. Others see by it that they wait for somebody who lives.
const NOTE: &str = "gets-on";

pub struct Guard {
    note: PathBuf,
    noted: Mutex<Option<Instant>>,
    turn: Arc<Turn>,
    file: Option<File>,
    fleet: Option<CloneLock>,
}

#[derive(Debug)]
pub enum Error {
    TimedOut(Duration),
    Stopped(Reason),
    /// The fleet's locks could not be asked for.
    Away(String),
    Io(std::io::Error),
}

impl Locks {
    pub fn of_fleet(locks: Arc<CloneLocks>) -> Self {
        Self { turns: Mutex::default(), fleet: Some(locks) }
    }

    /// Takes the lock of `directory`, which it makes if need be, within `limit` since its holder got on last.
    pub fn take(&self, directory: &Path, limit: Duration, stop: &Stop) -> Result<Guard, Error> {
        let note = directory.join(NOTE);
        let noted = || regular_file::read_text(&note, 100).ok();
        let patience = RefCell::new(Patience { limit, until: Instant::now() + limit, noted: noted() });
        let name = directory.to_string_lossy().into_owned();
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone();
        let wait = || {
            if let Some(reason) = stop.reason() {
                return Err(Error::Stopped(reason));
            }
            let left = patience.borrow_mut().left(Instant::now(), noted);
            left.map(|left| left.min(TICK)).ok_or(Error::TimedOut(limit))
        };
        if let Some(reason) = stop.reason() {
            return Err(Error::Stopped(reason));
        }
        {
            let mut taken = turn.taken.lock().unwrap_or_else(PoisonError::into_inner);
            while *taken {
                let left = wait()?;
                taken = turn.freed.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            *taken = true;
        }
        let mut guard = Guard { note: note.clone(), noted: Mutex::default(), turn, file: None, fleet: None };
        fs::create_dir_all(directory).map_err(Error::Io)?;
        if let Some(store) = &self.fleet {
            guard.fleet = Some(take_in_fleet(store, directory, wait)?);
            return Ok(guard);
        }
        let path = directory.join(".lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Error::Io)?;
        while FileExt::try_lock_exclusive(&file).is_err() {
            std::thread::sleep(wait()?);
        }
        guard.file = Some(file);
        Ok(guard)
    }
}

/// How long a lock is waited for: a limit that begins again whenever the holder got on.
struct Patience {
    limit: Duration,
    until: Instant,
    /// What the holder had noted when the limit began.
    noted: Option<String>,
}

impl Patience {
    /// None: it is over.
    fn left(&mut self, now: Instant, noted: impl Fn() -> Option<String>) -> Option<Duration> {
        if now < self.until {
            return Some(self.until - now);
        }
        let noted = noted();
        if noted == self.noted {
            return None;
        }
        (self.noted, self.until) = (noted, now + self.limit);
        Some(self.limit)
    }
}

fn take_in_fleet(
    locks: &Arc<CloneLocks>,
    directory: &Path,
    wait: impl Fn() -> Result<Duration, Error>,
) -> Result<CloneLock, Error> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let away = match locks.try_lock(&name) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => None,
            Err(why) => Some(why),
        };
        match (wait(), &away) {
            (Ok(_), _) => std::thread::sleep(FLEET_TICK),
            (Err(Error::TimedOut(_)), Some(why)) => return Err(Error::Away(why.clone())),
            (Err(error), _) => return Err(error),
        }
    }
}

impl Guard {
    /// Notes that what is done under the lock gets on.
    pub fn get_on(&self) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.is_none_or(|at| at.elapsed() >= NOTE_EVERY) {
            *noted = Some(Instant::now());
            // Without it the others may give up too soon, which their error says.
            let _ = regular_file::write(&self.note, Time::now().0.to_string().as_bytes());
        }
    }

    /// Stops when `job` does, and before the lock can pass to somebody else.
    pub fn stop(&self, job: &Stop) -> Stop {
        match &self.fleet {
            Some(lock) => Stop::with(&[job, &lock.stop]),
            None => job.clone(),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Closing the file releases the flock; then the next thread may come.
        self.file = None;
        self.fleet = None;
        *self.turn.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.turn.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_with_a_limit_and_stoppable() {
        let dir = tempfile::tempdir().unwrap();
        let (locks, others, stop) = (Locks::default(), Locks::default(), Stop::default());
        let limit = Duration::from_millis(60);
        let guard = locks.take(dir.path(), limit, &stop).unwrap();
        assert!(matches!(locks.take(dir.path(), limit, &stop), Err(Error::TimedOut(_))), "another thread");
        assert!(matches!(others.take(dir.path(), limit, &stop), Err(Error::TimedOut(_))), "another process");
        let stopped = Stop::default();
        stopped.request(Reason::Cancelled);
        assert!(matches!(locks.take(dir.path(), Duration::from_secs(60), &stopped), Err(Error::Stopped(_))));
        drop(guard);
        assert!(others.take(dir.path(), limit, &stop).is_ok());
        assert!(locks.take(dir.path(), limit, &stop).is_ok());
    }

    #[test]
    fn whose_holder_gets_on_is_waited_for() {
        let (limit, now) = (Duration::from_secs(5), Instant::now());
        let mut patience = Patience { limit, until: now + limit, noted: None };
        let at = |second| now + Duration::from_secs(second);
        assert_eq!(patience.left(at(4), || None), Some(Duration::from_secs(1)));
        assert_eq!(patience.left(at(5), || Some("1".into())), Some(limit));
        assert_eq!(patience.left(at(9), || None), Some(Duration::from_secs(1)));
        assert_eq!(patience.left(at(10), || Some("1".into())), None);
        let dir = tempfile::tempdir().unwrap();
        let guard = Locks::default().take(dir.path(), limit, &Stop::default()).unwrap();
        guard.get_on();
        assert!(dir.path().join(NOTE).exists());
    }
}
