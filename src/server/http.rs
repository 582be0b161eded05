//! HTTP's wire: listening, deadlines, requests in and answers out. No other module knows it.
//!
//! tiny_http gives the types and writes the answers. Its server is not used: one request can abort
//! the process (ARCHITECTURE.md). A thread per connection, so an answer that waits for a job keeps
//! nobody else waiting.

use super::connections::Connections;
use super::head::{self, HEAD_LIMIT, Head, Refused};
use crate::{api, log};
use std::io::{self, Cursor, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tiny_http::{HTTPVersion, Header, Method, Response};

/// From a request's first byte, or the connection's begin, to the end of its head.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// From the end of the head to the end of the body: 1 MiB over a slow line.
const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a connection is kept for another request.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long one write may block: the client does not read.
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long answers under way get when the server goes.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// Address space, not memory: deep enough for JSON and YAML of 128 levels in a debug build.
const STACK: usize = 2 << 20;

pub struct Request {
    pub head: Head,
    pub body: Vec<u8>,
    client: Option<TcpStream>,
    stopping: Arc<AtomicBool>,
}

impl Request {
    /// Nobody will read the answer, or the server goes: an answer that waits may stop waiting.
    pub fn is_moot(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.client.as_ref().is_some_and(has_left)
    }
}

/// The client closed the connection. Bytes of a next request are no such sign.
fn has_left(client: &TcpStream) -> bool {
    let ready = crate::process::sys::wait_readable(&[client.as_fd()], Duration::ZERO);
    ready.is_ok_and(|ready| ready[0]) && matches!(client.peek(&mut [0]), Ok(0) | Err(_))
}

pub struct Answer {
    pub status: u16,
    pub body: String,
    pub allow: Option<&'static str>,
}

impl Answer {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self { status, body: body.to_string(), allow: None }
    }

    pub fn error(status: u16, why: &str) -> Self {
        Self::json(status, &api::error(why))
    }
}

pub trait Handler: Send + Sync + 'static {
    /// Refuses a request by its head alone, before its body is read.
    fn screen(&self, head: &Head) -> Result<(), Answer>;

    fn answer(&self, request: &Request) -> Answer;
}

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

struct Shared {
    handler: Arc<dyn Handler>,
    connections: Connections,
    stopping: Arc<AtomicBool>,
}

impl Server {
    pub fn start(listener: TcpListener, handler: Arc<dyn Handler>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared { handler, connections: Connections::default(), stopping: Arc::default() });
        let accepting = shared.clone();
        // Takes connections in; ends when the server stops.
        let acceptor =
            std::thread::Builder::new().name("acceptor".into()).spawn(move || accepting.accept_all(&listener))?;
        Ok(Self { address, shared, acceptor })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and ends those there are; answers under way get a few seconds.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = self.acceptor.join();
        self.shared.connections.close_all(CLOSING_TIME);
    }
}

impl Shared {
    fn accept_all(self: &Arc<Self>, listener: &TcpListener) {
        let mut number = 0;
        while !self.stopping.load(Ordering::SeqCst) {
            let ready = crate::process::sys::wait_readable(&[listener.as_fd()], Duration::from_millis(200));
            if !matches!(ready.as_deref(), Ok([true])) {
                continue;
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    number += 1;
                    self.take_in(number, stream);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    // Out of descriptors, most likely: some are given back soon.
                    log::warn(&format!("a connection could not be accepted: {error}"));
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn take_in(self: &Arc<Self>, number: u64, stream: TcpStream) {
        let prepared = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIME)))
            .and_then(|()| stream.try_clone());
        let Ok(copy) = prepared else { return };
        if !self.connections.admit(number, copy) {
            let _ = write(&stream, &Answer::error(503, "too many connections: try again"), false, true);
            return;
        }
        let shared = self.clone();
        // Answers the requests of one connection; ends with it.
        let spawned = std::thread::Builder::new().name("connection".into()).stack_size(STACK).spawn(move || {
            let mut connection = Connection { shared: &shared, number, stream, buffer: Vec::new() };
            // An error is the client's end of the line, or its breach of a limit: the connection ends.
            let _ = connection.serve();
            shared.connections.remove(number);
        });
        if spawned.is_err() {
            self.connections.remove(number);
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    number: u64,
    stream: TcpStream,
    /// Read and not used yet.
    buffer: Vec<u8>,
}

impl Connection<'_> {
    fn serve(&mut self) -> io::Result<()> {
        let mut first = true;
        while let Some(head) = self.read_head(if first { HEAD_TIME } else { IDLE_TIME })? {
            first = false;
            let head = match head {
                Ok(head) => head,
                Err(Refused(status, why)) => return self.refuse(&Answer::error(status, &why)),
            };
            if let Err(answer) = self.shared.handler.screen(&head) {
                return self.refuse(&answer);
            }
            if head.expects_continue && head.body_length > self.buffer.len() {
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let Some(body) = self.read_body(head.body_length)? else {
                return self.refuse(&Answer::error(408, "the body did not come in time"));
            };
            // Only now: half a request makes room for a whole one.
            self.shared.connections.is_busy(self.number, true);
            let keep_alive = head.keep_alive && !self.shared.stopping.load(Ordering::SeqCst);
            let without_body = head.method == Method::Head;
            let request =
                Request { head, body, client: self.stream.try_clone().ok(), stopping: self.shared.stopping.clone() };
            let answer = catch_unwind(AssertUnwindSafe(|| self.shared.handler.answer(&request)));
            let answer = answer.unwrap_or_else(|_| Answer::error(500, "a fault of agenticore: its log says more"));
            write(&self.stream, &answer, keep_alive, without_body)?;
            if !keep_alive {
                return Ok(());
            }
            self.shared.connections.is_busy(self.number, false);
        }
        Ok(())
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
        let until = Instant::now() + BODY_TIME;
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
        match self.stream.read(&mut piece[..room]) {
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
    fn refuse(&mut self, answer: &Answer) -> io::Result<()> {
        write(&self.stream, answer, false, false)?;
        self.stream.shutdown(std::net::Shutdown::Write)?;
        let until = Instant::now() + Duration::from_secs(1);
        let mut dropped = 0;
        while dropped < 4 * api::BODY_LIMIT {
            self.buffer.clear();
            match self.read_more(until, HEAD_LIMIT)? {
                0 => break,
                count => dropped += count,
            }
        }
        Ok(())
    }
}

fn write(stream: &TcpStream, answer: &Answer, keep_alive: bool, without_body: bool) -> io::Result<()> {
    let mut headers = vec![("Content-Type", "application/json"), ("Server", "agenticore")];
    headers.extend(answer.allow.map(|methods| ("Allow", methods)));
    let headers = headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, *value).ok()).collect();
    let body = answer.body.as_bytes();
    let response = Response::new(answer.status.into(), headers, Cursor::new(body), Some(body.len()), None)
        .with_chunked_threshold(usize::MAX);
    // One write instead of one per header.
    let mut bytes = Vec::with_capacity(body.len() + 256);
    response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], without_body, None)?;
    if !keep_alive && let Some(at) = bytes.windows(2).position(|end| end == b"\r\n") {
        // tiny_http writes no Connection header.
        bytes.splice(at..at, b"\r\nConnection: close".iter().copied());
    }
    let mut stream = stream;
    stream.write_all(&bytes)
}
