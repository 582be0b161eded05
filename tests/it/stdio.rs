//! AGENTICORE_TRANSPORT=stdio: an MCP server for one client that starts it; a bridge where a server is already.

use crate::support::{Lab, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

struct Program {
    child: Child,
    input: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
}

impl Program {
    fn start(lab: &Lab, variables: &[(&str, &str)]) -> Self {
        let mut command = lab.command(&["serve"]);
        command.env("AGENTICORE_TRANSPORT", "stdio").envs(variables.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, input, lines: BufReader::new(output) }
    }

    fn send(&mut self, line: &str) {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the program has ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line}"))
    }

    /// Sends a request, and reads until its answer.
    fn ask(&mut self, message: &Value) -> Value {
        self.send(&message.to_string());
        loop {
            let answer = self.message();
            if answer.get("id").is_some_and(|id| *id == message["id"]) {
                return answer;
            }
        }
    }

    fn hello(&mut self) {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params":
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        assert_eq!(self.ask(&hello)["result"]["protocolVersion"], "2025-11-25");
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
    }

    /// Ends the input; whether the program then ended well.
    fn end(mut self) -> bool {
        drop(self.input.take());
        eventually("the program ends", || self.child.try_wait().unwrap()).success()
    }
}

fn call(id: u64, name: &str, arguments: Value) -> Value {
    let params = json!({"name": name, "arguments": arguments, "_meta": {"progressToken": id}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

#[test]
fn it_serves_one_client_and_hands_back_what_runs_at_the_end() {
    let lab = Lab::new().with("AGENTICORE_API_KEYS", "nobody-is-asked");
    let mut program = Program::start(&lab, &[]);
    program.hello();
    program.send("nonsense");
    let complaint = program.message();
    assert_eq!((&complaint["id"], &complaint["error"]["code"]), (&json!(null), &json!(-32700)));
    let ended = program.ask(&call(1, "run_task", json!({"task": "[[raw working]] [[say done]]", "wait": true})));
    assert_eq!(ended["result"]["structuredContent"]["job"]["output"], "done");
    // Others are answered while one waits; a cancelled one is not answered any more.
    let gate = lab.path("gate");
    let task = format!("[[wait-for {}]] [[say went on]]", gate.display());
    program.send(&call(2, "run_task", json!({"task": task, "wait": true})).to_string());
    let progress = program.message();
    assert!(progress["params"]["message"].as_str().unwrap().contains("it goes on if you stop waiting"), "{progress}");
    let listed = program.ask(&call(3, "list_jobs", json!({})));
    let id = listed["result"]["structuredContent"]["jobs"][0]["id"].as_str().unwrap().to_owned();
    program
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}).to_string());
    eventually("the job runs", || {
        let shown = program.ask(&call(4, "get_job", json!({"job_id": id})));
        (shown["result"]["structuredContent"]["job"]["status"] == "running").then_some(())
    });
    assert!(program.end());
    lab.assert_no_process();
    // A server takes it up again.
    std::fs::write(&gate, "").unwrap();
    let lab = lab.with("AGENTICORE_API_KEYS", "");
    let server = lab.serve();
    let job = server.wait(&id);
    assert_eq!((&job["output"], &job["deaths"]), (&json!("went on"), &json!(0)), "{job:#}");
    server.stop();
}

#[test]
fn where_a_server_is_already_it_is_a_bridge_and_jobs_go_on_there() {
    let lab = Lab::new();
    let server = lab.serve();
    let mut program = Program::start(&lab, &[]);
    program.hello();
    let gate = lab.path("gate");
    let task = format!("[[wait-for {}]] [[say done]]", gate.display());
    let ran = program.ask(&call(1, "run_task", json!({"task": task})));
    let id = ran["result"]["structuredContent"]["job"]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.job(&id)["task"], task.as_str());
    assert!(program.end());
    std::fs::write(&gate, "").unwrap();
    assert_eq!(server.wait(&id)["status"], "succeeded");
    server.stop();
}

#[test]
fn a_second_one_on_the_same_directory_says_what_to_do() {
    let lab = Lab::new();
    let mut program = Program::start(&lab, &[]);
    program.hello();
    let second = lab.command(&["serve"]).env("AGENTICORE_TRANSPORT", "stdio").output().unwrap();
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && why.contains("give this one its own AGENTICORE_JOBS_DIR"), "{why}");
    assert!(second.stdout.is_empty());
    assert!(program.end());
}

#[test]
fn calls_with_one_id_are_each_counted_and_a_long_line_is_one_fault() {
    let lab = Lab::new();
    let mut program = Program::start(&lab, &[]);
    program.hello();
    let ran = program.ask(&call(1, "run_task", json!({"task": "[[sleep 600000]]"})));
    let id = ran["result"]["structuredContent"]["job"]["id"].clone();
    let params = json!({"name": "wait_for_job", "arguments": {"job_id": id}});
    let wait = json!({"jsonrpc": "2.0", "id": "again", "method": "tools/call", "params": params}).to_string();
    (0..70).for_each(|_| program.send(&wait));
    for _ in 0..6 {
        let refused = program.message();
        assert!(refused["result"]["content"][0]["text"].as_str().unwrap().contains("too many calls wait"), "{refused}");
    }
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "again"}});
    program.send(&cancel.to_string());
    program.send(&format!("{{\"x\": \"{}\"}}", "y".repeat(5 << 20)));
    let fault = program.message();
    assert!(fault["error"]["message"].as_str().unwrap().contains("longer than 1048576 bytes"), "{fault}");
    assert_eq!(program.ask(&json!({"jsonrpc": "2.0", "id": 9, "method": "ping"}))["result"], json!({}));
    // All of them are over, so that there is room again.
    eventually("there is room again", || {
        program.send(&wait);
        program.send(&json!({"jsonrpc": "2.0", "id": 10, "method": "ping"}).to_string());
        // A refusal comes before the answer to what is sent after it.
        let next = program.message();
        let is_taken = next["id"] == 10;
        if !is_taken {
            assert_eq!(program.message()["id"], 10);
        }
        is_taken.then_some(())
    });
    assert!(program.end());
    lab.assert_no_process();
}
