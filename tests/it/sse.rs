//! MCP's older transport: a stream at /sse, messages to /messages, from any pod to the pod that holds the stream.

use crate::support::fleet::Fleet;
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

struct Session {
    lines: BufReader<TcpStream>,
    /// Where messages go, as the stream says.
    endpoint: String,
}

impl Session {
    fn open(server: &Server, query: &str) -> Self {
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET /sse{query} HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").unwrap();
        let mut session = Self { lines: BufReader::new(stream), endpoint: String::new() };
        let head = session.line();
        assert!(head.contains("200 OK"), "{head}");
        while !session.line().is_empty() {}
        assert_eq!(session.line(), "event: endpoint");
        session.endpoint = session.line().strip_prefix("data: ").unwrap().to_owned();
        assert!(session.endpoint.starts_with("/messages?session_id=") && session.endpoint.len() > 50);
        session
    }

    fn id(&self) -> &str {
        self.endpoint.split_once('=').unwrap().1
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the stream has ended");
        line.trim_end().to_owned()
    }

    /// The next message on the stream.
    fn message(&mut self) -> Value {
        loop {
            if let Some(data) = self.line().strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }

    fn post(&self, server: &Server, message: &Value) -> u16 {
        post(server, &self.endpoint, &[], &message.to_string())
    }

    /// Sends a request to `server`, and waits for its answer on the stream.
    fn ask(&mut self, server: &Server, message: &Value) -> Value {
        assert_eq!(self.post(server, message), 202);
        loop {
            let answer = self.message();
            if answer["id"] == message["id"] {
                return answer;
            }
        }
    }
}

fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> u16 {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let mut request = agent.post(format!("{}{path}", server.url)).header("Content-Type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send(body).unwrap().status().as_u16()
}

fn call(id: u64, name: &str, arguments: Value) -> Value {
    let params = json!({"name": name, "arguments": arguments, "_meta": {"progressToken": id}});
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
}

fn hello() -> Value {
    json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2024-11-05",
        "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
}

#[test]
fn an_old_client_shakes_hands_calls_waits_and_cancels() {
    let lab = Lab::new();
    let server = lab.serve();
    let mut session = Session::open(&server, "");
    assert_eq!(session.ask(&server, &hello())["result"]["protocolVersion"], "2024-11-05");
    assert_eq!(session.post(&server, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"})), 202);
    let listed = session.ask(&server, &json!({"jsonrpc": "2.0", "id": "a", "method": "tools/list"}));
    assert!(listed["result"]["tools"].as_array().unwrap().len() >= 8);
    // Today's clients send modern messages here too, without headers.
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let modern = json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}});
    assert_eq!(session.ask(&server, &modern)["result"]["resultType"], "complete");
    let unknown = session.ask(&server, &json!({"jsonrpc": "2.0", "id": 2, "method": "resources/list"}));
    assert_eq!(unknown["error"]["code"], -32601);
    // A call that waits sends progress, and others are answered meanwhile.
    let gate = lab.path("gate");
    let task = format!("[[raw working]] [[wait-for {}]] [[say done]]", gate.display());
    assert_eq!(session.post(&server, &call(3, "run_task", json!({"task": task, "wait": true}))), 202);
    let progress = session.message();
    assert_eq!((&progress["method"], &progress["params"]["progress"]), (&json!("notifications/progress"), &json!(1)));
    assert!(session.ask(&server, &call(4, "list_jobs", json!({})))["result"]["structuredContent"]["count"] == 1);
    std::fs::write(&gate, "").unwrap();
    let ended = loop {
        let message = session.message();
        if message["id"] == 3 {
            break message;
        }
        assert_eq!(message["method"], "notifications/progress");
    };
    assert_eq!(ended["result"]["structuredContent"]["job"]["output"], "done");
    // Cancelled: nothing more comes of the request, and the job goes on.
    let gate = lab.path("another-gate");
    let task = format!("[[wait-for {}]] [[say done]]", gate.display());
    assert_eq!(session.post(&server, &call(5, "run_task", json!({"task": task, "wait": true}))), 202);
    session.message();
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}});
    assert_eq!(session.post(&server, &cancel), 202);
    assert_eq!(session.ask(&server, &json!({"jsonrpc": "2.0", "id": 6, "method": "ping"}))["result"], json!({}));
    std::fs::write(&gate, "").unwrap();
    let id = server.get("/jobs").1["jobs"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.wait(&id)["status"], "succeeded");
    assert_eq!(session.post(&server, &json!({"jsonrpc": "2.0", "id": 7, "method": "ping"})), 202);
    assert_eq!(session.message()["id"], 7);
    // A stream that is closed ends the session.
    let endpoint = session.endpoint.clone();
    drop(session);
    eventually("the session is over", || (post(&server, &endpoint, &[], "{}") == 404).then_some(()));
    for (path, body, status) in [
        ("/messages", "{}", 400),
        ("/messages/?session_id=abc", "{}", 404),
        ("/messages?session_id=abc", "{", 400),
        ("/messages?session_id=abc", "[]", 400),
        ("/sse", "{}", 405),
    ] {
        assert_eq!(post(&server, path, &[], body), status, "{path} {body}");
    }
    assert_eq!(server.get("/messages").0, 405);
    server.stop();
}

#[test]
fn a_session_stands_for_the_key_that_opened_it() {
    let lab = Lab::new().with("AGENTICORE_API_KEYS", "secret");
    let server = lab.serve();
    for path in ["/sse", "/sse?api_key=wrong"] {
        assert_eq!(server.get(path).0, 401, "{path}");
    }
    let mut session = Session::open(&server, "?api_key=secret");
    assert!(session.ask(&server, &hello())["result"].is_object(), "clients do not carry the key over");
    assert_eq!(post(&server, "/messages?session_id=guessed", &[], "{}"), 404);
    assert_eq!(post(&server, &session.endpoint, &[("X-Api-Key", "wrong")], "{}"), 401);
    assert_eq!(post(&server, &session.endpoint, &[("X-Api-Key", "secret")], &hello().to_string()), 202);
    assert!(!server.log().contains("secret") && !server.log().contains(&session.endpoint));
    server.stop();
}

#[test]
fn messages_reach_the_pod_that_holds_the_stream() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let mut session = Session::open(&first, "");
    assert!(session.ask(&second, &hello())["result"].is_object());
    // In order, none lost, whichever pod takes them.
    for id in 1..=60 {
        let server = if id % 2 == 0 { &first } else { &second };
        assert_eq!(session.post(server, &json!({"jsonrpc": "2.0", "id": id, "method": "ping"})), 202);
    }
    let ids: Vec<Value> = (1..=60).map(|_| session.message()["id"].take()).collect();
    assert_eq!(ids, (1..=60).map(|id| json!(id)).collect::<Vec<_>>());
    let waited = session.ask(&second, &call(99, "run_task", json!({"task": "[[say done]]", "wait": true})));
    assert_eq!(waited["result"]["structuredContent"]["job"]["status"], "succeeded");
    assert_eq!(post(&second, "/messages?session_id=unknown", &[], "{}"), 404);
    drop(session);
    fleet.finish(vec![first, second]);
}

#[test]
fn a_session_that_does_not_read_is_bounded_and_says_so() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let lab = Lab::new();
    let alone = lab.serve();
    for (holder, other) in [(&first, &second), (&alone, &alone)] {
        let session = Session::open(holder, "");
        // Answers are longer than what they answer: a reader that does not read them is not read any more itself.
        let long = json!({"jsonrpc": "2.0", "id": 1, "method": "x".repeat(900_000)}).to_string();
        eventually("the session is full", || {
            let status = post(other, &session.endpoint, &[], &long);
            assert!([202, 429].contains(&status), "{status}");
            (status == 429).then_some(())
        });
        let endpoint = session.endpoint.clone();
        drop(session);
        // Soon everybody knows that it is over.
        eventually("the session is over", || (post(other, &endpoint, &[], "{}") == 404).then_some(()));
    }
    let left: Vec<String> = fleet.redis.ask(&["KEYS", "agenticore:mailbox:*"]);
    assert_eq!(left, [] as [&str; 0]);
    alone.stop();
    fleet.finish(vec![first, second]);
}

#[test]
fn a_session_outlives_a_redis_that_was_emptied() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let mut session = Session::open(&first, "");
    assert!(session.ask(&second, &hello())["result"].is_object());
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    eventually("the session is known again", || {
        let exists: i64 = fleet.redis.ask(&["EXISTS", &format!("agenticore:mailbox:{}", session.id())]);
        (exists == 1).then_some(())
    });
    assert_eq!(session.ask(&second, &json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}))["result"], json!({}));
    drop(session);
    fleet.finish(vec![first, second]);
}

/// A session stands for the key that opened it, for as long as that is good.
#[test]
fn a_session_whose_key_is_gone_does_nothing_more() {
    let lab = Lab::new();
    let file = lab.path("keys.yml");
    std::fs::write(&file, "- {name: ci, key: submit-key-000, scopes: [submit]}\n").unwrap();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file.display().to_string());
    let server = lab.serve();
    let mut session = Session::open(&server, "?api_key=submit-key-000");
    let task = json!({"task": "[[say hi]]"});
    let answer = session.ask(&server, &call(1, "run_task", task.clone()));
    assert_eq!(answer["result"]["isError"], json!(false), "{answer}");
    std::fs::write(&file, "- {name: ci, key: submit-key-000, scopes: [read]}\n").unwrap();
    eventually("the key may only look", || {
        let answer = session.ask(&server, &call(2, "run_task", task.clone()));
        answer.to_string().contains("has the scope read").then_some(())
    });
    std::fs::write(&file, "[]\n").unwrap();
    // The stream ends; what came meanwhile was answered as long as the key was good.
    let mut rest = String::new();
    session.lines.read_to_string(&mut rest).unwrap();
    let message = call(3, "list_jobs", json!({}));
    eventually("its session is gone", || (session.post(&server, &message) == 404).then_some(()));
    server.stop();
}
