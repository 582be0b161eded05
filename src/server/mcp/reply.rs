//! JSON-RPC's answers, as each era wants them. Pure.

use super::eras::{Call, Era};
use serde_json::{Value, json};

/// The answer to a call.
pub fn result(call: &Call, mut result: Value) -> Value {
    if call.era == Era::Modern {
        result["resultType"] = json!("complete");
        result["_meta"] = json!({"io.modelcontextprotocol/serverInfo": super::server_info()});
    }
    json!({"jsonrpc": "2.0", "id": call.id, "result": result})
}

/// What a tool gives: the same JSON as text and as it is.
pub fn content(value: &Value, is_error: bool) -> Value {
    let text = json!([{"type": "text", "text": value.to_string()}]);
    json!({"content": text, "structuredContent": value, "isError": is_error})
}

/// A tool that says no: a sentence.
pub fn failure(why: &str) -> Value {
    json!({"content": [{"type": "text", "text": why}], "isError": true})
}

pub fn progress(token: &Value, step: u64, message: &str) -> Value {
    let params = json!({"progressToken": token, "progress": step, "message": message});
    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
}
