//! The agent of the profile `self-test`: this very binary, instead of Claude. Tries what an agent needs of its
//! surroundings and says how that went, in Claude's own stream of events. Asks no model and needs no login.

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;

/// The first argument that makes the binary that agent.
pub const ROLE: &str = "__self-test";
/// The most of a task that is repeated.
const SHOWN: usize = 200;

/// Returns the exit code.
pub fn main() -> i32 {
    let mut task = String::new();
    let _ = std::io::stdin().take(1 << 20).read_to_string(&mut task);
    let session = uuid::Uuid::new_v4().to_string();
    emit(&json!({"type": "system", "subtype": "init", "session_id": session}));
    let (mut said, mut went_well) = (Vec::new(), true);
    for (what, directory) in directories() {
        match try_to_write(&directory) {
            Ok(()) => said.push(format!("{what} {directory} can be written")),
            Err(error) => {
                went_well = false;
                said.push(format!("{what} {directory} cannot be written: {error}"));
            }
        }
    }
    for line in &said {
        emit(&json!({"type": "assistant", "message": {"content": [{"type": "text", "text": line}]}}));
    }
    let task = crate::job::cut(task.trim().to_owned(), SHOWN);
    let result = format!("self-test: {}. The task was: {task}", said.join("; "));
    emit(&json!({
        "type": "result", "subtype": "success", "is_error": !went_well, "num_turns": 1, "result": result,
        "session_id": session, "total_cost_usd": 0.0, "permission_denials": [],
    }));
    i32::from(!went_well)
}

fn directories() -> [(&'static str, String); 3] {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let here = std::env::current_dir().map_or_else(|error| error.to_string(), |path| path.display().to_string());
    [("HOME", variable("HOME")), ("TMPDIR", variable("TMPDIR")), ("the working directory", here)]
}

fn try_to_write(directory: &str) -> std::io::Result<()> {
    let path = Path::new(directory).join(format!(".self-test-{}", std::process::id()));
    std::fs::write(&path, "self-test")?;
    std::fs::remove_file(&path)
}

/// Nobody to read it is no reason to go on failing: the server ends us.
fn emit(event: &Value) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{event}").and_then(|()| out.flush());
}
