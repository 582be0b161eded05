//! The open connections: how many there may be, and who makes room.
//!
//! When there are as many as there may be, the one that has waited longest for its request is closed, so that half
//! a thousand half requests cannot keep a good one out. Those that only wait for an answer may be three quarters of
//! all: short requests, a probe's among them, always find room.

use crate::process::sys;
use std::collections::HashMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most connections, whatever the limit on descriptors is: 75 KB each while they have a thread, and a few KB
/// while they wait.
const MOST: usize = 4_096;
/// The most that have a thread at once.
const MOST_THREADS: usize = 1_024;
/// Descriptors kept back for the log, Redis, the volume and the listener.
const RESERVE: usize = 128;
/// And for each job that runs: its pipes, its files, its gits.
const RESERVE_PER_JOB: usize = 24;

/// Bodies of up to this many bytes are read whatever others are.
const SMALL_BODY: usize = 16 * 1024;
/// The most that larger bodies may take together, in bytes.
const BODIES_MOST: usize = 24 << 20;

pub struct Connections {
    open: Mutex<HashMap<u64, Open>>,
    closed: Condvar,
    most: usize,
    /// Of one address; 0: no limit.
    most_per_address: usize,
    /// What the larger bodies take that are being read or answered, in bytes.
    bodies: Mutex<usize>,
    body_gone: Condvar,
}

/// A body's share of what all may take. Dropping it gives it back.
pub struct BodyShare {
    all: Arc<Connections>,
    bytes: usize,
}

impl Drop for BodyShare {
    fn drop(&mut self) {
        *self.all.bodies.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.all.body_gone.notify_all();
    }
}

struct Open {
    /// The same descriptor that its thread, or the flow, reads and writes.
    stream: Arc<TcpStream>,
    address: Option<IpAddr>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// It waits for a request, since then.
    Idle(Instant),
    /// One is being answered.
    Busy,
    /// Its answer flows: it has no thread.
    Flows,
}

/// How many connections may be open where so many descriptors may be, and so many jobs run.
fn most_connections(descriptors: u64, jobs: usize) -> usize {
    let reserve = RESERVE + jobs * RESERVE_PER_JOB;
    usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(reserve).clamp(16, MOST)
}

impl Connections {
    /// `jobs`: how many run here at once. `most_per_address`: 0: as many as there may be in all.
    pub fn new(jobs: usize, most_per_address: usize) -> Self {
        let most = most_connections(sys::descriptor_limit(), jobs);
        let (open, bodies) = (Mutex::default(), Mutex::default());
        Self { open, closed: Condvar::new(), most, most_per_address, bodies, body_gone: Condvar::new() }
    }

    /// Room for a body of so many bytes, for which it waits at most `limit`. None: there is none.
    pub fn take_body(self: &Arc<Self>, length: usize, limit: Duration) -> Option<BodyShare> {
        let bytes = if length <= SMALL_BODY { 0 } else { length };
        let taken = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut usize| bytes > 0 && *taken > 0 && *taken + bytes > BODIES_MOST;
        let (mut taken, _) =
            self.body_gone.wait_timeout_while(taken, limit, is_full).unwrap_or_else(PoisonError::into_inner);
        if is_full(&mut taken) {
            return None;
        }
        *taken += bytes;
        Some(BodyShare { all: self.clone(), bytes })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. What is refused is said: all others are being answered, and there is no room, or its
    /// address has as many as it may.
    pub fn admit(&self, number: u64, stream: Arc<TcpStream>) -> Result<(), (u16, &'static str)> {
        let mut open = self.open();
        let address = stream.peer_addr().ok().map(|address| address.ip());
        if self.most_per_address > 0
            && open.values().filter(|one| one.address == address).count() >= self.most_per_address
        {
            return Err((429, "too many connections of your address are open: close some"));
        }
        let threads = open.values().filter(|one| one.state != State::Flows).count();
        if open.len() >= self.most || threads >= MOST_THREADS {
            let idle = open.iter().filter_map(|(number, one)| match one.state {
                State::Idle(since) => Some((since, *number)),
                _ => None,
            });
            let Some((_, oldest)) = idle.min() else { return Err((503, "too many connections: try again")) };
            if let Some(evicted) = open.remove(&oldest) {
                let _ = evicted.stream.shutdown(Shutdown::Both);
            }
        }
        open.insert(number, Open { stream, address, state: State::Idle(Instant::now()) });
        Ok(())
    }

    pub fn is_busy(&self, number: u64, busy: bool) {
        if let Some(open) = self.open().get_mut(&number) {
            open.state = if busy { State::Busy } else { State::Idle(Instant::now()) };
        }
    }

    /// The answer of this connection flows from now on. False: there are too many of these.
    pub fn may_flow(&self, number: u64) -> bool {
        let mut open = self.open();
        let flowing = open.values().filter(|one| one.state == State::Flows).count();
        if flowing >= self.most / 4 * 3 {
            return false;
        }
        if let Some(one) = open.get_mut(&number) {
            one.state = State::Flows;
        }
        true
    }

    pub fn remove(&self, number: u64) {
        self.open().remove(&number);
        self.closed.notify_all();
    }

    /// Closes the idle ones, gives the others `grace`, then closes them too.
    pub fn close_all(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let mut open = self.open();
        while !open.is_empty() {
            let is_over = Instant::now() >= until;
            for one in open.values().filter(|one| is_over || matches!(one.state, State::Idle(_))) {
                let _ = one.stream.shutdown(Shutdown::Both);
            }
            if Instant::now() >= until + Duration::from_secs(1) {
                return;
            }
            open = self.closed.wait_timeout(open, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::most_connections;

    #[test]
    fn descriptors_are_kept_back_for_what_jobs_need() {
        for (descriptors, jobs, most) in
            [(1_024, 3, 824), (1_024, 0, 896), (1_024, 256, 16), (1 << 20, 3, 4_096), (u64::MAX, 3, 4_096), (64, 1, 16)]
        {
            assert_eq!(most_connections(descriptors, jobs), most, "{descriptors} descriptors, {jobs} jobs");
        }
    }
}
