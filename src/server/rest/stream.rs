//! Server-Sent Events. `GET /jobs/{id}/events`: all that was, then what happens, then the end. `GET /events`: the
//! changes of all jobs.

use crate::api::{Change, Event, Job};
use crate::server::http::{EndsEarly, Flow, Next, Resumed, Waker};
use crate::service::{ChangeWatch, Heard, HeardChange, ServerEventWatch};
use serde::Serialize;

pub struct EventStream(pub ServerEventWatch);

/// How soon a browser connects again, in milliseconds.
const RETRY: u32 = 2_000;

fn data(of: &impl Serialize) -> String {
    // JSON on one line: there is no line end in it that would end the data.
    format!("data: {}\n\n", serde_json::to_string(of).unwrap_or_default())
}

fn event(event: &Event) -> Vec<u8> {
    format!("id: {}\n{}", event.cursor, data(event)).into_bytes()
}

fn change(change: &Change) -> Vec<u8> {
    format!("id: {}\n{}", change.cursor, data(change)).into_bytes()
}

fn retry() -> Vec<u8> {
    format!("retry: {RETRY}\n\n").into_bytes()
}

fn end(job: &Job) -> Vec<u8> {
    format!("event: end\n{}", data(job)).into_bytes()
}

impl Flow for EventStream {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b":\n\n"
    }

    fn opening(&self) -> Vec<u8> {
        retry()
    }

    fn on_news(&mut self, waker: Waker) {
        self.0.on_news(waker);
    }

    fn next(&mut self) -> Next {
        match self.0.next() {
            Heard::Nothing => Next::Waits,
            Heard::Event(said) => Next::Says(event(&said)),
            Heard::More => Next::Resumes,
        }
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        let mut said = Vec::new();
        match self.0.read(&mut |happened| said.extend(event(happened))) {
            Ok(None) => (said, Resumed::GoesOn(self)),
            Ok(Some(job)) => {
                said.extend(end(&job));
                (said, Resumed::Done)
            }
            // The job was forgotten, or the store cannot be read: the client comes again with its cursor.
            Err(_) => (said, Resumed::Done),
        }
    }

    fn last_words(&mut self, _: EndsEarly) -> Vec<u8> {
        Vec::new()
    }
}

pub struct ChangeStream(pub ChangeWatch);

impl Flow for ChangeStream {
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b":\n\n"
    }

    fn opening(&self) -> Vec<u8> {
        retry()
    }

    fn on_news(&mut self, waker: Waker) {
        self.0.on_news(waker);
    }

    fn next(&mut self) -> Next {
        match self.0.next() {
            HeardChange::Nothing => Next::Waits,
            HeardChange::Change(said) => Next::Says(change(&said)),
            HeardChange::More => Next::Resumes,
        }
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        match self.0.read() {
            Ok(changes) => (changes.iter().flat_map(change).collect(), Resumed::GoesOn(self)),
            // It cannot be read: the client comes again with its cursor.
            Err(_) => (Vec::new(), Resumed::Done),
        }
    }

    fn last_words(&mut self, _: EndsEarly) -> Vec<u8> {
        Vec::new()
    }
}
