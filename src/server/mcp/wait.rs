//! A tool call that answers at a job's end: progress as the job's events come, then the job.

use super::eras::Call;
use super::{reply, tools};
use crate::api::{Event, Job, JobAnswer};
use crate::event::{Cursor, Kind};
use crate::job::cut;
use crate::server::http::{Flow, Next, Resumed, Waker};
use crate::service::{Heard, ServerEventWatch, Service};
use serde_json::{Map, Value};

pub struct ToolWait {
    watch: ServerEventWatch,
    job: Job,
    call: Call,
    token: Option<Value>,
    is_begun: bool,
    /// Rises with each progress that is told.
    step: u64,
}

impl ToolWait {
    pub fn new(service: &Service, job: Job, call: &Call) -> Self {
        let token = call.progress_token();
        let call = Call { era: call.era, id: call.id.clone(), method: call.method.clone(), params: Map::new() };
        Self { watch: service.watch_job(&job.id, Cursor::START), job, call, token, is_begun: false, step: 0 }
    }

    /// Of the request that waits.
    pub fn id(&self) -> &Value {
        &self.call.id
    }

    pub fn message(value: &Value) -> Vec<u8> {
        format!("event: message\ndata: {value}\n\n").into_bytes()
    }

    /// Tells some of what happened; whether that was all. It may block for as long as the store does.
    pub fn look(&mut self) -> (Vec<u8>, bool) {
        let mut said = Vec::new();
        if !self.is_begun {
            self.is_begun = true;
            said.extend(self.first_progress());
        }
        let mut happened = Vec::new();
        let ended = self.watch.read(&mut |event| happened.push(event.clone()));
        happened.iter().for_each(|event| said.extend(self.tell(event)));
        match ended {
            Ok(None) => return (said, false),
            Ok(Some(job)) => said.extend(self.ended(&job)),
            Err(refusal) => {
                said.extend(Self::message(&reply::result(&self.call, reply::failure(&refusal.to_string()))));
            }
        }
        (said, true)
    }

    /// The first one says what a client that gives up should know.
    fn first_progress(&mut self) -> Vec<u8> {
        let id = &self.job.id;
        self.progress(&format!(
            "job {id} is {}; it goes on if you stop waiting: get_job shows it, cancel_job cancels it",
            self.job.status.as_str()
        ))
    }

    fn progress(&mut self, text: &str) -> Vec<u8> {
        let Some(token) = &self.token else { return Vec::new() };
        self.step += 1;
        Self::message(&reply::progress(token, self.step, text))
    }

    fn tell(&mut self, event: &Event) -> Vec<u8> {
        sentence(event).map(|text| self.progress(&text)).unwrap_or_default()
    }

    fn ended(&self, job: &Job) -> Vec<u8> {
        let answer = serde_json::to_value(JobAnswer::new(job.clone(), false)).unwrap_or_default();
        Self::message(&reply::result(&self.call, reply::content(&answer, tools::is_error(job))))
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

impl Flow for ToolWait {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b": waiting\n\n"
    }

    fn on_news(&mut self, waker: Waker) {
        self.watch.on_news(waker);
    }

    fn next(&mut self) -> Next {
        match self.watch.next() {
            Heard::Nothing => Next::Waits,
            Heard::Event(event) => Next::Says(self.tell(&event)),
            Heard::More => Next::Resumes,
        }
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        let (said, is_over) = self.look();
        (said, if is_over { Resumed::Done } else { Resumed::GoesOn(self) })
    }

    fn last_words(&mut self) -> Vec<u8> {
        let id = &self.job.id;
        let why = format!("this server goes away; job {id} goes on, and wait_for_job waits for it again");
        // A result that is an error: the model reads it and asks again, perhaps of another pod.
        Self::message(&reply::result(&self.call, reply::failure(&why)))
    }
}
