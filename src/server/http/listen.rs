//! Listening: connections come in, get a thread, and go; the server stops.

use super::answer::{self, Framing};
use super::connection::{Connection, Fate};
use super::connections::Connections;
use super::flows::{Flowing, Flows, Ready};
use super::{CLOSING_TIME, Handler, WRITE_TIME};
use crate::log;
use crate::process::sys;
use crate::server::rest::status::problem;
use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Address space, not memory: deep enough for JSON and YAML of 128 levels in a debug build.
const STACK: usize = 2 << 20;

/// Refused connections that are told so at once, of the descriptors that are kept back; others are cut off.
const REFUSED_AT_ONCE: usize = 32;

pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
    flows: JoinHandle<()>,
}

pub struct Shared {
    pub handler: Arc<dyn Handler>,
    pub connections: Arc<Connections>,
    pub flows: Flows,
    /// Connections that were refused, and are told so just now.
    refused: Mutex<HashSet<u64>>,
    stopping: AtomicBool,
    /// For a request to come in, and for its answer to be taken.
    pub request_time: Duration,
}

/// What a server may have at once.
pub struct Limits {
    /// How many jobs run here, for which descriptors are kept back.
    pub jobs: usize,
    /// The most connections of one address; 0: no limit.
    pub per_address: usize,
    /// For a request to come in, and for its answer to be taken.
    pub request: Duration,
}

impl Server {
    pub fn start(listener: TcpListener, handler: Arc<dyn Handler>, limits: Limits) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (connections, flows) = (Arc::new(Connections::new(limits.jobs, limits.per_address)), Flows::new()?);
        let (stopping, request_time) = (AtomicBool::new(false), limits.request);
        let refused = Mutex::default();
        let shared = Arc::new(Shared { handler, connections, flows, refused, stopping, request_time });
        let accepting = shared.clone();
        // Takes connections in; ends when the server stops.
        let acceptor =
            std::thread::Builder::new().name("acceptor".into()).spawn(move || accepting.accept_all(&listener))?;
        let flowing = shared.clone();
        // Holds all answers that wait; ends when the server stops.
        let flows = std::thread::Builder::new().name("flows".into()).spawn(move || flowing.keep_flowing())?;
        Ok(Self { address, shared, acceptor, flows })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and ends those there are; answers under way get a few seconds.
    pub fn stop(self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.flows.wake();
        let _ = self.acceptor.join();
        let _ = self.flows.join();
        self.shared.connections.close_all(CLOSING_TIME);
    }
}

impl Shared {
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn accept_all(self: &Arc<Self>, listener: &TcpListener) {
        let mut number = 0;
        while !self.is_stopping() {
            let ready = sys::wait_readable(&[listener.as_fd()], Duration::from_millis(200));
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
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIME)));
        if prepared.is_err() {
            return;
        }
        let stream = Arc::new(stream);
        if let Err((status, why)) = self.connections.admit(number, stream.clone()) {
            return self.refuse(number, stream, status, why);
        }
        self.on_a_thread(number, stream, |connection| connection.serve());
    }

    /// For a connection more than there may be. What it sends is read for a moment, as far as there is room for that: a
    /// client that is cut off while it sends may never see the answer.
    fn refuse(&self, number: u64, stream: Arc<TcpStream>, status: u16, why: &str) {
        self.handler.note(None, status);
        let id = uuid::Uuid::new_v4().to_string();
        let refused = problem(status, why).with("Retry-After", "1").with("X-Request-Id", id);
        let has_room = {
            let mut waiting = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.len() < REFUSED_AT_ONCE && waiting.insert(number)
        };
        if !has_room {
            let _ = answer::write(&stream, &refused, answer::How::closing());
        } else if let Ok(backlog) = answer::bytes(&refused, answer::How::closing()) {
            let framing = Framing::Plain;
            self.flows.take(Flowing { number, stream, framing, backlog, flow: None, turn: None });
        }
    }

    /// Runs `work` on a thread of this connection; afterwards it is closed, or flows.
    fn on_a_thread(
        self: &Arc<Self>,
        number: u64,
        stream: Arc<TcpStream>,
        work: impl FnOnce(&mut Connection) -> io::Result<Fate> + Send + 'static,
    ) {
        let shared = self.clone();
        // Answers the requests of one connection; ends with it, or when its answer only waits.
        let spawned = std::thread::Builder::new().name("connection".into()).stack_size(STACK).spawn(move || {
            let mut connection = Connection { shared: shared.clone(), number, stream, buffer: Vec::new() };
            match work(&mut connection) {
                Ok(Fate::Flows(flowing)) => shared.flows.take(flowing),
                // An error is the client's end of the line, or its breach of a limit: the connection ends.
                Ok(Fate::Closed) | Err(_) => shared.connections.remove(number),
            }
        });
        if spawned.is_err() {
            self.connections.remove(number);
        }
    }

    fn keep_flowing(self: &Arc<Self>) {
        self.flows.run(
            || self.is_stopping(),
            |number| {
                if !self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
                    self.connections.remove(number);
                }
            },
            |ready| {
                let Ready { number, stream, flow, framing, done } = ready;
                self.on_a_thread(number, stream, move |connection| Ok(connection.resume(flow, framing, done)));
            },
        );
    }
}
