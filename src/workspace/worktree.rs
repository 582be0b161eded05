//! One job's worktree, and the repository of its own that it is of: made, looked at, removed.
//!
//! By hand, because git would read the configuration that agents can write.

use super::cache::{Error, Locked, Workspaces};
use super::cause::Cause;
use super::fetch::Base;
use super::git::{self, Call};
use super::own_repository::OwnRepository;
use super::private_git_dir::PrivateGitDir;
use super::remove::{self, Removed};
use super::url::RepoUrl;
use super::{lfs, refs, regular_file};
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

    /// Removes what a server that died had begun to remove.
    pub fn finish_removals(&self) {
        let caches = fs::read_dir(&self.settings.root).into_iter().flatten().flatten().map(|entry| entry.path());
        caches.chain([self.settings.worktree_root.clone()]).for_each(|directory| remove::finish(&directory));
    }

    /// Removes from this disk, and from it alone, what this pod made for a job. One it did not make stays.
    pub fn remove_own_worktree(&self, id: &JobId) -> io::Result<()> {
        let Some(note) = self.notes.as_ref().map(|notes| notes.join(id.as_str())) else { return Ok(()) };
        if !note.exists() {
            return Ok(());
        }
        remove::tree(&self.settings.worktree_root.join(id.as_str()))?;
        self.forget_owner(id)?;
        // What was moved aside is found by it once the job is forgotten.
        if self.has_set_aside(id) { Ok(()) } else { fs::remove_file(note) }
    }
}

/// A job's worktree, whether it is there or not; or a submodule's in it.
pub struct Worktree<'a> {
    pub spaces: &'a Workspaces,
    pub url: &'a RepoUrl,
    pub id: &'a JobId,
    /// The branch the agent begins on; None: a detached HEAD, for profiles that publish nothing.
    pub branch: Option<String>,
    /// The places of a submodule, which `url` is the repository of.
    pub(super) within: Option<Places>,
}

/// What of a submodule lies where.
pub(super) struct Places {
    pub path: PathBuf,
    pub repository: PathBuf,
    pub registration: PathBuf,
}

impl<'a> Worktree<'a> {
    pub fn of(spaces: &'a Workspaces, url: &'a RepoUrl, id: &'a JobId, branch: Option<String>) -> Self {
        Self { spaces, url, id, branch, within: None }
    }
}

impl Worktree<'_> {
    pub fn path(&self) -> PathBuf {
        match &self.within {
            Some(places) => places.path.clone(),
            None => self.spaces.settings.worktree_root.join(self.id.as_str()),
        }
    }

    /// The job's own repository: the agent's git directory. It borrows the cache's objects.
    pub fn repository(&self) -> PathBuf {
        match &self.within {
            Some(places) => places.repository.clone(),
            None => self.registration().join("git"),
        }
    }

    /// A copy of the index as it was when the worktree was made.
    pub(super) fn first_index(&self) -> PathBuf {
        self.registration().join("first-index")
    }

    /// The commits of it that were published, one in a line. Only those of a worktree that several jobs work in matter.
    pub(super) fn published(&self) -> String {
        regular_file::read_text(&self.registration().join("published"), 1 << 20).unwrap_or_default()
    }

    pub(super) fn note_published(&self, commit: &str) -> io::Result<()> {
        let noted = format!("{}{commit}\n", self.published());
        regular_file::write(&self.registration().join("published"), noted.as_bytes())
    }

    /// What is the job's beside the cache; it says that the job borrows from that.
    pub(super) fn registration(&self) -> PathBuf {
        match &self.within {
            Some(places) => places.registration.clone(),
            None => self.spaces.directory_of(self.url).join("jobs").join(self.id.as_str()),
        }
    }

    /// Makes it at `base`. What an earlier attempt left is removed first.
    pub fn make(&self, mut locked: Locked, base: &Base, lfs: &lfs::Contents, stop: &Stop) -> Result<(), Error> {
        let removed = self.clear(&locked)?;
        match self.register(&locked, base, lfs) {
            Err(git::Error::Failed { cause: Cause::Damaged, .. }) => {
                locked.make_anew()?;
                return Err(Error::MadeAnew("the clone cache was damaged and has been made anew".into()));
            }
            other => other?,
        }
        let git_dir = locked.git_dir.clone();
        // Writing the files touches nothing that is shared: other jobs need not wait for it.
        drop(locked);
        drop(removed);
        let result = self.fill(&git_dir, base, lfs, stop);
        if let Err(error @ git::Error::Failed { cause: Cause::Damaged, .. }) = &result {
            let mut locked = self.spaces.lock(self.url, stop)?;
            drop(self.clear(&locked)?);
            locked.make_anew()?;
            return Err(Error::MadeAnew(format!("the clone cache was damaged and has been made anew ({error})")));
        }
        result.map_err(explain_filter)
    }

    /// Where what is to be published waits until it is checked; one that is found there is of a server that died.
    pub(super) fn import_directory(&self, locked: &Locked) -> PathBuf {
        locked.directory.join(format!("import-{}", self.id))
    }

    /// What is made under the repository's lock: the registration, and a repository with the remote's references.
    fn register(&self, locked: &Locked, base: &Base, lfs: &lfs::Contents) -> Result<(), git::Error> {
        let own = OwnRepository { path: &self.repository(), branch: self.branch.as_deref(), files: None, lfs };
        let write = || -> io::Result<()> {
            own.lay_out(&locked.git_dir, self.url, base)?;
            self.spaces.own(self.id, self.url.as_str(), &base.commit)?;
            if let Some(notes) = &self.spaces.notes {
                fs::create_dir_all(notes)?;
                fs::write(notes.join(self.id.as_str()), "")?;
            }
            fs::create_dir_all(self.path())?;
            fs::write(self.path().join(".git"), format!("{}\n", gitdir(own.path)))
        };
        write().map_err(|error| git::Error::NotStarted(format!("worktree {}: {error}", self.path().display())))
    }

    pub(super) fn fill(&self, git_dir: &Path, base: &Base, lfs: &lfs::Contents, stop: &Stop) -> Result<(), git::Error> {
        let index = self.repository().join("index");
        let ours = PrivateGitDir::onto(&self.spaces.git, git_dir, &base.commit)?.with_work_tree(&self.path(), &index);
        let ours = match lfs {
            lfs::Contents::There { but_for } => ours
                .with_settings(lfs::filters(&lfs::store_of(git_dir)))
                .with_settings([format!("lfs.fetchexclude={but_for}")]),
            lfs::Contents::Unused | lfs::Contents::Pointers => ours,
        };
        let call = Call { login: None, stop: Some(stop) };
        let read = ours.run(&["read-tree", "--reset", "-u", &base.commit], call).map_err(|error| match error {
            // Whatever the filter said is not about the cache.
            git::Error::Failed { what, said, code, .. } if said.contains(FILTER_FAILED) => {
                git::Error::Failed { what, cause: Cause::Other, said, code }
            }
            other => other,
        })?;
        // One that is not required may fail without git failing.
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        if said.contains(FILTER_FAILED) {
            return Err(git::Error::Failed { what: "read-tree".into(), cause: Cause::Other, said, code: 0 });
        }
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
        // Whoever removes it looked into it.
        self.unmark();
        self.clear_and_unlock(locked)
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
        self.clear_and_unlock(locked)
    }

    /// Removes all of it, with what was moved aside: the job is forgotten.
    pub fn forget(&self) -> Result<(), Error> {
        let failed = |error: io::Error| Error::Final(format!("cannot remove {}: {error}", self.path().display()));
        self.unmark();
        self.discard(None)?;
        self.remove_unsaved().map_err(failed)
    }

    fn clear_and_unlock(&self, locked: Locked) -> Result<(), Error> {
        let removed = self.clear(&locked)?;
        drop(locked);
        drop(removed);
        Ok(())
    }

    /// Removes what nobody works in, as whoever holds its [`super::ownership`] may, without the repository's lock:
    /// nothing of it is shared.
    pub fn remove_abandoned(&self) -> io::Result<()> {
        let directory = self.spaces.directory_of(self.url);
        let mut removed = Removed::default();
        self.return_borrowed();
        removed.take(&self.path(), &self.spaces.settings.worktree_root)?;
        self.unmark();
        removed.take(&self.registration(), &directory)?;
        self.spaces.forget_owner(self.id)
    }

    /// Anything of it, registered or on disk.
    pub fn is_there(&self) -> bool {
        let of_earlier = |git_dir: PathBuf| git_dir.join("worktrees").join(self.id.as_str()).exists();
        [self.path(), self.registration()].iter().any(|path| fs::symlink_metadata(path).is_ok())
            || self.spaces.git_dir_of(self.url).is_some_and(of_earlier)
    }

    /// Takes all of it away from where it is looked for. Removing the files takes time, and needs no lock.
    fn clear(&self, locked: &Locked) -> Result<Removed, Error> {
        let explain =
            |path: &Path, error: io::Error| Error::Final(format!("cannot remove {}: {error}", path.display()));
        // What is shared may be another attempt's by now.
        locked.check()?;
        refs::remove_branch(&locked.git_dir, &self.id.branch());
        self.return_borrowed();
        self.set_unsaved_aside().map_err(|error| explain(&self.path(), error))?;
        // A version before this one had it in the cache.
        let of_earlier = locked.git_dir.join("worktrees").join(self.id.as_str());
        let disk = &self.spaces.settings.worktree_root;
        let mut removed = Removed::default();
        for (path, beside) in [
            (self.path(), disk),
            (of_earlier, &locked.directory),
            (self.import_directory(locked), &locked.directory),
            (self.registration(), &locked.directory),
        ] {
            removed.take(&path, beside).map_err(|error| explain(&path, error))?;
        }
        self.spaces
            .remove_own_worktree(self.id)
            .and_then(|()| self.spaces.forget_owner(self.id))
            .map_err(|error| explain(&self.path(), error))?;
        Ok(removed)
    }
}

/// How git says that a filter did not work.
const FILTER_FAILED: &str = "error: external filter '";

/// What a checkout says when a filter of the system's configuration fails: which it is, and what to do.
pub(super) fn explain_filter(error: git::Error) -> Error {
    let git::Error::Failed { said, .. } = &error else { return error.into() };
    // `fatal: PATH: smudge filter NAME failed`, after `error: external filter 'COMMAND' failed`.
    let named = said.lines().find_map(|line| line.split_once(": smudge filter ")?.1.strip_suffix(" failed"));
    let command = said.split_once(FILTER_FAILED).and_then(|(_, rest)| rest.split_once('\''));
    match named.or(command.map(|(command, _)| command)) {
        Some(name) => Error::Final(format!(
            "the filter `{name}` of the repository's .gitattributes fails when files are checked out ({error}): set it \
             up for the server (git-crypt, for one, needs its key), or take it out of the server's /etc/gitconfig"
        )),
        None => error.into(),
    }
}

/// What the file `.git` of a worktree says, without its newline.
pub(super) fn gitdir(repository: &Path) -> String {
    format!("gitdir: {}", repository.display())
}
