//! MCP on standard input and output: one message a line, and nothing else on standard output. No key is asked for:
//! whoever can start this program can do what it does.

use super::lines::{self, Line};
use super::wait::{Progress, ToolWait};
use super::{Mcp, Told};
use crate::service::Caller;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Calls that wait at once, each on a thread.
const WAITS_LIMIT: usize = 64;
/// How soon a wait notices that it is over.
const LOOK_UP: Duration = Duration::from_millis(500);

/// The calls that wait: the ids of their requests, and whether nobody wants the answer any more.
type Waits = Arc<Mutex<Vec<(Value, Arc<AtomicBool>)>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until the input ends. What waits then is not answered any more; the jobs are not touched.
pub fn serve(mcp: &Mcp) {
    let (mut input, waits) = (std::io::stdin().lock(), Waits::default());
    loop {
        match lines::next(&mut input) {
            Ok(Line::End) | Err(_) => break,
            Ok(Line::Message(line)) => hear(mcp, &waits, &line),
            Ok(Line::TooLong) => {
                say(&json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32600, "message": lines::TOO_LONG}}));
            }
        }
    }
    lock(&waits).iter().for_each(|(_, cancelled)| cancelled.store(true, Ordering::SeqCst));
}

fn hear(mcp: &Mcp, waits: &Waits, line: &[u8]) {
    match mcp.hear(None, line, &Caller::anybody()) {
        Told::Nothing => {}
        Told::Answer(_, answer) => say(&answer),
        Told::Cancels(id) => {
            let waits = lock(waits);
            let meant = waits.iter().filter(|(of, _)| *of == id);
            meant.for_each(|(_, cancelled)| cancelled.store(true, Ordering::SeqCst));
        }
        Told::Waits(wait) => begin(waits, *wait),
    }
}

fn begin(waits: &Waits, mut wait: ToolWait) {
    let (id, cancelled) = (wait.id().clone(), Arc::<AtomicBool>::default());
    let refusal = wait.failed("too many calls wait already: get_job shows how a job stands");
    {
        let mut waits = lock(waits);
        if waits.len() >= WAITS_LIMIT {
            return say(&refusal);
        }
        waits.push((id, cancelled.clone()));
    }
    let (of_thread, own) = (waits.clone(), cancelled.clone());
    let is_own = move |(_, other): &(Value, Arc<AtomicBool>)| Arc::ptr_eq(other, &own);
    let is_over = is_own.clone();
    let work = move || {
        tell(&mut wait, &cancelled);
        lock(&of_thread).retain(|one| !is_over(one));
    };
    // Tells of one call's progress; ends with the job, or when nobody waits any more.
    if std::thread::Builder::new().name("wait".into()).spawn(work).is_err() {
        lock(waits).retain(|one| !is_own(one));
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
