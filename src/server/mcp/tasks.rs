//! The tasks extension of the modern revision: to a client that declares it a job is a task, whose id is the job's.
//!
//! Nothing is kept for it: a task is found on any pod, for as long as its job is.

use super::calls::is_error;
use super::eras::{Call, Era, Fault};
use super::reply;
use crate::api::{Job, Shape};
use crate::job::{JobId, Purpose, Status};
use crate::log;
use crate::service::{Caller, Refusal, Scope, Service};
use serde_json::{Value, json};

pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";
pub const METHODS: [&str; 3] = ["tasks/get", "tasks/update", "tasks/cancel"];

/// How often a client may ask, in milliseconds.
const POLL_INTERVAL: u64 = 2_000;

/// A call has made a job: the job is accepted, so the task is there.
pub fn made(job: &Job, call: &Call) -> Value {
    let mut answer = reply::result(call, task(job));
    answer["result"]["resultType"] = json!("task");
    answer
}

pub fn answer(service: &Service, call: &Call, by: &Caller) -> Result<Value, Fault> {
    let fault = |code: i64, why: &str| Fault::new(Era::Modern, 400, code, why, &call.id);
    if !call.has_extension(EXTENSION) {
        let data = json!({"requiredCapabilities": {"extensions": {EXTENSION: {}}}});
        let why = format!("{} needs a client that declares the extension {EXTENSION} in this request", call.method);
        return Err(Fault { data: Some(data), ..fault(-32021, &why) });
    }
    let unknown = || fault(-32602, "there is no such task: `taskId` must be as the call that made it was answered");
    let id = call.params.get("taskId").and_then(Value::as_str).and_then(JobId::parse).ok_or_else(unknown)?;
    let found = service.find(id.as_str()).map_err(|refusal| match refusal {
        Refusal::Unknown(_) => unknown(),
        other => Fault::new(Era::Modern, 503, -32603, other.to_string(), &call.id),
    })?;
    match call.method.as_str() {
        "tasks/get" => Ok(with_result(&found.it)),
        "tasks/cancel" => match by.may(Scope::Submit).and_then(|()| service.cancel(id.as_str(), by)).inspect(|_| {
            log::audit(by.name.as_deref(), by.request_id.as_deref(), "tasks/cancel", "done");
        }) {
            // Too late is no fault: what was wanted is that it ends.
            Ok(_) | Err(Refusal::TooLate(_)) => Ok(json!({})),
            Err(Refusal::Forbidden(why)) => Err(Fault::new(Era::Modern, 403, -32600, why, &call.id)),
            Err(refusal) => Err(Fault::new(Era::Modern, 503, -32603, refusal.to_string(), &call.id)),
        },
        // We ask for nothing, so nothing that is given means anything.
        _ => Ok(json!({})),
    }
}

fn task(job: &Job) -> Value {
    let (status, message) = match job.status {
        Status::Queued => match &job.waiting_for {
            Some(why) => ("working", format!("queued; it waits for {why}")),
            None => ("working", "queued".to_owned()),
        },
        Status::Running => ("working", format!("running on {}", job.pod_name.as_deref().unwrap_or("this server"))),
        Status::Cancelled => ("cancelled", job.error.clone().unwrap_or_else(|| "cancelled".into())),
        ended => ("completed", ended.as_str().to_owned()),
    };
    let updated = job.ended_at.or(job.started_at).unwrap_or(job.created_at);
    // From its creation on. How long it runs nobody knows before.
    let ttl = job.ended_at.map(|ended| ended.since(job.created_at).max(0) as u64 + job.ttl_seconds * 1000);
    json!({
        "taskId": job.id,
        "status": status,
        "statusMessage": message,
        "createdAt": job.created_at,
        "lastUpdatedAt": updated,
        "ttlMs": ttl,
        "pollIntervalMs": POLL_INTERVAL,
    })
}

/// A task that is completed holds what the call would have answered.
fn with_result(job: &Job) -> Value {
    let mut task = task(job);
    if task["status"] == "completed" {
        let shape = match job.purpose {
            Purpose::Task => Shape::Job,
            Purpose::Plan => Shape::Plan,
            Purpose::Worktree => Shape::Worktree,
        };
        task["result"] = reply::content(&shape.answer(job.clone()), is_error(job));
    }
    task
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Record;
    use crate::job::tests::queued;
    use crate::job::{Time, Verdict};

    #[test]
    fn each_status_of_a_job_is_one_of_a_task() {
        let shown = |record: Record| with_result(&Job::new(&record, None));
        let running = || queued().claim("pod-a", Time(2_000));
        let lives = shown(running().into());
        assert_eq!((&lives["status"], &lives["statusMessage"]), (&json!("working"), &json!("running on pod-a")));
        assert_eq!((&lives["ttlMs"], &lives["result"]), (&Value::Null, &Value::Null));
        let mut done = running();
        let verdict = Verdict { succeeded: true, exit_code: Some(0), output: Some("o".into()), error: None };
        done.mark(crate::job::Mark::AgentEnded { verdict, spent: Default::default() });
        let done = shown(done.finish(Time(5_000)).into());
        assert_eq!((&done["status"], &done["ttlMs"]), (&json!("completed"), &json!(14_000)));
        assert_eq!(
            (&done["result"]["isError"], &done["result"]["structuredContent"]["job"]["output"]),
            (&json!(false), &json!("o"))
        );
        // A job that failed is no fault of the protocol.
        let failed = shown(running().fail("because".into(), Time(5_000)).into());
        assert_eq!((&failed["status"], &failed["result"]["isError"]), (&json!("completed"), &json!(true)));
        let cancelled = shown(running().cancel(None, Time(5_000)).into());
        assert_eq!((&cancelled["status"], &cancelled["result"]), (&json!("cancelled"), &Value::Null));
    }
}
