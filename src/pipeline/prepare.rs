//! Before the agent: repository, worktree, profile, places.

use super::kept::GoesOn;
use super::retry::Failure;
use super::{Execution, Halt};
use crate::agent::home::{self, Home};
use crate::agent::memory;
use crate::event::{Draft, Kind};
use crate::job::{Mark, Time};
use crate::profile::Profile;
use crate::profile::materialize::{self, Materialized};
use crate::spans;
use crate::workspace::cache::{Error, Locked};
use crate::workspace::fetch::{Base, FetchRequest};
use crate::workspace::regular_file;
use crate::workspace::submodules::Wanted;
use crate::workspace::url::RepoUrl;
use crate::workspace::worktree::Worktree;
use std::path::{Path, PathBuf};

/// Where and how the agent will run.
pub struct Ready {
    pub profile: Profile,
    pub written: Materialized,
    pub home: Home,
    /// The worktree, or the job's own directory.
    pub directory: PathBuf,
    pub system_prompt_file: Option<PathBuf>,
    /// The resumed session's cost so far.
    pub cost_before: f64,
    pub github_token: Option<String>,
}

impl Execution<'_> {
    pub fn prepare(&mut self) -> Result<Ready, Halt> {
        let runner = self.runner;
        let profile = runner.profiles.find(&self.record.profile).map_err(|error| Halt::Failed(error.to_string()))?;
        let profile = profile.with(&self.record.overrides);
        let job_dir = self.job_dir();
        let mut stays = false;
        let directory = match self.url()? {
            Some(url) => match self.record.worktree_id.clone() {
                Some(id) => self.enter_prepared(&url, &id, profile.worktree)?,
                None => self.make_worktree(&url, profile.worktree, profile.submodules)?,
            },
            None => {
                stays = self.goes_on_in_directory(&job_dir)?;
                if !stays {
                    self.say_no_files()?;
                }
                job_dir.clone()
            }
        };
        let more: Vec<&Path> = runner.config.claude.default_mcp_file.as_deref().into_iter().collect();
        let of_job = self.record.file_path.as_ref().map(PathBuf::from);
        let more: Vec<&Path> = more.into_iter().chain(of_job.as_deref()).collect();
        let written = materialize::write(&profile, &job_dir, stays, &more).map_err(Halt::Failed)?;
        self.mark(Mark::Directory(written.config_dir.display().to_string()), None)?;
        let cost_before = self.bring_session(&written)?;
        let system_prompt_file = self.write_system_prompt(&profile, &directory, &job_dir)?;
        let github_token = match profile.github_token {
            true => runner.github.token().map_err(|error| Halt::Failed(error.to_string()))?,
            false => None,
        };
        self.redactor = self.redactor.and(github_token.as_deref());
        let name = format!("{}-{}", self.record.id.short(), self.record.attempt);
        let runtime = &runner.config.runtime_dir;
        let home = Home::make(runtime, &name)
            .map_err(|error| Halt::Failed(format!("cannot make the agent's home in {}: {error}", runtime.display())))?;
        Ok(Ready { profile, written, home, directory, system_prompt_file, cost_before, github_token })
    }

    pub fn job_dir(&self) -> PathBuf {
        self.runner.config.job_dirs_root.join(self.record.id.as_str())
    }

    /// `with_branch`: on a branch of its own, else on a detached HEAD.
    pub fn make_worktree(&mut self, url: &RepoUrl, with_branch: bool, submodules: Wanted) -> Result<PathBuf, Halt> {
        let id = self.record.id.clone();
        let there = Worktree::of(&self.runner.spaces, url, &id, self.record.branch.clone());
        if let Some(path) = self.go_on_in_place(&there)? {
            return Ok(path);
        }
        let goes_on = self.find_kept(url)?;
        Ok(self.make_worktree_from(url, with_branch, submodules, goes_on)?.0)
    }

    /// The same, with what was saved in it; and whether it is.
    pub fn make_worktree_from(
        &mut self,
        url: &RepoUrl,
        with_branch: bool,
        submodules: Wanted,
        mut goes_on: Option<GoesOn>,
    ) -> Result<(PathBuf, bool), Halt> {
        let runner = self.runner;
        if self.record.create_repo {
            self.create_repository(url)?;
        }
        let id = self.record.id.clone();
        let branch = with_branch.then(|| id.branch());
        let worktree = Worktree::of(&runner.spaces, url, &id, branch.clone());
        let mut is_restored = false;
        let base = loop {
            let at = goes_on.as_ref().map(|goes_on| goes_on.kept.base.clone());
            let base = match self.try_worktree(&worktree, at.as_deref(), submodules) {
                // Once: a cache that was damaged is another one now.
                Err(Failure::MadeAnew(why)) => {
                    self.say(Kind::Cloning, why)?;
                    self.try_worktree(&worktree, at.as_deref(), submodules)
                }
                other => other,
            };
            let base = base.map_err(|failure| match failure {
                Failure::Passing { why, .. } | Failure::MadeAnew(why) | Failure::Final(why) => Halt::Failed(why),
                Failure::Halt(halt) => halt,
            })?;
            let Some(from) = goes_on.take() else { break base };
            is_restored = self.go_on_from(&worktree, &from)?;
            if is_restored {
                break base;
            }
        };
        let path = worktree.path();
        let text = format!("{} at {} ({})", path.display(), base.name, &base.commit[..base.commit.len().min(12)]);
        let mark = Mark::Worktree {
            path: path.display().to_string(),
            on: runner.pod.clone(),
            branch,
            base_ref: base.name,
            base_commit: base.commit,
            pr_base: base.pr_base,
        };
        self.mark(mark, Some(Draft::new(Kind::WorktreeReady, text)))?;
        Ok((path, is_restored))
    }

    /// `at`: the commit to begin at, if not the newest of what was asked for.
    fn try_worktree(&self, worktree: &Worktree, at: Option<&str>, submodules: Wanted) -> Result<Base, Failure> {
        let runner = self.runner;
        runner.judge_addresses(worktree.url).map_err(Error::Final)?;
        let login = runner.github.login(worktree.url)?;
        let request =
            FetchRequest { base_ref: self.record.base_ref.as_deref(), not_before: self.record.created_at, login };
        let progress = |text: &str| {
            let _ = self.say(Kind::Cloning, text);
        };
        let began = Time::now();
        let part = |name, began, error| spans::part(&self.record, name, began, Time::now(), error);
        let locked = runner.spaces.lock_telling(worktree.url, self.stop, &progress);
        let fetched = locked.and_then(|mut locked| Ok((locked.base(&request, &progress)?, locked)));
        part(spans::CLONE, began, fetched.as_ref().err().map(ToString::to_string));
        let (base, locked) = fetched?;
        let began = Time::now();
        let made = self.make_worktree_at(worktree, locked, base, &request, at, submodules);
        let why = made.as_ref().err().map(|failure| match failure {
            Failure::Passing { why, .. } | Failure::MadeAnew(why) | Failure::Final(why) => why.clone(),
            Failure::Halt(_) => "stopped".to_owned(),
        });
        part(spans::WORKTREE, began, why);
        made
    }

    fn make_worktree_at(
        &self,
        worktree: &Worktree,
        mut locked: Locked,
        mut base: Base,
        request: &FetchRequest,
        at: Option<&str>,
        submodules: Wanted,
    ) -> Result<Base, Failure> {
        let progress = |text: &str| {
            let _ = self.say(Kind::Cloning, text);
        };
        if let Some(commit) = at.or(self.record.at_commit.as_deref()) {
            // Its branch may have moved since; where the pull request goes has not.
            let request = FetchRequest { base_ref: Some(commit), ..request.clone() };
            base.commit = locked.base(&request, &progress)?.commit;
        }
        let lfs = locked.fetch_lfs(&base.commit, request, &progress)?;
        worktree.make(locked, &base, &lfs, self.stop)?;
        self.make_submodules(worktree, &base.commit, submodules)?;
        Ok(base)
    }

    fn create_repository(&self, url: &RepoUrl) -> Result<(), Halt> {
        let Some(slug) = self.runner.github.slug(url) else {
            return Err(Halt::Failed(format!("create_repo works on GitHub alone, and {url} is not on it")));
        };
        let private = self.record.private;
        let tried = self.try_again("creating the repository", || {
            self.runner.github.ensure_repository(&slug, private).map_err(Failure::from)
        })?;
        match tried {
            Ok(true) => self.say(Kind::Cloning, format!("created the repository {url}")),
            Ok(false) => Ok(()),
            Err(why) => Err(Halt::Failed(why)),
        }
    }

    /// Brings the conversation that is to be resumed; returns what it cost so far.
    fn bring_session(&mut self, written: &Materialized) -> Result<f64, Halt> {
        self.bring_own_session(&written.config_dir)?;
        let Some(session) = self.record.resume_session.as_deref() else { return Ok(0.0) };
        let runner = self.runner;
        let earlier = self.persistently(|_| runner.store.with_session(session))?;
        let of_earlier = earlier.as_ref().and_then(|record| record.job_config_dir.as_ref()).map(PathBuf::from);
        // Otherwise it may be another store's job, or begun by hand on this machine. If it is nowhere,
        // Claude says so.
        let others = std::fs::read_dir(&runner.config.job_dirs_root).into_iter().flatten().flatten();
        let others = others.map(|entry| entry.path().join(".claude")).filter(|dir| *dir != written.config_dir);
        let by_hand = runner.config.claude.login_dir.clone();
        for from in of_earlier.into_iter().chain(others).chain(by_hand) {
            let brought = home::bring_session(session, &from, &written.config_dir);
            let cannot =
                |error| Halt::Failed(format!("cannot bring the session {session} from {}: {error}", from.display()));
            if brought.map_err(cannot)? {
                break;
            }
        }
        Ok(earlier.and_then(|record| record.spent.session_cost_usd).unwrap_or(0.0))
    }

    /// The repository's CLAUDE.md and its like, when Claude itself is kept from reading the repository's settings,
    /// below what the profile adds to the system prompt.
    fn write_system_prompt(
        &self,
        profile: &Profile,
        directory: &Path,
        job_dir: &Path,
    ) -> Result<Option<PathBuf>, Halt> {
        let mut parts = Vec::new();
        for name in profile.flags.clone().take("append-system-prompt-file") {
            let path = profile.file(&name);
            let text = regular_file::read_owned(&path, materialize::FILE_LIMIT).map_err(|error| {
                Halt::Failed(format!("profile {}: cannot read {}: {error}", profile.name, path.display()))
            })?;
            parts.push(String::from_utf8_lossy(&text).into_owned());
        }
        if self.record.repo_url.is_some()
            && !profile.trust_repo
            && let Some(memory) = memory::of_repository(directory)
        {
            parts.push(format!("The repository's own instructions:\n\n{memory}"));
        }
        if parts.is_empty() {
            return Ok(None);
        }
        let path = job_dir.join("system-prompt.md");
        std::fs::write(&path, parts.join("\n\n"))
            .map_err(|error| Halt::Failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(Some(path))
    }
}
