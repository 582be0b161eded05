//! One lock per repository: flock between processes, or the fleet's in Redis where several pods share
//! the caches; a queue between the threads of this one.
//!
//! Nobody goes on without the lock: a wait that is over its limit is an error.

use crate::process::stop::{Reason, Stop};
use crate::store::redis::clone_locks::{CloneLock, CloneLocks};
use fs2::FileExt;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
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

pub struct Guard {
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

    /// Takes the lock of `directory`, which it makes if need be, within `limit`.
    pub fn take(&self, directory: &Path, limit: Duration, stop: &Stop) -> Result<Guard, Error> {
        let until = Instant::now() + limit;
        let name = directory.to_string_lossy().into_owned();
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone();
        let wait = || {
            if let Some(reason) = stop.reason() {
                return Err(Error::Stopped(reason));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() { Err(Error::TimedOut(limit)) } else { Ok(left.min(TICK)) }
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
        let mut guard = Guard { turn, file: None, fleet: None };
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
}
