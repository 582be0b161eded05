//! One job from claim to end: prepare, run the agent, publish, tidy.
//!
//! `steps` says where an attempt goes on, the other files carry a step out. What a step achieved is in the record
//! before the next begins; an attempt that takes over goes on behind the last such mark. Whatever happens, an
//! attempt leaves its job ended, handed back, or to whoever took it. Never waits for a job to be there, never speaks
//! HTTP.

mod agent_step;
pub mod checks;
mod commit;
mod diffs;
pub mod kept;
pub mod machine;
pub mod parking;
pub mod plan;
mod prepare;
pub mod prepared;
mod publish;
mod retry;
mod set_aside;
mod steps;
mod story;
mod submodules;
mod tidy;

use crate::api::Stops;
use crate::checkouts::Checkouts;
use crate::config::Config;
use crate::event::{Draft, Kind};
use crate::forge::GitHub;
use crate::job::{JobId, Mark, Record, Time, cut};
use crate::log;
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use crate::profile::{Profiles, SELF_TEST};
use crate::redact::Redactor;
use crate::spans;
use crate::store::outbox::About;
use crate::store::redis::Redis;
use crate::store::{self, Attempt, Back, Claim, End, Store};
use crate::workspace::cache::{self, Workspaces};
use crate::workspace::hosts::Hosts;
use crate::workspace::lock::Locks;
use crate::workspace::url::{self, RepoUrl, Transport};
use commit::joined;
use machine::Machine;
use parking::{Parking, Trouble};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use steps::{Looked, Step};

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
    /// This pod's name, in a fleet: worktrees lie on the disk of the pod that made them.
    pub pod: Option<String>,
    /// Worktrees on this disk that stay, and when they were looked into.
    kept_worktrees: Mutex<HashMap<JobId, Instant>>,
    /// Whether jobs can be run here just now.
    pub parking: Parking,
    /// What was measured of this machine last.
    pub machine: Machine,
    /// What meets trouble here waits until it is over, or for another server; else it fails at once.
    waits_out_trouble: bool,
    in_use: prepared::InUse,
    /// What earlier runs in front of a user left: their jobs, and where each has its files.
    earlier_runs: Vec<(Record, PathBuf)>,
    /// Prepared worktrees that are past their age and stay, and when they were looked into.
    kept_prepared: Mutex<HashMap<JobId, Instant>>,
    /// Jobs whose records name a worktree on this disk that is gone.
    removed_unsaid: Mutex<HashSet<JobId>>,
    /// What lay in the runtime directory before this server put anything there.
    left_in_runtime: Vec<PathBuf>,
}

/// Why an attempt does not go on to its job's end.
#[derive(Debug)]
enum Halt {
    /// The job ends `failed`, and this is why.
    Failed(String),
    /// It cannot be run here at present, whosever job it is.
    Trouble(Trouble),
    Stopped(Reason),
    /// The job is somebody else's, or has ended.
    Lost,
}

impl From<cache::Error> for Halt {
    fn from(error: cache::Error) -> Self {
        match error {
            cache::Error::Stopped(reason) => Halt::Stopped(reason),
            cache::Error::Passing(why) | cache::Error::MadeAnew(why) | cache::Error::Final(why) => Halt::Failed(why),
        }
    }
}

/// One attempt at one job, being carried out: what it may write with, and what it has written so far.
struct Execution<'a> {
    runner: &'a Runner,
    attempt: &'a dyn Attempt,
    stop: &'a Stop,
    /// As the store has it.
    record: Record,
    redactor: Redactor,
    looked: Looked,
    /// Looked into since the agent ended: there is nothing in the worktree that could get lost.
    worktree_is_clean: bool,
    /// Of the prepared worktree that it works in.
    lease: Option<prepared::WorktreeLease>,
    /// It works where an earlier attempt left off: in a worktree whose work could not be saved whole, or in the
    /// directory of a job without a repository.
    is_in_place: bool,
    /// The conversation of an earlier attempt that the agent goes on with.
    goes_on: Option<String>,
    /// What a reader of the record should know beside how it ended; noted at the end, as a note before says that there
    /// is nothing to publish.
    remark: Option<String>,
    /// When the step that is under way began.
    step_began: Cell<Instant>,
    /// When publishing began.
    publish_began: Option<Time>,
}

impl Runner {
    /// What can be found wrong before the first job, is: the error says what.
    pub fn new(config: Config, store: Arc<dyn Store>, agents_lock: PathBuf) -> Result<Self, String> {
        Self::with_locks(config, store, agents_lock, Locks::default(), None)
    }

    /// The same for the pod of this name in a fleet, whose clone locks are the fleet's.
    pub fn in_fleet(config: Config, store: Arc<Redis>) -> Result<Self, String> {
        let (agents, pod) = (store.agents_lock(), config.pod_name.clone());
        // Without a shared volume the caches are this machine's, and so are their locks.
        let locks = if config.shared_root.is_some() { Locks::of_fleet(store.clone_locks()) } else { Locks::default() };
        Self::with_locks(config, store, agents, locks, Some(pod))
    }

    fn with_locks(
        config: Config,
        store: Arc<dyn Store>,
        agents_lock: PathBuf,
        locks: Locks,
        pod: Option<String>,
    ) -> Result<Self, String> {
        let github = GitHub::new(&config)?;
        let spaces = Workspaces::new(&config, locks, pod.clone())
            .map_err(|error| format!("cannot find this program's own file: {error}"))?;
        Ok(Self {
            profiles: Profiles::new(config.profile_dirs.clone(), config.claude.timeout).above(config.checkouts.layer()),
            redactor: Redactor::new(config.secrets()),
            is_root: sys::effective_uid() == 0,
            store,
            spaces,
            github,
            agents_lock,
            pod,
            kept_worktrees: Mutex::default(),
            parking: Parking::default(),
            machine: Machine::default(),
            waits_out_trouble: true,
            earlier_runs: Vec::new(),
            in_use: prepared::InUse::default(),
            kept_prepared: Mutex::default(),
            removed_unsaid: Mutex::default(),
            left_in_runtime: tidy::entries(&config.runtime_dir),
            config,
        })
    }

    /// Accepts `text` as the URL of a repository that this server works on, or says why not.
    pub fn judge_url(&self, text: &str) -> Result<RepoUrl, String> {
        let repos = &self.config.repos;
        let policy = url::Policy { allow_local: repos.allow_local, allow_http: repos.allow_http };
        let url = url::judge(text, policy)?;
        self.hosts().check(&url)?;
        Ok(url)
    }

    /// Whether git may connect to it, by the addresses that its name stands for; behind a proxy that is the proxy's to
    /// say. Asks the resolver.
    pub fn judge_addresses(&self, url: &RepoUrl) -> Result<(), String> {
        let is_http = matches!(url.transport, Transport::Http | Transport::Https);
        match is_http && self.config.proxy_to(url.as_str()).is_some() {
            true => Ok(()),
            false => self.hosts().check_addresses(url),
        }
    }

    pub fn checkouts(&self) -> Checkouts<'_> {
        Checkouts { config: &self.config, spaces: &self.spaces, github: &self.github }
    }

    fn hosts(&self) -> Hosts<'_> {
        let repos = &self.config.repos;
        let server = self.config.github.server_url.split_once("://").map_or("", |(_, rest)| rest);
        let server = server.split('/').next().unwrap_or_default();
        Hosts { server, allowed: &repos.hosts, allow_local: repos.allow_local }
    }

    /// For one job alone, in front of its user: what cannot be run now fails at once.
    /// `earlier`: what was run so before, and where each has its files.
    pub fn that_fails_at_once(self, earlier: Vec<(Record, PathBuf)>) -> Self {
        Self { waits_out_trouble: false, earlier_runs: earlier, ..self }
    }

    /// Whether a job may have the servers of this file. Who runs one job in front of himself may name any; the others
    /// learn nothing of files elsewhere, not even whether they are there.
    pub fn may_use_file(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return !self.waits_out_trouble };
        let below = |directory: &PathBuf| directory.canonicalize().is_ok_and(|directory| real.starts_with(directory));
        !self.waits_out_trouble || self.config.repos.mcp_file_dirs.iter().any(below)
    }

    /// What a job of this profile lacks to be run here, and what to do about it.
    pub fn lacks(&self, profile: &str) -> Option<String> {
        self.config.missing_for_agents().filter(|_| profile != SELF_TEST)
    }

    /// What a queued job of this profile waits for that an operator has to do. None: its turn has not come.
    pub fn why_waiting(&self, profile: &str) -> Option<String> {
        if self.config.max_parallel_jobs > 0 {
            let lacks = self.lacks(profile).map(|what| format!("{what}, {}", self.config.then_restart()));
            let stops = if profile == SELF_TEST { Stops::Jobs } else { Stops::Agents };
            return lacks.or_else(|| self.why_unwell(stops)).or_else(|| self.why_parked(profile));
        }
        let is_alone = self.config.redis.is_none();
        is_alone.then(|| {
            "a server that runs jobs: this one has AGENTICORE_MAX_PARALLEL_JOBS=0, and keeps its jobs for itself".into()
        })
    }

    /// What this server lacks to run a job that waits.
    pub fn why_not_here(&self, record: &Record) -> Option<String> {
        // What needs no agent needs no login either, as the self-test.
        self.why_waiting(if record.purpose.needs_agent() { &record.profile } else { SELF_TEST })
    }

    /// What has to be put right before what `stops` names works here.
    pub fn why_unwell(&self, stops: Stops) -> Option<String> {
        let check = self.hindrance(stops)?;
        Some(format!("this server to be well: {}; {}", check.why, check.what_to_do.unwrap_or_default()))
    }

    /// That a job began is told once, by its first attempt that gets so far.
    fn note_start(&self, record: &Record) {
        let Some(outbox) = self.store.outbox().filter(|_| self.config.webhooks.tells_start) else { return };
        if let Err(why) = outbox.note(record, About::Started) {
            log::job(&record.id).warn(format!("that it began cannot be told: {why}"));
        }
    }

    fn why_parked(&self, profile: &str) -> Option<String> {
        let (trouble, left) = self.parking.trouble()?;
        if trouble.kind == parking::Kind::Account && profile == SELF_TEST {
            return None;
        }
        if left.is_zero() {
            return Some(format!("the end of the job that tries just now, because {}", trouble.why));
        }
        let next = Time::now().plus_seconds(left.as_secs());
        Some(format!("the next try at {next}, because {}", trouble.why))
    }

    /// Carries out the attempt that was claimed. Returns when nothing of it is left to do here.
    pub fn execute(&self, claim: Claim) {
        let Claim { record, attempt, stop } = claim;
        let profile = self.profiles.find(&record.profile);
        let is_task = record.purpose.is_task();
        let looked = Looked {
            // A profile that is gone since the agent ran cannot take its work away.
            publishes: is_task && profile.as_ref().map_or(true, |profile| profile.auto_pr),
            may_be_behind: self.pod.is_some()
                && record.attempt > 1
                && is_task
                && profile.is_ok_and(|profile| profile.auto_pr && profile.worktree),
            ..Looked::default()
        };
        let (attempt, redactor) = (&*attempt, self.redactor.clone());
        let mut execution = Execution {
            runner: self,
            attempt,
            stop: &stop,
            record,
            redactor,
            looked,
            worktree_is_clean: false,
            lease: None,
            is_in_place: false,
            goes_on: None,
            remark: None,
            step_began: Cell::new(Instant::now()),
            publish_began: None,
        };
        let claimed = format!("attempt {}, profile {}", execution.record.attempt, execution.record.profile);
        execution.log_step(Kind::Claimed, &claimed);
        self.note_start(&execution.record);
        spans::attempt_began(&execution.record);
        // One that needs no agent, or a self-test, is claimed also where git is missing: another server may have it.
        let lacks = execution.record.repo_url.as_ref().and_then(|_| self.why_no_git());
        let done = match lacks {
            Some(why) if self.waits_out_trouble => Err(Halt::Trouble(Trouble::of_machine(why))),
            _ => execution.take_steps(),
        };
        execution.tell_published();
        let ended = match done {
            Ok(()) => execution.end(End::Verdict),
            Err(Halt::Trouble(trouble)) => execution.set_aside(trouble),
            Err(Halt::Failed(why)) if execution.is_trouble(&why) => execution.set_aside(Trouble::of_machine(why)),
            Err(Halt::Failed(why)) => execution.end(End::Failed(execution.redactor.clean(why))),
            Err(other) => Err(other),
        };
        match ended {
            Ok(()) => {}
            Err(Halt::Stopped(Reason::HandBack)) => {
                execution.hand_back(Back::Leaves("the server goes away; another attempt goes on".into()));
            }
            Err(Halt::Stopped(Reason::Lost)) => {
                let why = "its lease could not be proved any more; another attempt goes on";
                execution.hand_back(Back::Leaves(why.into()));
            }
            Err(Halt::Stopped(Reason::Cancelled) | Halt::Lost | Halt::Failed(_) | Halt::Trouble(_)) => {
                execution.clean_up_lost();
            }
        }
        self.spaces.give_up(execution.record.worktree_name());
    }
}

impl Execution<'_> {
    fn take_steps(&mut self) -> Result<(), Halt> {
        loop {
            match steps::next_step(&self.record, &self.looked) {
                Step::FindWork => self.find_work()?,
                Step::FindBranch => self.find_branch()?,
                Step::RunAgent => {
                    let ready = self.prepare()?;
                    self.run_agent(ready)?;
                    // It was done here, by this very attempt.
                    self.looked.for_work = true;
                }
                Step::MakeWorktree => self.make_prepared()?,
                step @ (Step::Commit | Step::Push | Step::OpenPullRequest) => self.publish(step)?,
                Step::Tidy => self.tidy_worktree()?,
                Step::Finish => return Ok(()),
            }
        }
    }

    fn publish(&mut self, step: Step) -> Result<(), Halt> {
        self.publish_began.get_or_insert_with(Time::now);
        match step {
            Step::Commit => self.commit(),
            Step::Push => self.push(),
            _ => self.open_pull_request(),
        }
    }

    /// To whoever follows traces; publishing is over, or given up.
    fn tell_published(&self) {
        if let Some(began) = self.publish_began {
            spans::part(&self.record, spans::PUBLISH, began, Time::now(), self.record.error.clone());
        }
    }

    /// Writes a mark, and tries until it is written: what was achieved must not get lost because a
    /// disk is full just now.
    fn mark(&mut self, mark: Mark, event: Option<Draft>) -> Result<(), Halt> {
        self.record = self.persistently(|this| this.attempt.mark(mark.clone(), event.clone()))?;
        if let Some(event) = &event {
            self.log_step(event.kind, &event.text);
        }
        Ok(())
    }

    /// Nobody else has the job: asked before anything begins that others see.
    fn prove(&self) -> Result<(), Halt> {
        self.persistently(|this| this.attempt.prove())?;
        self.stop.reason().map_or(Ok(()), |reason| Err(Halt::Stopped(reason)))
    }

    /// Adds an event. One that cannot be written is not worth the attempt.
    fn say(&self, kind: Kind, text: impl Into<String>) -> Result<(), Halt> {
        self.say_draft(Draft::new(kind, self.redactor.clean(text)))
    }

    fn say_draft(&self, draft: Draft) -> Result<(), Halt> {
        self.log_step(draft.kind, &draft.text);
        match self.attempt.say(draft) {
            Err(store::Error::Lost) => Err(Halt::Lost),
            _ => Ok(()),
        }
    }

    /// The server's log tells the steps of a job; what its agent says is among the job's events alone.
    fn log_step(&self, kind: Kind, detail: &str) {
        let Some((level, step)) = story::told_of(kind) else { return };
        let now = Instant::now();
        // What is on the way in a step is none of its own.
        let took = story::is_end_of_step(kind).then(|| now.duration_since(self.step_began.replace(now)));
        log::step(&self.record, level, step, &cut(self.redactor.clean(detail), story::DETAIL_LIMIT), took);
    }

    fn end(&mut self, end: End) -> Result<(), Halt> {
        if matches!(end, End::Failed(_)) {
            self.tidy_worktree()?;
        }
        if let Some(remark) = self.remark.take() {
            let note = joined([self.record.note.clone(), Some(remark)]).unwrap_or_default();
            self.mark(Mark::Note(note), None)?;
        }
        self.persistently(|this| this.attempt.finish(end.clone())).map(drop)
    }

    fn persistently<T>(&self, action: impl Fn(&Self) -> Result<T, store::Error>) -> Result<T, Halt> {
        let mut pause = Duration::from_millis(100);
        loop {
            match action(self) {
                Ok(done) => return Ok(done),
                Err(store::Error::Lost) => {
                    // A lease that ran out is given back; what is another attempt's, or has ended, is not ours.
                    return Err(self.stop.reason().map_or(Halt::Lost, Halt::Stopped));
                }
                Err(why) => {
                    log::job(&self.record.id).warn(format!("it waits: {why}"));
                    if let Some(reason) = self.stop.pause(pause) {
                        return Err(Halt::Stopped(reason));
                    }
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
            }
        }
    }

    fn url(&self) -> Result<Option<RepoUrl>, Halt> {
        let judged = self.record.repo_url.as_deref().map(|text| self.runner.judge_url(text));
        judged.transpose().map_err(Halt::Failed)
    }
}
