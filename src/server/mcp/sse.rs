//! HTTP+SSE, the transport of 2024-11-05: the client opens a stream at `/sse`, sends its messages to `/messages`, and
//! gets the answers on the stream.
//!
//! The stream lives on one pod; a message that reaches another is handed to it through the store. Era by message, as
//! over stdio: today's clients send both. To close the stream ends the session, and no job.

use super::wait::{Progress, ToolWait, framed};
use super::{Mcp, Told};
use crate::job::Time;
use crate::server::guard::{offered_keys, pairs};
use crate::server::http::{Answer, EndsEarly, Flow, Head, Next, Reply, Request, Resumed, Waker};
use crate::server::rest::status::{problem, refused};
use crate::service::{Caller, Posted, Session};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;
use tiny_http::Method;

pub const STREAM: &str = "/sse";
pub const MESSAGES: &str = "/messages";
/// What a session's id is called in the address of its messages.
const SESSION: &str = "session_id";
/// Calls of one session that wait at once.
const WAITS_LIMIT: usize = 64;

pub fn is_for(path: &str) -> bool {
    [STREAM, MESSAGES].contains(&path.trim_end_matches('/'))
}

fn session_of(head: &Head) -> Option<String> {
    pairs(head).find(|(name, _)| name == SESSION).map(|(_, id)| id.into_owned()).filter(|id| !id.is_empty())
}

/// A message that carries a session's id and no key: the session stands for the key that opened it, because clients
/// do not carry a key in the stream's address over to the address of the messages.
pub fn stands_for_a_key(head: &Head) -> bool {
    head.path.trim_end_matches('/') == MESSAGES && session_of(head).is_some() && offered_keys(head).is_empty()
}

pub fn answer(mcp: &Arc<Mcp>, request: &Request) -> Reply {
    let head = &request.head;
    let is_stream = head.path.trim_end_matches('/') == STREAM;
    let wanted = if is_stream { Method::Get } else { Method::Post };
    if head.method != wanted && !(is_stream && head.method == Method::Head) {
        let why = format!("{} does nothing here: allowed is {wanted}", head.method);
        return problem(405, &why).with("Allow", wanted.as_str()).into();
    }
    if is_stream {
        return match mcp.service.open_session() {
            Ok(session) => Reply::Flow(Box::new(SessionStream::new(mcp.clone(), session, request.caller.clone()))),
            Err(refusal) => refused(&refusal).into(),
        };
    }
    let Some(session) = session_of(head) else {
        return problem(400, "`session_id` is missing: open a stream at /sse, which says where messages go").into();
    };
    let Some(message) = std::str::from_utf8(&request.body).ok().filter(|text| is_object(text)) else {
        return problem(400, "the body must be one JSON-RPC message").into();
    };
    match mcp.service.post(&session, message) {
        Ok(Posted::Taken) => Answer::empty(202).into(),
        Ok(Posted::Unknown) => problem(404, "there is no such session: open a stream at /sse").into(),
        Ok(Posted::Full) => {
            problem(429, "too many messages wait in this session: read its stream, then send this again").into()
        }
        Err(refusal) => refused(&refusal).into(),
    }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|message| message.is_object())
}

struct SessionStream {
    mcp: Arc<Mcp>,
    session: Session,
    /// Who opened it: its messages are asked by that key.
    by: Caller,
    waits: Vec<ToolWait>,
}

impl SessionStream {
    fn new(mcp: Arc<Mcp>, session: Session, by: Caller) -> Self {
        Self { mcp, session, by, waits: Vec::new() }
    }

    fn hear(&mut self, message: &str) -> Vec<u8> {
        // The key that opened the session may have gone since.
        let Ok(by) = self.mcp.keys.again(&self.by, Time::now()) else { return key_is_gone(message) };
        let by = Caller { request_id: Some(uuid::Uuid::new_v4().to_string()), ..by };
        match self.mcp.hear(None, message.as_bytes(), &by) {
            Told::Nothing => Vec::new(),
            Told::Cancels(id) => {
                self.waits.retain(|wait| *wait.id() != id);
                Vec::new()
            }
            Told::Answer(_, answer) => framed(&answer),
            Told::Waits(wait) if self.waits.len() >= WAITS_LIMIT => {
                framed(&wait.failed("too many calls of this session wait already: get_job shows how a job stands"))
            }
            Told::Waits(wait) => {
                self.waits.push(*wait);
                Vec::new()
            }
        }
    }
}

/// The answer to a message whose session was opened with a key that is of no use any more.
fn key_is_gone(message: &str) -> Vec<u8> {
    let message: Value = serde_json::from_str(message).unwrap_or_default();
    let why = "the key that opened this session is not good any more: open another one";
    let error = json!({"code": -32600, "message": why});
    let answer = message.get("id").map(|id| json!({"jsonrpc": "2.0", "id": id, "error": error}));
    answer.iter().flat_map(framed).collect()
}

impl Flow for SessionStream {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": waiting\n\n"
    }

    fn opening(&self) -> Vec<u8> {
        format!("event: endpoint\ndata: {MESSAGES}?{SESSION}={}\n\n", self.session.id()).into_bytes()
    }

    fn on_news(&mut self, waker: Waker) {
        self.waits.iter().for_each(|wait| wait.on_news(waker.clone()));
        self.session.on_mail(waker);
    }

    fn next(&mut self) -> Next {
        if self.session.has_mail() {
            return Next::Resumes;
        }
        for wait in &mut self.waits {
            match wait.progress() {
                Progress::Nothing => {}
                Progress::Says(said) => return Next::Says(said.iter().flat_map(framed).collect()),
                Progress::Looks => return Next::Resumes,
            }
        }
        Next::Waits
    }

    fn until(&self) -> Option<Instant> {
        Some(self.session.keep_at())
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        // What cannot be read now stays where it is, and is read again.
        let messages = self.session.take().unwrap_or_default();
        let mut said: Vec<u8> = messages.iter().flat_map(|message| self.hear(message)).collect();
        self.waits.retain_mut(|wait| match wait.progress() {
            Progress::Nothing => true,
            Progress::Says(one) => {
                said.extend(one.iter().flat_map(framed));
                true
            }
            Progress::Looks => {
                let (some, is_over) = wait.look();
                said.extend(some.iter().flat_map(framed));
                !is_over
            }
        });
        (said, Resumed::GoesOn(self))
    }

    fn last_words(&mut self, early: EndsEarly) -> Vec<u8> {
        self.waits.iter().flat_map(|wait| framed(&wait.last_words(early))).collect()
    }
}
