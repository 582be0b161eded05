//! What each tool asks the service, and how that is answered. A refusal is a sentence from which a model can mend its
//! call.

use super::tools::{Arguments, Said};
use crate::api::{
    CleanupRequest, EventPage, EventsRequest, ExecuteRequest, Job, JobAnswer, JobRequest, JobsAnswer, LIST_DEFAULT,
    ListRequest, PlanAnswer, PlanRequest, PlansAnswer, ProfilesAnswer, ResumeRequest, RetryRequest, Shape,
    WorktreeAnswer, WorktreeRequest, WorktreesAnswer, cursor,
};
use crate::event::Cursor;
use crate::job::{Status, Time, cut};
use crate::service::{Caller, Refusal, Seen, Service};
use serde_json::Value;
use std::time::Duration;

/// An empty text is an argument that was not given.
pub fn is_absent(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.is_null() || value == "")
}

fn text<'a>(arguments: &'a Arguments, name: &str) -> Result<&'a str, String> {
    match arguments.get(name) {
        value if is_absent(value) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("`{name}` must be text")),
    }
}

/// A whole number within the limits of lists; it may come as `20.0`.
pub fn limit(arguments: &Arguments) -> Result<Option<usize>, String> {
    let value = arguments.get("limit");
    if is_absent(value) {
        return Ok(None);
    }
    let number = value.and_then(Value::as_f64).filter(|number| number.fract() == 0.0);
    let text = number.map_or_else(|| value.unwrap_or(&Value::Null).to_string(), |number| number.to_string());
    crate::api::limit(&text).map(Some)
}

fn answer(value: &impl serde::Serialize) -> Result<Said, String> {
    serde_json::to_value(value).map(Said::Now).map_err(|error| error.to_string())
}

fn said(refusal: Refusal) -> String {
    refusal.to_string()
}

pub fn run_task(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let request = JobRequest::parse(&body(arguments, ""))?;
    let waits = request.wait;
    let job = service.submit(request, None, by).map_err(said)?;
    at_the_end_if(waits, job, Shape::Job)
}

/// The arguments but for `name`, as REST would have them in a body.
fn body(arguments: &Arguments, name: &str) -> Vec<u8> {
    let mut arguments = arguments.clone();
    arguments.remove(name);
    arguments.retain(|_, value| !is_absent(Some(value)));
    Value::Object(arguments).to_string().into_bytes()
}

fn at_the_end_if(waits: bool, job: Job, shape: Shape) -> Result<Said, String> {
    if !job.status.has_ended() {
        return Ok(Said::Lives { job: Box::new(job), shape, waits });
    }
    // What has failed is a failure of the tool where nothing else was wanted.
    match shape.answer(job) {
        answer if answer["success"] == true => Ok(Said::Now(answer)),
        answer => Err(answer["error"].as_str().unwrap_or("it failed").to_owned()),
    }
}

pub fn get_job(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let Seen { it, stale } = service.find(text(arguments, "job_id")?).map_err(said)?;
    answer(&JobAnswer::new(it, stale))
}

pub fn wait_for_job(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    at_the_end_if(true, service.find(text(arguments, "job_id")?).map_err(said)?.it, Shape::Job)
}

pub fn get_job_events(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let after = match text(arguments, "after")? {
        "" => Cursor::START,
        after => cursor(after)?,
    };
    let request = EventsRequest { after, limit: limit(arguments)?.unwrap_or(100), wait: Duration::ZERO };
    let page: EventPage = service.events(text(arguments, "job_id")?, &request).map_err(said)?;
    answer(&page)
}

/// The most of a task or an output that a list shows, in bytes: some clients refuse an answer of more than 1 MiB.
const SHOWN: usize = 400;

/// And of a diff: the answer holds it twice, and more than this no model reads at once.
const DIFF_SHOWN: usize = 100 << 10;

pub fn list_jobs(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let mut pairs = Vec::new();
    for name in ["status", "repo", "label", "q", "after"] {
        pairs.extend(Some((name, text(arguments, name)?)).filter(|(_, value)| !value.is_empty()));
    }
    let mut request = ListRequest::parse(&pairs, Time::now())?;
    request.limit = Some(limit(arguments)?.unwrap_or(LIST_DEFAULT));
    let (Seen { it: mut jobs, stale }, next) = service.list(&request, by).map_err(said)?;
    for job in &mut jobs {
        job.task = cut(std::mem::take(&mut job.task), SHOWN);
        job.output = job.output.take().map(|text| cut(text, SHOWN));
        job.error = job.error.take().map(|text| cut(text, SHOWN));
        job.usage = None;
    }
    answer(&JobsAnswer::new(jobs, next, stale))
}

pub fn get_job_diff(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let mut diff = service.diff(text(arguments, "job_id")?).map_err(said)?;
    if diff.diff.len() > DIFF_SHOWN {
        (diff.diff, diff.cut) = (cut(diff.diff, DIFF_SHOWN), true);
    }
    answer(&diff)
}

pub fn resume_job(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let resume = ResumeRequest::parse(&body(arguments, "job_id"))?;
    let waits = resume.wait;
    at_the_end_if(waits, service.resume(text(arguments, "job_id")?, resume, None, by).map_err(said)?, Shape::Job)
}

pub fn cancel_job(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    answer(&JobAnswer::new(service.cancel(text(arguments, "job_id")?, by).map_err(said)?, false))
}

pub fn retry_job(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let retry = RetryRequest::parse(&body(arguments, "job_id"))?;
    at_the_end_if(retry.wait, service.retry(text(arguments, "job_id")?, retry, None, by).map_err(said)?, Shape::Job)
}

pub fn list_profiles(service: &Service, _: &Caller, _: &Arguments) -> Result<Said, String> {
    let profiles: ProfilesAnswer = service.profiles();
    answer(&profiles)
}

pub fn plan_task(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let request = PlanRequest::parse(&body(arguments, ""))?;
    let waits = request.wait;
    at_the_end_if(waits, service.plan(request, None, by).map_err(said)?, Shape::Plan)
}

pub fn get_plan(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let Seen { it, stale } = service.find_plan(text(arguments, "plan_id")?).map_err(said)?;
    answer(&PlanAnswer::new(it, stale))
}

pub fn list_plans(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let limit = limit(arguments)?.unwrap_or(LIST_DEFAULT);
    let Seen { it: mut plans, stale } = service.list_plans(limit).map_err(said)?;
    for plan in &mut plans {
        plan.task = cut(std::mem::take(&mut plan.task), SHOWN);
        plan.plan = plan.plan.take().map(|text| cut(text, SHOWN));
        plan.error = plan.error.take().map(|text| cut(text, SHOWN));
    }
    answer(&PlansAnswer::new(plans, stale))
}

pub fn execute_plan(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let request = ExecuteRequest::parse(&body(arguments, "plan_id"))?;
    let waits = request.wait;
    at_the_end_if(waits, service.execute(text(arguments, "plan_id")?, request, by).map_err(said)?, Shape::Job)
}

pub fn prepare_worktree(service: &Service, by: &Caller, arguments: &Arguments) -> Result<Said, String> {
    let request = WorktreeRequest::parse(&body(arguments, ""))?;
    at_the_end_if(true, service.prepare_worktree(request, None, by).map_err(said)?, Shape::Worktree)
}

pub fn get_worktree(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    answer(&WorktreeAnswer::new(service.find_worktree(text(arguments, "worktree_id")?).map_err(said)?))
}

pub fn list_worktrees(service: &Service, _: &Caller, _: &Arguments) -> Result<Said, String> {
    answer(&WorktreesAnswer::new(service.list_worktrees().map_err(said)?))
}

pub fn cleanup_worktrees(service: &Service, _: &Caller, arguments: &Arguments) -> Result<Said, String> {
    answer(&service.clean_up_worktrees(&CleanupRequest::parse(&body(arguments, ""))?).map_err(said)?)
}

/// A job that did not do what it was asked for is no success of the tool.
pub fn is_error(job: &Job) -> bool {
    job.status != Status::Succeeded
}
