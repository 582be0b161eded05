//! MCP on standard input and output: one message a line, and nothing else on standard output. No key is asked for:
//! whoever can start this program can do what it does.

use super::wait::{Progress, ToolWait};
use super::{Mcp, Told};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest message: what clients take at most themselves.
const LONGEST: u64 = 4 << 20;
/// Calls that wait at once, each on a thread.
const WAITS_LIMIT: usize = 64;
/// How soon a wait notices that it is over.
const LOOK_UP: Duration = Duration::from_millis(500);

/// The calls that wait, by the ids of their requests; true: nobody wants the answer any more.
type Waits = Arc<Mutex<HashMap<String, Arc<AtomicBool>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until the input ends. What waits then is not answered any more; the jobs are not touched.
pub fn serve(mcp: &Mcp) {
    let (mut input, waits) = (std::io::stdin().lock(), Waits::default());
    loop {
        let mut line = Vec::new();
        match Read::take(&mut input, LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) if line.iter().all(u8::is_ascii_whitespace) => {}
            Ok(_) => hear(mcp, &waits, &line),
        }
    }
    lock(&waits).values().for_each(|cancelled| cancelled.store(true, Ordering::SeqCst));
}

fn hear(mcp: &Mcp, waits: &Waits, line: &[u8]) {
    match mcp.hear(None, line) {
        Told::Nothing => {}
        Told::Answer(_, answer) => say(&answer),
        Told::Cancels(id) => {
            if let Some(cancelled) = lock(waits).remove(&id.to_string()) {
                cancelled.store(true, Ordering::SeqCst);
            }
        }
        Told::Waits(wait) => begin(waits, *wait),
    }
}

fn begin(waits: &Waits, mut wait: ToolWait) {
    let (id, cancelled) = (wait.id().to_string(), Arc::<AtomicBool>::default());
    let refusal = wait.failed("too many calls wait already: get_job shows how a job stands");
    if lock(waits).len() >= WAITS_LIMIT {
        return say(&refusal);
    }
    lock(waits).insert(id.clone(), cancelled.clone());
    let of_thread = waits.clone();
    let work = move || {
        tell(&mut wait, &cancelled);
        lock(&of_thread).remove(&id);
    };
    // Tells of one call's progress; ends with the job, or when nobody waits any more.
    if std::thread::Builder::new().name("wait".into()).spawn(work).is_err() {
        say(&refusal);
    }
}

fn tell(wait: &mut ToolWait, cancelled: &AtomicBool) {
    let mut is_over = false;
    while !is_over && !cancelled.load(Ordering::SeqCst) {
        let said = match wait.wait(LOOK_UP) {
            Progress::Nothing => continue,
            Progress::Says(said) => said.into_iter().collect(),
            Progress::Looks => {
                let (said, ends) = wait.look();
                is_over = ends;
                said
            }
        };
        if !cancelled.load(Ordering::SeqCst) {
            said.iter().for_each(say);
        }
    }
}

/// One line, whole. A client that is gone reads nothing, and is noticed at the end of the input.
fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{message}\n").as_bytes()).and_then(|()| out.flush());
}
