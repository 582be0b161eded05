//! A prepared worktree as it is asked for, and shown: the job that makes it, seen as what it is there for.

use super::Job;
use super::request::{known_fields, known_fields_if_any, text};
use crate::job::{JobId, Purpose, Status, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// `POST /worktrees`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorktreeRequest {
    pub repo_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ref: Option<String>,
}

impl WorktreeRequest {
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let fields = known_fields(body, &["repo_url", "base_ref"])?;
        let repo_url = text(&fields, "repo_url")?.ok_or("`repo_url` must name the repository: it is missing")?;
        Ok(Self { repo_url, base_ref: text(&fields, "base_ref")? })
    }
}

/// What a cleanup of worktrees is to remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CleanupRequest {
    /// Paths or ids of known worktrees; none: all that are old enough.
    pub paths: Vec<String>,
    /// None: as the settings say; with paths, however young they are.
    pub max_age: Option<Duration>,
}

impl CleanupRequest {
    /// The longest age that can be asked for, in hours: ten years.
    const HOURS_MOST: f64 = 87_600.0;

    /// The same behind a `?`.
    pub fn of_parameters(pairs: &[(&str, &str)]) -> Result<Self, String> {
        let value = |(name, text): &(&str, &str)| {
            // What is no number is refused with what was given.
            let number = text.parse().ok().and_then(serde_json::Number::from_f64).map(Value::Number);
            let value = number.filter(|_| *name == "max_age_hours").unwrap_or_else(|| Value::from(*text));
            (name.to_string(), value)
        };
        // Behind a `?` it was given on purpose, such as an unset variable of a shell.
        let is_empty = |value: &str| value.split(',').all(|path| path.trim().is_empty());
        if pairs.iter().any(|(name, value)| *name == "paths" && is_empty(value)) {
            return Err("`paths` is empty: give ids or paths, separated by commas, or leave it out".into());
        }
        let fields: serde_json::Map<String, Value> = pairs.iter().map(value).collect();
        Self::parse(Value::Object(fields).to_string().as_bytes())
    }

    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let fields = known_fields_if_any(body, &["paths", "max_age_hours"])?;
        let listed = fields.get("paths").and_then(Value::as_array);
        let paths = match listed.map(|all| all.iter().map(Value::as_str).collect::<Option<Vec<_>>>()) {
            // A list says the same as a text with commas.
            Some(Some(paths)) => paths.join(","),
            _ => text(&fields, "paths")?.unwrap_or_default(),
        };
        let paths = paths.split(',').map(str::trim).filter(|path| !path.is_empty()).map(str::to_owned).collect();
        let hours = match fields.get("max_age_hours") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(value) => {
                let hours = value.as_f64().filter(|hours| (0.0..=Self::HOURS_MOST).contains(hours));
                Some(hours.ok_or_else(|| {
                    let most = Self::HOURS_MOST;
                    format!("`max_age_hours` must be a number of hours to {most}, not {value}; 0: as the settings say")
                })?)
            }
        };
        // The contract's default is 0: it says nothing.
        let max_age = hours.filter(|hours| *hours > 0.0).map(|hours| Duration::from_secs_f64(hours * 3600.0));
        Ok(Self { paths, max_age })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorktreeStatus {
    /// It is being made, or waits for a pod that makes it.
    Preparing,
    /// A job can name it.
    Ready,
    /// A job works in it, or is to.
    InUse,
    /// The pod that has it is not there.
    PodGone,
    /// Its pod removes it.
    Removing,
    /// It could not be made, and `error` says why.
    Failed,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Worktree {
    pub id: JobId,
    pub status: WorktreeStatus,
    pub path: Option<String>,
    /// The pod that has it on its disk.
    pub pod: Option<String>,
    pub repo_url: Option<String>,
    pub base_ref: Option<String>,
    /// The commit that it began at.
    pub base_commit: Option<String>,
    /// The job that works in it, or is to.
    pub job_id: Option<JobId>,
    pub created_at: Time,
    pub error: Option<String>,
    /// What an operator has to do before it can be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

impl Worktree {
    /// None: the job is there for something else. `job_in`: the job that works in it, or is to. `pod_is_gone`: the pod
    /// that has it.
    pub fn of(job: &Job, job_in: Option<JobId>, pod_is_gone: bool) -> Option<Self> {
        let job = job.clone();
        let status = match job.status {
            Status::Queued | Status::Running => WorktreeStatus::Preparing,
            Status::Succeeded if pod_is_gone => WorktreeStatus::PodGone,
            Status::Succeeded if job_in.is_some() => WorktreeStatus::InUse,
            Status::Succeeded => WorktreeStatus::Ready,
            Status::Failed | Status::Cancelled | Status::Expired => WorktreeStatus::Failed,
        };
        (job.purpose == Purpose::Worktree).then_some(Self {
            id: job.id,
            status,
            path: job.worktree_path,
            pod: job.pod_name,
            repo_url: job.repo_url,
            base_ref: job.base_ref,
            base_commit: job.base_commit,
            job_id: job_in,
            created_at: job.created_at,
            error: job.error,
            waiting_for: job.waiting_for,
        })
    }
}

/// `GET /worktrees/{id}`, and whatever else is answered with one worktree.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorktreeAnswer {
    pub success: bool,
    pub worktree: Worktree,
}

impl WorktreeAnswer {
    pub fn new(worktree: Worktree) -> Self {
        Self { success: true, worktree }
    }
}

/// `GET /worktrees`
#[derive(Debug, Serialize, Deserialize)]
pub struct WorktreesAnswer {
    pub success: bool,
    pub count: usize,
    pub worktrees: Vec<Worktree>,
}

impl WorktreesAnswer {
    pub fn new(worktrees: Vec<Worktree>) -> Self {
        Self { success: true, count: worktrees.len(), worktrees }
    }
}

/// One that a cleanup was to remove, and left.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptWorktree {
    pub id: JobId,
    pub path: Option<String>,
    pub why: String,
}

/// What a cleanup did.
#[derive(Debug, Serialize, Deserialize)]
pub struct CleanupAnswer {
    pub success: bool,
    pub count: usize,
    /// As they were.
    pub removed: Vec<Worktree>,
    pub kept: Vec<KeptWorktree>,
}
