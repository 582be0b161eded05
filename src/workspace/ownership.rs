//! Whose a worktree is: a file beside it, which names the store of its job and is locked for as long as somebody works
//! in it.
//!
//! Whoever removes a worktree without having made it has to hold that lock first, and to have looked into that store.

use super::cache::Workspaces;
use super::regular_file;
use crate::job::JobId;
use fs2::FileExt;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Somebody may look whether it is free just now.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
const NOTE_LIMIT: u64 = 64 * 1024;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The jobs directory of the server that made the worktree.
    pub jobs_dir: PathBuf,
    /// Its jobs are in Redis too.
    pub in_redis: bool,
    pub repo_url: String,
    pub base_commit: String,
}

/// Who has a worktree.
pub enum Ownership {
    /// Somebody works in it.
    Held,
    /// Nobody does, nor begins to while this is held.
    Free(Owner, File),
    /// There is no such file, or none that can be read.
    Unknown,
}

fn file_of(worktrees: &Path, id: &JobId) -> PathBuf {
    worktrees.join(format!(".owner-{id}"))
}

/// Looks whose it is, and takes the lock if it is free.
pub fn look(worktrees: &Path, id: &JobId) -> Ownership {
    let path = file_of(worktrees, id);
    let Ok(mut file) = regular_file::open(&path) else { return Ownership::Unknown };
    match FileExt::try_lock_exclusive(&file) {
        Ok(()) => {}
        Err(error) if error.kind() == fs2::lock_contended_error().kind() => return Ownership::Held,
        Err(_) => return Ownership::Unknown,
    }
    let mut text = Vec::new();
    let read = (&mut file).take(NOTE_LIMIT).read_to_end(&mut text);
    match read.ok().and_then(|_| serde_json::from_slice(&text).ok()) {
        Some(owner) => Ownership::Free(owner, file),
        None => Ownership::Unknown,
    }
}

impl Workspaces {
    /// Notes that a worktree is this process's, and holds that until it is given up.
    pub(super) fn own(&self, id: &JobId, repo_url: &str, base_commit: &str) -> io::Result<()> {
        let worktrees = &self.settings.worktree_root;
        fs::create_dir_all(worktrees)?;
        let path = file_of(worktrees, id);
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        lock(&file)?;
        let (jobs_dir, in_redis) = self.store.clone();
        let owner = Owner { jobs_dir, in_redis, repo_url: repo_url.to_owned(), base_commit: base_commit.to_owned() };
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(&owner)?)?;
        self.owned().insert(id.clone(), file);
        Ok(())
    }

    /// The same for a worktree that was made before, as far as it is known whose it is.
    pub fn hold(&self, id: &JobId) -> io::Result<()> {
        let Ok(file) = regular_file::open(&file_of(&self.settings.worktree_root, id)) else { return Ok(()) };
        lock(&file)?;
        self.owned().insert(id.clone(), file);
        Ok(())
    }

    /// Nobody works in it any more.
    pub fn give_up(&self, id: &JobId) {
        self.owned().remove(id);
    }

    /// It is there no more.
    pub(super) fn forget_owner(&self, id: &JobId) -> io::Result<()> {
        self.give_up(id);
        match fs::remove_file(file_of(&self.settings.worktree_root, id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn owned(&self) -> std::sync::MutexGuard<'_, std::collections::HashMap<JobId, File>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(file: &File) -> io::Result<()> {
    let until = Instant::now() + LOCK_LIMIT;
    while let Err(error) = FileExt::try_lock_exclusive(file) {
        if Instant::now() >= until {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
