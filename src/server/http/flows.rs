//! To wait without a thread: one thread holds every answer that only waits.
//!
//! It writes what a flow has at hand, a heartbeat when that is nothing for a while, and notices at once when a peer
//! hangs up. It never blocks on one of them: not in a write, and not in looking anything up. What may take time is
//! done by [`Flow::resume`] on a thread that the connection gets for that.

use super::answer::Framing;
use super::{HEARTBEAT, WRITE_TIME};
use crate::process::sys::{self, Interest};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What may wait to be written to one peer, in bytes. While there is more, nothing new is taken for it; one that reads
/// nothing at all is gone after a while.
const BACKLOG: usize = 32 * 1024;
/// Flows that are resumed at once, each on a thread.
const RESUMED_AT_ONCE: usize = 256;
/// How long the thread sleeps at most: heartbeats need no better clock.
const TICK: Duration = Duration::from_secs(1);

/// Called when there is news; never blocks.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// An answer whose end lies in the future.
pub trait Flow: Send {
    fn content_type(&self) -> &'static str;

    /// What may be written between two parts of it, to show that it is still there.
    fn heartbeat(&self) -> &'static [u8];

    /// What is said first, at once.
    fn opening(&self) -> Vec<u8> {
        self.heartbeat().to_vec()
    }

    /// `waker` is to be called when [`next`](Self::next) has something to say.
    fn on_news(&mut self, waker: Waker);

    /// Never blocks.
    fn next(&mut self) -> Next;

    /// Writes what takes time to find: what lies in the past, and the end. May block.
    fn resume(self: Box<Self>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<Resumed>;

    /// The server goes: what is said last.
    fn last_words(&mut self) -> Vec<u8>;
}

pub enum Next {
    Waits,
    Says(Vec<u8>),
    /// It has to be resumed.
    Resumes,
}

pub enum Resumed {
    Done,
    Waits(Box<dyn Flow>),
}

/// A flow that wants a thread. `done` is dropped when that is over.
pub struct Ready {
    pub number: u64,
    pub stream: Arc<TcpStream>,
    pub flow: Box<dyn Flow>,
    pub framing: Framing,
    pub done: Turn,
}

/// One of the threads that resume flows.
pub struct Turn(Arc<Inbox>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.resumed.fetch_sub(1, Ordering::SeqCst);
        self.0.wake();
    }
}

pub struct Flows {
    inbox: Arc<Inbox>,
    woken: UnixStream,
}

/// What other threads leave for the one that holds the flows.
struct Inbox {
    new: Mutex<Vec<Waiting>>,
    with_news: Mutex<HashSet<u64>>,
    resumed: AtomicUsize,
    waking: UnixStream,
}

struct Waiting {
    number: u64,
    stream: Arc<TcpStream>,
    flow: Box<dyn Flow>,
    framing: Framing,
    /// To be written.
    backlog: Vec<u8>,
    /// Since when the peer has taken nothing of it.
    stuck_since: Option<Instant>,
    said_at: Instant,
    wants_thread: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    fn wake(&self) {
        // A full pipe wakes too.
        let _ = (&self.waking).write(&[1]);
    }
}

impl Flows {
    pub fn new() -> io::Result<Self> {
        let (waking, woken) = UnixStream::pair()?;
        waking.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let inbox = Inbox { new: Mutex::default(), with_news: Mutex::default(), resumed: AtomicUsize::new(0), waking };
        Ok(Self { inbox: Arc::new(inbox), woken })
    }

    pub fn wake(&self) {
        self.inbox.wake();
    }

    /// Takes over a connection whose answer waits from now on.
    pub fn take(&self, number: u64, stream: Arc<TcpStream>, mut flow: Box<dyn Flow>, framing: Framing) {
        let inbox = self.inbox.clone();
        flow.on_news(Arc::new(move || {
            if lock(&inbox.with_news).insert(number) {
                inbox.wake();
            }
        }));
        let (backlog, stuck_since, said_at) = (Vec::new(), None, Instant::now());
        let held = Waiting { number, stream, flow, framing, backlog, stuck_since, said_at, wants_thread: false };
        lock(&self.inbox.new).push(held);
        self.inbox.wake();
    }

    /// Holds the flows until `stops`. `close`: the connection of this number is over. `resume`: gives one a thread.
    pub fn run(&self, stops: impl Fn() -> bool, close: impl Fn(u64), resume: impl Fn(Ready)) {
        let mut held: HashMap<u64, Waiting> = HashMap::new();
        while !stops() {
            for new in std::mem::take(&mut *lock(&self.inbox.new)) {
                let _ = new.stream.set_nonblocking(true);
                lock(&self.inbox.with_news).insert(new.number);
                held.insert(new.number, new);
            }
            for number in std::mem::take(&mut *lock(&self.inbox.with_news)) {
                if let Some(one) = held.get_mut(&number) {
                    one.ask();
                }
            }
            let mut gone: Vec<u64> = self.wait_for_peers(&mut held);
            for one in held.values_mut() {
                one.beat();
                let was_full = one.backlog.len() > BACKLOG;
                if !one.write() {
                    gone.push(one.number);
                } else if was_full && one.backlog.len() <= BACKLOG {
                    // It takes more again.
                    lock(&self.inbox.with_news).insert(one.number);
                }
            }
            for number in gone {
                held.remove(&number);
                close(number);
            }
            for number in self.to_be_resumed(&held) {
                if let Some(Waiting { number, stream, flow, framing, .. }) = held.remove(&number) {
                    // It gets a thread again, whose writes block, for so long at most.
                    let _ = stream.set_nonblocking(false);
                    self.inbox.resumed.fetch_add(1, Ordering::SeqCst);
                    resume(Ready { number, stream, flow, framing, done: Turn(self.inbox.clone()) });
                }
            }
        }
        for (number, mut one) in held.into_iter().chain(lock(&self.inbox.new).drain(..).map(|one| (one.number, one))) {
            let words = one.flow.last_words();
            one.say(&words);
            one.backlog.extend(one.framing.end());
            one.write();
            close(number);
        }
    }

    fn to_be_resumed(&self, held: &HashMap<u64, Waiting>) -> Vec<u64> {
        let room = RESUMED_AT_ONCE.saturating_sub(self.inbox.resumed.load(Ordering::SeqCst));
        let wanting = held.values().filter(|one| one.wants_thread && one.backlog.is_empty());
        wanting.take(room).map(|one| one.number).collect()
    }

    /// Waits for news, for peers that can take more, and for peers that hang up; these are returned.
    fn wait_for_peers(&self, held: &mut HashMap<u64, Waiting>) -> Vec<u64> {
        let numbers: Vec<u64> = held.keys().copied().collect();
        let interest = |one: &Waiting| if one.backlog.is_empty() { Interest::HangUp } else { Interest::Write };
        let peers = numbers.iter().filter_map(|number| held.get(number));
        let mut polled: Vec<_> = peers.map(|one| (one.stream.as_fd(), interest(one))).collect();
        polled.push((self.woken.as_fd(), Interest::Read));
        let ready = sys::poll(&polled, TICK).unwrap_or_default();
        let mut piece = [0; 256];
        while matches!((&self.woken).read(&mut piece), Ok(count) if count > 0) {}
        let hung_up = numbers.iter().zip(ready).filter(|(_, ready)| ready.hung_up);
        hung_up.map(|(number, _)| *number).collect()
    }
}

impl Waiting {
    fn say(&mut self, bytes: &[u8]) {
        self.backlog.extend(self.framing.frame(bytes));
        self.said_at = Instant::now();
    }

    /// Takes what the flow has to say.
    fn ask(&mut self) {
        while !self.wants_thread && self.backlog.len() <= BACKLOG {
            match self.flow.next() {
                Next::Waits => return,
                Next::Says(bytes) => self.say(&bytes),
                Next::Resumes => self.wants_thread = true,
            }
        }
    }

    fn beat(&mut self) {
        if self.said_at.elapsed() >= HEARTBEAT {
            let beat = self.flow.heartbeat();
            self.say(beat);
        }
    }

    /// Writes what the peer takes. False: it is gone, or does not read.
    fn write(&mut self) -> bool {
        while !self.backlog.is_empty() {
            match self.stream.as_ref().write(&self.backlog) {
                Ok(0) => return false,
                Ok(count) => {
                    self.backlog.drain(..count);
                    self.stuck_since = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let since = *self.stuck_since.get_or_insert_with(Instant::now);
                    return since.elapsed() < WRITE_TIME;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }
}
