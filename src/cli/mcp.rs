//! `mcp`: speaks MCP on standard input and output, and to a server elsewhere over HTTP: a bridge for clients that start
//! a program.
//!
//! It keeps nothing: each message is sent on as it comes, and each answer is a line as it comes back. Whatever it has
//! to say itself goes to standard error.

use super::client::Client;
use super::{Exit, Refusal};
use crate::server::lines::{self, Line};
use base64::Engine;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// What answers under way get when the input has ended. Clients wait for 2 s.
const LAST_ANSWERS: Duration = Duration::from_millis(1_500);
/// Requests that are under way at once.
const AT_ONCE: usize = 64;

#[derive(Default)]
struct Shared {
    /// Legacy clients agree on a version once.
    version: Mutex<Option<String>>,
    /// Ids that nobody wants an answer to any more.
    cancelled: Mutex<HashSet<String>>,
    under_way: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn run(client: Client) -> Result<Exit, Refusal> {
    let (client, shared) = (Arc::new(client), Arc::new(Shared::default()));
    let _ = writeln!(std::io::stderr(), "agenticore: MCP on standard input, for the server at {}", client.url());
    let mut input = std::io::stdin().lock();
    loop {
        let line = match lines::next(&mut input) {
            Ok(Line::Message(line)) => line,
            Ok(Line::End) => break,
            Ok(Line::TooLong) => {
                say(&error(&Value::Null, -32600, lines::TOO_LONG));
                continue;
            }
            Err(error) => return Err(Refusal::new(Exit::Failed, format!("cannot read standard input: {error}"))),
        };
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            say(&error(&Value::Null, -32700, "a line must be one JSON message"));
            continue;
        };
        take(&client, &shared, message);
    }
    let until = Instant::now() + LAST_ANSWERS;
    while shared.under_way.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(Exit::Done)
}

fn take(client: &Arc<Client>, shared: &Arc<Shared>, message: Value) {
    if message["method"] == "notifications/cancelled" {
        lock(&shared.cancelled).insert(message["params"]["requestId"].to_string());
    }
    let id = message.get("id").cloned().filter(|_| message.get("method").is_some());
    if shared.under_way.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
        id.inspect(|id| say(&error(id, -32603, "too many requests are under way: try again")));
        return;
    }
    let is_hello = message["method"] == "initialize";
    let (client, of_thread) = (client.clone(), shared.clone());
    let work = move || {
        if let Err(why) = send_on(&client, &of_thread, &message)
            && let Some(id) = id.as_ref().filter(|id| !lock(&of_thread.cancelled).contains(&id.to_string()))
        {
            say(&error(id, -32603, &why));
        }
        // Its id may be used again.
        if let Some(id) = &id {
            lock(&of_thread.cancelled).remove(&id.to_string());
        }
        of_thread.under_way.fetch_sub(1, Ordering::SeqCst);
    };
    // What a client says next depends on the answer.
    if is_hello {
        return work();
    }
    // Sends one message on, and its answers back; ends with them.
    if std::thread::Builder::new().name("message".into()).spawn(work).is_err() {
        shared.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

fn send_on(client: &Client, shared: &Shared, message: &Value) -> Result<(), String> {
    let mut headers = Vec::new();
    let method = message["method"].as_str().unwrap_or_default();
    match message["params"]["_meta"][VERSION].as_str() {
        Some(version) => {
            headers.push(("mcp-protocol-version", version.to_owned()));
            headers.push(("mcp-method", method.to_owned()));
            let name = message["params"]["name"].as_str().or_else(|| message["params"]["uri"].as_str());
            headers.extend(name.map(|name| ("mcp-name", in_header(name))));
        }
        None if method == "initialize" => {}
        None => headers.extend(lock(&shared.version).clone().map(|version| ("mcp-protocol-version", version))),
    }
    let id = message["id"].to_string();
    let is_wanted = || !lock(&shared.cancelled).contains(&id);
    client.message(message, &headers, is_wanted, |answer| {
        if let Some(version) = answer["result"]["protocolVersion"].as_str() {
            *lock(&shared.version) = Some(version.to_owned());
        }
        if is_wanted() {
            say(answer);
        }
    })
}

/// A header holds printable ASCII; anything else is wrapped.
fn in_header(text: &str) -> String {
    let is_plain = text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.trim() == text && !text.starts_with("=?");
    if is_plain {
        return text.to_owned();
    }
    format!("=?base64?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

fn error(id: &Value, code: i64, why: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": why}})
}

/// One line, whole. A client that is gone reads nothing, and is noticed at the end of the input.
fn say(message: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{message}\n").as_bytes()).and_then(|()| out.flush());
}
