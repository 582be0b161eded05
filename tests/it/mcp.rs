//! MCP over HTTP, in both eras, message by message; and the guard that stands before every door.

use crate::claude::cli;
use crate::support::messages::Messages;
use crate::support::{BINARY, Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

struct Told {
    status: u16,
    head: String,
    body: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}{}", self.head, self.body))
    }

    /// The messages of an event stream.
    fn messages(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n", body.len());
    let given = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    for (name, value) in
        [("Host", "localhost"), ("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
    {
        if !given(name) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    stream
}

fn told(mut stream: TcpStream) -> Told {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Told { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() }
}

fn legacy(server: &Server, message: &Value) -> Told {
    told(send(server, "POST", "/mcp", &[("MCP-Protocol-Version", "2025-06-18")], &message.to_string()))
}

fn modern_call(server: &Server, method: &str, mut params: Value) -> TcpStream {
    let name = params["name"].as_str().map(str::to_owned);
    let mut meta = params["_meta"].take().as_object().cloned().unwrap_or_default();
    meta.insert("io.modelcontextprotocol/protocolVersion".into(), json!("2026-07-28"));
    meta.entry("io.modelcontextprotocol/clientCapabilities").or_insert(json!({}));
    params["_meta"] = json!(meta);
    let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string();
    let mut headers = vec![("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", method)];
    headers.extend(name.as_deref().map(|name| ("Mcp-Name", name)));
    send(server, "POST", "/mcp", &headers, &body)
}

fn modern(server: &Server, method: &str, params: Value) -> Told {
    told(modern_call(server, method, params))
}

#[test]
fn a_batch_is_answered_where_the_revision_has_it() {
    let lab = Lab::new();
    let server = lab.serve();
    let call = |id: u64, arguments: Value| {
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": "run_task", "arguments": arguments}})
    };
    let batch = json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/x"},
        call(2, json!({"task": "[[say done]]"})), call(3, json!({"task": "[[say done]]", "wait": true})), 7]);
    for headers in [&[][..], &[("MCP-Protocol-Version", "2025-03-26")][..]] {
        let told = told(send(&server, "POST", "/mcp", headers, &batch.to_string()));
        let answers = told.json();
        assert_eq!((told.status, answers.as_array().unwrap().len()), (200, 4), "{answers}");
        assert_eq!((&answers[0]["result"], &answers[1]["result"]["isError"]), (&json!({}), &json!(false)));
        let waits = answers[2]["result"]["content"][0]["text"].as_str().unwrap();
        assert!(waits.contains("cannot stand in a batch"), "{answers}");
        assert_eq!(answers[3]["error"]["code"], -32600);
    }
    let heard = json!([{"jsonrpc": "2.0", "method": "notifications/initialized"}]);
    assert_eq!(told(send(&server, "POST", "/mcp", &[], &heard.to_string())).status, 202);
    for (headers, body) in [
        (&[("MCP-Protocol-Version", "2025-06-18")][..], batch.to_string()),
        (&[("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "ping")][..], batch.to_string()),
        (&[][..], "[]".into()),
    ] {
        let told = told(send(&server, "POST", "/mcp", headers, &body));
        assert_eq!((told.status, &told.json()["error"]["code"]), (400, &json!(-32600)), "{body}");
    }
    assert_eq!(server.get("/jobs").1["count"], 4);
    server.stop();
}

#[test]
fn a_legacy_client_shakes_hands_lists_and_calls() {
    let lab = Lab::new();
    let server = lab.serve();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18",
        "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    // The first message comes without the header.
    let hello = told(send(&server, "POST", "/mcp/", &[], &hello.to_string()));
    assert_eq!((hello.status, &hello.json()["result"]["protocolVersion"]), (200, &json!("2025-06-18")));
    assert!(!hello.head.to_lowercase().contains("mcp-session-id"));
    let initialized = legacy(&server, &json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!((initialized.status, initialized.body.as_str()), (202, ""));
    assert_eq!(legacy(&server, &json!({"jsonrpc": "2.0", "id": 1, "method": "ping"})).json()["result"], json!({}));
    let tools = legacy(&server, &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"})).json();
    let names: Vec<&str> =
        tools["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"run_task") && names.contains(&"list_profiles"), "{names:?}");
    let call = |id: u64, name: &str, arguments: Value| {
        let params = json!({"name": name, "arguments": arguments});
        legacy(&server, &json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).json()
    };
    let ran = call(3, "run_task", json!({"task": "[[say done]]", "repo_url": "", "base_ref": ""}));
    assert_eq!((&ran["id"], &ran["result"]["isError"]), (&json!(3), &json!(false)), "{ran}");
    let structured = &ran["result"]["structuredContent"];
    let text: Value = serde_json::from_str(ran["result"]["content"][0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(&text, structured);
    let id = structured["job"]["id"].as_str().unwrap();
    server.wait(id);
    // The same JSON as its REST route.
    let shown = call(4, "get_job", json!({"job_id": id}));
    assert_eq!(shown["result"]["structuredContent"], server.get(&format!("/jobs/{id}")).1);
    let events = call(5, "get_job_events", json!({"job_id": id, "limit": 1000.0}));
    assert_eq!(events["result"]["structuredContent"]["ended"], true);
    let listed = call(6, "list_jobs", json!({"status": "succeeded", "limit": 5}));
    assert_eq!(listed["result"]["structuredContent"]["count"], 1);
    for (name, arguments, why) in [
        ("get_job_diff", json!({"job_id": id}), "has no diff: it has no repository"),
        ("resume_job", json!({"job_id": id}), "resume_job needs `task`"),
        ("run_task", json!({"task": "x", "max_turns": "many"}), "`max_turns`"),
        ("list_jobs", json!({"label": "x"}), "a label must be NAME=VALUE"),
        ("run_task", json!({}), "run_task needs `task`"),
        ("run_task", json!({"task": "x", "repo": "y"}), "unknown argument `repo`"),
        ("run_task", json!({"task": "x", "profile": "codin"}), "did you mean `coding`?"),
        ("get_job", json!({"job_id": "../../x"}), "no such job"),
        ("list_jobs", json!({"limit": 0}), "from 1 to 1000"),
        ("list_jobs", json!({"status": "done"}), "`status` must be one of"),
        ("cancel_job", json!({"job_id": id}), "has ended already"),
    ] {
        let said = call(8, name, arguments);
        let text = said["result"]["content"][0]["text"].as_str().unwrap();
        assert!(said["result"]["isError"] == true && text.contains(why), "{name}: {said}");
    }
    let unknown = call(9, "fly", json!({}));
    assert_eq!(unknown["error"]["code"], -32602);
    let unknown = legacy(&server, &json!({"jsonrpc": "2.0", "id": 10, "method": "resources/list"}));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (200, &json!(-32601)));
    server.stop();
}

#[test]
fn a_modern_client_needs_no_handshake() {
    let lab = Lab::new();
    let server = lab.serve();
    let found = modern(&server, "server/discover", json!({})).json();
    assert_eq!((&found["result"]["resultType"], &found["id"]), (&json!("complete"), &json!(7)));
    assert_eq!(found["result"]["supportedVersions"][0], "2026-07-28");
    let tools = modern(&server, "tools/list", json!({})).json();
    assert!(tools["result"]["ttlMs"].is_u64() && tools["result"]["cacheScope"] == "public");
    assert_eq!(tools["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "agenticore");
    let ran = modern(&server, "tools/call", json!({"name": "list_profiles"})).json();
    assert_eq!(ran["result"]["structuredContent"], server.get("/profiles").1);
    let unknown = modern(&server, "ping", json!({}));
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!(-32601)));
    for (method, headers, status) in [
        ("GET", &[][..], 405),
        ("DELETE", &[], 405),
        ("POST", &[("Content-Type", "text/plain")], 415),
        ("POST", &[("Accept", "application/json")], 406),
    ] {
        let refused = told(send(&server, method, "/mcp", headers, "{}"));
        assert_eq!(refused.status, status, "{method} {headers:?}");
    }
    server.stop();
}

#[test]
fn a_call_that_waits_tells_how_it_goes_and_to_hang_up_cancels_nothing() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let task = format!("[[raw working]] [[wait-for {}]] [[say done]]", gate.display());
    let arguments = json!({"task": task, "wait": true});
    let params = json!({"name": "run_task", "arguments": arguments, "_meta": {"progressToken": "p"}});
    let mut first = modern_call(&server, "tools/call", params.clone());
    let mut begin = [0; 15];
    first.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    let id = eventually("it runs", || {
        let jobs = server.get("/jobs?status=running").1;
        jobs["jobs"][0]["id"].as_str().map(str::to_owned)
    });
    drop(first);
    let waiting = modern_call(
        &server,
        "tools/call",
        json!({"name": "wait_for_job", "arguments": {"job_id": id}, "_meta": {"progressToken": 4}}),
    );
    std::fs::write(&gate, "").unwrap();
    let messages = told(waiting).messages();
    let (last, progress) = messages.split_last().unwrap();
    assert_eq!(
        (&last["id"], &last["result"]["structuredContent"]["job"]["output"]),
        (&json!(7), &json!("done")),
        "{last}"
    );
    assert_eq!(last["result"]["structuredContent"], server.get(&format!("/jobs/{id}")).1);
    let steps: Vec<u64> = progress.iter().map(|told| told["params"]["progress"].as_u64().unwrap()).collect();
    assert!(steps.len() >= 4 && steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    assert!(progress.iter().all(|told| told["params"]["progressToken"] == 4));
    assert!(progress[0]["params"]["message"].as_str().unwrap().contains("cancel_job"), "{}", progress[0]);
    // Without a token nothing is told but the answer; a job that failed is an error of the tool.
    let params = json!({"name": "run_task", "arguments": {"task": "[[exit 3]]", "wait": true}});
    let messages = told(modern_call(&server, "tools/call", params)).messages();
    assert_eq!((messages.len(), &messages[0]["result"]["isError"]), (1, &json!(true)), "{messages:?}");
    server.stop();
}

/// The same of a client that declares the tasks extension.
fn with_tasks(server: &Server, method: &str, mut params: Value) -> Told {
    let extensions = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": extensions});
    modern(server, method, params)
}

#[test]
fn to_a_client_that_declares_tasks_a_job_is_one() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let gate = lab.path("gate");
    let task = format!("[[wait-for {}]] [[say done]]", gate.display());
    let call = |name: &str, arguments: Value| {
        with_tasks(&server, "tools/call", json!({"name": name, "arguments": arguments})).json()["result"].clone()
    };
    let get = |id: &Value| with_tasks(&server, "tasks/get", json!({"taskId": id})).json()["result"].clone();
    let made = call("run_task", json!({"task": task, "wait": true}));
    assert_eq!((&made["resultType"], &made["status"]), (&json!("task"), &json!("working")), "{made}");
    assert!(made["ttlMs"].is_null() && made["pollIntervalMs"].is_u64() && made["createdAt"].is_string(), "{made}");
    let id = &made["taskId"];
    assert_eq!(server.job(id.as_str().unwrap())["id"], *id, "the job's id is the task's");
    let shown = get(id);
    assert_eq!(
        (&shown["resultType"], &shown["status"], &shown["result"]),
        (&json!("complete"), &json!("working"), &json!(null))
    );
    std::fs::write(&gate, "").unwrap();
    server.wait(id.as_str().unwrap());
    let done = get(id);
    assert_eq!((&done["status"], &done["result"]["isError"]), (&json!("completed"), &json!(false)), "{done}");
    assert_eq!(done["result"]["structuredContent"], server.get(&format!("/jobs/{}", id.as_str().unwrap())).1);
    // A job that fails is no fault of the protocol; one that is cancelled is cancelled, however often.
    let fails = call("run_task", json!({"task": "[[exit 3]]"}))["taskId"].clone();
    server.wait(fails.as_str().unwrap());
    assert_eq!((&get(&fails)["status"], &get(&fails)["result"]["isError"]), (&json!("completed"), &json!(true)));
    let waits = call("run_task", json!({"task": "[[sleep 60000]]"}))["taskId"].clone();
    for _ in 0..2 {
        let said = with_tasks(&server, "tasks/cancel", json!({"taskId": waits})).json();
        assert_eq!(said["result"]["resultType"], "complete", "{said}");
    }
    assert_eq!(get(&waits)["status"], "cancelled");
    let said = with_tasks(&server, "tasks/update", json!({"taskId": waits, "inputResponses": {}})).json();
    assert_eq!(said["result"]["resultType"], "complete", "{said}");
    // A plan and a worktree are tasks as well, and are shown as what they are.
    for (name, arguments, field) in [
        ("plan_task", json!({"task": "[[say the plan]]"}), "plan"),
        ("prepare_worktree", json!({"repo_url": repo.url()}), "worktree"),
    ] {
        let made = call(name, arguments);
        let id = &made["taskId"];
        server.wait(id.as_str().unwrap());
        assert_eq!(get(id)["result"]["structuredContent"][field]["status"], "ready", "{name}");
    }
    // Without a word of it in the request nothing is a task; and what is none is said.
    let plain = modern(&server, "tools/call", json!({"name": "run_task", "arguments": {"task": "[[say x]]"}})).json();
    assert_eq!((&plain["result"]["resultType"], &plain["result"]["isError"]), (&json!("complete"), &json!(false)));
    let refused = modern(&server, "tasks/get", json!({"taskId": id}));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!(-32021)));
    for unknown in [json!("00000000-0000-4000-8000-000000000000"), json!("../x"), json!(7), json!(null)] {
        for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
            let said = with_tasks(&server, method, json!({"taskId": unknown})).json();
            assert_eq!(said["error"]["code"], -32602, "{method} {unknown}: {said}");
        }
    }
    for gone in ["tasks/list", "tasks/result"] {
        assert_eq!(with_tasks(&server, gone, json!({})).json()["error"]["code"], -32601);
    }
    let found = modern(&server, "server/discover", json!({})).json();
    assert_eq!(found["result"]["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"], json!({}));
    server.stop();
}

#[test]
fn keys_and_the_guard_stand_before_every_door() {
    let lab =
        Lab::new().with("AGENTICORE_API_KEYS", "secret").with("AGENTICORE_ALLOWED_ORIGINS", "https://tools.example");
    let server = lab.serve();
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let task = r#"{"task":"[[say x]]"}"#;
    for (path, body) in [("/mcp", ping.as_str()), ("/jobs", task)] {
        let ask = |headers: &[(&str, &str)]| told(send(&server, "POST", path, headers, body));
        let refused = ask(&[]);
        assert!(refused.status == 401 && refused.head.contains("WWW-Authenticate: Bearer"), "{}", refused.head);
        assert_eq!(told(send(&server, "POST", &format!("{path}?api_key=secret"), &[], body)).status, 200);
        let key = ("Authorization", "Bearer secret");
        assert_eq!(ask(&[key]).status, 200);
        assert_eq!(ask(&[key, ("Host", "evil.example")]).status, 421);
        for origin in ["https://evil.example", "null"] {
            assert_eq!(ask(&[key, ("Origin", origin)]).status, 403);
        }
        assert_eq!(ask(&[key, ("Sec-Fetch-Site", "cross-site")]).status, 403);
        let listed = ask(&[key, ("Origin", "https://tools.example"), ("Sec-Fetch-Site", "cross-site")]);
        assert!(listed.status == 200 && listed.head.contains("Access-Control-Allow-Origin: https://tools.example"));
        let preflight = [("Origin", "https://tools.example"), ("Access-Control-Request-Method", "POST")];
        let preflight = told(send(&server, "OPTIONS", path, &preflight, ""));
        assert!(
            preflight.status == 204 && preflight.head.contains("Access-Control-Allow-Methods"),
            "{}",
            preflight.head
        );
    }
    // A web page can send a form, as text, without asking first.
    let form = [("Content-Type", "text/plain"), ("Origin", "http://evil.example"), ("Authorization", "Bearer secret")];
    assert_eq!(told(send(&server, "POST", "/admin/drain", &form, "")).status, 403);
    assert_eq!(server.get("/health").1["draining"], Value::Null);
    assert!(!server.log().contains("secret"));
    server.stop();
}

/// The commands of the README, done with the real Claude Code, which then lists the tools and calls one.
#[test]
fn claude_code_connects_as_the_readme_says() {
    let Some(claude) = cli() else { return };
    let (lab, messages) = (Lab::new(), Messages::start());
    let server = lab.serve();
    let home = lab.path("client");
    std::fs::create_dir_all(&home).unwrap();
    let run = |words: &[String]| {
        let mut command = Command::new(&claude);
        command.args(words).env_clear().current_dir(&home).stdin(Stdio::null());
        command.env("HOME", &home).env("PATH", std::env::var_os("PATH").unwrap());
        command.env("ANTHROPIC_API_KEY", "sk-ant-made-up-for-tests").env("ANTHROPIC_BASE_URL", messages.url());
        command.env("DISABLE_TELEMETRY", "1").env("DISABLE_AUTOUPDATER", "1");
        command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        let output = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}: {text}");
        text
    };
    let readme = include_str!("../../README.md");
    let lines: Vec<&str> = readme.lines().filter(|line| line.starts_with("claude mcp add ")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in lines {
        let line = line
            .replace("http://localhost:8200", &server.url)
            .replace("-- agenticore mcp", &format!("-- {BINARY} mcp"));
        run(&line.split(' ').skip(1).map(str::to_owned).collect::<Vec<_>>());
    }
    let listed = run(&["mcp".into(), "list".into()]);
    assert_eq!(listed.matches("Connected").count(), 2, "{listed}");
    for server_name in ["agenticore", "agenticore-bridge"] {
        let tool = format!("mcp__{server_name}__run_task");
        let task = format!(
            r#"[[mcp ToolSearch {{"query":"select:{tool}"}}]] [[mcp {tool} {{"task":"say hello from {server_name}"}}]]
               [[say I asked for it.]]"#
        );
        let words = ["-p", &task, "--allowedTools", &tool].map(str::to_owned);
        assert!(run(&words).contains("I asked for it."));
        // It lists the tools to the model by name, and loads what the model searches for.
        let offered = messages.seen().iter().any(|seen| seen["body"]["tools"].to_string().contains(&tool));
        assert!(offered, "the tool was offered to the model");
    }
    let tasks = server.get("/jobs").1["jobs"].to_string();
    for server_name in ["agenticore", "agenticore-bridge"] {
        assert!(tasks.contains(&format!("say hello from {server_name}")), "{tasks}");
    }
    server.stop();
}

#[test]
fn the_bridge_speaks_lines_and_ends_with_its_input() {
    let lab = Lab::new();
    let server = lab.serve();
    let mut bridge = lab.command(&["mcp", "--server", &server.url]);
    let mut bridge = bridge.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = bridge.stdin.take().unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-03-26"}});
    let call = json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": {"name": "run_task",
        "arguments": {"task": "[[say done]]", "wait": true}, "_meta": {"progressToken": 1}}});
    for line in
        [hello.to_string(), "nonsense".into(), r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.into()]
    {
        writeln!(input, "{line}").unwrap();
    }
    writeln!(input, "{call}").unwrap();
    let id = eventually("it has run", || {
        let jobs = server.get("/jobs?status=succeeded").1;
        jobs["jobs"][0]["id"].as_str().map(str::to_owned)
    });
    std::thread::sleep(Duration::from_millis(300));
    drop(input);
    let output = bridge.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let messages: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(messages[0]["result"]["protocolVersion"], "2025-03-26");
    assert_eq!(messages[1]["error"]["code"], -32700);
    let answer = messages.iter().find(|message| message["id"] == "c").unwrap();
    assert_eq!(answer["result"]["structuredContent"]["job"]["id"], id.as_str());
    assert!(messages.iter().any(|message| message["method"] == "notifications/progress"), "{lines}");
    // A server that is not there is an answer too.
    let mut alone = lab.command(&["mcp", "--server", "http://127.0.0.1:1"]);
    let mut alone = alone.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(alone.stdin.take().unwrap(), "{hello}").unwrap();
    let said: Value = serde_json::from_slice(&alone.wait_with_output().unwrap().stdout).unwrap();
    assert!(said["error"]["message"].as_str().unwrap().contains("no server answers"), "{said}");
    server.stop();
}

#[test]
fn through_the_bridge_one_that_waits_holds_nobody_up_and_a_cancelled_one_is_let_go_of() {
    let lab = Lab::new();
    let server = lab.serve();
    let id = server.submit(json!({"task": "[[sleep 600000]]"}));
    let mut bridge = lab.command(&["mcp", "--server", &server.url]);
    let mut bridge = bridge.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut input, output) = (bridge.stdin.take().unwrap(), bridge.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}});
    let mut send = |id: u64, method: &str, mut params: Value| {
        params["_meta"] = meta.clone();
        writeln!(input, "{}", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).unwrap();
    };
    send(1, "tools/call", json!({"name": "wait_for_job", "arguments": {"job_id": id}}));
    send(2, "tools/list", json!({}));
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["id"], 2, "it does not stand behind the one that waits");
    writeln!(input, "{}", json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}))
        .unwrap();
    // Both ends let go: the bridge's thread ends, long before the job does.
    let threads = || std::fs::read_dir(format!("/proc/{}/task", bridge.id())).unwrap().count();
    eventually("the bridge waits no longer", || (threads() == 1).then_some(()));
    assert_eq!(server.job(&id)["status"], "running");
    drop(input);
    assert!(bridge.wait().unwrap().success());
    server.cancel(&id);
    server.stop();
}

#[test]
fn a_job_is_found_by_its_label_its_diff_is_read_and_its_conversation_goes_on() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let call = |name: &str, arguments: Value| {
        let params = json!({"name": name, "arguments": arguments});
        let answer = legacy(&server, &json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}));
        let result = answer.json()["result"].clone();
        assert_eq!(result["isError"], false, "{name}: {result}");
        result["structuredContent"].clone()
    };
    let task = "[[bash seq 20000 | sed 's/^/line /' > long.txt]] [[say done]]";
    let ran = call(
        "run_task",
        json!({"task": task, "repo_url": repo.url(), "labels": {"team": "core"}, "model": "opus", "max_turns": 7.0,
            "timeout": "", "profile": ""}),
    );
    let id = ran["job"]["id"].as_str().unwrap().to_owned();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["model"], &job["max_turns"]), (&json!("succeeded"), &json!("opus"), &json!(7)));
    for (filter, count) in
        [(json!({"label": "team=core"}), 1), (json!({"label": "team=other"}), 0), (json!({"q": "LONG.TXT"}), 1)]
    {
        assert_eq!(call("list_jobs", filter.clone())["count"], count, "{filter}");
    }
    let told = call("get_job_diff", json!({"job_id": &id[..8]}));
    let diff = told["diff"].as_str().unwrap();
    assert!(diff.contains("+line 7\n") && diff.len() <= 100 << 10 && told["cut"] == true, "{} {told}", diff.len());
    let resumed = call("resume_job", json!({"job_id": id, "task": "[[say more]]"}));
    let job = server.wait(resumed["job"]["id"].as_str().unwrap());
    assert_eq!((&job["resumed_from"], &job["output"]), (&json!(id), &json!("more")));
    server.stop();
}
