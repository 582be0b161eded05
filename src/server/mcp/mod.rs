//! MCP: over streamable HTTP (one endpoint, every revision, no session, any pod), over the older HTTP+SSE, and
//! on standard input and output.
//!
//! Translates for the service as REST does; decides nothing about jobs. To end a request, by hanging up or by a
//! notification, ends the waiting and never the job.

mod calls;
mod eras;
pub mod lines;
mod reply;
pub mod sse;
pub mod stdio;
mod table;
mod tasks;
mod tools;
mod wait;

use super::http::{Answer, Head, Reply, Request};
use super::keys::Keys;
use crate::log;
use crate::service::{Caller, Scope, Service};
use eras::{Call, Era, Fault, LEGACY, Message};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tiny_http::Method;
use tools::Said;
use wait::ToolWait;

pub const PATH: &str = "/mcp";

/// What a model is told of this server before it sees the tools.
const INSTRUCTIONS: &str = "Agenticore runs coding agents. run_task hands one a task and a repository and returns a \
     job at once; wait_for_job answers when it has ended, get_job shows how it stands, \
     get_job_events what it did. The result is a pull request (pr_url). A job goes on whether \
     or not anybody waits for it; cancel_job stops it. plan_task has the way to a task's end \
     written down first, and execute_plan carries that out.";

/// How long lists of tools may be kept, in milliseconds: they change with the server's version.
const TTL: u64 = 300_000;

pub struct Mcp {
    service: Arc<Service>,
    keys: Arc<Keys>,
}

pub fn is_for(path: &str) -> bool {
    path.trim_end_matches('/') == PATH
}

impl Mcp {
    pub fn new(service: Arc<Service>, keys: Arc<Keys>) -> Self {
        Self { service, keys }
    }

    /// Streamable HTTP: one message, one answer.
    pub fn answer(&self, request: &Request) -> Reply {
        if let Some(refused) = check_head(&request.head) {
            return refused.into();
        }
        if let Some(messages) = eras::batch(&request.head, &request.body) {
            return self.answer_batch(&messages, &request.caller).into();
        }
        match self.hear(Some(&request.head), &request.body, &request.caller) {
            // Where no session is kept, a request cannot be told from another's by its id.
            Told::Nothing | Told::Cancels(_) => Answer::empty(202).into(),
            Told::Answer(status, answer) => Answer::json(status, &answer).into(),
            Told::Waits(wait) => Reply::Flow(wait),
        }
    }

    /// Several messages at once, as 2025-03-26 has it. None of them waits for a job.
    fn answer_batch(&self, messages: &[Value], by: &Caller) -> Answer {
        let heard = messages.iter().map(|message| self.hear(None, message.to_string().as_bytes(), by));
        let answers: Vec<Value> = heard
            .filter_map(|told| match told {
                Told::Nothing | Told::Cancels(_) => None,
                Told::Answer(_, answer) => Some(answer),
                Told::Waits(wait) => Some(wait.failed(
                    "a call that waits cannot stand in a batch: the job goes on, and get_job or wait_for_job find it",
                )),
            })
            .collect();
        if answers.is_empty() { Answer::empty(202) } else { Answer::json(200, &answers) }
    }

    /// Takes one message, however it came.
    fn hear(&self, head: Option<&Head>, body: &[u8], by: &Caller) -> Told {
        match eras::read(head, body) {
            Ok(Message::Heard) => Told::Nothing,
            Ok(Message::Cancel(id)) => Told::Cancels(id),
            Ok(Message::Call(call)) => self.call(&call, by),
            Err(fault) => fault.into(),
        }
    }

    fn call(&self, call: &Call, by: &Caller) -> Told {
        let result = match (call.era, call.method.as_str()) {
            (Era::Legacy, "initialize") => Ok(initialized(&call.params)),
            (Era::Legacy, "ping") => Ok(json!({})),
            (Era::Modern, "server/discover") => Ok(discovered()),
            (Era::Modern, method) if tasks::METHODS.contains(&method) => tasks::answer(&self.service, call, by),
            (_, "tools/list") => listed(call),
            (_, "tools/call") => return self.call_tool(call, by),
            _ => {
                let why = format!("there is no method {}", call.method);
                Err(Fault::new(call.era, 404, -32601, why, &call.id))
            }
        };
        match result {
            Ok(result) => Told::Answer(200, reply::result(call, result)),
            Err(fault) => fault.into(),
        }
    }

    fn call_tool(&self, call: &Call, by: &Caller) -> Told {
        let bad = |why: String| Fault::new(call.era, 400, -32602, why, &call.id).into();
        let Some(name) = call.params.get("name").and_then(Value::as_str) else {
            return bad("`name` is missing".into());
        };
        let Some(tool) = tools::find(name) else {
            let meant = crate::suggest::did_you_mean(name, tools::TOOLS.iter().map(|tool| tool.name));
            return bad(format!("there is no tool {name}{meant}"));
        };
        let arguments = match call.params.get("arguments") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(arguments)) => arguments.clone(),
            Some(_) => return bad("`arguments` must be an object".into()),
        };
        let may = by.may(tool.scope()).map_err(|refusal| refusal.to_string());
        let said = may.and_then(|()| tool.check(&arguments));
        let said = said.and_then(|()| (tool.call)(&self.service, by, &arguments));
        if tool.scope() > Scope::Read {
            let outcome = said.as_ref().map_or_else(String::as_str, |_| "done");
            log::audit(by.name.as_deref(), by.request_id.as_deref(), &format!("the tool {}", tool.name), outcome);
        }
        match said {
            Ok(Said::Lives { job, .. }) if call.has_extension(tasks::EXTENSION) => {
                Told::Answer(200, tasks::made(&job, call))
            }
            Ok(Said::Lives { job, shape, waits: true }) => {
                Told::Waits(Box::new(ToolWait::new(&self.service, *job, shape, call)))
            }
            Ok(Said::Lives { job, shape, waits: false }) => {
                Told::Answer(200, reply::result(call, reply::content(&shape.answer(*job), false)))
            }
            Ok(Said::Now(value)) => Told::Answer(200, reply::result(call, reply::content(&value, false))),
            // A model reads it and mends its call.
            Err(why) => Told::Answer(200, reply::result(call, reply::failure(&why))),
        }
    }
}

/// What a message leads to.
enum Told {
    Nothing,
    /// The waiting for the answer to this request is over.
    Cancels(Value),
    /// With the status that HTTP gives it.
    Answer(u16, Value),
    Waits(Box<ToolWait>),
}

impl From<Fault> for Told {
    fn from(fault: Fault) -> Self {
        Told::Answer(fault.status, fault.to_json())
    }
}

/// What has to be right before a body is looked at.
fn check_head(head: &Head) -> Option<Answer> {
    let refused = |status: u16, why: &str| {
        let fault = Fault { status, ..Fault::new(Era::Modern, status, -32600, why, &Value::Null) };
        Some(faulty(&fault))
    };
    if head.method != Method::Post {
        return refused(
            405,
            "messages are sent by POST: there is no stream to be opened here, and no session to be ended",
        )
        .map(|answer| answer.with("Allow", "POST"));
    }
    let media =
        head.header("content-type").map(|kind| kind.split(';').next().unwrap_or_default().trim().to_lowercase());
    if media.as_deref() != Some("application/json") {
        return refused(415, "the Content-Type must be application/json");
    }
    let accepts =
        |kind: &str| head.header("accept").is_none_or(|accepted| accepted.contains(kind) || accepted.contains("*/*"));
    if !accepts("application/json") || !accepts("text/event-stream") {
        return refused(406, "the Accept header must name application/json and text/event-stream");
    }
    None
}

fn faulty(fault: &Fault) -> Answer {
    Answer::json(fault.status, &fault.to_json())
}

fn server_info() -> Value {
    json!({"name": "agenticore", "title": "Agenticore", "version": env!("CARGO_PKG_VERSION")})
}

fn initialized(params: &Map<String, Value>) -> Value {
    let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    // The client decides whether it can do with another one.
    let version = LEGACY.into_iter().find(|known| *known == asked).unwrap_or(LEGACY[0]);
    json!({
        "protocolVersion": version,
        "capabilities": {"tools": {}},
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

fn discovered() -> Value {
    json!({
        "supportedVersions": eras::supported(),
        "capabilities": {"tools": {}, "extensions": {tasks::EXTENSION: {}}},
        "instructions": INSTRUCTIONS,
        "ttlMs": TTL,
        "cacheScope": "public",
    })
}

fn listed(call: &Call) -> Result<Value, Fault> {
    if call.params.get("cursor").is_some_and(|cursor| !cursor.is_null()) {
        return Err(Fault::new(call.era, 400, -32602, "there is one page of tools, and no cursor", &call.id));
    }
    let tools: Vec<Value> = tools::TOOLS.iter().map(tools::Tool::to_json).collect();
    Ok(match call.era {
        Era::Modern => json!({"tools": tools, "ttlMs": TTL, "cacheScope": "public"}),
        Era::Legacy => json!({"tools": tools}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_asked_for_is_answered_if_it_is_known() {
        let of = |version: &str| initialized(json!({"protocolVersion": version}).as_object().unwrap());
        assert_eq!(of("2025-06-18")["protocolVersion"], "2025-06-18");
        assert_eq!(of("1999-01-01")["protocolVersion"], "2025-11-25");
        assert_eq!(discovered()["supportedVersions"][0], eras::MODERN);
    }
}
