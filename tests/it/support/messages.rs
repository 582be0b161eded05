//! A stand-in for Anthropic's Messages API, for the real Claude Code CLI.
//!
//! The newest user message with `[[verb argument]]` markers is the script; each tool is one turn, and
//! which turn it is, is the number of tool results that follow. It keeps no state but the requests.
//!
//! `[[write PATH TEXT]]` `[[bash COMMAND]]` `[[mcp TOOL JSON]]` `[[say TEXT]]` `[[fail STATUS]]`

use super::http::{Asked, StandIn, Told};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

pub struct Messages {
    server: StandIn,
    seen: Arc<Mutex<Vec<Value>>>,
    refusal: Arc<Mutex<Option<Told>>>,
}

impl Messages {
    pub fn start() -> Self {
        let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = seen.clone();
        let refusal: Arc<Mutex<Option<Told>>> = Arc::default();
        let refuses = refusal.clone();
        let server = StandIn::start(move |asked| {
            if asked.method != "POST" || asked.path != "/v1/messages" {
                return Told::json(
                    404,
                    json!({"type": "error", "error": {"type": "not_found_error", "message": "no"}}),
                );
            }
            let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
            kept.lock().unwrap().push(json!({"headers": asked.headers, "body": body}));
            let refused = refuses.lock().unwrap().clone();
            refused.unwrap_or_else(|| answer(&asked, &body))
        });
        Self { server, seen, refusal }
    }

    /// From now on each request is answered so, as the API does.
    pub fn refuse(&self, status: u16, kind: &str, message: &str, headers: &[(&str, String)]) {
        let error = json!({"type": "error", "error": {"type": kind, "message": message}});
        let mut told = Told::json(status, error);
        told.headers.extend(headers.iter().map(|(name, value)| (name.to_string(), value.clone())));
        *self.refusal.lock().unwrap() = Some(told);
    }

    /// From now on it answers as the scripts say.
    pub fn refuse_no_more(&self) {
        *self.refusal.lock().unwrap() = None;
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The requests so far: their headers and bodies.
    pub fn seen(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }
}

fn blocks(message: &Value) -> Vec<Value> {
    match &message["content"] {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

fn markers(text: &str) -> Vec<(String, String)> {
    let parts = text.split("[[").skip(1).filter_map(|part| part.split_once("]]")).map(|(marker, _)| marker);
    parts.map(|marker| marker.split_once(' ').unwrap_or((marker, ""))).map(|(v, a)| (v.into(), a.into())).collect()
}

/// The script, and how many of its tools have answered.
fn script(body: &Value) -> (Vec<(String, String)>, usize) {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    for (at, message) in messages.iter().enumerate().rev().filter(|(_, message)| message["role"] == "user") {
        let texts = blocks(message).into_iter().filter_map(|block| block["text"].as_str().map(str::to_owned));
        let found: Vec<_> = texts.flat_map(|text| markers(&text)).collect();
        if !found.is_empty() {
            let results = messages[at + 1..].iter().filter(|m| blocks(m).iter().any(|b| b["type"] == "tool_result"));
            return (found, results.count());
        }
    }
    (Vec::new(), 0)
}

fn answer(asked: &Asked, body: &Value) -> Told {
    let (script, _) = script(body);
    if let Some((_, status)) = script.iter().find(|(verb, _)| verb == "fail") {
        let kind = if status == "401" { "authentication_error" } else { "invalid_request_error" };
        return Told::json(
            status.parse().unwrap(),
            json!({"type": "error", "error": {"type": kind, "message": "as the script says"}}),
        );
    }
    if asked.header("x-api-key").is_none() && asked.header("authorization").is_none() {
        return Told::json(
            401,
            json!({"type": "error", "error": {"type": "authentication_error", "message": "no key"}}),
        );
    }
    stream(body, &next_block(body))
}

/// What the script says next.
pub fn next_block(body: &Value) -> Value {
    let (script, played) = script(body);
    let mut tools = script.iter().filter(|(verb, _)| matches!(verb.as_str(), "write" | "bash" | "mcp"));
    match tools.nth(played) {
        Some((verb, argument)) if verb == "write" => {
            let (path, text) = argument.split_once(' ').unwrap_or((argument, ""));
            tool("Write", json!({"file_path": path, "content": format!("{text}\n")}))
        }
        Some((verb, argument)) if verb == "mcp" => {
            let (name, input) = argument.split_once(' ').unwrap();
            tool(name, serde_json::from_str(input).unwrap())
        }
        Some((_, command)) => tool("Bash", json!({"command": command, "description": "run it", "timeout": 600_000})),
        None => {
            let said = script.iter().find(|(verb, _)| verb == "say").map_or("ok", |(_, text)| text.as_str());
            json!({"type": "text", "text": said})
        }
    }
}

fn tool(name: &str, input: Value) -> Value {
    json!({"type": "tool_use", "id": format!("toolu_{}", uuid::Uuid::new_v4().simple()), "name": name, "input": input})
}

fn stream(body: &Value, block: &Value) -> Told {
    if body["stream"] != true {
        return Told::json(200, whole(body, block));
    }
    sse(&events(body, block))
}

/// Events as the API's own stream has them.
pub fn sse(events: &[Value]) -> Told {
    let body: String =
        events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap())).collect();
    Told { status: 200, headers: vec![("content-type".into(), "text/event-stream".into())], body: body.into() }
}

fn envelope(body: &Value, content: Value, stop: Value) -> Value {
    let usage = json!({"input_tokens": 100, "output_tokens": 20, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0});
    json!({"id": format!("msg_{}", uuid::Uuid::new_v4().simple()), "type": "message", "role": "assistant",
        "model": body["model"], "content": content, "stop_reason": stop, "stop_sequence": null, "usage": usage})
}

fn stop_of(block: &Value) -> &'static str {
    if block["type"] == "tool_use" { "tool_use" } else { "end_turn" }
}

/// A message that is no stream.
pub fn whole(body: &Value, block: &Value) -> Value {
    envelope(body, json!([block]), json!(stop_of(block)))
}

pub fn events(body: &Value, block: &Value) -> [Value; 6] {
    let (empty, delta) = if block["type"] == "tool_use" {
        let empty = json!({"type": "tool_use", "id": block["id"], "name": block["name"], "input": {}});
        (empty, json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}))
    } else {
        (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]}))
    };
    let message = envelope(body, json!([]), Value::Null);
    [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": empty}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": stop_of(block), "stop_sequence": null},
            "usage": message["usage"]}),
        json!({"type": "message_stop"}),
    ]
}
