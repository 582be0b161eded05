//! What the server says while it runs, on standard error: a line each, as text for people or as JSON for machines.
//!
//! Prints no secret that was told to [`configure`], and no control character. Never makes anybody wait: lines are
//! written by a thread of their own, and those that nobody reads are dropped and counted.

mod line;

pub use line::{Format, Level};

use crate::job::{JobId, Record, Time, cut};
use crate::plain;
use crate::redact::Redactor;
use line::Line;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// So many lines wait for a reader that is slow.
const WAITING_MOST: usize = 1000;
/// The most of a job's error that the log repeats, in bytes.
const ERROR_SHOWN: usize = 300;

struct Log {
    lines: Option<SyncSender<String>>,
    /// Since one was written last.
    dropped: AtomicU64,
    /// Lines that were taken and are not written yet.
    waiting: Mutex<usize>,
    written: Condvar,
}

struct Manner {
    level: Level,
    format: Format,
    secrets: Option<Redactor>,
}

static LOG: OnceLock<Log> = OnceLock::new();
/// Until something else is said: what a command shows that is no server.
static MANNER: RwLock<Manner> = RwLock::new(Manner { level: Level::Warn, format: Format::Text, secrets: None });

/// From here on lines below `level` are left out, and `secrets` are taken out of the others.
pub fn configure(level: Level, format: Format, secrets: Redactor) {
    *MANNER.write().unwrap_or_else(PoisonError::into_inner) = Manner { level, format, secrets: Some(secrets) };
}

/// The format that `name` asks for (`text`, `json`); else text for a terminal, and JSON for what collects lines.
pub fn format_of(name: Option<&str>) -> Format {
    match name {
        Some("json") => Format::Json,
        Some("text") => Format::Text,
        _ if std::io::stderr().is_terminal() => Format::Text,
        _ => Format::Json,
    }
}

pub fn debug(text: &str) {
    say(Line::new(Level::Debug, text));
}

pub fn info(text: &str) {
    say(Line::new(Level::Info, text));
}

pub fn warn(text: &str) {
    say(Line::new(Level::Warn, text));
}

pub fn error(text: &str) {
    say(Line::new(Level::Error, text));
}

/// Lines about one job, which can be found by its id.
pub fn job(id: &JobId) -> AboutJob {
    AboutJob { id: id.to_string() }
}

pub struct AboutJob {
    id: String,
}

impl AboutJob {
    pub fn info(&self, text: impl std::fmt::Display) {
        say(Line { job: Some(self.id.clone()), ..Line::new(Level::Info, &text.to_string()) });
    }

    pub fn warn(&self, text: impl std::fmt::Display) {
        say(Line { job: Some(self.id.clone()), ..Line::new(Level::Warn, &text.to_string()) });
    }
}

/// A step of a job's way: `step` is a word to search for, `detail` says what came of it, `took` how long it was.
pub fn step(record: &Record, level: Level, step: &'static str, detail: &str, took: Option<Duration>) {
    let mut fields = vec![("step", Value::from(step)), ("attempt", Value::from(record.attempt))];
    fields.extend(record.repo_url.as_ref().map(|url| ("repository", Value::from(url.as_str()))));
    fields.push(("profile", Value::from(record.profile.as_str())));
    fields.extend(took.map(|took| ("seconds", Value::from(line::tenths(took)))));
    fields.extend((!detail.is_empty()).then(|| ("detail", Value::from(detail))));
    say(Line { job: Some(record.id.to_string()), fields, ..Line::new(level, &line::told(step, detail, took, record)) });
}

/// Somebody asked for a change: who (the name of a key), what, and what came of it.
pub fn audit(key: Option<&str>, request_id: Option<&str>, what: &str, outcome: &str) {
    let who = key.unwrap_or("anybody");
    let mut fields = vec![("audit", Value::from(what)), ("key", Value::from(who)), ("outcome", Value::from(outcome))];
    fields.extend(request_id.map(|id| ("request_id", Value::from(id))));
    say(Line { fields, ..Line::new(Level::Info, &format!("audit: {who}: {what}: {outcome}")) });
}

/// A request that the server could not do; `asked` holds no query, which may hold a key.
pub fn request_failed(asked: &str, status: u16, request_id: &str) {
    let fields = vec![("request_id", Value::from(request_id)), ("outcome", Value::from(status))];
    say(Line { fields, ..Line::new(Level::Warn, &format!("{asked}: {status}")) });
}

/// The last line of a job's story, by whoever ended it.
pub fn ended(record: &Record) {
    let error = record.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
    let (status, error) = (record.status().as_str(), cut(error.to_owned(), ERROR_SHOWN));
    let detail = if error.is_empty() { status.to_owned() } else { format!("{status}: {error}") };
    let took = record.started_at.zip(record.ended_at).map(|(start, end)| end.since(start).max(0).unsigned_abs());
    step(record, Level::Info, "ended", &detail, took.map(Duration::from_millis));
}

/// The last words of a command that did not do what it was asked to.
pub fn refusal(text: &str) {
    let format = MANNER.read().unwrap_or_else(PoisonError::into_inner).format;
    match format {
        Format::Json => error(text),
        Format::Text => take(format!("agenticore: {}\n", cleaned(text))),
    }
}

/// What a command says beside its answer.
pub fn warning(text: &str) {
    take(format!("agenticore: warning: {}\n", cleaned(text)));
}

/// On one line, without secrets.
fn cleaned(text: &str) -> String {
    let manner = MANNER.read().unwrap_or_else(PoisonError::into_inner);
    plain::line(&manner.secrets.as_ref().map_or_else(|| text.to_owned(), |secrets| secrets.clean(text)))
}

/// Says a fault of this program as a line like all others; what it happened in is ended as before.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|fault| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("unnamed");
        error(&format!("a fault of agenticore in its thread {name}: {fault}"));
    }));
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

fn say(line: Line) {
    let manner = MANNER.read().unwrap_or_else(PoisonError::into_inner);
    if line.level >= manner.level {
        take(line.written(Time::now(), manner.format, manner.secrets.as_ref()));
    }
}

fn take(line: String) {
    if cfg!(test) {
        // Tests keep what they print until they fail.
        return eprint!("{line}");
    }
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
            let said = Line::new(Level::Warn, &format!("{dropped} lines were dropped: nobody read standard error"));
            let format = MANNER.read().unwrap_or_else(PoisonError::into_inner).format;
            let _ = std::io::stderr().write_all(said.written(Time::now(), format, None).as_bytes());
        }
        *log.waiting.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        log.written.notify_all();
    }
}
