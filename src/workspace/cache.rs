//! The clone cache: one bare repository per URL, shared by all its jobs.
//!
//! ```text
//! {root}/{key}/.lock      the repository's lock
//! {root}/{key}/repo/      the cache (a Python program's clone with a work tree will do)
//! {root}/{key}/fetched    when its references were fetched last, and the default branch then
//! {root}/{key}/jobs/{id}  a job's own repository, which borrows the cache's objects, and its first index
//! ```
//!
//! Never collects garbage, and never replaces a cache that a job's repository borrows from.

use super::git::{self, Git};
use super::lock::{self, Locks};
use super::url::RepoUrl;
use super::{refs, regular_file};
use crate::config;
use crate::job::JobId;
use crate::process::stop::{Reason, Stop};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// How long tidying waits for a repository's lock.
const TIDY_LIMIT: Duration = Duration::from_secs(5);
/// A job that waits longer than this for a repository's lock says so.
const TELL_AFTER: Duration = Duration::from_secs(1);

pub struct Workspaces {
    pub git: Git,
    pub(super) settings: config::Repos,
    pub(super) github_server: String,
    /// In a fleet, where this pod notes which of the worktrees on its disk are its own.
    pub(super) notes: Option<PathBuf>,
    /// The jobs directory of this server, and whether its jobs are in Redis too.
    pub(super) store: (PathBuf, bool),
    /// The worktrees that this process works in.
    pub(super) owned: Mutex<HashMap<JobId, File>>,
    locks: Locks,
    /// Commits that have no LFS files, of late: jobs begin at the same ones.
    pub(super) without_lfs: Mutex<HashSet<String>>,
}

/// Why there is no workspace, or no publishing.
#[derive(Debug)]
pub enum Error {
    Stopped(Reason),
    /// Trying again later may help.
    Passing(String),
    /// The clone cache was damaged, and is another one now: try again at once.
    MadeAnew(String),
    Final(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Stopped(_) => f.write_str("stopped"),
            Error::Passing(why) | Error::MadeAnew(why) | Error::Final(why) => f.write_str(why),
        }
    }
}

impl From<git::Error> for Error {
    fn from(error: git::Error) -> Self {
        match error {
            git::Error::Stopped(reason) => Error::Stopped(reason),
            git::Error::TimedOut { .. } => Error::Passing(error.to_string()),
            other => Error::Final(other.to_string()),
        }
    }
}

/// A cache that is locked by this job.
pub struct Locked<'a> {
    pub(super) spaces: &'a Workspaces,
    pub(super) url: &'a RepoUrl,
    /// `{root}/{key}`
    pub(super) directory: PathBuf,
    /// The git directory: `repo/`, or `repo/.git` of a clone with a work tree.
    pub(super) git_dir: PathBuf,
    /// Stops what is done under the lock, when the job stops or the lock is about to be lost.
    pub(super) stop: Stop,
    /// A lease that has to hold although its attempt was told to stop.
    pub(super) lease: Option<Stop>,
    guard: lock::Guard,
}

impl Workspaces {
    /// `pod`: the name of this one, in a fleet.
    pub fn new(config: &config::Config, locks: Locks, pod: Option<String>) -> io::Result<Self> {
        let is_in_fleet = pod.is_some();
        Ok(Self {
            notes: pod.map(|pod| config.repos.worktree_root.join(format!(".agenticore-{}", pod.replace('/', "_")))),
            git: Git::new(&config.variables, config.runtime_dir.clone(), config.repos.git_timeout)?,
            settings: config.repos.clone(),
            github_server: config.github.server_url.clone(),
            store: (config.jobs_dir.clone(), is_in_fleet),
            owned: Mutex::default(),
            locks,
            without_lfs: Mutex::default(),
        })
    }

    pub(super) fn directory_of(&self, url: &RepoUrl) -> PathBuf {
        self.settings.root.join(url.key())
    }

    /// The cache's git directory, if the cache is one that git can use.
    pub fn git_dir_of(&self, url: &RepoUrl) -> Option<PathBuf> {
        let repo = self.directory_of(url).join("repo");
        [repo.join(".git"), repo].into_iter().find(|path| is_whole(path))
    }

    /// Locks the cache of `url`. One that is not there, or was left half-made, is made first, empty.
    pub fn lock<'a>(&'a self, url: &'a RepoUrl, stop: &Stop) -> Result<Locked<'a>, Error> {
        self.lock_within(url, self.settings.lock_timeout, stop)
    }

    /// The same, which says that it waits, if it has to.
    pub fn lock_telling<'a>(&'a self, url: &'a RepoUrl, stop: &Stop, tell: &dyn Fn(&str)) -> Result<Locked<'a>, Error> {
        let limit = self.settings.lock_timeout;
        match self.locks.take(&self.directory_of(url), TELL_AFTER.min(limit), stop) {
            Ok(guard) => self.open(url, guard, stop),
            Err(lock::Error::TimedOut(_)) if limit > TELL_AFTER => {
                tell(&format!("waits for the clone cache of {url}, which another job works on"));
                self.lock_within(url, limit, stop)
            }
            Err(lock::Error::Away(why)) if limit > TELL_AFTER => {
                tell(&format!("waits for the clone cache of {url}, whose lock cannot be asked for: {why}"));
                self.lock_within(url, limit, stop)
            }
            Err(error) => Err(self.no_lock(url, error)),
        }
    }

    /// The lock of a directory that is no cache: one at a time, in the whole fleet.
    pub fn lock_directory(&self, directory: &Path) -> Result<lock::Guard, String> {
        self.lock_directory_within(directory, TIDY_LIMIT)
    }

    /// The same with a limit of its own.
    pub fn lock_directory_within(&self, directory: &Path, limit: Duration) -> Result<lock::Guard, String> {
        self.locks.take(directory, limit, &Stop::default()).map_err(|error| match error {
            lock::Error::Away(why) => why,
            lock::Error::Io(error) => error.to_string(),
            _ => format!("somebody else had {} for {} s", directory.display(), limit.as_secs()),
        })
    }

    /// For tidying: nobody waits long for that. What is left is found again by the next attempt, or
    /// when the job's time to live is over.
    pub fn lock_briefly<'a>(&'a self, url: &'a RepoUrl) -> Result<Locked<'a>, Error> {
        self.lock_within(url, self.settings.lock_timeout.min(TIDY_LIMIT), &Stop::default())
    }

    fn lock_within<'a>(&'a self, url: &'a RepoUrl, limit: Duration, stop: &Stop) -> Result<Locked<'a>, Error> {
        match self.locks.take(&self.directory_of(url), limit, stop) {
            Ok(guard) => self.open(url, guard, stop),
            Err(error) => Err(self.no_lock(url, error)),
        }
    }

    fn no_lock(&self, url: &RepoUrl, error: lock::Error) -> Error {
        let name = "AGENTICORE_LOCK_TIMEOUT";
        match error {
            lock::Error::Stopped(reason) => Error::Stopped(reason),
            lock::Error::TimedOut(limit) => Error::Final(format!(
                "the lock of {url}'s cache did not become free within {} s, and its holder did not get on ({name})",
                limit.as_secs()
            )),
            lock::Error::Away(why) => Error::Final(format!(
                "the lock of {url}'s cache could not be asked for within {} s ({name}): {why}",
                self.settings.lock_timeout.as_secs()
            )),
            lock::Error::Io(error) => {
                Error::Final(format!("cannot lock {}: {error}", self.directory_of(url).display()))
            }
        }
    }

    /// The cache that `guard` is the lock of.
    fn open<'a>(&'a self, url: &'a RepoUrl, guard: lock::Guard, stop: &Stop) -> Result<Locked<'a>, Error> {
        let directory = self.directory_of(url);
        let found = self.git_dir_of(url);
        let stop = guard.stop(stop);
        let mut locked = Locked { spaces: self, url, git_dir: PathBuf::new(), directory, stop, lease: None, guard };
        match found {
            Some(git_dir) => locked.git_dir = git_dir,
            None => locked.make_anew()?,
        }
        if !locked.git_dir.join("packed-refs").exists() {
            // The private git directories link to it, so it has to be there.
            let _ = regular_file::write(&locked.git_dir.join("packed-refs"), b"");
        }
        Ok(locked)
    }
}

impl Locked<'_> {
    /// Notes that what is done under the lock gets on: whoever waits for it goes on waiting.
    pub(super) fn get_on(&self) {
        self.guard.get_on();
    }

    /// The lock, and the lease it was taken for, still hold.
    pub(super) fn check(&self) -> Result<(), Error> {
        if let Some(reason) = self.stop.reason() {
            return Err(Error::Stopped(reason));
        }
        match &self.lease {
            Some(lease) if lease.is_lost() => Err(Error::Stopped(Reason::Lost)),
            _ => Ok(()),
        }
    }

    /// Forgets what was fetched, so that a fetch brings all of it again: that heals a reference to
    /// nothing, and objects that are missing, under the worktrees that hang on this cache.
    pub(super) fn forget_remote_refs(&self) -> Result<(), Error> {
        let packed = self.git_dir.join("packed-refs");
        let ours = |line: &&str| line.split(' ').nth(1).is_some_and(|name| name.starts_with("refs/heads/agenticore-"));
        let kept: String = regular_file::read_text(&packed, 16 << 20)
            .unwrap_or_default()
            .lines()
            .filter(ours)
            .map(|line| format!("{line}\n"))
            .collect();
        let remotes = self.git_dir.join("refs/remotes");
        let done = super::remove::tree(&remotes)
            .and_then(|()| fs::create_dir_all(&remotes))
            .and_then(|()| regular_file::write(&packed, kept.as_bytes()));
        done.map_err(|error| Error::Final(format!("cannot mend the clone cache {}: {error}", self.git_dir.display())))
    }

    /// Puts back what was known of the remote's branches.
    pub(super) fn note_remote_refs(&self, known: &BTreeMap<String, String>) -> Result<(), Error> {
        let packed = self.git_dir.join("packed-refs");
        let mut all: BTreeMap<String, String> = regular_file::read_text(&packed, 16 << 20)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(hash, _)| refs::is_hash(hash))
            .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
            .collect();
        for (name, hash) in known {
            all.entry(name.clone()).or_insert_with(|| hash.clone());
        }
        let lines: String = all.iter().map(|(name, hash)| format!("{hash} {name}\n")).collect();
        let text = format!("# pack-refs with: sorted \n{lines}");
        regular_file::write(&packed, text.as_bytes())
            .map_err(|error| Error::Final(format!("cannot mend the clone cache {}: {error}", self.git_dir.display())))
    }

    /// What a fetch that was ended left of its pack. Nobody else writes to the cache under this lock.
    pub(super) fn remove_unfinished_packs(&self) {
        for entry in fs::read_dir(self.git_dir.join("objects/pack")).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let is_unfinished = name.to_string_lossy().starts_with("tmp_");
            // Git keeps a pack from being removed until its references are written; nothing removes one here.
            let is_mark = path.extension().is_some_and(|end| end == "keep");
            if is_unfinished || is_mark {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Puts a new, empty cache in directory of whatever is there. Refused while any worktree is
    /// registered: it would lose its repository.
    pub(super) fn make_anew(&mut self) -> Result<(), Error> {
        let repo = self.directory.join("repo");
        if borrowers(&self.directory) > 0 {
            return Err(Error::Final(format!(
                "the clone cache {} is damaged, and cannot be made anew while worktrees of other jobs hang on it: \
                 submit again when they have ended",
                repo.display()
            )));
        }
        let fresh = self.directory.join("fresh");
        let broken = self.directory.join("broken");
        let failed =
            |error: io::Error| Error::Final(format!("cannot make the clone cache {}: {error}", repo.display()));
        for left in [&fresh, &broken] {
            super::remove::tree(left).map_err(failed)?;
        }
        lay_out(&fresh, self.url).map_err(failed)?;
        if repo.exists() {
            fs::rename(&repo, &broken).map_err(failed)?;
        }
        fs::rename(&fresh, &repo).map_err(failed)?;
        let _ = fs::remove_file(self.directory.join("fetched"));
        let _ = super::remove::tree(&broken);
        self.git_dir = repo;
        Ok(())
    }
}

/// As `git init --bare` lays it out. By hand, because that changes modes, which not every volume allows.
fn lay_out(git_dir: &Path, url: &RepoUrl) -> io::Result<()> {
    for directory in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        fs::create_dir_all(git_dir.join(directory))?;
    }
    fs::write(git_dir.join("HEAD"), "ref: refs/heads/main\n")?;
    fs::write(git_dir.join("config"), config_of(url))
}

/// What the *agent's* git reads; ours never does. No automatic gc: it would not know of worktrees
/// on other hosts.
fn config_of(url: &RepoUrl) -> String {
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\ttagOpt = --no-tags\n"
    )
}

fn is_whole(git_dir: &Path) -> bool {
    let head = regular_file::read_text(&git_dir.join("HEAD"), 4096).unwrap_or_default();
    let head_is_sound = head.starts_with("ref: ") || head.trim().len() >= 40;
    head_is_sound
        && git_dir.join("objects").is_dir()
        && git_dir.join("refs").is_dir()
        && git_dir.join("config").is_file()
}

/// Jobs whose repositories borrow from the cache in this directory. An earlier version's are in the cache itself.
fn borrowers(directory: &Path) -> usize {
    let repo = directory.join("repo");
    let places = [directory.join("jobs"), repo.join("worktrees"), repo.join(".git/worktrees")];
    let entries = places.iter().flat_map(fs::read_dir).flatten().flatten();
    // Others are no job's: an agent made them.
    entries.filter(|entry| entry.file_name().to_str().and_then(JobId::parse).is_some()).count()
}
