//! The open connections, so that half a thousand half requests cannot keep a good one out.
//!
//! When there are as many as there may be, the one that has waited longest for its request is closed.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A thread each: 75 KB in use.
const MOST: usize = 1000;

#[derive(Default)]
pub struct Connections {
    open: Mutex<HashMap<u64, Open>>,
    closed: Condvar,
}

struct Open {
    stream: TcpStream,
    /// Since when it has waited for a request; None while one is being answered.
    idle_since: Option<Instant>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in. False: all others are being answered, and there is no room.
    pub fn admit(&self, number: u64, stream: TcpStream) -> bool {
        let mut open = self.open();
        if open.len() >= MOST {
            let idle = open.iter().filter_map(|(number, open)| Some((open.idle_since?, *number)));
            let Some((_, oldest)) = idle.min() else { return false };
            if let Some(evicted) = open.remove(&oldest) {
                let _ = evicted.stream.shutdown(Shutdown::Both);
            }
        }
        open.insert(number, Open { stream, idle_since: Some(Instant::now()) });
        true
    }

    pub fn is_busy(&self, number: u64, busy: bool) {
        if let Some(open) = self.open().get_mut(&number) {
            open.idle_since = if busy { None } else { Some(Instant::now()) };
        }
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
            for one in open.values().filter(|one| is_over || one.idle_since.is_some()) {
                let _ = one.stream.shutdown(Shutdown::Both);
            }
            if Instant::now() >= until + Duration::from_secs(1) {
                return;
            }
            open = self.closed.wait_timeout(open, Duration::from_millis(50)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
