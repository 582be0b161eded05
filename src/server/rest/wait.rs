//! `wait=true`: the answer begins at once, and its JSON comes when the job has ended. JSON may begin with blanks.

use crate::api::{Job, JobAnswer};
use crate::server::http::{Flow, Next, Resumed, Waker};
use crate::service::{EndWatch, Service};
use std::io;

pub struct WaitForEnd(EndWatch);

impl WaitForEnd {
    pub fn new(service: &Service, job: Job) -> Self {
        Self(service.watch_end(job))
    }
}

fn json(job: &Job) -> Vec<u8> {
    serde_json::to_vec(&JobAnswer::new(job.clone(), false)).unwrap_or_default()
}

impl Flow for WaitForEnd {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b"\n"
    }

    fn on_news(&mut self, waker: Waker) {
        self.0.on_news(waker);
    }

    fn next(&mut self) -> Next {
        if self.0.has_news() { Next::Resumes } else { Next::Waits }
    }

    fn resume(mut self: Box<Self>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Resumed> {
        match self.0.look() {
            Some(job) => write(&json(&job)).map(|()| Resumed::Done),
            None => Ok(Resumed::Waits(self)),
        }
    }

    fn last_words(&mut self) -> Vec<u8> {
        json(self.0.last_seen())
    }
}
