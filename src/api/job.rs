//! A job as it is shown.

use super::Webhook;
use crate::job::{JobId, Mode, Overrides, Purpose, Record, Status, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A job's record, but for what only the runner needs. What each field means `docs/jobs.md` says, and `job::Record`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub repo_url: Option<String>,
    pub base_ref: Option<String>,
    pub task: String,
    pub profile: String,
    pub status: Status,
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
    /// In a fleet: the pod that has it on its disk.
    #[serde(default)]
    pub worktree_on: Option<String>,
    pub branch: Option<String>,
    pub job_config_dir: Option<String>,
    pub file_path: Option<String>,
    // Beyond the interface of the Python program.
    pub create_repo: bool,
    pub private: bool,
    pub attempt: u32,
    pub deaths: u32,
    pub base_commit: Option<String>,
    pub pr_base: Option<String>,
    pub commit: Option<String>,
    pub pushed: bool,
    pub kept_because: Option<String>,
    pub caution: Option<String>,
    pub note: Option<String>,
    pub cost_usd: Option<f64>,
    pub turns: Option<u64>,
    pub usage: Option<Value>,
    pub denied_tools: Vec<String>,
    /// The names of the API keys that it was submitted and cancelled with; none where no key is wanted.
    #[serde(default)]
    pub submitted_by: Option<String>,
    #[serde(default)]
    pub cancelled_by: Option<String>,
    /// What the request is called that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What whoever submitted it calls it by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What it has otherwise than its profile says.
    #[serde(flatten)]
    pub overrides: Overrides,
    /// The job whose conversation it goes on with; known once its agent begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed_from: Option<JobId>,
    /// The job whose request this is again.
    pub retry_of: Option<JobId>,
    /// The latest job that this one's request was given to again.
    pub retried_as: Option<JobId>,
    /// What it is there for.
    #[serde(default)]
    pub purpose: Purpose,
    /// The plan that it carries out.
    #[serde(default)]
    pub plan_id: Option<JobId>,
    /// The job that carries this plan out.
    #[serde(default)]
    pub executed_as: Option<JobId>,
    /// The prepared worktree that it works in.
    #[serde(default)]
    pub worktree_id: Option<JobId>,
    /// Its work that is not published, as it was saved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptWork>,
    /// Who is told of it by webhooks; only where it is asked for by its id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<Webhook>,
    /// How many jobs wait before this one; only while it waits, and is asked for by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs_ahead: Option<usize>,
    /// What an operator has to do before it can run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// In a list that the command line prints: it comes from the second copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
}

/// Work that is not published, in a git bundle on the volume of the jobs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptWork {
    /// None: there is none, `lacks` says why.
    pub bundle: Option<String>,
    pub bytes: u64,
    /// The commit that the job began at, which a repository needs for the bundle.
    pub base: String,
    /// What was checked out, `refs/kept/head`.
    pub head: String,
    /// What was not committed, on top of that, `refs/kept/work`.
    pub work: Option<String>,
    /// How to get it into a clone of the repository.
    pub fetch: Option<String>,
    /// What is not in it.
    pub lacks: Option<String>,
}

/// `GET /jobs/{id}/diff`: what it changed, when it is published or kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobDiff {
    pub success: bool,
    pub job_id: JobId,
    /// The commit that the job began at.
    pub base: String,
    pub commit: String,
    /// Which files, and how many lines of each.
    pub summary: String,
    pub diff: String,
    /// There is more of it than is kept: the branch, or the kept work, has all.
    pub cut: bool,
    /// What else is not in it as it is in the commit: with any of these it cannot be applied as it is.
    #[serde(default)]
    pub lacks: Vec<String>,
}

impl Job {
    /// `waiting_for`: what an operator has to do before it can run.
    pub fn new(record: &Record, waiting_for: Option<String>) -> Self {
        let record = record.clone();
        Self {
            status: record.status(),
            id: record.id,
            repo_url: record.repo_url,
            base_ref: record.base_ref,
            task: record.task,
            profile: record.profile,
            mode: record.mode,
            exit_code: record.exit_code,
            session_id: record.session_id,
            pr_url: record.pr_url,
            output: record.output,
            error: record.error,
            created_at: record.created_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
            ttl_seconds: record.ttl_seconds,
            pid: record.pid,
            pod_name: record.pod_name,
            worktree_on: record.worktree_on.filter(|_| record.worktree_path.is_some()),
            worktree_path: record.worktree_path,
            branch: record.branch,
            job_config_dir: record.job_config_dir,
            file_path: record.file_path,
            create_repo: record.create_repo,
            private: record.private,
            attempt: record.attempt,
            deaths: record.deaths,
            base_commit: record.base_commit,
            pr_base: record.pr_base,
            commit: record.commit,
            pushed: record.pushed,
            kept_because: record.kept_because,
            caution: record.caution,
            note: record.note,
            cost_usd: record.spent.cost_usd,
            turns: record.spent.turns,
            usage: record.spent.usage,
            denied_tools: record.spent.denied_tools,
            submitted_by: record.submitted_by,
            cancelled_by: record.cancelled_by,
            request_id: record.request_id,
            labels: record.labels,
            overrides: record.overrides,
            resumed_from: record.resumed_from,
            retry_of: record.retry_of,
            retried_as: record.retried_as,
            purpose: record.purpose,
            plan_id: record.plan_id,
            executed_as: record.executed_as,
            worktree_id: record.worktree_id,
            kept: None,
            webhooks: Vec::new(),
            jobs_ahead: None,
            waiting_for,
            stale: false,
        }
    }
}

/// What a table of jobs needs: a list of these is small, whatever tasks and outputs are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobSummary {
    pub id: JobId,
    pub status: Status,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub profile: String,
    pub repo_url: Option<String>,
    pub branch: Option<String>,
    pub pr_url: Option<String>,
    /// The branch is on the remote.
    #[serde(default)]
    pub pushed: bool,
    /// It has ended, and its worktree is there: with work that is not published, as far as anybody looked.
    #[serde(default)]
    pub has_kept_work: bool,
    pub pod_name: Option<String>,
    pub attempt: u32,
    /// The task's beginning.
    pub task: String,
    /// The error's beginning.
    pub error: Option<String>,
}

/// The most of a task or an error that a summary shows, in bytes.
const SUMMARY_TEXT: usize = 200;

impl From<&Job> for JobSummary {
    fn from(job: &Job) -> Self {
        let begin = |text: &str| crate::job::cut(text.trim_start().to_owned(), SUMMARY_TEXT);
        Self {
            id: job.id.clone(),
            status: job.status,
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            profile: job.profile.clone(),
            repo_url: job.repo_url.clone(),
            branch: job.branch.clone(),
            pr_url: job.pr_url.clone(),
            pushed: job.pushed,
            has_kept_work: job.status.has_ended()
                && !job.pushed
                && job.worktree_path.is_some()
                && job.worktree_id.is_none(),
            pod_name: job.pod_name.clone(),
            attempt: job.attempt,
            task: begin(&job.task),
            error: job.error.as_deref().map(begin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::queued;
    use std::collections::BTreeSet;

    /// What a record holds and nobody is shown.
    const PRIVATE: [&str; 14] = [
        "traceparent",
        "webhook_url",
        "verdict",
        "session_cost_usd",
        "resume_session",
        "key",
        "format",
        "events",
        "handovers",
        "at_commit",
        "runs_on",
        "used_by",
        "removal",
        "runs_alone",
    ];

    #[test]
    fn a_new_field_of_the_record_is_private_until_somebody_says_otherwise() {
        let mut record: Record = match queued().claim("a", Time(1)).lose_worker("gone", true, Time(2)) {
            crate::job::Job::Queued(job) => job.into(),
            _ => panic!(),
        };
        (record.webhook_url, record.traceparent) = (Some("u".into()), Some("t".into()));
        let names = |value: Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        let of_record = names(serde_json::to_value(&record).unwrap());
        let shown = names(serde_json::to_value(Job::new(&record, None)).unwrap());
        let private: BTreeSet<String> = PRIVATE.iter().map(|name| name.to_string()).collect();
        assert_eq!(of_record.difference(&private).cloned().collect::<BTreeSet<_>>(), shown);
        assert!(private.is_subset(&of_record));
    }

    #[test]
    fn a_summary_is_small_whatever_the_job_is() {
        let mut job = Job::new(&queued().into(), None);
        job.task = format!("\n  {}", "x".repeat(100_000));
        job.error = Some("y".repeat(9_000));
        let text = serde_json::to_string(&JobSummary::from(&job)).unwrap();
        assert!(text.len() < 1_000 && text.contains(r#""task":"xxx"#), "{}", text.len());
    }
}
