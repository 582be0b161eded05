//! `GET /jobs/{id}/events` and `GET /events` as JSON: a page, and with `wait=` one that waits until there is something
//! in it.

use crate::api::Problem;
use crate::server::http::{EndsEarly, Flow, Next, Resumed, Waker};
use crate::service::WaitsForPage;
use serde::Serialize;
use std::time::Instant;

pub struct WaitForPage<W>(pub W);

impl<W: WaitsForPage + 'static> Flow for WaitForPage<W> {
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

    fn until(&self) -> Option<Instant> {
        Some(self.0.until())
    }

    fn resume(mut self: Box<Self>) -> (Vec<u8>, Resumed) {
        match self.0.look() {
            Ok(None) => (Vec::new(), Resumed::GoesOn(self)),
            Ok(Some(page)) => (json(&page), Resumed::Done),
            Err(refusal) => (json(&Problem::new(503, refusal.to_string())), Resumed::Done),
        }
    }

    fn last_words(&mut self, _: EndsEarly) -> Vec<u8> {
        json(&self.0.empty())
    }
}

fn json(body: &impl Serialize) -> Vec<u8> {
    // Text, numbers and names: there is nothing in an answer that JSON cannot hold.
    serde_json::to_vec(body).unwrap_or_default()
}
