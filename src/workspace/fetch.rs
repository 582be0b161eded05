//! Brings a cache up to date and finds the commit a job begins at.

use super::cache::{Error, Locked, Workspaces};
use super::cause::Cause;
use super::credentials::Login;
use super::git::{self, Call};
use super::private_git_dir::{NOWHERE, PrivateGitDir};
use super::progress::Progress;
use super::url::{RepoUrl, Transport};
use super::{refs, regular_file};
use crate::job::Time;
use crate::process::sys;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A fetch is shared by jobs that came before it began, for this long: seconds are what "arrive
/// together" means, and nobody minds a base that is 10 s old.
const SHARED_FOR: Duration = Duration::from_secs(10);
/// A lock file this old was left by a git that died: references are locked for milliseconds.
const LOCK_FILE_IS_STALE: Duration = Duration::from_secs(10);
/// How often a passing failure of the network, or a lock file, is met with another try.
const TRIES: u32 = 3;

/// Where a job begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// What was asked for, or the default branch.
    pub name: String,
    pub commit: String,
    /// The branch that a pull request goes to.
    pub pr_base: String,
    /// The remote's default branch.
    pub default: Option<String>,
}

impl Base {
    /// What a clone's origin/HEAD points to.
    pub fn default_branch(&self) -> &str {
        self.default.as_deref().unwrap_or(&self.pr_base)
    }
}

/// `{key}/fetched`
#[derive(Serialize, Deserialize)]
struct Fetched {
    began: Time,
    default_branch: Option<String>,
}

#[derive(Clone)]
pub struct FetchRequest<'a> {
    pub base_ref: Option<&'a str>,
    /// A fetch that began after this will do.
    pub not_before: Time,
    pub login: Option<Login>,
}

impl Locked<'_> {
    pub(super) fn call_for(&self, request: &FetchRequest) -> Call<'_> {
        Call { login: request.login.clone(), stop: Some(&self.stop) }
    }

    /// The base of a job. Fetches unless a fetch is fresh enough; a damaged cache is made anew, once.
    pub fn base(&mut self, request: &FetchRequest, progress: &dyn Fn(&str)) -> Result<Base, Error> {
        let is_damage = |failure: &Failure| matches!(failure, Failure::Git(error) if error.cause() == Cause::Damaged);
        let mut tried = self.try_base(request, progress);
        if tried.as_ref().is_err_and(is_damage) {
            progress("the clone cache is damaged: everything is fetched again");
            let known = refs::of_remote(&self.git_dir);
            self.forget_remote_refs()?;
            tried = self.try_base(request, progress);
            if tried.is_err() {
                // Other jobs know by them what is the remote's.
                self.note_remote_refs(&known)?;
            }
        }
        if tried.as_ref().is_err_and(is_damage) {
            progress("the clone cache is damaged: it is made anew");
            self.make_anew()?;
            tried = self.try_base(request, progress);
        }
        tried.map_err(|failure| self.explain(failure, request))
    }

    fn try_base(&self, request: &FetchRequest, progress: &dyn Fn(&str)) -> Result<Base, Failure> {
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir, NOWHERE)?;
        let earlier = self.fetched();
        let is_clone = earlier.is_none();
        let doing = if is_clone { "cloning" } else { "fetching" };
        if let Some(fetched) = earlier.filter(|f| is_fresh(f, request.not_before))
            && let Ok(base) = self.resolve(&ours, request, fetched.default_branch, progress)
        {
            return Ok(base);
        }
        progress(&format!("{doing} {}", self.url));
        self.remove_unfinished_packs();
        let began = Time::now();
        let default_branch = self.persistently(|| default_branch(&ours, self.url.as_str(), self.call_for(request)))?;
        let into = Cell::new(if is_clone { Into::Pack } else { Into::AsGitLikes });
        self.persistently(|| {
            // The remote may be a shallow clone itself.
            let how = ["--prune", "--no-write-fetch-head", "--update-shallow", "--no-auto-maintenance"];
            let fetched = self.fetch(&ours, request, into.get(), &how, "+refs/heads/*:refs/remotes/origin/*", progress);
            if matches!(fetched, Err(git::Error::Silent { .. })) {
                into.set(Into::Pack);
            }
            fetched
        })?;
        ours.keep_shallow(&self.git_dir)?;
        // Each job's repository gets a copy of the references: one file is copied sooner than ten thousand.
        let _ = self
            .persistently(|| ours.run(&["pack-refs", "--all"], Call { login: None, stop: Some(&self.stop) }).map(drop));
        let fetched = Fetched { began, default_branch: default_branch.clone() };
        // A note that is lost costs a fetch.
        let _ = serde_json::to_vec(&fetched).map(|bytes| regular_file::write(&self.directory.join("fetched"), &bytes));
        self.resolve(&ours, request, default_branch, progress)
    }

    /// One fetch, which takes as long as it gets on. Whoever waits for the lock sees that it does.
    fn fetch(
        &self,
        ours: &PrivateGitDir,
        request: &FetchRequest,
        into: Into,
        how: &[&str],
        wanted: &str,
        progress: &dyn Fn(&str),
    ) -> Result<(), git::Error> {
        let limit = match into {
            Into::Pack => "fetch.unpackLimit=1",
            Into::AsGitLikes => "fetch.unpackLimit=100",
        };
        let begin = ["-c", limit, "fetch", "--progress", "--no-tags"];
        let end = ["--", self.url.as_str(), wanted];
        let arguments: Vec<&str> = begin.iter().chain(how).chain(&end).copied().collect();
        let mut told = Progress::new(progress);
        let mut heard = |bytes: &[u8]| {
            told.hear(bytes);
            self.get_on();
        };
        ours.transfer(&arguments, self.call_for(request), &mut heard).map(drop)
    }

    /// The remote's default branch, when it was asked last.
    pub(super) fn default_branch(&self) -> Option<String> {
        self.fetched()?.default_branch
    }

    fn fetched(&self) -> Option<Fetched> {
        serde_json::from_slice(&regular_file::read(&self.directory.join("fetched"), 4096).ok()?).ok()
    }

    fn resolve(
        &self,
        ours: &PrivateGitDir,
        request: &FetchRequest,
        default_branch: Option<String>,
        progress: &dyn Fn(&str),
    ) -> Result<Base, Failure> {
        let branch = |name: &str| {
            let reference = format!("refs/remotes/origin/{name}");
            match refs::read_any(&self.git_dir, &reference) {
                Some(commit) => Ok(Some(commit)),
                None => ours.commit_of(&reference, Call::default()),
            }
        };
        let pr_base = || default_branch.clone().unwrap_or_else(|| "main".into());
        let Some(asked) = request.base_ref else {
            let name = default_branch.clone().ok_or_else(|| self.without_default(ours))?;
            let commit = branch(&name)?.ok_or(Failure::Empty)?;
            return Ok(Base { pr_base: name.clone(), name, commit, default: default_branch });
        };
        let name = asked.strip_prefix("refs/heads/").unwrap_or(asked);
        if let Some(commit) = branch(name)? {
            return Ok(Base { name: asked.into(), commit, pr_base: name.into(), default: default_branch });
        }
        let is_hash = asked.len() == 40 && asked.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hash && let Some(commit) = ours.commit_of(asked, Call::default())? {
            return Ok(Base { name: asked.into(), commit, pr_base: pr_base(), default: default_branch });
        }
        let wanted =
            if is_hash || asked.starts_with("refs/") { asked.to_owned() } else { format!("refs/tags/{asked}") };
        match self.fetch(ours, request, Into::AsGitLikes, &[], &wanted, progress) {
            Ok(()) => {}
            // The beginning of a hash may do, if it is one commit's.
            Err(error) if error.cause() == Cause::NoSuchRef => {
                let found = if is_short_hash(asked) { ours.commit_of(asked, Call::default())? } else { None };
                let commit = found.ok_or_else(|| self.no_such_base(ours))?;
                return Ok(Base { name: asked.into(), commit, pr_base: pr_base(), default: default_branch });
            }
            Err(error) => return Err(Failure::Git(error)),
        }
        let noted = fs::read_to_string(ours.path("FETCH_HEAD")).unwrap_or_default();
        let hash: String = noted.chars().take_while(char::is_ascii_hexdigit).collect();
        let commit = ours.commit_of(&hash, Call::default())?.ok_or(Failure::NoSuchBase)?;
        Ok(Base { name: asked.into(), commit, pr_base: pr_base(), default: default_branch })
    }

    fn without_default(&self, ours: &PrivateGitDir) -> Failure {
        if has_branches(ours) { Failure::NoDefault } else { Failure::Empty }
    }

    fn no_such_base(&self, ours: &PrivateGitDir) -> Failure {
        if has_branches(ours) { Failure::NoSuchBase } else { Failure::Empty }
    }

    /// Tries again where trying again helps: the network, and lock files of another git.
    pub(super) fn persistently<T>(&self, mut action: impl FnMut() -> Result<T, git::Error>) -> Result<T, git::Error> {
        let mut tried = 0;
        let mut waited_for_lock = Duration::ZERO;
        loop {
            let error = match action() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let pause = match error.cause() {
                Cause::Unreachable if tried + 1 < TRIES => Duration::from_secs(1 << tried),
                Cause::LockFile if waited_for_lock <= LOCK_FILE_IS_STALE + Duration::from_secs(2) => {
                    if remove_stale_lock(&error, &self.git_dir) {
                        continue;
                    }
                    waited_for_lock += Duration::from_millis(500);
                    Duration::from_millis(500)
                }
                _ => return Err(error),
            };
            tried += u32::from(error.cause() == Cause::Unreachable);
            if let Some(reason) = self.stop.pause(pause) {
                return Err(git::Error::Stopped(reason));
            }
        }
    }

    fn explain(&self, failure: Failure, request: &FetchRequest) -> Error {
        let url = self.url;
        let asked = request.base_ref.unwrap_or_default();
        let error = match failure {
            Failure::Empty => return Error::Final(format!("{url} is empty: push a first commit to it")),
            Failure::NoDefault => {
                return Error::Final(format!(
                    "{url} names no default branch: say which branch to begin at with base_ref"
                ));
            }
            Failure::NoSuchBase => {
                return Error::Final(format!("{url} has no branch, tag or commit `{asked}`: check base_ref"));
            }
            Failure::Git(error) => error,
        };
        explain(self.spaces, url, request.login.is_some(), error)
    }
}

/// What git says of a remote, as whoever has to do something about it needs it.
fn explain(spaces: &Workspaces, url: &RepoUrl, has_login: bool, error: git::Error) -> Error {
    let text = match error.cause() {
        Cause::Login if has_login => {
            format!("{url} refused the server's credentials: check what its token or App may do ({error})")
        }
        Cause::Login => format!(
            "{url} wants credentials, and the server has none for it: it logs in to {} with GITHUB_TOKEN or a \
                 GitHub \
                 App, and by ssh with the keys of its user ({error})",
            spaces.github_server
        ),
        Cause::NamelessUser => format!(
            "{url} is reached by ssh, which works for no uid without a name, and uid {} has none in \
                 /etc/passwd: use \
                 https:// with a token, or run the server as a uid that has one ({error})",
            sys::effective_uid()
        ),
        Cause::NoRepository if url.transport == Transport::Local => {
            format!(
                "there is no repository at {url} on this machine: check the path, it does not exist as one \
                     ({error})"
            )
        }
        Cause::NoRepository => {
            format!("{url} does not exist, or the server's credentials may not see it: check the URL ({error})")
        }
        _ if error.to_string().contains("dubious ownership") => format!(
            "{url} belongs to another user on this machine, and git does not trust that: run `git config --system \
             --add safe.directory PATH` with the path that git names ({error})"
        ),
        _ if error.to_string().contains("mismatched algorithms") => format!(
            "{url} names its objects by SHA-256, which this server cannot work with: give it a repository with SHA-1 \
             names, as GitHub's are ({error})"
        ),
        Cause::RemoteDamaged if error.to_string().contains("promisor") => format!(
            "{url} is a partial clone, which has not all of its objects: give the repository that it was cloned from \
             ({error})"
        ),
        Cause::RemoteDamaged => format!("{url} is damaged on its own side: run `git fsck` there ({error})"),
        Cause::TooLarge => format!("{url} is too large: {error}; raise AGENTICORE_GIT_TIMEOUT"),
        Cause::Unreachable => return Error::Passing(format!("{url} cannot be reached: {error}")),
        _ => return error.into(),
    };
    Error::Final(text)
}

impl Workspaces {
    /// Whether the remote can be reached and has what is to be begun at, as far as it can be asked within `limit`.
    /// Changes nothing.
    pub fn ask_remote(
        &self,
        url: &RepoUrl,
        base_ref: Option<&str>,
        login: Option<Login>,
        limit: Duration,
    ) -> Result<(), Error> {
        let has_login = login.is_some();
        let mut command = self.git.command();
        // In no repository, whatever lies around.
        command.args(["ls-remote", "--", url.as_str()]).current_dir("/").env("GIT_DIR", "/nonexistent");
        let name = base_ref.map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
        let patterns = name.map(|name| [format!("refs/heads/{name}"), format!("refs/tags/{name}")]);
        match &patterns {
            Some(patterns) => command.args(patterns),
            None => command.arg("HEAD"),
        };
        let listed = self.git.run_within(limit, command, "ls-remote", Call { login, stop: None });
        let listed = listed.map_err(|error| explain(self, url, has_login, error))?;
        // A commit, or a reference of another kind, can be looked for by a fetch alone.
        let is_known = !listed.stdout.is_empty();
        let may_be_commit = |name: &str| refs::is_hash(name) || is_short_hash(name) || name.starts_with("refs/");
        match name.filter(|name| !is_known && !may_be_commit(name)) {
            Some(name) => Err(Error::Final(format!("{url} has no branch, tag or commit `{name}`: check base_ref"))),
            None => Ok(()),
        }
    }
}

/// What becomes of the objects that are fetched.
#[derive(Clone, Copy)]
enum Into {
    /// Always one pack. Git tells how many bytes of it are there.
    Pack,
    /// A few become files of their own, or a cache would have a pack for each fetch. While it unpacks those git is
    /// silent, however large they are.
    AsGitLikes,
}

enum Failure {
    Git(git::Error),
    /// Not one branch.
    Empty,
    /// Branches, but HEAD points to none of them.
    NoDefault,
    NoSuchBase,
}

impl From<git::Error> for Failure {
    fn from(error: git::Error) -> Self {
        Failure::Git(error)
    }
}

fn is_short_hash(text: &str) -> bool {
    (4..40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_fresh(fetched: &Fetched, not_before: Time) -> bool {
    let age = Time::now().since(fetched.began);
    fetched.began >= not_before && (0..=SHARED_FOR.as_millis() as i64).contains(&age)
}

/// The branch that the remote's HEAD points to. None: no HEAD, or one that points to a commit.
pub(super) fn default_branch(ours: &PrivateGitDir, url: &str, call: Call) -> Result<Option<String>, git::Error> {
    let listed = ours.run(&["ls-remote", "--symref", "--", url, "HEAD"], call)?;
    let text = String::from_utf8_lossy(&listed.stdout);
    let branch = text.lines().find_map(|line| line.strip_prefix("ref: refs/heads/")?.strip_suffix("\tHEAD"));
    Ok(branch.map(str::to_owned))
}

fn has_branches(ours: &PrivateGitDir) -> bool {
    let arguments = ["for-each-ref", "--count=1", "--format=%(refname)", "refs/remotes/origin/"];
    ours.run(&arguments, Call::default()).is_ok_and(|listed| !listed.stdout.is_empty())
}

/// Removes the lock file that `error` names, if it lies in this cache and is old. We hold the
/// repository's lock, so it is no other runner's.
fn remove_stale_lock(error: &git::Error, git_dir: &Path) -> bool {
    let git::Error::Failed { said, .. } = error else { return false };
    let Some((_, rest)) = said.split_once("Unable to create '") else { return false };
    let Some((path, _)) = rest.split_once("': File exists") else { return false };
    let path = Path::new(path);
    // Where the file is a link, git locks what it leads to, and names the link.
    let locked = || path.with_extension("").canonicalize().map(|locked| locked.with_extension("lock"));
    let (Ok(real), Ok(root)) = (path.canonicalize().or_else(|_| locked()), git_dir.canonicalize()) else {
        return false;
    };
    let age = real.metadata().and_then(|m| m.modified()).ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    real.starts_with(root) && age.is_some_and(|age| age > LOCK_FILE_IS_STALE) && fs::remove_file(real).is_ok()
}
