//! A plan as it is asked for, and shown: the job that makes it, seen as what it is there for.

use super::Job;
use super::request::{NO_TASK, known_fields, known_fields_if_any, text, truth};
use crate::job::{JobId, OUTPUT_LIMIT, Purpose, Status, Time, is_cut};
use serde::{Deserialize, Serialize};

/// `POST /plans`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanRequest {
    pub task: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    #[serde(default)]
    pub wait: bool,
}

impl PlanRequest {
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let fields = known_fields(body, &["task", "repo_url", "base_ref", "file_path", "wait"])?;
        let task = text(&fields, "task")?.filter(|task| !task.trim().is_empty()).ok_or(NO_TASK)?;
        Ok(Self {
            task,
            repo_url: text(&fields, "repo_url")?,
            base_ref: text(&fields, "base_ref")?,
            file_path: text(&fields, "file_path")?,
            wait: truth(&fields, "wait")?.unwrap_or(false),
        })
    }
}

/// `POST /plans/{id}/execute`: the body may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecuteRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    #[serde(default)]
    pub wait: bool,
}

impl ExecuteRequest {
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let fields = known_fields_if_any(body, &["repo_url", "profile", "file_path", "wait"])?;
        Ok(Self {
            repo_url: text(&fields, "repo_url")?,
            profile: text(&fields, "profile")?,
            file_path: text(&fields, "file_path")?,
            wait: truth(&fields, "wait")?.unwrap_or(false),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanStatus {
    Queued,
    Running,
    /// It can be carried out.
    Ready,
    /// There is none, and `error` says why.
    Failed,
}

impl PlanStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            PlanStatus::Queued => "queued",
            PlanStatus::Running => "running",
            PlanStatus::Ready => "ready",
            PlanStatus::Failed => "failed",
        }
    }
}

impl From<Status> for PlanStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Queued => PlanStatus::Queued,
            Status::Running => PlanStatus::Running,
            Status::Succeeded => PlanStatus::Ready,
            Status::Failed | Status::Cancelled | Status::Expired => PlanStatus::Failed,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The planning job has the same.
    pub id: JobId,
    pub status: PlanStatus,
    pub task: String,
    pub repo_url: Option<String>,
    pub base_ref: Option<String>,
    /// The commit that it was made for, and is carried out at.
    pub base_commit: Option<String>,
    /// The plan, once it is ready.
    pub plan: Option<String>,
    pub error: Option<String>,
    /// Something a reader should know, such as files that its agent changed.
    pub note: Option<String>,
    /// The job that carries it out.
    pub job_id: Option<JobId>,
    pub profile: String,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub session_id: Option<String>,
    pub pod_name: Option<String>,
    pub file_path: Option<String>,
    pub cost_usd: Option<f64>,
    /// What an operator has to do before its agent can run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

impl Plan {
    /// None: the job is there for something else.
    pub fn of(job: &Job) -> Option<Self> {
        let mut job = job.clone();
        let mut status = PlanStatus::from(job.status);
        if status == PlanStatus::Ready && job.output.as_deref().is_none_or(|text| text.trim().is_empty()) {
            // Its agent ended well, and there is nothing to carry out.
            (status, job.error) = (PlanStatus::Failed, Some("the agent wrote no plan".into()));
        }
        if status == PlanStatus::Ready && job.output.as_deref().is_some_and(is_cut) {
            // Half a plan is not to be carried out.
            let why = format!("the plan was longer than {OUTPUT_LIMIT} bytes, and was cut: ask for a shorter one");
            (status, job.error) = (PlanStatus::Failed, Some(why));
        }
        (job.purpose == Purpose::Plan).then(|| Self {
            id: job.id,
            status,
            task: job.task,
            repo_url: job.repo_url,
            base_ref: job.base_ref,
            base_commit: job.base_commit,
            plan: job.output.filter(|_| status == PlanStatus::Ready),
            error: job.error,
            note: job.note,
            job_id: job.executed_as,
            profile: job.profile,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            session_id: job.session_id,
            pod_name: job.pod_name,
            file_path: job.file_path,
            cost_usd: job.cost_usd,
            waiting_for: job.waiting_for,
        })
    }
}

/// `GET /plans/{id}`, and whatever else is answered with one plan.
#[derive(Debug, Serialize, Deserialize)]
pub struct PlanAnswer {
    pub success: bool,
    pub plan: Plan,
    /// It comes from the second copy, because the first cannot be asked just now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl PlanAnswer {
    pub fn new(plan: Plan, stale: bool) -> Self {
        Self { success: true, plan, stale }
    }
}

/// `GET /plans`
#[derive(Debug, Serialize, Deserialize)]
pub struct PlansAnswer {
    pub success: bool,
    pub count: usize,
    pub plans: Vec<Plan>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

impl PlansAnswer {
    pub fn new(plans: Vec<Plan>, stale: bool) -> Self {
        Self { success: true, count: plans.len(), plans, stale }
    }
}
