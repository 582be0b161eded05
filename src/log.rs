//! What the server says while it runs: a line each on standard error, with a time.
//!
//! Never holds a secret: whoever logs a text that came from outside redacts it first. Never makes anybody wait: lines
//! are written by a thread of their own, and those that nobody reads are dropped and counted.

use crate::job::Time;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// So many lines wait for a reader that is slow.
const WAITING_MOST: usize = 1000;

struct Log {
    lines: Option<SyncSender<String>>,
    /// Since one was written last.
    dropped: AtomicU64,
    /// Lines that were taken and are not written yet.
    waiting: Mutex<usize>,
    written: Condvar,
}

static LOG: OnceLock<Log> = OnceLock::new();

pub fn info(text: &str) {
    line("info", text);
}

pub fn warn(text: &str) {
    line("warn", text);
}

/// Waits until all that was said is written, at most so long. For the end of the process.
pub fn finish(limit: Duration) {
    let Some(log) = LOG.get() else { return };
    let until = Instant::now() + limit;
    let mut waiting = log.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    while *waiting > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        waiting = log.written.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// A line as it stands, after all that was said before.
pub fn plain(text: &str) {
    take(format!("{text}\n"));
}

fn line(level: &str, text: &str) {
    take(format!("{} {level:4} {}\n", Time::now(), text.replace('\n', " ")));
}

fn take(line: String) {
    let log = log();
    let Some(lines) = &log.lines else {
        // No thread could be started: better late than never.
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    };
    *log.waiting.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = lines.try_send(line) {
        *log.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        log.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn log() -> &'static Log {
    LOG.get_or_init(|| {
        let (lines, taken) = sync_channel(WAITING_MOST);
        // Lives as long as the process.
        let writer = std::thread::Builder::new().name("log".into()).spawn(move || write(&taken));
        Log {
            lines: writer.is_ok().then_some(lines),
            dropped: AtomicU64::new(0),
            waiting: Mutex::new(0),
            written: Condvar::new(),
        }
    })
}

fn write(lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        let log = log();
        // One write per line. Nobody to read it is no error.
        let _ = std::io::stderr().write_all(line.as_bytes());
        let dropped = log.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let said = format!("{} warn {dropped} lines were dropped: nobody read standard error\n", Time::now());
            let _ = std::io::stderr().write_all(said.as_bytes());
        }
        *log.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        log.written.notify_all();
    }
}
