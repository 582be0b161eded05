//! `wait=true`: the answer begins at once, and its JSON comes when the job has ended. JSON may begin with blanks.

use crate::api::{Job, Problem, Shape};
use crate::server::http::{EndsEarly, Flow, Next, Resumed, Waker};
use crate::service::{EndWatch, Look, Service};

pub struct WaitForEnd {
    watch: EndWatch,
    shape: Shape,
}

impl WaitForEnd {
    pub fn new(service: &Service, job: Job, shape: Shape) -> Self {
        Self { watch: service.watch_end(job), shape }
    }
}

/// The job goes on, and nobody can be told how it ends: not a success, and the job as it was.
fn unfinished(status: u16, why: &str, job: &Job) -> Vec<u8> {
    let problem = Problem { job: Some(Box::new(job.clone())), ..Problem::new(status, why) };
    serde_json::to_vec(&problem).unwrap_or_default()
}

impl Flow for WaitForEnd {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn heartbeat(&self) -> &'static [u8] {
        b"\n"
    }

    fn on_news(&mut self, waker: Waker) {
        self.watch.on_news(waker);
    }

    fn next(&mut self) -> Next {
        if self.watch.has_news() { Next::Resumes } else { Next::Waits }
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        match self.watch.look() {
            Look::Ended(job) => (self.shape.answer(*job).to_string().into_bytes(), Resumed::Done),
            Look::Gone => {
                let why = "the job was forgotten before its end could be read: its time to live was over";
                (unfinished(503, why, self.watch.last_seen()), Resumed::Done)
            }
            Look::NotYet => (Vec::new(), Resumed::GoesOn(self)),
        }
    }

    fn last_words(&mut self, early: EndsEarly) -> Vec<u8> {
        let why = match early {
            EndsEarly::ServerGoes => {
                "this server goes away before the job has ended; the job goes on: ask for it again"
            }
            EndsEarly::KeyIsGone => "the key that asked is not good any more; the job goes on",
        };
        unfinished(early.status(), why, self.watch.last_seen())
    }
}
