//! One job from claim to end: prepare, run the agent, publish, tidy.
//!
//! What a step achieved is in the record before the next begins; an attempt that takes over goes on
//! behind the last such mark. Whatever happens, an attempt leaves its job ended, handed back, or
//! to whoever took it.

mod agent_step;
mod prepare;
mod publish;
mod retry;
mod tidy;

use crate::config::Config;
use crate::event::{Draft, Kind};
use crate::forge::GitHub;
use crate::job::{Mark, Record};
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use crate::profile::Profiles;
use crate::redact::Redactor;
use crate::store::{self, End, Lease, Store};
use crate::workspace::cache::{self, Workspaces};
use crate::workspace::url::{self, RepoUrl};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything that jobs are run with. Made once, shared by all workers.
pub struct Runner {
    pub store: Arc<dyn Store>,
    pub config: Config,
    pub profiles: Profiles,
    pub spaces: Workspaces,
    pub github: GitHub,
    pub redactor: Redactor,
    /// Held by every supervisor; see the store.
    pub agents_lock: PathBuf,
    pub is_root: bool,
}

/// Why an attempt does not go on to its job's end.
#[derive(Debug)]
enum Halt {
    /// The job ends `failed`, and this is why.
    Failed(String),
    Stopped(Reason),
    /// The job is somebody else's, or has ended.
    Lost,
}

impl From<cache::Error> for Halt {
    fn from(error: cache::Error) -> Self {
        match error {
            cache::Error::Stopped(reason) => Halt::Stopped(reason),
            cache::Error::Passing(why) | cache::Error::Final(why) => Halt::Failed(why),
        }
    }
}

/// One attempt at one job: what it may write with, and what it has written so far.
struct Attempt<'a> {
    runner: &'a Runner,
    lease: Lease,
    stop: &'a Stop,
    /// As the store has it.
    record: Record,
    redactor: Redactor,
    /// Looked into since the agent ended: there is nothing in the worktree that could get lost.
    worktree_is_clean: bool,
}

impl Runner {
    /// What can be found wrong before the first job, is: the error says what.
    pub fn new(config: Config, store: Arc<dyn Store>, agents_lock: PathBuf) -> Result<Self, String> {
        let ca_file = config.variables.get("SSL_CERT_FILE").filter(|path| !path.is_empty());
        let github = GitHub::new(&config.github, ca_file.map(String::as_str))?;
        let spaces =
            Workspaces::new(&config).map_err(|error| format!("cannot find this program's own file: {error}"))?;
        Ok(Self {
            profiles: Profiles::new(config.profile_dirs.clone(), config.claude.timeout),
            redactor: Redactor::new(config.secrets()),
            is_root: sys::effective_uid() == 0,
            store,
            spaces,
            github,
            agents_lock,
            config,
        })
    }

    pub fn url_policy(&self) -> url::Policy {
        url::Policy { allow_local: self.config.repos.allow_local, allow_http: self.config.repos.allow_http }
    }

    /// Runs the attempt that `record` was claimed for. Returns when nothing of it is left to do here.
    pub fn attempt(&self, record: Record, stop: &Stop) {
        let lease = Lease::of(&record);
        let mut attempt =
            Attempt { runner: self, lease, stop, record, redactor: self.redactor.clone(), worktree_is_clean: false };
        let ended = match attempt.steps() {
            Ok(()) => attempt.end(End::Verdict),
            Err(Halt::Failed(why)) => attempt.end(End::Failed(attempt.redactor.clean(why))),
            Err(other) => Err(other),
        };
        match ended {
            Ok(()) => {}
            Err(Halt::Stopped(Reason::HandBack)) => attempt.hand_back(),
            Err(Halt::Stopped(Reason::Cancelled) | Halt::Lost | Halt::Failed(_)) => attempt.let_go(),
        }
    }
}

impl Attempt<'_> {
    fn steps(&mut self) -> Result<(), Halt> {
        if self.record.verdict.is_none() {
            let ready = self.prepare()?;
            self.run_agent(ready)?;
        }
        self.publish()?;
        self.tidy_worktree()
    }

    /// Writes a mark, and tries until it is written: what was achieved must not get lost because a
    /// disk is full just now.
    fn mark(&mut self, mark: Mark, event: Option<Draft>) -> Result<(), Halt> {
        let runner = self.runner;
        self.persistently(|attempt| runner.store.mark(&attempt.lease, mark.clone(), event.clone()))?;
        let record = self.persistently(|attempt| runner.store.get(&attempt.lease.id))?;
        self.record = record.filter(|record| record.attempt == self.lease.attempt).ok_or(Halt::Lost)?;
        Ok(())
    }

    /// Adds an event. One that cannot be written is not worth the attempt.
    fn say(&self, kind: Kind, text: impl Into<String>) -> Result<(), Halt> {
        self.say_draft(Draft::new(kind, self.redactor.clean(text)))
    }

    fn say_draft(&self, draft: Draft) -> Result<(), Halt> {
        match self.runner.store.say(&self.lease, draft) {
            Err(store::Error::Lost) => Err(Halt::Lost),
            _ => Ok(()),
        }
    }

    fn end(&mut self, end: End) -> Result<(), Halt> {
        if matches!(end, End::Failed(_)) {
            self.tidy_worktree()?;
        }
        let runner = self.runner;
        self.persistently(|attempt| runner.store.finish(&attempt.lease, end.clone())).map(drop)
    }

    fn persistently<T>(&self, action: impl Fn(&Self) -> Result<T, store::Error>) -> Result<T, Halt> {
        let mut pause = Duration::from_millis(100);
        loop {
            match action(self) {
                Ok(done) => return Ok(done),
                Err(store::Error::Lost) => return Err(Halt::Lost),
                Err(store::Error::Unavailable(why)) => {
                    crate::log::warn(&format!("job {} waits: {why}", self.lease.id));
                    if let Some(reason) = self.stop.pause(pause) {
                        return Err(Halt::Stopped(reason));
                    }
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    fn url(&self) -> Result<Option<RepoUrl>, Halt> {
        let judged = self.record.repo_url.as_deref().map(|text| url::judge(text, self.runner.url_policy()));
        judged.transpose().map_err(Halt::Failed)
    }
}
