//! `doctor`: proves the invariants on the live system, and shows the evidence of each.
//!
//! Looks on while the servers work: what may be about to change is looked at twice. Repairs only what
//! is safe, and only when asked to.

mod cluster;
mod disk;
mod processes;
mod queue;
mod redis;
mod remote;
mod worktrees;

use crate::api::Check;
use crate::config::Config;
use crate::forge::GitHub;
use crate::pipeline::checks;
use crate::pipeline::machine::Machine;
use crate::profile::Profiles;
use crate::store::redis::admin::Admin;
use crate::workspace::cache::Workspaces;
use crate::workspace::lock::Locks;
use crate::workspace::remove;
use serde::Serialize;
use std::time::Duration;

/// One invariant, and what was found.
#[derive(Debug, Serialize)]
pub struct Finding {
    pub check: &'static str,
    /// The pod that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub ok: bool,
    /// It could not be looked at, so nobody knows.
    pub unknown: bool,
    /// What was looked at.
    pub evidence: String,
    pub problems: Vec<String>,
    /// What is no fault, and should be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What `--fix` did about them.
    pub repaired: Vec<String>,
}

impl Finding {
    pub fn new(check: &'static str, evidence: impl Into<String>, problems: Vec<String>) -> Self {
        let ok = problems.is_empty();
        Self {
            check,
            subject: None,
            ok,
            unknown: false,
            evidence: evidence.into(),
            problems,
            warnings: Vec::new(),
            repaired: Vec::new(),
        }
    }

    fn repaired(mut self, repaired: Vec<String>) -> Self {
        self.ok = self.ok || (repaired.len() == self.problems.len());
        self.repaired = repaired;
        self
    }

    /// It could not be looked at.
    fn blind(check: &'static str, why: impl Into<String>) -> Self {
        Self { unknown: true, ..Self::new(check, "could not be looked at", vec![why.into()]) }
    }
}

/// What the checks look at things with.
pub struct Doctor {
    config: Config,
    /// None: the embedded store.
    redis: Option<Admin>,
    /// For asking remotes.
    spaces: Workspaces,
    github: GitHub,
    fix: bool,
}

impl Drop for Doctor {
    fn drop(&mut self) {
        // Private git directories of its own; what cannot be removed is in a temporary directory.
        let _ = remove::tree(&self.config.runtime_dir);
    }
}

impl Doctor {
    pub fn new(config: Config, fix: bool) -> Result<Self, String> {
        let config = config.beside_the_server();
        let spaces = Workspaces::new(&config, Locks::default(), None);
        Ok(Self {
            redis: config.redis.as_ref().map(|redis| Admin::new(redis, &config.pod_name)).transpose()?,
            spaces: spaces.map_err(|error| format!("cannot find this program's own file: {error}"))?,
            github: GitHub::new(&config)?,
            config,
            fix,
        })
    }

    /// Runs all checks; `tell` hears of each as it is done.
    pub fn examine(&self, mut tell: impl FnMut(&Finding)) -> Vec<Finding> {
        let checks: [fn(&Self) -> Vec<Finding>; 6] = [
            Self::look_at_settings,
            Self::look_at_disk,
            Self::look_at_redis,
            Self::look_at_queue,
            Self::look_at_machine,
            Self::look_at_remotes,
        ];
        let mut all = Vec::new();
        for check in checks {
            let found = check(self);
            found.iter().for_each(&mut tell);
            all.extend(found);
        }
        all
    }

    /// A server with these settings can take jobs and run them.
    fn look_at_settings(&self) -> Vec<Finding> {
        let config = &self.config;
        let mut problems = Vec::new();
        if config.wants_redis && config.redis.is_none() {
            problems.push(format!("no job is taken: {}", config.where_to_set("redis-url", "REDIS_URL")));
        }
        if config.max_parallel_jobs > 0 {
            let machine = Machine::default();
            machine.measure(config);
            problems.extend(checks::of_machine(config, &machine).iter().filter_map(as_problem));
        } else if config.redis.is_none() {
            problems
                .push("AGENTICORE_MAX_PARALLEL_JOBS is 0 and there is no Redis: nobody runs this server's jobs".into());
        }
        let evidence = format!("{} jobs at once, by {}", config.max_parallel_jobs, config.claude.binary);
        let profiles = Profiles::new(config.profile_dirs.clone(), config.claude.timeout);
        let others = checks::of_settings(config, self.spaces.git.has_lfs(), &profiles);
        let warnings = others.iter().filter_map(as_problem).collect();
        vec![Finding { warnings, ..Finding::new("settings", evidence, problems) }]
    }

    /// What is found twice, with time between for the servers to put it right themselves.
    fn persistent<T>(&self, look: impl Fn() -> Result<(T, Vec<Problem>), String>) -> Result<(T, Vec<Problem>), String> {
        let (evidence, first) = look()?;
        if first.is_empty() {
            return Ok((evidence, first));
        }
        let settings = self.config.redis.as_ref();
        let pause = settings
            .map_or(Duration::from_secs(2), |redis| redis.sweep_period + redis.reap_grace + redis.reap_period * 2);
        std::thread::sleep(pause);
        let (evidence, second) = look()?;
        Ok((evidence, second.into_iter().filter(|problem| first.contains(problem)).collect()))
    }
}

/// A line for what is not well.
pub fn as_problem(check: &Check) -> Option<String> {
    let what_to_do = check.what_to_do.as_ref()?;
    Some(format!("{}: {}; {what_to_do}", check.name, check.why))
}

/// Something wrong with one job.
#[derive(Clone, PartialEq, Debug)]
pub struct Problem {
    pub id: String,
    pub what: String,
}

impl Problem {
    fn new(id: impl Into<String>, what: impl Into<String>) -> Self {
        Self { id: id.into(), what: what.into() }
    }

    fn text(&self) -> String {
        format!("{}: {}", self.id, self.what)
    }
}

fn texts(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(Problem::text).collect()
}
