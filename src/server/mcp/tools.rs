//! The one table of tools: names, when to use them, what they take and give, and what they ask the service.

use crate::api::{
    EventPage, EventsRequest, Job, JobAnswer, JobRequest, JobsAnswer, LIST_DEFAULT, ListRequest, ProfilesAnswer,
    RetryRequest, cursor,
};
use crate::event::Cursor;
use crate::job::{Status, cut};
use crate::service::{Refusal, Seen, Service};
use crate::suggest;
use serde_json::{Map, Value, json};
use std::time::Duration;

pub type Arguments = Map<String, Value>;

/// What a tool says.
pub enum Said {
    Now(Value),
    /// The answer is the job, once it has ended.
    AtTheEnd(Box<Job>),
}

pub struct Tool {
    pub name: &'static str,
    pub title: &'static str,
    /// When to use it, and what comes next.
    pub description: &'static str,
    /// Name, type, what it is; the ones that must be there.
    arguments: &'static [(&'static str, &'static str, &'static str)],
    required: &'static [&'static str],
    /// The field of the answer that holds what was asked for, and its type.
    gives: (&'static str, &'static str),
    is_read_only: bool,
    is_destructive: bool,
    is_idempotent: bool,
    pub call: fn(&Service, &Arguments) -> Result<Said, String>,
}

const JOB_ID: (&str, &str, &str) =
    ("job_id", "string", "the job's id, or at least its first 4 characters if no other job's id begins so");

pub const TOOLS: [Tool; 8] = [
    Tool {
        name: "run_task",
        title: "Run a coding task",
        description: "Hands a coding task to an agent (Claude Code) that works on its own in a fresh checkout of \
             repo_url, on a branch of its own, and opens a pull request with what it changed. Returns the \
             job at once; it is queued and will reach an end. Use get_job or wait_for_job to see how it \
             went, get_job_events to watch, cancel_job to stop it. With wait the answer comes when the \
             job has ended, which can take an hour: prefer wait_for_job. Giving up the waiting, or \
             closing the connection, never cancels the job. Say in task everything that the agent has to \
             know: it sees nothing of this conversation.",
        arguments: &[
            ("task", "string", "what is to be done, in whole sentences"),
            ("repo_url", "string", "the repository: https://…, ssh://… or git@host:path; none: an empty directory"),
            ("profile", "string", "execution profile, see list_profiles; none: the server's default"),
            ("base_ref", "string", "branch, tag or commit to begin at; none: the repository's default branch"),
            ("session_id", "string", "go on with an earlier job's Claude session (its session_id)"),
            ("file_path", "string", "a .mcp.json on the server whose MCP servers this job gets as well"),
            ("create_repo", "boolean", "make the GitHub repository if it is not there"),
            ("private", "boolean", "… as a private one (true)"),
            ("worktree_id", "string", "not supported by this version"),
            ("wait", "boolean", "answer when the job has ended (false)"),
        ],
        required: &["task"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: false,
        call: run_task,
    },
    Tool {
        name: "get_job",
        title: "Look at a job",
        description: "Shows one job: its status (queued, running, succeeded, failed, cancelled, expired), what the \
             agent said at the end (output), its branch and pull request (pr_url), and why it failed \
             (error).",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: get_job,
    },
    Tool {
        name: "wait_for_job",
        title: "Wait for a job's end",
        description: "Answers when the job has ended, with the job; at once if it has ended already. It asks for \
             nothing meanwhile. To give up waiting does not cancel the job: call it again, or use \
             get_job.",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: wait_for_job,
    },
    Tool {
        name: "get_job_events",
        title: "Read what happened to a job",
        description: "What the agent of a job said and did so far, in order. To read on, call it again with after \
             set to the next of the answer; ended says that there is no more.",
        arguments: &[
            JOB_ID,
            ("after", "string", "the cursor after which to begin; none: from the begin"),
            ("limit", "integer", "how many events at most, 1 to 1000 (100)"),
        ],
        required: &["job_id"],
        gives: ("events", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: get_job_events,
    },
    Tool {
        name: "list_jobs",
        title: "List jobs",
        description: "Lists jobs, newest first. Long tasks and outputs are cut: get_job shows all of one.",
        arguments: &[
            ("limit", "integer", "how many, 1 to 1000 (20)"),
            ("status", "string", "only queued, running, succeeded, failed, cancelled or expired ones"),
        ],
        required: &[],
        gives: ("jobs", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: list_jobs,
    },
    Tool {
        name: "retry_job",
        title: "Retry a job",
        description: "Submits the request of a job that has ended once more, as a new job with an id of its own \
             (retry_of names the earlier one). For a job that failed for a reason that may have passed, such \
             as a remote that was away. If the task itself has to be said better, use run_task.",
        arguments: &[JOB_ID, ("wait", "boolean", "answer when the new job has ended (false)")],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: false,
        call: retry_job,
    },
    Tool {
        name: "cancel_job",
        title: "Cancel a job",
        description: "Cancels a queued or running job and ends its agent. What the agent did so far is not \
             published. A job that has ended stays as it is, and that is said.",
        arguments: &[JOB_ID],
        required: &["job_id"],
        gives: ("job", "object"),
        is_read_only: false,
        is_destructive: true,
        is_idempotent: true,
        call: cancel_job,
    },
    Tool {
        name: "list_profiles",
        title: "List execution profiles",
        description: "Lists the execution profiles that run_task can use: which model, what the agent may do, \
             whether a pull request is opened.",
        arguments: &[],
        required: &[],
        gives: ("profiles", "array"),
        is_read_only: true,
        is_destructive: false,
        is_idempotent: true,
        call: list_profiles,
    },
];

pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl Tool {
    pub fn to_json(&self) -> Value {
        let properties: Map<String, Value> = self
            .arguments
            .iter()
            .map(|(name, kind, what)| (name.to_string(), json!({"type": kind, "description": what})))
            .collect();
        let (field, kind) = self.gives;
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {"type": "object", "properties": properties, "required": self.required},
            "outputSchema": {
                "type": "object",
                "properties": {"success": {"type": "boolean"}, field: {"type": kind}},
                "required": ["success", field],
            },
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.is_read_only,
                "destructiveHint": self.is_destructive,
                "idempotentHint": self.is_idempotent,
                "openWorldHint": !self.is_read_only,
            },
        })
    }

    /// Names, and what is missing; a sentence from which a model can mend its call.
    pub fn check(&self, arguments: &Arguments) -> Result<(), String> {
        let names = || self.arguments.iter().map(|(name, _, _)| *name);
        if let Some(unknown) = arguments.keys().find(|given| !names().any(|name| name == *given)) {
            let meant = suggest::did_you_mean(unknown, names());
            let known = names().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none" } else { &known };
            return Err(format!("unknown argument `{unknown}` of {}: known are {known}{meant}", self.name));
        }
        match self.required.iter().find(|name| is_absent(arguments.get(**name))) {
            Some(missing) => Err(format!("{} needs `{missing}`", self.name)),
            None => Ok(()),
        }
    }
}

/// An empty text is an argument that was not given.
fn is_absent(value: Option<&Value>) -> bool {
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
fn limit(arguments: &Arguments) -> Result<Option<usize>, String> {
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

fn run_task(service: &Service, arguments: &Arguments) -> Result<Said, String> {
    let request = JobRequest::parse(Value::Object(arguments.clone()).to_string().as_bytes())?;
    let waits = request.wait;
    let job = service.submit(request, None).map_err(said)?;
    at_the_end_if(waits, job)
}

fn at_the_end_if(waits: bool, job: Job) -> Result<Said, String> {
    if waits && !job.status.has_ended() {
        Ok(Said::AtTheEnd(Box::new(job)))
    } else {
        answer(&JobAnswer::new(job, false))
    }
}

fn get_job(service: &Service, arguments: &Arguments) -> Result<Said, String> {
    let Seen { it, stale } = service.find(text(arguments, "job_id")?).map_err(said)?;
    answer(&JobAnswer::new(it, stale))
}

fn wait_for_job(service: &Service, arguments: &Arguments) -> Result<Said, String> {
    at_the_end_if(true, service.find(text(arguments, "job_id")?).map_err(said)?.it)
}

fn get_job_events(service: &Service, arguments: &Arguments) -> Result<Said, String> {
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

fn list_jobs(service: &Service, arguments: &Arguments) -> Result<Said, String> {
    let status = match text(arguments, "status")? {
        "" => None,
        status => Some(crate::api::status(status)?),
    };
    let limit = limit(arguments)?.unwrap_or(LIST_DEFAULT);
    let request = ListRequest { limit: Some(limit), status, ..ListRequest::default() };
    let Seen { it: mut jobs, stale } = service.list(&request).map_err(said)?;
    for job in &mut jobs {
        job.task = cut(std::mem::take(&mut job.task), SHOWN);
        job.output = job.output.take().map(|text| cut(text, SHOWN));
        job.error = job.error.take().map(|text| cut(text, SHOWN));
        job.usage = None;
    }
    answer(&JobsAnswer::new(jobs, stale))
}

fn cancel_job(service: &Service, arguments: &Arguments) -> Result<Said, String> {
    answer(&JobAnswer::new(service.cancel(text(arguments, "job_id")?).map_err(said)?, false))
}

fn retry_job(service: &Service, arguments: &Arguments) -> Result<Said, String> {
    let waits = match arguments.get("wait") {
        Some(Value::Bool(waits)) => *waits,
        value if is_absent(value) => false,
        _ => return Err("`wait` must be true or false".into()),
    };
    let retry = RetryRequest { wait: waits };
    at_the_end_if(waits, service.retry(text(arguments, "job_id")?, retry, None).map_err(said)?)
}

fn list_profiles(service: &Service, _: &Arguments) -> Result<Said, String> {
    let profiles: ProfilesAnswer = service.profiles();
    answer(&profiles)
}

/// A job that did not do what it was asked for is no success of the tool.
pub fn is_error(job: &Job) -> bool {
    job.status != Status::Succeeded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_compatible_with_the_contract() {
        let contract: &[(&str, &[&str])] = &[
            (
                "run_task",
                &[
                    "task",
                    "repo_url",
                    "profile",
                    "base_ref",
                    "session_id",
                    "file_path",
                    "create_repo",
                    "private",
                    "worktree_id",
                    "wait",
                ],
            ),
            ("get_job", &["job_id"]),
            ("list_jobs", &["limit", "status"]),
            ("cancel_job", &["job_id"]),
            ("list_profiles", &[]),
        ];
        for (name, arguments) in contract {
            let tool = find(name).unwrap();
            let names: Vec<&str> = tool.arguments.iter().map(|(name, _, _)| *name).collect();
            assert_eq!(&names[..], *arguments, "{name}");
        }
        for tool in &TOOLS {
            assert!(
                tool.description.len() > 60
                    && tool.required.iter().all(|name| tool.arguments.iter().any(|a| a.0 == *name))
            );
        }
    }

    #[test]
    fn a_wrong_call_is_explained() {
        let of = |value: Value| value.as_object().unwrap().clone();
        let check = |name: &str, value: Value| find(name).unwrap().check(&of(value));
        assert!(
            check("run_task", json!({"task": "x", "repo_ur": "y"})).unwrap_err().ends_with("did you mean `repo_url`?")
        );
        assert_eq!(check("get_job", json!({"job_id": ""})), Err("get_job needs `job_id`".into()));
        assert_eq!(limit(&of(json!({"limit": 20.0}))), Ok(Some(20)));
        assert_eq!(limit(&of(json!({"limit": ""}))), Ok(None));
        assert!(limit(&of(json!({"limit": 0}))).is_err() && limit(&of(json!({"limit": "x"}))).is_err());
    }
}
