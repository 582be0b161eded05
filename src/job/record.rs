//! The record of a job: what is kept of it. Pure. Only the states beside it change one.

use super::{JobId, Time};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The most of an agent's final text that a record keeps, in bytes (the interface's number).
pub const OUTPUT_LIMIT: usize = 50_000;
/// The most of an error that a record keeps, in bytes (the interface's number).
pub const ERROR_LIMIT: usize = 10_000;
/// Workers a job may cost their lives before it ends as poison.
pub const DEATHS_LIMIT: u32 = 3;
/// The format of the records that this program knows. One without a number is another program's.
pub(super) const FORMAT: u32 = 3;
/// The format of a record with a plan or a worktree, which versions before those would overlook.
pub(super) const PURPOSE_FORMAT: u32 = 2;
/// The format of a record that has nothing in it which earlier versions would overlook.
pub(super) const PLAIN_FORMAT: u32 = 1;
/// How long another program's ended job is kept, in seconds: 100 years. Nobody said that it may go. So long, too, a
/// prepared worktree stays for all that time alone says.
pub(super) const FOREIGN_STAYS: u64 = 100 * 366 * 86_400;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Expired,
}

impl Status {
    pub const ALL: [Status; 6] =
        [Status::Queued, Status::Running, Status::Succeeded, Status::Failed, Status::Cancelled, Status::Expired];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
            Status::Expired => "expired",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    pub fn has_ended(self) -> bool {
        !matches!(self, Status::Queued | Status::Running)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    FireAndForget,
    Sync,
}

/// What a job is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Its agent works, and what it did is published.
    #[default]
    Task,
    /// Its agent writes a plan; nothing is published.
    Plan,
    /// It has no agent: it makes a worktree that stays, for later jobs.
    Worktree,
}

impl Purpose {
    pub fn is_task(self) -> bool {
        self == Purpose::Task
    }

    pub fn needs_agent(self) -> bool {
        self != Purpose::Worktree
    }
}

/// What a job has otherwise than its profile says. None: as that says.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Overrides {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    /// How long its agent may run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

impl Overrides {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a user asked for, already checked.
#[derive(Clone, Debug)]
pub struct Spec {
    pub purpose: Purpose,
    pub task: String,
    pub profile: String,
    pub repo_url: Option<String>,
    pub base_ref: Option<String>,
    pub session_id: Option<String>,
    pub file_path: Option<String>,
    pub create_repo: bool,
    pub private: bool,
    pub mode: Mode,
    pub ttl_seconds: u64,
    /// The name of the Idempotency-Key it was submitted with.
    pub key: Option<String>,
    /// The name of the API key it is submitted with.
    pub submitted_by: Option<String>,
    /// What the request is called that it came with.
    pub request_id: Option<String>,
    /// The trace that it belongs to, as W3C's `traceparent` header says it.
    pub traceparent: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub overrides: Overrides,
    /// Where its end is told, beside what the settings name.
    pub webhook_url: Option<String>,
    /// The job whose request this is again.
    pub retry_of: Option<JobId>,
    /// The plan that this job carries out.
    pub plan_id: Option<JobId>,
    /// The commit to begin at, of what `base_ref` names.
    pub at_commit: Option<String>,
    /// The prepared worktree to work in.
    pub worktree_id: Option<JobId>,
    /// The only pod that may take it: the one that has the worktree.
    pub runs_on: Option<String>,
}

/// How the agent's run was judged. Kept in the record, so that an attempt that takes over
/// publishes what was done and never runs the agent again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    pub succeeded: bool,
    pub exit_code: Option<i32>,
    pub output: Option<String>,
    pub error: Option<String>,
}

/// What the agent used, as it reports it in its `result`.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    pub cost_usd: Option<f64>,
    /// The session's cost so far: Claude's own figure, cumulative over resumed runs.
    pub session_cost_usd: Option<f64>,
    pub turns: Option<u64>,
    pub usage: Option<serde_json::Value>,
    #[serde(default)]
    pub denied_tools: Vec<String>,
}

/// How another than its holder took an attempt's job from it. Kept in the record, so that the event that tells of
/// it cannot get lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handover {
    pub attempt: u32,
    pub time: Time,
    /// Its worker was lost with it; otherwise it went in order.
    pub lost: bool,
    pub why: String,
}

/// The wish that a prepared worktree's pod removes it, and what that pod said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removal {
    pub asked_at: Time,
    /// Also if work is lost with it.
    pub discards: bool,
    /// It was decided: whatever is left of it goes, and no job works in it any more.
    #[serde(default)]
    pub begun: bool,
    /// Why it was not removed.
    pub refused: Option<String>,
}

/// What is noted in the record of a job after its end. It changes nothing of how it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Its request was given to this job again.
    RetriedAs(JobId),
    /// Its plan is carried out by this job.
    ExecutedAs(JobId),
    /// Its worktree is this job's for as long as that lives.
    UsedBy(JobId),
    /// All that its worktree holds up to this commit is published.
    Published(String),
    /// Somebody asked its pod to remove its worktree; or that pod said why not.
    Removal(Removal),
    /// Its attempt's worktree held no work, and is gone.
    WorktreeRemoved,
}

/// The most handovers that a record remembers, the latest ones.
pub(super) const HANDOVERS_LIMIT: usize = 100;

/// The job record: the interface's fields, then ours. Read through [`Queued`], [`Running`] and
/// [`Ended`], which alone can change it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: JobId,
    pub repo_url: Option<String>,
    pub base_ref: Option<String>,
    pub task: String,
    pub profile: String,
    pub(super) status: Status,
    pub mode: Mode,
    pub exit_code: Option<i32>,
    pub session_id: Option<String>,
    pub pr_url: Option<String>,
    pub output: Option<String>,
    pub error: Option<String>,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub ttl_seconds: u64,
    pub pid: Option<u32>,
    pub pod_name: Option<String>,
    pub worktree_path: Option<String>,
    pub branch: Option<String>,
    pub job_config_dir: Option<String>,
    pub file_path: Option<String>,
    // Beyond the interface.
    #[serde(default)]
    pub(super) format: u32,
    #[serde(default)]
    pub create_repo: bool,
    #[serde(default)]
    pub private: bool,
    /// The session the user asked to resume; `session_id` becomes what Claude reports.
    pub resume_session: Option<String>,
    /// The job that had this conversation before.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "id_if_any")]
    pub resumed_from: Option<JobId>,
    /// Rises at every claim; fences what an attempt writes.
    #[serde(default)]
    pub attempt: u32,
    /// Workers lost while they ran this job and no other.
    #[serde(default)]
    pub deaths: u32,
    /// A worker was lost with it: its next attempt runs on a server that runs nothing else meanwhile, so that it is
    /// known who of several cost that worker its life.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runs_alone: bool,
    /// Why the last server that had it could not run it. Only while it waits in the line because of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_because: Option<String>,
    /// How often a server that could run others gave it back because it needs more than is there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refusals: u32,
    /// The Idempotency-Key it was submitted with, as the store names it.
    #[serde(default)]
    pub key: Option<String>,
    /// The names of the API keys it was submitted and cancelled with.
    #[serde(default)]
    pub submitted_by: Option<String>,
    #[serde(default)]
    pub cancelled_by: Option<String>,
    /// What the request is called that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The trace that it belongs to, as W3C's `traceparent` header says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What whoever submitted it calls it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(flatten)]
    pub overrides: Overrides,
    /// Where its end is told, beside what the settings name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// The job whose request this is again.
    #[serde(default)]
    pub retry_of: Option<JobId>,
    /// The latest job that this one's request was given to again. Noted after the end.
    #[serde(default)]
    pub retried_as: Option<JobId>,
    #[serde(default)]
    pub purpose: Purpose,
    /// The plan that this job carries out.
    #[serde(default, deserialize_with = "id_if_any")]
    pub plan_id: Option<JobId>,
    /// The job that carries this plan out. Noted after the end.
    #[serde(default, deserialize_with = "id_if_any")]
    pub executed_as: Option<JobId>,
    /// The commit to begin at, of what `base_ref` names.
    #[serde(default)]
    pub at_commit: Option<String>,
    /// The prepared worktree that it works in.
    #[serde(default, deserialize_with = "id_if_any")]
    pub worktree_id: Option<JobId>,
    /// The only pod that may take it.
    #[serde(default)]
    pub runs_on: Option<String>,
    /// Of a prepared worktree: the latest job that named it. Noted after the end.
    #[serde(default, deserialize_with = "id_if_any")]
    pub used_by: Option<JobId>,
    /// Of a prepared worktree: somebody asked its pod to remove it. Noted after the end.
    #[serde(default)]
    pub removal: Option<Removal>,
    /// The pod on whose disk the worktree is; None without a fleet.
    #[serde(default)]
    pub worktree_on: Option<String>,
    /// The commit the worktree began at.
    pub base_commit: Option<String>,
    /// The branch a pull request goes to.
    pub pr_base: Option<String>,
    /// The commit to push; set before the push begins.
    pub commit: Option<String>,
    /// The branch is on the remote.
    #[serde(default)]
    pub pushed: bool,
    /// Why the worktree stays although its work is published, or there was none to publish.
    pub kept_because: Option<String>,
    /// What to look at before the pull request is merged.
    #[serde(default)]
    pub caution: Option<String>,
    /// Something a reader should know that is no error, such as why there is no PR.
    pub note: Option<String>,
    /// Set when the agent's run was judged; from then on it is never run again.
    pub verdict: Option<Verdict>,
    /// What others did to its attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handovers: Vec<Handover>,
    /// How many events its attempts have written, at the last mark.
    #[serde(default)]
    pub events: u32,
    #[serde(flatten)]
    pub spent: Spent,
}

/// The Python program has fields of these names too, and writes an empty text where there is nothing.
fn id_if_any<'de, D: Deserializer<'de>>(field: D) -> Result<Option<JobId>, D::Error> {
    let found = Option::<serde_json::Value>::deserialize(field)?;
    Ok(found.as_ref().and_then(serde_json::Value::as_str).and_then(JobId::parse))
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Record {
    pub fn status(&self) -> Status {
        self.status
    }

    /// It made a worktree, which is there for later jobs.
    /// The session that its agent worked in; None: no agent began.
    pub fn had_session(&self) -> Option<&str> {
        // Written just before an agent begins.
        self.job_config_dir.as_ref().and(self.session_id.as_deref())
    }

    pub fn is_prepared_worktree(&self) -> bool {
        self.purpose == Purpose::Worktree && self.status == Status::Succeeded
    }

    /// It is being removed, or was when its server died.
    pub fn is_being_removed(&self) -> bool {
        self.removal.as_ref().is_some_and(|removal| removal.begun)
    }

    /// When it expires, if it waits for a server that can run it.
    pub fn due(&self) -> Option<Time> {
        let waits = self.status == Status::Queued && (self.attempt == 0 || self.waits_because.is_some());
        waits.then(|| self.created_at.plus_seconds(self.ttl_seconds))
    }

    /// Whose name the worktree has that it works in.
    pub fn worktree_name(&self) -> &JobId {
        self.worktree_id.as_ref().unwrap_or(&self.id)
    }

    /// Written by the Python program of the same name: it is shown, and left alone.
    pub fn is_foreign(&self) -> bool {
        self.format == 0
    }

    /// Whether what a record should be is one that a later version of this program wrote.
    pub fn is_of_later_version(value: &serde_json::Value) -> bool {
        value["format"].as_u64().is_some_and(|format| format > u64::from(FORMAT))
    }

    /// Says no to a record that a later version of this program wrote in a way that this one does not know.
    pub fn check_format(&self) -> Result<(), String> {
        if self.format <= FORMAT {
            return Ok(());
        }
        let (found, known) = (self.format, FORMAT);
        Err(format!(
            "job {} was written by a newer agenticore (record format {found}, this version knows up to {known}): it is \
             left to servers of that version",
            self.id
        ))
    }
}
