//! The words in which everything outside speaks of jobs: what may be asked, and what is shown. Pure.
//!
//! Each shape is written down field by field. What a record holds beyond them is nobody else's business, and a new
//! field of the record is private until it is written down here too. Servers write these types, the command line
//! reads them.

mod checkout;
mod event;
mod job;
mod list;
mod plan;
mod problem;
mod request;
mod webhook;
mod worktree;

pub use checkout::{Checkout, SyncAnswer};
pub use event::{Change, ChangePage, Event, EventPage};
pub use job::{Job, JobDiff, JobSummary, KeptWork};
pub use list::{ListCursor, ListRequest, View, Wanted, pair as label_pair};
pub use plan::{ExecuteRequest, Plan, PlanAnswer, PlanRequest, PlanStatus, PlansAnswer};
#[cfg(test)]
pub use problem::ProblemKind;
pub use problem::{KINDS as PROBLEM_KINDS, Problem};
pub use request::{
    BODY_LIMIT, ChangesRequest, DRAIN_DEFAULT, EventsRequest, JobRequest, LIST_DEFAULT, ResumeRequest, RetryRequest,
    cursor, drain_timeout, limit, moment, status,
};
pub use webhook::{Webhook, WebhookState, WebhooksAnswer, WebhooksRetried};
pub use worktree::{
    CleanupAnswer, CleanupRequest, KeptWorktree, Worktree, WorktreeAnswer, WorktreeRequest, WorktreeStatus,
    WorktreesAnswer,
};

use crate::job::Time;
use crate::profile;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// `GET /jobs/{id}`, and whatever else is answered with one job.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobAnswer {
    pub success: bool,
    pub job: Job,
    /// It comes from the second copy, because the first cannot be asked just now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl JobAnswer {
    pub fn new(job: Job, stale: bool) -> Self {
        Self { success: true, job, stale }
    }
}

/// As what a job is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Job,
    Plan,
    Worktree,
}

impl Shape {
    /// The answer that shows a job that has ended.
    pub fn answer(self, job: Job) -> Value {
        let shown = match self {
            Shape::Plan => Plan::of(&job).map(|plan| serde_json::to_value(PlanAnswer::new(plan, false))),
            Shape::Worktree => Worktree::of(&job, None, false).map(|worktree| match worktree.error.clone() {
                None => serde_json::to_value(WorktreeAnswer::new(worktree)),
                Some(why) => Ok(serde_json::json!({ "success": false, "error": why, "worktree": worktree })),
            }),
            Shape::Job => None,
        };
        // Text, numbers and names: there is nothing in an answer that JSON cannot hold.
        shown.unwrap_or_else(|| serde_json::to_value(JobAnswer::new(job, false))).unwrap_or_default()
    }
}

/// `GET /jobs`; `J` is what the view shows of each.
#[derive(Debug, Serialize, Deserialize)]
pub struct JobsAnswer<J> {
    pub success: bool,
    pub count: usize,
    pub jobs: Vec<J>,
    /// The `after` of the next page. None: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl<J> JobsAnswer<J> {
    pub fn new(jobs: Vec<J>, next: Option<String>, stale: bool) -> Self {
        Self { success: true, count: jobs.len(), jobs, next, stale }
    }
}

/// One of `GET /profiles`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Profile {
    pub name: String,
    pub description: String,
    /// What Claude is told; any of YAML's values.
    pub model: Option<Value>,
    pub max_turns: Option<Value>,
    pub worktree: bool,
    pub auto_pr: bool,
    pub permission_mode: Option<Value>,
    pub trust_repo: bool,
    /// In seconds.
    pub timeout: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Value>,
}

impl From<&profile::Profile> for Profile {
    fn from(profile: &profile::Profile) -> Self {
        let flag = |name: &str| profile.flags.get(name).cloned();
        Self {
            name: profile.name.clone(),
            description: profile.description.clone(),
            model: flag("model"),
            max_turns: flag("max-turns"),
            worktree: profile.worktree,
            auto_pr: profile.auto_pr,
            permission_mode: flag("permission-mode"),
            trust_repo: profile.trust_repo,
            timeout: profile.timeout.as_secs(),
            extends: profile.extends.clone(),
            effort: flag("effort"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProfilesAnswer {
    pub success: bool,
    pub count: usize,
    pub profiles: Vec<Profile>,
    /// What is wrong with those that cannot be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// What in the others was probably meant otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How far a drain has come.
#[derive(Debug, Serialize, Deserialize)]
pub struct Drain {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    pub draining: bool,
    /// Ids.
    pub running: Vec<String>,
    pub handed_back: Vec<String>,
    /// None: not known, because Redis was asked instead of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// `GET /health`
#[derive(Debug, Serialize, Deserialize)]
pub struct Status {
    pub status: String,
    pub service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// `GET /status`
#[derive(Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    pub success: bool,
    /// `ok`, `draining`, or `waiting`.
    pub status: String,
    pub service: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    pub version: String,
    pub pod_name: String,
    /// Nothing keeps jobs from running here.
    pub runs_jobs: bool,
    pub draining: bool,
    /// How many jobs may run here at once.
    pub slots: usize,
    /// How many run here.
    pub running: usize,
    /// How many wait, in the whole fleet. None: the store cannot be asked.
    pub queued: Option<usize>,
    /// What the one who asks may do: `read`, `submit` or `admin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Those that are set, by the names of their settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, u64>,
    pub checks: Vec<Check>,
    /// All servers of the fleet that were heard of lately, by name; this one alone where there is none.
    #[serde(default)]
    pub pods: Vec<Pod>,
}

/// A server, as it said of itself last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pod {
    pub name: String,
    pub version: String,
    /// How many jobs may run there at once, and how many do.
    pub slots: usize,
    pub running: usize,
    pub draining: bool,
    pub heard_at: Time,
    /// What it lacks, a line each.
    pub unwell: Vec<String>,
}

/// Something that a server needs, or does better with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<String>,
    /// What does not work here because of it.
    #[serde(default, skip_serializing_if = "Stops::is_nothing")]
    pub stops: Stops,
}

/// What does not work while a check is not well. Each holds what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stops {
    #[default]
    Nothing,
    /// No job that needs an agent is begun.
    Agents,
    /// No job is begun.
    Jobs,
    /// Requests should go to other servers: `/ready` says so.
    Requests,
}

impl Stops {
    fn is_nothing(&self) -> bool {
        *self == Stops::Nothing
    }
}

/// `GET /ready`
#[derive(Debug, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub draining: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}
