//! To wait without a thread: one thread holds every answer that only waits.
//!
//! It writes what a flow has at hand, a heartbeat when that is nothing for a while, and notices at once when a peer
//! hangs up (closing its writing side is that too). It never blocks on one of them: not in a write, and not in looking
//! anything up. What takes time to find is found by [`Flow::resume`], on a thread that the connection gets for that,
//! some at a time: a peer that reads slowly keeps no thread.

use super::answer::Framing;
use super::{HEARTBEAT, WRITE_TIME};
use crate::process::sys::{self, Interest};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What may wait to be written to one peer, in bytes. While there is more, nothing new is taken for it; one that reads
/// nothing at all is gone after a while.
const BACKLOG: usize = 32 * 1024;
/// Flows that are resumed at once, each on a thread.
const RESUMED_AT_ONCE: usize = 64;
/// How long a peer gets to close its side when everything is written.
const LINGER: Duration = Duration::from_secs(1);
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

    /// When it is to be resumed even if there is no news; within a second of that.
    fn until(&self) -> Option<Instant> {
        None
    }

    /// Looks up what takes time to find: some of what lies in the past, or the end. May block, but not on the peer.
    fn resume(self: Box<Self>) -> (Vec<u8>, Resumed);

    /// Some: it ends here and now, with this as its last words. Asked once in a while; never blocks.
    fn ends_now(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// It ends before it is done: what is said last, and makes the answer whole; empty: nothing does.
    fn last_words(&mut self, why: EndsEarly) -> Vec<u8>;
}

/// Why an answer ends before it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndsEarly {
    ServerGoes,
    KeyIsGone,
}

impl EndsEarly {
    pub fn status(self) -> u16 {
        match self {
            EndsEarly::ServerGoes => 503,
            EndsEarly::KeyIsGone => 401,
        }
    }

    /// The begin of a sentence.
    pub fn why(self) -> &'static str {
        match self {
            EndsEarly::ServerGoes => "this server goes away",
            EndsEarly::KeyIsGone => "the key that asked is not good any more",
        }
    }
}

pub enum Next {
    Waits,
    Says(Vec<u8>),
    /// It has to be resumed.
    Resumes,
}

pub enum Resumed {
    /// That was the end.
    Done,
    GoesOn(Box<dyn Flow>),
}

/// An answer on its way: what is to be written next, and what comes after that.
pub struct Flowing {
    pub number: u64,
    pub stream: Arc<TcpStream>,
    pub framing: Framing,
    /// In frames already.
    pub backlog: Vec<u8>,
    /// None: nothing.
    pub flow: Option<Box<dyn Flow>>,
    /// Of the thread that looked something up for it, until this is taken over.
    pub turn: Option<Turn>,
}

/// A flow that wants a thread. `done` is dropped when that is over.
pub struct Ready {
    pub number: u64,
    pub stream: Arc<TcpStream>,
    pub flow: Box<dyn Flow>,
    pub framing: Framing,
    pub done: Turn,
}

/// A thread that looks something up for a flow, until that is taken over.
pub struct Turn {
    inbox: Arc<Inbox>,
    /// By the connection's own thread, before it flowed; these are not limited.
    is_first: bool,
}

impl Turn {
    fn new(inbox: &Arc<Inbox>, is_first: bool) -> Self {
        let turn = Self { inbox: inbox.clone(), is_first };
        turn.count().fetch_add(1, Ordering::SeqCst);
        turn
    }

    fn count(&self) -> &AtomicUsize {
        if self.is_first { &self.inbox.begun } else { &self.inbox.resumed }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::SeqCst);
        self.inbox.wake();
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
    begun: AtomicUsize,
    waking: UnixStream,
}

struct Waiting {
    of: Flowing,
    /// Since when the peer has taken nothing of what is to be written.
    stuck_since: Option<Instant>,
    said_at: Instant,
    /// Since when it wants a thread.
    wants_thread: Option<Instant>,
    /// Everything is written; what the peer still sends is read until then, so that it sees an end and no reset.
    lingers_until: Option<Instant>,
}

fn is_past(time: Option<Instant>) -> bool {
    time.is_some_and(|time| time <= Instant::now())
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
        let inbox = Inbox {
            new: Mutex::default(),
            with_news: Mutex::default(),
            resumed: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            waking,
        };
        Ok(Self { inbox: Arc::new(inbox), woken })
    }

    pub fn wake(&self) {
        self.inbox.wake();
    }

    /// Takes over a connection whose answer goes on from here.
    pub fn take(&self, mut flowing: Flowing) {
        let (inbox, number) = (self.inbox.clone(), flowing.number);
        if let Some(flow) = &mut flowing.flow {
            flow.on_news(Arc::new(move || {
                if lock(&inbox.with_news).insert(number) {
                    inbox.wake();
                }
            }));
        }
        let said_at = Instant::now();
        let waiting = Waiting { of: flowing, stuck_since: None, said_at, wants_thread: None, lingers_until: None };
        lock(&self.inbox.new).push(waiting);
        self.inbox.wake();
    }

    /// Holds the flows until `stops`. `close`: the connection of this number is over. `resume`: gives one a thread.
    pub fn run(&self, stops: impl Fn() -> bool, close: impl Fn(u64), resume: impl Fn(Ready)) {
        let mut held: HashMap<u64, Waiting> = HashMap::new();
        while !stops() {
            self.take_over(&mut held);
            for number in std::mem::take(&mut *lock(&self.inbox.with_news)) {
                if let Some(one) = held.get_mut(&number) {
                    one.ask();
                }
            }
            // Written before it is waited for, so that nothing that is at hand waits.
            let mut gone: Vec<u64> = held.values_mut().filter_map(|one| self.write(one)).collect();
            gone.extend(self.wait_for_peers(&mut held));
            for number in gone {
                held.remove(&number);
                close(number);
            }
            for number in self.to_be_resumed(&held) {
                if let Some(Waiting { of: Flowing { number, stream, framing, flow: Some(flow), .. }, .. }) =
                    held.remove(&number)
                {
                    resume(Ready { number, stream, flow, framing, done: Turn::new(&self.inbox, false) });
                }
            }
        }
        // What is being looked up just now comes back in a moment, and is told its last words like the others.
        let until = Instant::now() + LINGER;
        while self.looks_up() && Instant::now() < until {
            self.take_over(&mut held);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.take_over(&mut held);
        for mut one in held.into_values() {
            if let Some(mut flow) = one.of.flow.take() {
                let words = flow.last_words(EndsEarly::ServerGoes);
                one.say(&words);
                // With them the answer is whole. One that has none is cut off, and that is noticed.
                if !words.is_empty() {
                    one.of.backlog.extend(one.of.framing.end());
                }
            }
            one.write();
            close(one.of.number);
        }
    }

    fn looks_up(&self) -> bool {
        [&self.inbox.resumed, &self.inbox.begun].iter().any(|count| count.load(Ordering::SeqCst) > 0)
    }

    /// Of the thread of a connection whose answer is about to flow.
    pub fn first_turn(&self) -> Turn {
        Turn::new(&self.inbox, true)
    }

    /// What other threads left here.
    fn take_over(&self, held: &mut HashMap<u64, Waiting>) {
        for mut new in std::mem::take(&mut *lock(&self.inbox.new)) {
            new.of.turn = None;
            let _ = new.of.stream.set_nonblocking(true);
            lock(&self.inbox.with_news).insert(new.of.number);
            held.insert(new.of.number, new);
        }
    }

    /// Those that want a thread and have nothing to write, the one that has waited longest first.
    fn to_be_resumed(&self, held: &HashMap<u64, Waiting>) -> Vec<u64> {
        let room = RESUMED_AT_ONCE.saturating_sub(self.inbox.resumed.load(Ordering::SeqCst));
        let wanting = held.values().filter(|one| one.of.backlog.is_empty());
        let mut wanting: Vec<_> = wanting.filter_map(|one| Some((one.wants_thread?, one.of.number))).collect();
        wanting.sort();
        wanting.into_iter().take(room).map(|(_, number)| number).collect()
    }

    /// Writes what one has at hand; its number, if it is over.
    fn write(&self, one: &mut Waiting) -> Option<u64> {
        one.beat();
        let was_full = one.of.backlog.len() > BACKLOG;
        let lives = one.write();
        if was_full && one.of.backlog.len() <= BACKLOG {
            // It takes more again.
            lock(&self.inbox.with_news).insert(one.of.number);
        }
        (!lives).then_some(one.of.number)
    }

    /// Waits for news, for peers that can take more, and for peers that hang up; these are returned.
    fn wait_for_peers(&self, held: &mut HashMap<u64, Waiting>) -> Vec<u64> {
        let numbers: Vec<u64> = held.keys().copied().collect();
        let interest = |one: &Waiting| match () {
            () if !one.of.backlog.is_empty() => Interest::Write,
            () if one.lingers_until.is_some() => Interest::Read,
            () => Interest::HangUp,
        };
        let peers = numbers.iter().filter_map(|number| held.get(number));
        let mut polled: Vec<_> = peers.map(|one| (one.of.stream.as_fd(), interest(one))).collect();
        polled.push((self.woken.as_fd(), Interest::Read));
        let has_work = !lock(&self.inbox.with_news).is_empty() || !self.to_be_resumed(held).is_empty();
        let ready = sys::poll(&polled, if has_work { Duration::ZERO } else { TICK }).unwrap_or_default();
        let mut piece = [0; 256];
        while matches!((&self.woken).read(&mut piece), Ok(count) if count > 0) {}
        let hung_up = numbers.iter().zip(ready).filter(|(_, ready)| ready.hung_up);
        // One that lingers is read to its end, which is told there.
        let lingers = |number: &u64| held.get(number).is_some_and(|one| one.lingers_until.is_some());
        hung_up.map(|(number, _)| *number).filter(|number| !lingers(number)).collect()
    }
}

impl Waiting {
    fn say(&mut self, bytes: &[u8]) {
        self.of.backlog.extend(self.of.framing.frame(bytes));
        self.said_at = Instant::now();
    }

    /// Takes what the flow has to say.
    fn ask(&mut self) {
        while self.wants_thread.is_none() && self.of.backlog.len() <= BACKLOG {
            let Some(flow) = &mut self.of.flow else { return };
            match flow.next() {
                Next::Waits => return,
                Next::Says(bytes) => self.say(&bytes),
                Next::Resumes => self.wants_thread = Some(Instant::now()),
            }
        }
    }

    /// What comes with time alone: a heartbeat, that the waiting is over, or that nobody may wait any more.
    fn beat(&mut self) {
        if let Some(words) = self.of.flow.as_mut().and_then(|flow| flow.ends_now()) {
            self.say(&words);
            self.of.backlog.extend(self.of.framing.end());
            (self.of.flow, self.wants_thread) = (None, None);
        }
        if self.wants_thread.is_none() && self.of.flow.as_ref().is_some_and(|flow| is_past(flow.until())) {
            self.wants_thread = Some(Instant::now());
        }
        if self.said_at.elapsed() >= HEARTBEAT
            && let Some(beat) = self.of.flow.as_ref().map(|flow| flow.heartbeat())
        {
            self.say(beat);
        }
    }

    /// Writes what the peer takes. False: it is over, or gone, or does not read.
    fn write(&mut self) -> bool {
        while !self.of.backlog.is_empty() {
            match self.of.stream.as_ref().write(&self.of.backlog) {
                Ok(0) => return false,
                Ok(count) => {
                    self.of.backlog.drain(..count);
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
        self.of.flow.is_some() || self.linger()
    }

    /// Everything is written. True: the peer has not closed its side yet, and may still.
    fn linger(&mut self) -> bool {
        if self.lingers_until.is_none() {
            self.lingers_until = Some(Instant::now() + LINGER);
            if self.of.stream.shutdown(Shutdown::Write).is_err() {
                return false;
            }
        }
        let mut piece = [0; 4096];
        loop {
            match self.of.stream.as_ref().read(&mut piece) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.lingers_until.is_some_and(|until| Instant::now() < until);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
    }
}
