//! A tool call that answers at a job's end: progress as the job's events come, then the job.

use super::eras::Call;
use super::{calls, reply};
use crate::api::{Event, Job, Shape};
use crate::event::{Cursor, Kind};
use crate::job::cut;
use crate::server::http::{EndsEarly, Flow, Next, Resumed, Waker};
use crate::service::{Heard, ServerEventWatch, Service};
use serde_json::{Map, Value};
use std::time::Duration;

pub struct ToolWait {
    watch: ServerEventWatch,
    job: Job,
    shape: Shape,
    call: Call,
    token: Option<Value>,
    is_begun: bool,
    /// Rises with each progress that is told.
    step: u64,
}

/// What is at hand of a call that waits.
pub enum Progress {
    Nothing,
    /// Messages for the client, perhaps none.
    Says(Option<Value>),
    /// It has to [`look`](ToolWait::look).
    Looks,
}

impl ToolWait {
    pub fn new(service: &Service, job: Job, shape: Shape, call: &Call) -> Self {
        let token = call.progress_token();
        let call = Call { era: call.era, id: call.id.clone(), method: call.method.clone(), params: Map::new() };
        Self { watch: service.watch_job(&job.id, Cursor::START), job, shape, call, token, is_begun: false, step: 0 }
    }

    /// Of the request that waits.
    pub fn id(&self) -> &Value {
        &self.call.id
    }

    pub fn on_news(&self, waker: Waker) {
        self.watch.on_news(waker);
    }

    /// Never blocks.
    pub fn progress(&mut self) -> Progress {
        let heard = self.watch.next();
        self.heard(heard)
    }

    /// The same, waiting for `limit` at most.
    pub fn wait(&mut self, limit: Duration) -> Progress {
        let heard = self.watch.wait(limit);
        self.heard(heard)
    }

    fn heard(&mut self, heard: Heard) -> Progress {
        match heard {
            Heard::Nothing => Progress::Nothing,
            Heard::Event(event) => Progress::Says(self.tell(&event)),
            Heard::More => Progress::Looks,
        }
    }

    /// Tells some of what happened; whether that was all. It may block for as long as the store does.
    pub fn look(&mut self) -> (Vec<Value>, bool) {
        let mut said = Vec::new();
        if !self.is_begun {
            self.is_begun = true;
            said.extend(self.first_progress());
        }
        let mut happened = Vec::new();
        let ended = self.watch.read(&mut |event| happened.push(event.clone()));
        said.extend(happened.iter().filter_map(|event| self.tell(event)));
        match ended {
            Ok(None) => return (said, false),
            Ok(Some(job)) => said.push(self.ended(&job)),
            Err(refusal) => said.push(self.failed(&refusal.to_string())),
        }
        (said, true)
    }

    /// The server goes before the job has ended.
    pub fn last_words(&self, early: EndsEarly) -> Value {
        let (id, why) = (&self.job.id, early.why());
        self.failed(&format!("{why}; job {id} goes on, and wait_for_job waits for it again"))
    }

    /// A result that is an error: the model reads it and asks again, perhaps of another pod.
    pub fn failed(&self, why: &str) -> Value {
        reply::result(&self.call, reply::failure(why))
    }

    /// The first one says what a client that gives up should know.
    fn first_progress(&mut self) -> Option<Value> {
        let id = &self.job.id;
        self.tell_progress(&format!(
            "job {id} is {}; it goes on if you stop waiting: get_job shows it, cancel_job cancels it",
            self.job.status.as_str()
        ))
    }

    fn tell_progress(&mut self, text: &str) -> Option<Value> {
        let token = self.token.as_ref()?;
        self.step += 1;
        Some(reply::progress(token, self.step, text))
    }

    fn tell(&mut self, event: &Event) -> Option<Value> {
        sentence(event).and_then(|text| self.tell_progress(&text))
    }

    fn ended(&self, job: &Job) -> Value {
        let answer = self.shape.answer(job.clone());
        reply::result(&self.call, reply::content(&answer, calls::is_error(job)))
    }
}

/// What happened, for a person who waits; None: not worth a word.
fn sentence(event: &Event) -> Option<String> {
    let text = cut(event.text.lines().next().unwrap_or_default().to_owned(), 200);
    Some(match event.kind {
        Kind::AgentToolResult | Kind::AgentNotice => return None,
        Kind::AgentText => format!("the agent says: {text}"),
        Kind::AgentTool => format!("the agent uses {}: {text}", event.tool.as_deref().unwrap_or("a tool")),
        kind if text.is_empty() => kind.as_str().replace('_', " "),
        kind => format!("{}: {text}", kind.as_str().replace('_', " ")),
    })
}

/// A message as event streams carry it.
pub fn framed(message: &Value) -> Vec<u8> {
    format!("event: message\ndata: {message}\n\n").into_bytes()
}

/// The answer over streamable HTTP.
impl Flow for ToolWait {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": waiting\n\n"
    }

    fn on_news(&mut self, waker: Waker) {
        ToolWait::on_news(self, waker);
    }

    fn next(&mut self) -> Next {
        match self.progress() {
            Progress::Nothing => Next::Waits,
            Progress::Says(said) => Next::Says(said.iter().flat_map(framed).collect()),
            Progress::Looks => Next::Resumes,
        }
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        let (said, is_over) = self.look();
        (said.iter().flat_map(framed).collect(), if is_over { Resumed::Done } else { Resumed::GoesOn(self) })
    }

    fn last_words(&mut self, early: EndsEarly) -> Vec<u8> {
        framed(&ToolWait::last_words(self, early))
    }
}
