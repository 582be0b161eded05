//! One job's worktree: made, looked at, removed.
//!
//! Laid out as `git worktree add --lock` lays it out (gitrepository-layout(5)), by hand, because
//! `git worktree` would read the configuration that agents can write.

use super::cache::{Error, Locked, Workspaces};
use super::fetch::Base;
use super::git::{self, Call, Cause};
use super::private_git_dir::PrivateGitDir;
use super::url::RepoUrl;
use super::{refs, regular_file, remove};
use crate::job::JobId;
use crate::process::stop::Stop;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

impl Workspaces {
    /// The worktrees on this disk that this pod made.
    pub fn own_worktrees(&self) -> Vec<JobId> {
        let notes = self.notes.iter().flat_map(fs::read_dir).flatten().flatten();
        notes.filter_map(|entry| JobId::parse(entry.file_name().to_str()?)).collect()
    }

    /// Removes from this disk, and from it alone, what this pod made for a job. One it did not make stays.
    pub fn remove_own_worktree(&self, id: &JobId) -> io::Result<()> {
        let Some(note) = self.notes.as_ref().map(|notes| notes.join(id.as_str())) else { return Ok(()) };
        if !note.exists() {
            return Ok(());
        }
        remove::tree(&self.settings.worktree_root.join(id.as_str()))?;
        fs::remove_file(note)
    }
}

/// A job's worktree, whether it is there or not.
pub struct Worktree<'a> {
    pub spaces: &'a Workspaces,
    pub url: &'a RepoUrl,
    pub id: &'a JobId,
    /// The branch the agent begins on; None: a detached HEAD, for profiles that publish nothing.
    pub branch: Option<String>,
}

impl Worktree<'_> {
    pub fn path(&self) -> PathBuf {
        self.spaces.settings.worktree_root.join(self.id.as_str())
    }

    /// Where the cache keeps this worktree's HEAD and index.
    pub(super) fn admin(&self, git_dir: &Path) -> PathBuf {
        git_dir.join("worktrees").join(self.id.as_str())
    }

    /// A copy of the index as it was when the worktree was made.
    pub(super) fn first_index(&self) -> PathBuf {
        self.spaces.directory_of(self.url).join(format!("index-{}", self.id))
    }

    /// Makes it at `base`. What an earlier attempt left is removed first.
    pub fn make(&self, mut locked: Locked, base: &Base, stop: &Stop) -> Result<(), Error> {
        self.clear(&locked)?;
        match self.register(&locked, base) {
            Err(git::Error::Failed { cause: Cause::Damaged, .. }) => {
                locked.make_anew()?;
                return Err(Error::MadeAnew("the clone cache was damaged and has been made anew".into()));
            }
            other => other?,
        }
        let git_dir = locked.git_dir.clone();
        // Writing the files touches nothing that is shared: other jobs need not wait for it.
        drop(locked);
        let result = self.fill(&git_dir, base, stop);
        if let Err(git::Error::Failed { cause: Cause::Damaged, said, .. }) = &result {
            let mut locked = self.spaces.lock(self.url, stop)?;
            self.clear(&locked)?;
            locked.make_anew()?;
            return Err(Error::MadeAnew(format!("the clone cache was damaged and has been made anew ({said})")));
        }
        result.map_err(Error::from)
    }

    /// Everything that is shared: reference, HEAD, lock.
    fn register(&self, locked: &Locked, base: &Base) -> Result<(), git::Error> {
        let admin = self.admin(&locked.git_dir);
        let head = match &self.branch {
            Some(branch) => {
                refs::set_branch(&locked.git_dir, branch, &base.commit)
                    .map_err(|error| git::Error::NotStarted(format!("branch {branch}: {error}")))?;
                format!("ref: refs/heads/{branch}\n")
            }
            None => format!("{}\n", base.commit),
        };
        let write = || -> io::Result<()> {
            fs::create_dir_all(&admin)?;
            fs::write(admin.join("locked"), format!("agenticore job {} on {}\n", self.id, self.spaces.pod))?;
            fs::write(admin.join("commondir"), "../..\n")?;
            fs::write(admin.join("gitdir"), format!("{}\n", self.path().join(".git").display()))?;
            fs::write(admin.join("HEAD"), head)?;
            if let Some(notes) = &self.spaces.notes {
                fs::create_dir_all(notes)?;
                fs::write(notes.join(self.id.as_str()), "")?;
            }
            fs::create_dir_all(self.path())?;
            fs::write(self.path().join(".git"), format!("gitdir: {}\n", admin.display()))
        };
        write().map_err(|error| git::Error::NotStarted(format!("worktree {}: {error}", self.path().display())))
    }

    fn fill(&self, git_dir: &Path, base: &Base, stop: &Stop) -> Result<(), git::Error> {
        let index = self.admin(git_dir).join("index");
        let ours = PrivateGitDir::onto(&self.spaces.git, git_dir, &base.commit)?.with_work_tree(&self.path(), &index);
        ours.run(&["read-tree", "--reset", "-u", &base.commit], Call { login: None, stop: Some(stop) })?;
        regular_file::copy(&index, &self.first_index(), u64::MAX).map_err(|error| {
            git::Error::NotStarted(format!("cannot keep the index of {}: {error}", self.path().display()))
        })
    }

    /// Removes worktree, registration and branch; the work in it is gone then.
    /// Without a `stop` to heed it waits for the repository's lock only briefly.
    pub fn remove(&self, stop: Option<&Stop>) -> Result<(), Error> {
        if !self.is_there() {
            return Ok(());
        }
        let locked = match stop {
            Some(stop) => self.spaces.lock(self.url, stop)?,
            None => self.spaces.lock_briefly(self.url)?,
        };
        self.clear(&locked)
    }

    /// Removes worktree and work of an attempt that is over, waiting for the lock only briefly. `lease`:
    /// what has to hold until it is done.
    pub fn discard(&self, lease: Option<&Stop>) -> Result<(), Error> {
        if !self.is_there() {
            return Ok(());
        }
        let mut locked = self.spaces.lock_briefly(self.url)?;
        if let Some(lease) = lease {
            locked.lease = Some(lease.clone());
        }
        self.clear(&locked)
    }

    /// Anything of it, registered or on disk.
    pub fn is_there(&self) -> bool {
        let in_cache = |git_dir: PathBuf| {
            self.admin(&git_dir).exists() || git_dir.join("refs/heads").join(self.id.branch()).exists()
        };
        fs::symlink_metadata(self.path()).is_ok() || self.spaces.git_dir_of(self.url).is_some_and(in_cache)
    }

    fn clear(&self, locked: &Locked) -> Result<(), Error> {
        let admin = self.admin(&locked.git_dir);
        let explain =
            |path: &Path, error: io::Error| Error::Final(format!("cannot remove {}: {error}", path.display()));
        let was_registered = admin.exists();
        // What is shared may be another attempt's by now.
        locked.check()?;
        self.spaces.remove_own_worktree(self.id).map_err(|error| explain(&self.path(), error))?;
        remove::tree(&self.path()).map_err(|error| explain(&self.path(), error))?;
        remove::tree(&admin).map_err(|error| explain(&admin, error))?;
        let _ = fs::remove_file(self.first_index());
        let branch = self.id.branch();
        let may_be_there = was_registered || locked.git_dir.join("refs/heads").join(&branch).exists();
        if may_be_there && !refs::remove_branch(&locked.git_dir, &branch) {
            let ours = PrivateGitDir::onto(&self.spaces.git, &locked.git_dir, super::private_git_dir::NOWHERE)?;
            let call = Call { login: None, stop: Some(&locked.stop) };
            ours.run(&["update-ref", "-d", &format!("refs/heads/{branch}")], call)?;
        }
        Ok(())
    }
}
