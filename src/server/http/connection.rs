//! One connection: its requests one after the other, each within its deadlines, on a thread of its own for as long
//! as there is something to read, to decide or to write.

use super::answer::{self, Answer, Framing, How, Reply};
use super::flows::{Flow, Flowing, Resumed, Turn};
use super::head::{self, HEAD_LIMIT, Head, Refused};
use super::listen::Shared;
use super::{BODY_TIME, HEAD_TIME, IDLE_TIME, Request};
use crate::api;
use crate::log;
use crate::server::rest::status::problem;
use crate::service::Caller;
use crate::trace_context::TraceParent;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tiny_http::Method;

pub struct Connection {
    pub shared: Arc<Shared>,
    pub number: u64,
    /// Shared with the table of connections, which may shut it down.
    pub stream: Arc<TcpStream>,
    /// Read and not used yet.
    pub buffer: Vec<u8>,
}

/// What becomes of a connection when its thread ends.
pub enum Fate {
    Closed,
    /// Its answer flows on.
    Flows(Flowing),
}

impl Connection {
    pub fn serve(&mut self) -> io::Result<Fate> {
        let mut first = true;
        while let Some(head) = self.read_head(if first { HEAD_TIME } else { IDLE_TIME })? {
            first = false;
            let head = match head {
                Ok(head) => head,
                Err(Refused(status, why)) => {
                    self.shared.handler.note(None, status);
                    let id = request_id(head::request_id_in(&self.buffer));
                    return self.refuse(&problem(status, &why).with("X-Request-Id", id), false);
                }
            };
            let mut more = self.shared.handler.headers(&head);
            let request_id = request_id(head.header("x-request-id"));
            more.push(("X-Request-Id", request_id.clone()));
            let caller = match self.shared.handler.screen(&head) {
                Ok(caller) => caller,
                Err(mut answer) => {
                    self.shared.handler.note(Some(&head), answer.status);
                    answer.headers.extend(more);
                    return self.refuse(&answer, head.method == Method::Head);
                }
            };
            let Some(share) =
                self.shared.connections.take_body(head.body_length, BODY_TIME.min(self.shared.request_time))
            else {
                let why = "too many large requests came at once: send it again";
                return self.refuse(&self.noted(&head, 503, why, more).with("Retry-After", "1"), false);
            };
            if head.expects_continue && head.body_length > self.buffer.len() {
                self.stream.as_ref().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let Some(body) = self.read_body(head.body_length)? else {
                return self.refuse(&self.noted(&head, 408, "the body did not come in time", more), false);
            };
            // Only now: half a request makes room for a whole one.
            self.shared.connections.is_busy(self.number, true);
            let keep_alive = head.keep_alive && !self.shared.is_stopping();
            let without_body = head.method == Method::Head;
            let framing = if head.is_http_1_1 { Framing::Chunked } else { Framing::Plain };
            let traceparent = head.header("traceparent").and_then(TraceParent::parse).map(|it| it.to_string());
            let caller = Caller { request_id: Some(request_id), traceparent, ..caller };
            let request = Request { head, body, caller };
            // Without the query, which may hold a key.
            let asked = format!("{} {}", request.head.method, request.head.path);
            let begin = Instant::now();
            let reply = catch_unwind(AssertUnwindSafe(|| self.shared.handler.answer(&request)));
            let flows = matches!(reply, Ok(Reply::Flow(_)));
            if flows && !without_body && !self.shared.connections.may_flow(self.number) {
                let why = "too many requests wait here already: the job goes on; ask for it in a moment";
                return self.refuse(&self.noted(&request.head, 503, why, more).with("Retry-After", "1"), false);
            }
            self.note(&request.head, reply.as_ref().map_or(500, Reply::status), &more);
            drop((request, share));
            match reply.unwrap_or_else(|_| problem(500, "a fault of agenticore: its log says more").into()) {
                Reply::Whole(mut answer) => {
                    log::debug(&format!("{asked}: {} in {} ms", answer.status, begin.elapsed().as_millis()));
                    answer.headers.extend(more);
                    let until = Instant::now() + self.shared.request_time;
                    answer::write(&self.stream, &answer, How { keep_alive, without_body, until })?;
                }
                Reply::Flow(flow) if without_body => {
                    self.stream.as_ref().write_all(&framing.head(flow.content_type(), &more))?;
                    return Ok(Fate::Closed);
                }
                Reply::Flow(flow) => {
                    log::debug(&format!("{asked}: an answer that flows"));
                    return self.begin(flow, framing, &more);
                }
            }
            if !keep_alive {
                return Ok(Fate::Closed);
            }
            self.shared.connections.is_busy(self.number, false);
        }
        Ok(Fate::Closed)
    }

    /// Counted; and where the server could not do it, said in the log.
    fn note(&self, head: &Head, status: u16, more: &[(&'static str, String)]) {
        self.shared.handler.note(Some(head), status);
        let is_probe = head.path == "/ready";
        if status >= 500 && !is_probe {
            let id = more.iter().find(|(name, _)| *name == "X-Request-Id").map_or("", |(_, id)| id);
            log::request_failed(&format!("{} {}", head.method, head.path), status, id);
        }
    }

    /// A refusal that is counted, with the headers that every answer to this request carries.
    fn noted(&self, head: &Head, status: u16, why: &str, more: Vec<(&'static str, String)>) -> Answer {
        self.note(head, status, &more);
        let mut answer = problem(status, why);
        answer.headers.extend(more);
        answer
    }

    /// Begins an answer that flows.
    fn begin(&mut self, flow: Box<dyn Flow>, framing: Framing, more: &[(&'static str, String)]) -> io::Result<Fate> {
        let begin = [framing.head(flow.content_type(), more), framing.frame(&flow.opening())].concat();
        self.stream.as_ref().write_all(&begin)?;
        let turn = self.shared.flows.first_turn();
        Ok(self.resume(flow, framing, turn))
    }

    /// Has a flow look up what takes time to find. `turn`: of the thread that does.
    pub fn resume(&mut self, flow: Box<dyn Flow>, framing: Framing, turn: Turn) -> Fate {
        let resumed = catch_unwind(AssertUnwindSafe(|| flow.resume()));
        // One that fails is cut off: its end is not written, so that nobody takes it for whole.
        let Ok((bytes, resumed)) = resumed else { return Fate::Closed };
        let mut backlog = framing.frame(&bytes);
        let flow = match resumed {
            Resumed::GoesOn(flow) => Some(flow),
            Resumed::Done => {
                backlog.extend(framing.end());
                None
            }
        };
        Fate::Flows(Flowing {
            number: self.number,
            stream: self.stream.clone(),
            framing,
            backlog,
            flow,
            turn: Some(turn),
        })
    }

    /// The next request's head; None when the client has no more. `patience`: for its first byte.
    fn read_head(&mut self, patience: Duration) -> io::Result<Option<Result<Head, Refused>>> {
        let mut until = Instant::now() + if self.buffer.is_empty() { patience } else { HEAD_TIME };
        loop {
            match head::parse(&self.buffer) {
                Ok(Some((head, length))) => {
                    self.buffer.drain(..length);
                    return Ok(Some(Ok(head)));
                }
                Ok(None) => {}
                Err(refused) => return Ok(Some(Err(refused))),
            }
            let was_empty = self.buffer.is_empty();
            match self.read_more(until, HEAD_LIMIT)? {
                0 if was_empty => return Ok(None),
                0 => return Ok(Some(Err(Refused(408, "the request's head did not come in time".into())))),
                _ if was_empty => until = Instant::now() + HEAD_TIME,
                _ => {}
            }
        }
    }

    fn read_body(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + BODY_TIME.min(self.shared.request_time);
        while self.buffer.len() < length {
            if self.read_more(until, length)? == 0 {
                return Ok(None);
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    /// Reads at most until there are `most` bytes. 0: the end, or `until` is over.
    fn read_more(&mut self, until: Instant, most: usize) -> io::Result<usize> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(0);
        }
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut piece = [0; 8 * 1024];
        let room = most.saturating_sub(self.buffer.len()).clamp(1, piece.len());
        match self.stream.as_ref().read(&mut piece[..room]) {
            Ok(count) => {
                self.buffer.extend_from_slice(&piece[..count]);
                Ok(count)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read_more(until, most),
            Err(error) => Err(error),
        }
    }

    /// Says no and closes. What the client still sends is read for a moment, so that it sees the
    /// answer instead of a reset.
    fn refuse(&mut self, answer: &Answer, without_body: bool) -> io::Result<Fate> {
        answer::write(&self.stream, answer, How { without_body, ..How::closing() })?;
        self.stream.shutdown(Shutdown::Write)?;
        let until = Instant::now() + Duration::from_secs(1);
        let mut dropped = 0;
        while dropped < 4 * api::BODY_LIMIT {
            self.buffer.clear();
            match self.read_more(until, HEAD_LIMIT)? {
                0 => break,
                count => dropped += count,
            }
        }
        Ok(Fate::Closed)
    }
}

/// The longest name of a request that is taken over, in characters.
const REQUEST_ID_LIMIT: usize = 128;

/// The one that it came with, if that is harmless wherever it is written; else a new one.
fn request_id(sent: Option<&str>) -> String {
    let fits = |id: &&str| {
        (1..=REQUEST_ID_LIMIT).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    sent.filter(fits).map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}
