//! `GET /jobs/{id}/events` as JSON: a page, and with `wait=` one that waits until there is something in it.

use crate::api::Problem;
use crate::server::http::{Flow, Next, Resumed, Waker};
use crate::service::PageWatch;
use std::time::Instant;

pub struct WaitForPage(pub PageWatch);

impl Flow for WaitForPage {
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
            Ok(Some(page)) => (serde_json::to_vec(&page).unwrap_or_default(), Resumed::Done),
            Err(refusal) => (serde_json::to_vec(&Problem::new(refusal.to_string())).unwrap_or_default(), Resumed::Done),
        }
    }

    fn last_words(&mut self) -> Vec<u8> {
        serde_json::to_vec(&self.0.empty()).unwrap_or_default()
    }
}
