//! HTTP's wire: listening, deadlines, requests in and answers out. No other module knows it, and it never looks into
//! a body.
//!
//! An answer is whole, or it flows. A connection has a thread while a request is read, decided and answered; as soon
//! as it only waits, its socket goes to the one thread of `flows`. tiny_http gives the types and writes the heads.
//! Its server is not used: one request can abort the process (ARCHITECTURE.md).

mod answer;
mod connection;
mod connections;
mod flows;
pub mod head;
mod listen;

pub use answer::{Answer, Reply};
pub use flows::{EndsEarly, Flow, Next, Resumed, Waker};
pub use head::Head;
#[cfg(test)]
pub use head::parse as parse_head;
pub use listen::{Limits, Server};

use crate::service::Caller;
use std::time::Duration;

/// From a request's first byte, or the connection's begin, to the end of its head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body: 1 MiB over a slow line.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a connection is kept for another request.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long one write may block, or what is to be written may wait: the client does not read.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long answers under way get when the server goes.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How often an answer that flows says something: proxies cut what is silent for 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
    pub caller: Caller,
}

pub trait Handler: Send + Sync + 'static {
    /// Who asks; or refuses a request by its head alone, before its body is read.
    fn screen(&self, head: &Head) -> Result<Caller, Answer>;

    fn answer(&self, request: &Request) -> Reply;

    /// A request was answered so. `head`: None, it had none that could be read.
    fn note(&self, _head: Option<&Head>, _status: u16) {}

    /// What every answer to this request carries, whatever it is.
    fn headers(&self, _head: &Head) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
