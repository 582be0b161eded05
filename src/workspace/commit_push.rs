//! Turns what an agent left into a commit, and brings the commit to the remote.

use super::cache::{Error, Locked};
use super::cause::Cause;
use super::credentials::Login;
use super::fetch::default_branch;
use super::git::{self, Call};
use super::inspect::{INDEX_LIMIT, Inspection};
use super::looking::leave;
use super::new_objects::{NewFile, new_files};
use super::private_git_dir::{NOWHERE, PrivateGitDir};
use super::url::RepoUrl;
use super::worktree::Worktree;
use super::{refs, regular_file};
use crate::process::stop::Stop;
use std::fs;
use std::io;
use std::path::Path;

/// What git notes in a repository of a merge or a cherry-pick that the next commit concludes.
const CONCLUDED: [&str; 6] = ["MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE", "CHERRY_PICK_HEAD", "REVERT_HEAD"];
/// And of what takes several commits.
const UNDER_WAY: [&str; 8] = [
    "sequencer",
    "rebase-merge",
    "rebase-apply",
    "BISECT_START",
    "BISECT_LOG",
    "BISECT_NAMES",
    "BISECT_TERMS",
    "BISECT_EXPECTED_REV",
];

/// What is to be published.
pub struct Made {
    pub commit: String,
    /// What a push of it would bring to the remote.
    pub new_files: Vec<NewFile>,
}

/// How a push came out.
#[derive(Debug, PartialEq)]
pub enum Push {
    /// The branch is on the remote, at our commit.
    Done,
    /// It was there already, at this other commit.
    Exists(String),
}

impl Worktree<'_> {
    /// Commits what no commit holds yet; the cache has it by then. None: nothing of what was left can be committed.
    pub fn commit(
        &self,
        found: &Inspection,
        base_commit: &str,
        message: &str,
        stop: &Stop,
    ) -> Result<Option<Made>, Error> {
        // Objects are written to the cache: under its lock, like everything that writes there.
        let locked = self.spaces.lock(self.url, stop)?;
        let made = if found.is_dirty { self.commit_changes(found, base_commit, message, &locked)? } else { None };
        let Some(commit) = made.or_else(|| found.has_commits.then(|| found.head.clone())) else { return Ok(None) };
        let new_files = new_files(&self.view(&commit)?, base_commit, &commit)?;
        self.refuse_plain_text(base_commit, &commit, &new_files)?;
        self.take_over(&commit, base_commit, &locked)?;
        Ok(Some(Made { commit, new_files }))
    }

    fn commit_changes(
        &self,
        found: &Inspection,
        base_commit: &str,
        message: &str,
        locked: &Locked,
    ) -> Result<Option<String>, Error> {
        let settings = &self.spaces.settings;
        let author = [
            ("GIT_AUTHOR_NAME", settings.author_name.as_str()),
            ("GIT_AUTHOR_EMAIL", settings.author_email.as_str()),
            ("GIT_COMMITTER_NAME", settings.author_name.as_str()),
            ("GIT_COMMITTER_EMAIL", settings.author_email.as_str()),
        ];
        let ours = self.private_git_dir(base_commit)?;
        leave(&ours, &found.untouched)?;
        let call = || Call { login: None, stop: Some(&locked.stop) };
        if !self.stage(&ours, found, base_commit, &locked.stop)? {
            return Ok(None);
        }
        // A merge that the agent had not committed stays one.
        let merged = regular_file::read_text(&self.repository().join("MERGE_HEAD"), 4096).unwrap_or_default();
        if !merged.is_empty() && merged.lines().all(refs::is_hash) {
            // Without a fast-forward, if it was begun so.
            let mode = regular_file::read_text(&self.repository().join("MERGE_MODE"), 100).unwrap_or_default();
            let mode = if mode.trim() == "no-ff" { "no-ff" } else { "" };
            let noted = regular_file::write(&ours.path("MERGE_HEAD"), merged.as_bytes())
                .and_then(|()| regular_file::write(&ours.path("MERGE_MODE"), mode.as_bytes()));
            noted.map_err(|error| Error::Final(format!("the merge cannot be committed: {error}")))?;
        }
        let commit = ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", "-m", message];
        ours.run_as(&commit, &author, call())?;
        // HEAD is detached in there, so it holds the new commit itself.
        Ok(Some(ours.head()))
    }

    /// A worktree that is kept shows the commit of its uncommitted changes on its branch, and nothing as changed. But a
    /// branch that holds other work (of a rebase that is not at its end, say) stays where it is, and so does an index
    /// with contents that are nowhere else. Only once the record tells of all that can be seen no more then.
    pub fn show(&self, commit: &str, found: &Inspection) -> Result<(), Error> {
        let is_other = found.hidden.is_some() || !found.staged.only_staged.is_empty() || commit == found.head;
        let shows = !is_other && self.is_on_disk() && self.has_its_own_repository();
        let Some(branch) = self.branch.as_ref().filter(|_| shows) else { return Ok(()) };
        let ours = self.view(commit)?;
        let index = ours.path("index");
        let _ = regular_file::copy(&self.first_index(), &index, INDEX_LIMIT);
        let ours = self.with_files(ours, &index);
        ours.run(&["read-tree", "--reset", commit], Call::default())?;
        self.leave_out(&ours, commit)?;
        let shown = refs::set_branch(&self.repository(), branch, commit)
            .and_then(|()| self.show_index(&index))
            .and_then(|()| self.end_operations(&CONCLUDED));
        shown.map_err(|error| Error::Final(format!("branch {branch} of its repository: {error}")))
    }

    /// No link stands in the place of its repository: what is written there is written nowhere else.
    fn has_its_own_repository(&self) -> bool {
        let own = self.repository();
        let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        [own.clone(), own.join("refs"), own.join("refs/heads")].iter().all(|path| is_directory(path))
    }

    /// Removes git's notes of what is under way in the repository.
    fn end_operations(&self, notes: &[&str]) -> io::Result<()> {
        notes.iter().try_for_each(|name| super::remove::tree(&self.repository().join(name)))
    }

    fn show_index(&self, index: &Path) -> io::Result<()> {
        let shown = self.repository().join("index");
        // Whatever the agent put in its place goes.
        super::remove::tree(&shown)?;
        regular_file::copy(index, &shown, u64::MAX)
    }

    /// Everything in it is published as `commit`: that is what is checked out from here on, on the worktree's own
    /// branch, whatever the agent had checked out; and only what is made after it counts as work.
    pub fn begin_at(&self, commit: &str) -> Result<(), Error> {
        let (own, branch) = (self.repository(), self.id.branch());
        let cannot = |error: io::Error| Error::Final(format!("cannot check out {branch} in its worktree: {error}"));
        if !self.has_its_own_repository() {
            return Err(Error::Final(format!("a link stands in the place of the repository {}", own.display())));
        }
        refs::set_branch(&own, &branch, commit).map_err(cannot)?;
        let head = format!("ref: refs/heads/{branch}\n");
        regular_file::write(&own.join("HEAD"), head.as_bytes()).map_err(cannot)?;
        let ours = self.private_git_dir(commit)?;
        // What one job left out of its worktree the next may have taken in again: the index that it is compared with
        // says nothing of that.
        let index = ours.path("index");
        let _ = fs::remove_file(&index);
        let _ = regular_file::copy(&self.first_index(), &index, INDEX_LIMIT);
        ours.run(&["read-tree", "--reset", commit], Call::default())?;
        regular_file::copy(&index, &self.first_index(), u64::MAX).map_err(cannot)?;
        self.leave_out(&ours, commit)?;
        self.show_index(&index).map_err(cannot)?;
        self.end_operations(&CONCLUDED).and_then(|()| self.end_operations(&UNDER_WAY)).map_err(cannot)?;
        self.note_published(commit).map_err(cannot)
    }

    /// The cache holds this commit.
    pub fn cache_has(&self, commit: &str) -> Result<bool, Error> {
        let Some(git_dir) = self.spaces.git_dir_of(self.url) else { return Ok(false) };
        let ours = PrivateGitDir::onto(&self.spaces.git, &git_dir, NOWHERE)?;
        Ok(ours.commit_of(commit, Call::default())?.is_some())
    }

    /// The agent fetched something: its repository may hold more of the remote's commits than the cache.
    pub fn has_fetched(&self) -> bool {
        fs::symlink_metadata(self.repository().join("FETCH_HEAD")).is_ok()
    }

    /// What the remote's branches and tags point to, but for those of jobs. A remote that cannot be asked names none.
    pub fn tips_of_remote(&self, login: Option<Login>, stop: &Stop) -> Vec<String> {
        let Some(git_dir) = self.spaces.git_dir_of(self.url) else { return Vec::new() };
        let listed = PrivateGitDir::onto(&self.spaces.git, &git_dir, NOWHERE)
            .and_then(|ours| ours.run(&["ls-remote", "--", self.url.as_str()], Call { login, stop: Some(stop) }));
        let listed = listed.map(|listed| String::from_utf8_lossy(&listed.stdout).into_owned()).unwrap_or_default();
        // Not the branches of jobs: the agent may have pushed its own.
        let is_of_job = |name: &str| name.starts_with("refs/heads/agenticore-");
        let named = listed.lines().filter_map(|line| line.split_once('\t'));
        named.filter(|(hash, name)| refs::is_hash(hash) && !is_of_job(name)).map(|(hash, _)| hash.to_owned()).collect()
    }

    /// Where `branch` is on the remote.
    pub fn on_remote(&self, branch: &str, login: Option<Login>, stop: &Stop) -> Result<Option<String>, Error> {
        let Some(git_dir) = self.spaces.git_dir_of(self.url) else { return Ok(None) };
        let ours = PrivateGitDir::onto(&self.spaces.git, &git_dir, NOWHERE)?;
        Ok(remote_branch(&ours, self.url, branch, Call { login, stop: Some(stop) })?)
    }

    /// The branch that a pull request goes to: the one the job was to begin at, if it is one, else the default.
    pub fn pull_request_base(
        &self,
        base_ref: Option<&str>,
        login: Option<Login>,
        stop: &Stop,
    ) -> Result<Option<String>, Error> {
        let asked = base_ref.map(|name| name.strip_prefix("refs/heads/").unwrap_or(name));
        if let Some(name) = asked
            && self.on_remote(name, login.clone(), stop)?.is_some()
        {
            return Ok(Some(name.to_owned()));
        }
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, NOWHERE)?;
        Ok(default_branch(&ours, self.url.as_str(), Call { login, stop: Some(stop) })?)
    }

    /// Creates `branch` on the remote at `commit`. One that is there, because the agent pushed it itself, goes on if
    /// `commit` contains it; no other is ever moved.
    pub fn push(&self, commit: &str, branch: &str, login: Option<Login>, stop: &Stop) -> Result<Push, Error> {
        match self.push_onto("", commit, branch, login.clone(), stop)? {
            Push::Exists(there) if self.is_ancestor(&there, commit)? => {
                self.push_onto(&there, commit, branch, login, stop)
            }
            other => Ok(other),
        }
    }

    /// The cache has both, and the one contains the other.
    fn is_ancestor(&self, commit: &str, of: &str) -> Result<bool, Error> {
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, of)?;
        match ours.run(&["merge-base", "--is-ancestor", commit, of], Call::default()) {
            Ok(_) => Ok(true),
            Err(git::Error::Failed { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a commit on the job's branch was made by a server for this job: not by its agent, which may push there.
    pub fn is_servers_own(&self, commit: &str, login: Option<Login>, stop: &Stop) -> Result<bool, Error> {
        let git_dir = self.git_dir()?;
        let ours = PrivateGitDir::onto(&self.spaces.git, &git_dir, NOWHERE)?;
        if ours.commit_of(commit, Call::default())?.is_none() {
            let locked = self.spaces.lock(self.url, stop)?;
            let call = Call { login, stop: Some(&locked.stop) };
            let fetch = ["fetch", "--no-tags", "--no-write-fetch-head", "--quiet", self.url.as_str(), commit];
            ours.run(&fetch, call)?;
        }
        let told = ours.run(&["log", "-1", "--format=%B", commit], Call::default())?.stdout;
        let mark = format!("agenticore job {}", self.id);
        Ok(String::from_utf8_lossy(&told).lines().any(|line| line.trim() == mark))
    }

    /// Its agent made this commit, or had it.
    pub fn agent_has(&self, commit: &str) -> bool {
        refs::history_of_head(&self.repository()).iter().any(|known| known == commit)
    }

    /// Its agent made this commit.
    pub fn agent_made(&self, commit: &str) -> bool {
        refs::made_at_head(&self.repository()).contains(commit)
    }

    /// Moves `branch` from `there` to `commit`; empty: creates it.
    fn push_onto(
        &self,
        there: &str,
        commit: &str,
        branch: &str,
        login: Option<Login>,
        stop: &Stop,
    ) -> Result<Push, Error> {
        let git_dir = self.git_dir()?;
        let ours = PrivateGitDir::onto(&self.spaces.git, &git_dir, commit)?;
        let absent = format!("--force-with-lease=refs/heads/{branch}:{there}");
        let refspec = format!("{commit}:refs/heads/{branch}");
        let call = Call { login: login.clone(), stop: Some(stop) };
        let pushed =
            ours.run(&["push", "--porcelain", "--no-verify", &absent, "--", self.url.as_str(), &refspec], call);
        match pushed {
            Ok(_) => Ok(Push::Done),
            Err(error) if error.cause() == Cause::BranchExists => {
                let there = remote_branch(&ours, self.url, branch, Call { login, stop: Some(stop) })?;
                match there {
                    Some(there) if there == commit => Ok(Push::Done),
                    Some(there) => Ok(Push::Exists(there)),
                    None => Err(Error::Passing(format!("the branch {branch} was there and is gone again"))),
                }
            }
            // Another push of this job, by a server that died, may have got through meanwhile.
            Err(error @ git::Error::Failed { .. })
                if error.cause() == Cause::Other
                    && let Ok(Some(there)) =
                        remote_branch(&ours, self.url, branch, Call { login: login.clone(), stop: Some(stop) })
                    && there == commit =>
            {
                drop(error);
                Ok(Push::Done)
            }
            Err(error @ git::Error::Failed { .. }) if error.cause() == Cause::Unreachable => {
                Err(Error::Passing(format!("cannot push to {}: {error}", self.url)))
            }
            Err(error @ git::Error::Failed { .. }) if error.cause() == Cause::Login => Err(Error::Final(format!(
                "{} does not let the server push: its token or App needs write access to the contents ({error})",
                self.url
            ))),
            Err(error) => Err(error.into()),
        }
    }
}

fn remote_branch(ours: &PrivateGitDir, url: &RepoUrl, branch: &str, call: Call) -> Result<Option<String>, git::Error> {
    let listed = ours.run(&["ls-remote", "--", url.as_str(), &format!("refs/heads/{branch}")], call)?;
    let text = String::from_utf8_lossy(&listed.stdout);
    Ok(text.split_whitespace().next().map(str::to_owned))
}
