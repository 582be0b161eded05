//! Plans: a job that plans, what it says, and the one job that carries it out.

use super::submit::{SentKey, asked_by, hash, judge};
use super::{Caller, Refusal, Service};
use crate::api::{ExecuteRequest, Job, JobRequest, Plan, PlanRequest, PlanStatus};
use crate::job::{Note, Purpose, Spec};
use crate::log;
use crate::pipeline::plan;
use crate::store::{self, Key, Seen, Store, Which};
use std::time::{Duration, Instant};

/// The profile that plans are made with. It changes nothing; a user's own of this name takes its place.
pub const PROFILE: &str = "plan";

/// How long a request waits for another one that carries out the same plan.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Service {
    /// Takes in a job that plans.
    pub fn plan(&self, request: PlanRequest, key: Option<SentKey>, by: &Caller) -> Result<Job, Refusal> {
        let wanted = serde_json::to_string(&PlanRequest { wait: false, ..request.clone() }).unwrap_or_default();
        let key = key.map(|key| key.judge_for(&format!("plan {wanted}"))).transpose()?;
        if let Some(earlier) = self.earlier(key.as_ref())? {
            return Ok(self.shown(&earlier));
        }
        let job = JobRequest {
            task: request.task,
            repo_url: request.repo_url,
            profile: Some(PROFILE.into()),
            base_ref: request.base_ref,
            file_path: request.file_path,
            wait: request.wait,
            ..JobRequest::default()
        };
        let spec = Spec { purpose: Purpose::Plan, ..judge(job, &self.runner)? };
        let record = self.accept(spec, key.as_ref(), by)?;
        Ok(self.shown(&record))
    }

    /// The plan of this id, or the only job whose id begins so.
    pub fn find_plan(&self, id: &str) -> Result<Seen<Plan>, Refusal> {
        let Seen { it: job, stale } = self.find(id).map_err(|refusal| match refusal {
            Refusal::Unknown(id) => Refusal::NotFound(format!("no such plan: {id}")),
            other => other,
        })?;
        let is_other = || {
            let is = if job.purpose == Purpose::Worktree { "is a worktree" } else { "is a job" };
            Refusal::NotFound(format!("{} {is}, and no plan", job.id))
        };
        let it = Plan::of(&job).ok_or_else(is_other)?;
        Ok(Seen { it, stale })
    }

    /// Newest first.
    pub fn list_plans(&self, limit: usize) -> Result<Seen<Vec<Plan>>, Refusal> {
        let Seen { it, stale } = self.runner.store.list(limit, Which::For(Purpose::Plan))?;
        Ok(Seen { it: it.iter().filter_map(|record| Plan::of(&self.shown(record))).collect(), stale })
    }

    /// Somebody else may be at it just now: what comes out of that is the answer.
    fn patiently<T>(&self, ask: impl Fn(&dyn Store) -> Result<T, store::Error>) -> Result<T, Refusal> {
        let until = Instant::now() + PATIENCE;
        loop {
            match ask(&*self.runner.store) {
                Err(store::Error::InFlight) if Instant::now() < until => std::thread::sleep(LOOK_AGAIN),
                done => return Ok(done?),
            }
        }
    }

    /// Makes the one job that carries a plan out. Asked again, it is the same job.
    pub fn execute(&self, id: &str, request: ExecuteRequest, by: &Caller) -> Result<Job, Refusal> {
        let plan = self.find_plan(id)?.it;
        let text = match (plan.status, &plan.plan) {
            (PlanStatus::Ready, Some(text)) => text,
            (PlanStatus::Queued | PlanStatus::Running, _) => {
                let why = format!("plan {} is {}: carry it out once it is ready", plan.id, plan.status.as_str());
                return Err(Refusal::Conflict(why));
            }
            _ => {
                let why = plan.error.as_deref().unwrap_or("its agent said nothing");
                return Err(Refusal::Conflict(format!(
                    "plan {} failed, there is nothing to carry out: {why}",
                    plan.id
                )));
            }
        };
        let repo_url = match (&plan.repo_url, &request.repo_url) {
            (Some(of_plan), Some(other)) if of_plan != other => {
                let why = format!("the plan was made for {of_plan}: leave `repo_url` out, or plan again for {other}");
                return Err(Refusal::invalid("repo_url", why));
            }
            (of_plan, asked) => of_plan.clone().or(asked.clone()),
        };
        let asked = (request.profile.clone(), request.file_path.clone());
        let job = JobRequest {
            task: plan::task_with(&plan.task, text),
            base_ref: plan.base_ref.clone().filter(|_| plan.repo_url.is_some()),
            repo_url,
            profile: request.profile,
            file_path: request.file_path.or_else(|| plan.file_path.clone()),
            wait: request.wait,
            ..JobRequest::default()
        };
        // Whoever asks, and whatever for: one plan, one job. No key of a user can be this one.
        let key = Key { name: hash(&format!("execute-plan\0{}", plan.id)), request: String::new() };
        let record = match self.patiently(|store| store.submitted(&key))? {
            Some(earlier) => earlier,
            None => {
                let _place = self.check_limits(by)?;
                let (plan_id, at_commit) = (Some(plan.id.clone()), plan.base_commit.clone());
                let spec = asked_by(Spec { plan_id, at_commit, ..judge(job, &self.runner)? }, by);
                let record = self.patiently(|store| store.submit(spec.clone(), Some(&key)))?;
                self.tell_taken_in(&record);
                record
            }
        };
        if plan.job_id.is_none()
            && let Err(error) = self.runner.store.note(&plan.id, Note::ExecutedAs(record.id.clone()))
        {
            log::job(&record.id).warn(format!("the plan {} does not say that it carries it out: {error}", plan.id));
        }
        let is_as_asked = asked.0.is_none_or(|profile| profile == record.profile)
            && asked.1.is_none_or(|file| record.file_path.as_deref() == Some(&*file));
        if !is_as_asked {
            let why = format!(
                "plan {} is carried out by job {} already, with the profile {}: plan again for another run",
                plan.id, record.id, record.profile
            );
            return Err(Refusal::Conflict(why));
        }
        Ok(self.shown(&record))
    }
}
