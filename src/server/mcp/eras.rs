//! What each revision of MCP wants of a request. Pure.
//!
//! Two eras on one endpoint: *modern*, where each request says its version and capabilities in `params._meta`, and
//! *legacy*, which begins with `initialize`. Both are served without a session, by any pod.

use crate::server::http::Head;
use serde_json::{Map, Value, json};

pub const MODERN: &str = "2026-07-28";
pub const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Era {
    Modern,
    Legacy,
}

/// A request that may be answered.
#[derive(Debug)]
pub struct Call {
    pub era: Era,
    pub id: Value,
    pub method: String,
    pub params: Map<String, Value>,
}

impl Call {
    /// The client can do with this extension, as far as this request says.
    pub fn has_extension(&self, name: &str) -> bool {
        let capabilities = self.params.get("_meta").and_then(|meta| meta.get(CAPABILITIES));
        let extensions = capabilities.and_then(|capabilities| capabilities.get("extensions"));
        self.era == Era::Modern && extensions.is_some_and(|all| all.get(name).is_some_and(Value::is_object))
    }

    /// What progress is told by, if it is wanted.
    pub fn progress_token(&self) -> Option<Value> {
        let token = self.params.get("_meta")?.get("progressToken")?;
        (token.is_string() || token.is_i64() || token.is_u64()).then(|| token.clone())
    }
}

#[derive(Debug)]
pub enum Message {
    Call(Call),
    /// Nobody waits for the answer to this request any more.
    Cancel(Value),
    /// A notification, or an answer to something that was never asked: heard, and not answered.
    Heard,
}

/// Why a message is not one that can be answered: JSON-RPC's error, and the status that goes with it.
#[derive(Debug)]
pub struct Fault {
    pub status: u16,
    pub code: i64,
    pub message: String,
    pub data: Option<Value>,
    pub id: Value,
}

impl Fault {
    pub fn new(era: Era, status: u16, code: i64, message: impl Into<String>, id: &Value) -> Self {
        // Legacy clients read errors at 200 alone: some give up their session at anything else.
        let status = if era == Era::Legacy { 200 } else { status };
        Self { status, code, message: message.into(), data: None, id: id.clone() }
    }

    pub fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        json!({"jsonrpc": "2.0", "id": self.id, "error": error})
    }
}

/// Reads one message. `head`: of the request that brought it; None where there are no headers (stdio).
pub fn read(head: Option<&Head>, body: &[u8]) -> Result<Message, Fault> {
    let parsed: Value = serde_json::from_slice(body).map_err(|error| {
        let era = era_of(head, &Value::Null);
        Fault { status: 400, ..Fault::new(era, 400, -32700, format!("the body is not JSON: {error}"), &Value::Null) }
    })?;
    let era = era_of(head, &parsed);
    let id = parsed.get("id").cloned().unwrap_or(Value::Null);
    let known_id = if id.is_string() || id.is_i64() || id.is_u64() { id.clone() } else { Value::Null };
    let bad = |why: &str| Fault { status: 400, ..Fault::new(era, 400, -32600, why, &known_id) };
    let Value::Object(message) = parsed else { return Err(bad("a message is one JSON object")) };
    if message.get("jsonrpc") != Some(&json!("2.0")) {
        return Err(bad("`jsonrpc` must be \"2.0\""));
    }
    let Some(method) = message.get("method") else {
        let is_answer = message.contains_key("result") || message.contains_key("error");
        return if is_answer && era == Era::Legacy { Ok(Message::Heard) } else { Err(bad("`method` is missing")) };
    };
    let Some(method) = method.as_str() else { return Err(bad("`method` must be text")) };
    if !message.contains_key("id") {
        let cancelled = message.get("params").and_then(|params| params.get("requestId"));
        let cancelled = cancelled.filter(|_| method == "notifications/cancelled");
        return Ok(cancelled.map_or(Message::Heard, |id| Message::Cancel(id.clone())));
    }
    if known_id.is_null() {
        return Err(bad("`id` must be text or an integer"));
    }
    let params = match message.get("params") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(params)) => params.clone(),
        Some(_) => return Err(Fault::new(era, 400, -32602, "`params` must be an object", &id)),
    };
    if era == Era::Modern {
        check_modern(head, method, &params, &id)?;
    }
    Ok(Message::Call(Call { era, id, method: method.to_owned(), params }))
}

/// The messages of a batch, which one revision has and those after it do not. None: the body is none, or the client
/// speaks another.
pub fn batch(head: &Head, body: &[u8]) -> Option<Vec<Value>> {
    let speaks_it = head.header("mcp-protocol-version").is_none_or(|version| version == "2025-03-26");
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    let messages = (speaks_it && is_array).then(|| serde_json::from_slice::<Vec<Value>>(body).ok())??;
    (!messages.is_empty()).then_some(messages)
}

fn era_of(head: Option<&Head>, body: &Value) -> Era {
    let header = head.and_then(|head| head.header("mcp-protocol-version"));
    let in_header = header.is_some_and(|version| !LEGACY.contains(&version));
    let in_body = body.get("params").and_then(|params| params.get("_meta")?.get(VERSION)).is_some();
    if in_header || in_body { Era::Modern } else { Era::Legacy }
}

/// In the order in which the revision wants them.
fn check_modern(head: Option<&Head>, method: &str, params: &Map<String, Value>, id: &Value) -> Result<(), Fault> {
    let fault = |code: i64, why: String| Fault::new(Era::Modern, 400, code, why, id);
    let meta = params.get("_meta").and_then(Value::as_object);
    let version = meta.and_then(|meta| meta.get(VERSION)?.as_str());
    let has_capabilities = meta.is_some_and(|meta| meta.get(CAPABILITIES).is_some_and(Value::is_object));
    let (Some(version), true) = (version, has_capabilities) else {
        let why = format!("`params._meta` must hold `{VERSION}` (text) and `{CAPABILITIES}` (an object)");
        return Err(fault(-32602, why));
    };
    if let Some(head) = head {
        let is_task = method.starts_with("tasks/");
        let field = match method {
            "resources/read" => "uri",
            _ if is_task => "taskId",
            _ => "name",
        };
        let name = params.get(field).and_then(Value::as_str);
        // Clients of tasks need not send it; a wrong one is wrong all the same.
        let is_sent = !is_task || head.header("mcp-name").is_some();
        let named = is_sent && (is_task || matches!(method, "tools/call" | "prompts/get" | "resources/read"));
        check_header(head, "mcp-protocol-version", Some(version)).map_err(|why| fault(-32020, why))?;
        check_header(head, "mcp-method", Some(method)).map_err(|why| fault(-32020, why))?;
        check_header(head, "mcp-name", name.filter(|_| named)).map_err(|why| fault(-32020, why))?;
    }
    if version != MODERN {
        let data = json!({"supported": supported(), "requested": version});
        let why = format!("the version {version} is not supported");
        return Err(Fault { data: Some(data), ..fault(-32022, why) });
    }
    Ok(())
}

pub fn supported() -> Vec<&'static str> {
    [MODERN].into_iter().chain(LEGACY).collect()
}

/// The header stands there once and says what the body says; None: the body says nothing of it.
fn check_header(head: &Head, name: &str, expected: Option<&str>) -> Result<(), String> {
    let found: Vec<&str> = head.all(name).collect();
    match (&found[..], expected) {
        ([], None) | ([_], None) => Ok(()),
        ([], Some(_)) => Err(format!("the header {name} is missing")),
        ([one], Some(expected)) if decoded(one).as_deref() == Some(expected) => Ok(()),
        ([one], Some(expected)) => Err(format!("the header {name} says `{one}`, and the body `{expected}`")),
        _ => Err(format!("the header {name} is given more than once")),
    }
}

/// A header's value: as it is, or wrapped as `=?base64?…?=`.
fn decoded(value: &str) -> Option<String> {
    use base64::Engine;
    let Some(inner) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(value.to_owned());
    };
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(inner).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::parse_head;

    fn head(headers: &str) -> Head {
        parse_head(format!("POST /mcp HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).unwrap().unwrap().0
    }

    fn modern_body(method: &str, more: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":3,"method":"{method}","params":{{{more}"_meta":{{"{VERSION}":"{MODERN}","{CAPABILITIES}":{{}}}}}}}}"#
        )
    }

    const MODERN_HEADERS: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n";

    #[test]
    fn a_modern_request_says_the_same_in_headers_and_body() {
        let body = modern_body("tools/call", r#""name":"run_task","#);
        let name = "Mcp-Name: run_task\r\n";
        let good = read(Some(&head(&format!("{MODERN_HEADERS}{name}"))), body.as_bytes()).unwrap();
        assert!(matches!(&good, Message::Call(call) if call.era == Era::Modern && call.id == json!(3)));
        let wrapped = "mcp-name: =?base64?cnVuX3Rhc2s=?=\r\n";
        assert!(read(Some(&head(&format!("{MODERN_HEADERS}{wrapped}"))), body.as_bytes()).is_ok());
        assert!(read(None, body.as_bytes()).is_ok(), "stdio has no headers");
        for (headers, code) in [
            ("".to_owned(), -32020),
            (MODERN_HEADERS.to_owned(), -32020),
            (format!("{MODERN_HEADERS}Mcp-Name: get_job\r\n"), -32020),
            (format!("{MODERN_HEADERS}{name}{name}"), -32020),
            (format!("MCP-Protocol-Version: 2027-01-01\r\nMcp-Method: tools/call\r\n{name}"), -32020),
            (format!("{MODERN_HEADERS}Mcp-Name: =?base64?cnVu?X3=?=\r\n"), -32020),
        ] {
            let fault = read(Some(&head(&headers)), body.as_bytes()).unwrap_err();
            assert_eq!((fault.status, fault.code, &fault.id), (400, code, &json!(3)), "{headers}");
        }
        let future = body.replace(MODERN, "2027-01-01");
        let fault = read(None, future.as_bytes()).unwrap_err();
        assert_eq!((fault.code, &fault.data.unwrap()["requested"]), (-32022, &json!("2027-01-01")));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let legacy = head("");
        let modern = head(MODERN_HEADERS);
        for (head, body, status, code) in [
            (&legacy, "{", 400, -32700),
            (&legacy, "[]", 400, -32600),
            (&legacy, r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, 400, -32600),
            (&legacy, r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, 400, -32600),
            (&legacy, r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, 400, -32600),
            (&legacy, r#"{"jsonrpc":"2.0","id":1,"method":7}"#, 400, -32600),
            (&legacy, r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, 200, -32602),
            (&modern, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}"#, 400, -32602),
            (&modern, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, 400, -32600),
        ] {
            let fault = read(Some(head), body.as_bytes()).unwrap_err();
            assert_eq!((fault.status, fault.code), (status, code), "{body}: {}", fault.message);
        }
        for heard in
            [r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#]
        {
            assert!(matches!(read(Some(&legacy), heard.as_bytes()), Ok(Message::Heard)), "{heard}");
        }
        let call = read(Some(&legacy), br#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#).unwrap();
        assert!(matches!(call, Message::Call(Call { era: Era::Legacy, .. })));
    }
}
