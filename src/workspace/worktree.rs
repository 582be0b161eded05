//! One job's worktree: made, looked at, removed.
//!
//! Laid out as `git worktree add --lock` lays it out (gitrepository-layout(5)), by hand, because
//! `git worktree` would read the configuration that agents can write.

use super::cache::{Error, Locked, Workspaces};
use super::fetch::Base;
use super::git::{self, Call, Cause};
use super::lens::Lens;
use super::url::RepoUrl;
use super::{refs, regular, remove};
use crate::job::JobId;
use crate::process::stop::Stop;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest index that is looked at: ten million files.
const INDEX_LIMIT: u64 = 1 << 30;

/// A job's worktree, whether it is there or not.
pub struct Worktree<'a> {
    pub spaces: &'a Workspaces,
    pub url: &'a RepoUrl,
    pub id: &'a JobId,
    /// The branch the agent begins on; None: a detached HEAD, for profiles that publish nothing.
    pub branch: Option<String>,
}

/// What an agent left.
#[derive(Debug, PartialEq)]
pub struct Inspection {
    /// The commit that is checked out.
    pub head: String,
    /// There are changes that no commit holds.
    pub is_dirty: bool,
    /// There is work: commits or changes beyond the base.
    pub has_work: bool,
}

impl<'a> Worktree<'a> {
    pub fn path(&self) -> PathBuf {
        self.spaces.settings.worktree_root.join(self.id.as_str())
    }

    /// Where the cache keeps this worktree's HEAD and index.
    fn admin(&self, git_dir: &Path) -> PathBuf {
        git_dir.join("worktrees").join(self.id.as_str())
    }

    /// Makes it at `base`. What an earlier attempt left is removed first.
    pub fn make(&self, mut locked: Locked, base: &Base, stop: &Stop) -> Result<(), Error> {
        self.clear(&locked)?;
        match self.register(&locked, base) {
            Err(git::Error::Failed { cause: Cause::Damaged, .. }) => {
                locked.make_anew()?;
                return Err(Error::Passing("the clone cache was damaged and has been made anew".into()));
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
            return Err(Error::Passing(format!("the clone cache was damaged and has been made anew ({said})")));
        }
        result.map_err(Error::from)
    }

    /// Everything that is shared: reference, HEAD, lock.
    fn register(&self, locked: &Locked, base: &Base) -> Result<(), git::Error> {
        let admin = self.admin(&locked.git_dir);
        let head = match &self.branch {
            Some(branch) => {
                refs::make_branch(&locked.git_dir, branch, &base.commit)
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
            fs::create_dir_all(self.path())?;
            fs::write(self.path().join(".git"), format!("gitdir: {}\n", admin.display()))
        };
        write().map_err(|error| git::Error::NotStarted(format!("worktree {}: {error}", self.path().display())))
    }

    fn fill(&self, git_dir: &Path, base: &Base, stop: &Stop) -> Result<(), git::Error> {
        let index = self.admin(git_dir).join("index");
        let lens = Lens::onto(&self.spaces.git, git_dir, &base.commit)?.with_work_tree(&self.path(), &index);
        lens.run(&["read-tree", "--reset", "-u", &base.commit], Call { login: None, stop: Some(stop) }).map(drop)
    }

    /// Looks at what is there without running anything of the repository's.
    pub fn inspect(&self, base_commit: &str) -> Result<Inspection, Error> {
        if let Some(git_dir) = self.spaces.git_dir_of(self.url).filter(|_| !self.path().is_dir()) {
            // The agent removed it. What it committed before is still there.
            let head = self.head_of(&git_dir, base_commit)?;
            let lens = Lens::onto(&self.spaces.git, &git_dir, &head)?;
            let has_work = head != base_commit && !is_ancestor(&lens, &head, base_commit)?;
            return Ok(Inspection { head, is_dirty: false, has_work });
        }
        let (lens, _) = self.lens(base_commit)?;
        let status = ["status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal", "--no-renames"];
        let told = match lens.run(&status, Call::default()) {
            Ok(told) => told,
            Err(git::Error::Failed { .. }) => {
                // The agent's index is of no use: one made from HEAD shows the same changes.
                let _ = fs::remove_file(lens.path("index"));
                lens.run(&["read-tree", "HEAD"], Call::default())?;
                lens.run(&status, Call::default())?
            }
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&told.stdout);
        let head =
            text.split('\0').find_map(|line| line.strip_prefix("# branch.oid ")).unwrap_or(base_commit).to_owned();
        let is_dirty = text.split('\0').any(|line| !line.is_empty() && !line.starts_with('#'));
        let has_commits = head != base_commit && !is_ancestor(&lens, &head, base_commit)?;
        Ok(Inspection { head, is_dirty, has_work: is_dirty || has_commits })
    }

    /// A lens with the work tree, a copy of its index, and its HEAD, detached. Also that HEAD.
    pub(super) fn lens(&self, base_commit: &str) -> Result<(Lens<'a>, String), Error> {
        let git_dir = self
            .spaces
            .git_dir_of(self.url)
            .ok_or_else(|| Error::Final(format!("the clone cache of {} is gone", self.url)))?;
        let admin = self.admin(&git_dir);
        if !self.path().is_dir() {
            return Err(Error::Final(format!("the worktree {} is gone, and the work in it", self.path().display())));
        }
        let head = self.head_of(&git_dir, base_commit)?;
        let lens = Lens::onto(&self.spaces.git, &git_dir, &head)?;
        let index = lens.path("index");
        // One that cannot be copied is made from HEAD when git misses it.
        let _ = regular::copy(&admin.join("index"), &index, INDEX_LIMIT);
        Ok((lens.with_work_tree(&self.path(), &index), head))
    }

    /// The commit that the agent left checked out. It may have removed its branch, or written
    /// nonsense: then its files are all there is, on top of the base.
    fn head_of(&self, git_dir: &Path, base_commit: &str) -> Result<String, Error> {
        let head = regular::read_text(&self.admin(git_dir).join("HEAD"), 4096).unwrap_or_default();
        let name = head.trim().strip_prefix("ref: ").unwrap_or(head.trim());
        let found = match refs::read(git_dir, name) {
            Some(commit) => Some(commit),
            None if name.is_empty() => None,
            None => Lens::onto(&self.spaces.git, git_dir, base_commit)?.commit_of(name, Call::default())?,
        };
        Ok(found.unwrap_or_else(|| base_commit.to_owned()))
    }

    /// Removes worktree, registration and branch; the work in it is gone then.
    pub fn remove(&self, stop: &Stop) -> Result<(), Error> {
        if !self.is_there() {
            return Ok(());
        }
        self.clear(&self.spaces.lock(self.url, stop)?)
    }

    /// Anything of it, registered or on disk.
    pub fn is_there(&self) -> bool {
        let in_cache = |git_dir: PathBuf| {
            self.admin(&git_dir).exists() || git_dir.join("refs/heads").join(self.id.branch()).exists()
        };
        self.path().exists() || self.spaces.git_dir_of(self.url).is_some_and(in_cache)
    }

    fn clear(&self, locked: &Locked) -> Result<(), Error> {
        let admin = self.admin(&locked.git_dir);
        let explain =
            |path: &Path, error: io::Error| Error::Final(format!("cannot remove {}: {error}", path.display()));
        let was_registered = admin.exists();
        remove::tree(&self.path()).map_err(|error| explain(&self.path(), error))?;
        remove::tree(&admin).map_err(|error| explain(&admin, error))?;
        let branch = self.id.branch();
        let may_be_there = was_registered || locked.git_dir.join("refs/heads").join(&branch).exists();
        if may_be_there && !refs::remove_branch(&locked.git_dir, &branch) {
            let lens = Lens::onto(&self.spaces.git, &locked.git_dir, "ref: refs/heads/agenticore-none")?;
            lens.run(&["update-ref", "-d", &format!("refs/heads/{branch}")], Call::default())?;
        }
        Ok(())
    }
}

fn is_ancestor(lens: &Lens, commit: &str, of: &str) -> Result<bool, git::Error> {
    match lens.run(&["merge-base", "--is-ancestor", commit, of], Call::default()) {
        Ok(_) => Ok(true),
        Err(git::Error::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
