//! API keys: scopes, a file that changes while the server serves, and what of them is written down.

use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;

fn made(lab: &Lab, name: &str, more: &[&str]) -> (String, String) {
    let done = lab.run(&[&["key", "new", name, "--json"], more].concat());
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let text = |field: &str| answer[field].as_str().unwrap().to_owned();
    (text("key"), text("line"))
}

fn ask(server: &Server, key: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", server.url));
    let request = if key.is_empty() { request } else { request.header("Authorization", format!("Bearer {key}")) };
    let mut response = agent.run(request.body(body.as_bytes().to_vec()).unwrap()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(json!(text)))
}

const TASK: &str = r#"{"task": "[[say hi]]"}"#;

#[test]
fn a_key_may_what_its_scope_says_and_the_record_says_whose_job_it_is() {
    let lab = Lab::new();
    let (reader, of_reader) = made(&lab, "reader", &["--scope", "read"]);
    let (ci, of_ci) = made(&lab, "ci", &[]);
    let (boss, of_boss) = made(&lab, "boss", &["--scope", "admin"]);
    let (late, of_late) = made(&lab, "late", &["--expires", "2020-01-01"]);
    assert!(!of_ci.contains(&ci), "the line holds no key");
    let file = lab.path("keys.yml");
    std::fs::write(&file, [of_reader, of_ci, of_boss, of_late].join("\n")).unwrap();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file.display().to_string());
    let server = lab.serve();
    for (key, method, path, body, wanted) in [
        ("", "GET", "/health", "", 200),
        ("", "GET", "/jobs", "", 401),
        (late.as_str(), "GET", "/jobs", "", 401),
        ("agk_nonsense", "GET", "/jobs", "", 401),
        (&reader, "GET", "/jobs", "", 200),
        (&reader, "POST", "/jobs", TASK, 403),
        (&reader, "POST", "/admin/drain", "", 403),
        (&ci, "POST", "/admin/sync", "", 403),
        (&ci, "POST", "/jobs", TASK, 200),
        (&boss, "GET", "/admin/drain", "", 200),
    ] {
        let (status, answer) = ask(&server, key, method, path, body);
        assert_eq!(status, wanted, "{method} {path}: {answer}");
        if status == 403 {
            assert!(answer["error"].as_str().unwrap().contains("has the scope"), "{answer}");
        }
    }
    let id = ask(&server, &ci, "POST", "/jobs", TASK).1["job"]["id"].as_str().unwrap().to_owned();
    let job = eventually("it ends", || {
        let job = ask(&server, &reader, "GET", &format!("/jobs/{id}"), "").1["job"].take();
        job["ended_at"].is_string().then_some(job)
    });
    assert_eq!((&job["submitted_by"], &job["cancelled_by"]), (&json!("ci"), &json!(null)), "{job:#}");
    let id = ask(&server, &ci, "POST", "/jobs", r#"{"task": "[[sleep 600000]]"}"#).1["job"]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(ask(&server, &boss, "DELETE", &format!("/jobs/{id}"), "").1["job"]["cancelled_by"], "boss");
    eventually("changes are told", || {
        let log = server.log();
        (log.contains(r#""audit":"POST /jobs","key":"ci""#) && log.contains(r#""key":"boss","outcome":"200""#))
            .then_some(())
    });
    assert!([&reader, &ci, &boss, &late].iter().all(|key| !server.log().contains(key.as_str())), "no key is logged");
    // Tools say what they need too.
    let call = |key: &str, tool: &str, arguments: Value| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}});
        let headers =
            [("Authorization", format!("Bearer {key}")), ("Accept", "application/json, text/event-stream".into())];
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain([("Content-Type", "application/json")])
            .collect();
        server.send("/mcp", &headers, &message.to_string()).1["result"].take()
    };
    assert_eq!(call(&reader, "list_jobs", json!({}))["isError"], json!(false));
    let refused = call(&reader, "run_task", json!({"task": "t"}));
    assert!(refused["isError"] == true && refused.to_string().contains("has the scope read"), "{refused}");
    assert_eq!(call(&ci, "run_task", json!({"task": "[[say hi]]"}))["isError"], json!(false));
    server.stop();
}

/// A Secret is changed by exchanging a link; a broken file locks nobody out.
#[test]
fn the_file_may_change_while_the_server_serves() {
    let lab = Lab::new();
    let ((one, of_one), (two, of_two)) = (made(&lab, "one", &[]), made(&lab, "two", &[]));
    let volume = lab.path("secret");
    let put = |version: &str, text: &str| {
        std::fs::create_dir_all(volume.join(version)).unwrap();
        std::fs::write(volume.join(version).join("keys.yml"), text).unwrap();
        std::os::unix::fs::symlink(version, volume.join("next")).unwrap();
        std::fs::rename(volume.join("next"), volume.join("..data")).unwrap();
    };
    put("..1", &of_one);
    std::os::unix::fs::symlink(Path::new("..data/keys.yml"), volume.join("keys.yml")).unwrap();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", volume.join("keys.yml").display().to_string());
    let server = lab.serve();
    let status = |key: &str| ask(&server, key, "GET", "/jobs", "").0;
    assert_eq!((status(&one), status(&two)), (200, 401));
    put("..2", &of_two);
    eventually("the other key is known", || (status(&two) == 200 && status(&one) == 401).then_some(()));
    put("..3", "- {name: two, sha256: abc, scopes: [submit]}");
    eventually("what is wrong is said", || server.log().contains("the keys stay as they were").then_some(()));
    assert_eq!((status(&two), status(&one)), (200, 401));
    // What would be waited for is not read, and what comes after it is.
    std::fs::create_dir(volume.join("..fifo")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(volume.join("..fifo/keys.yml")).status().unwrap().success());
    std::os::unix::fs::symlink("..fifo", volume.join("next")).unwrap();
    std::fs::rename(volume.join("next"), volume.join("..data")).unwrap();
    eventually("it is said", || server.log().contains("is no file: expected a list of keys").then_some(()));
    assert_eq!((status(&two), status(&one)), (200, 401));
    put("..4", "[]");
    eventually("an empty list lets nobody in", || (status(&two) == 401).then_some(()));
    server.stop();
    let broken = lab.with("AGENTICORE_API_KEYS_FILE", "/nowhere/keys.yml").run(&["serve"]);
    assert!(
        String::from_utf8_lossy(&broken.stderr).contains("AGENTICORE_API_KEYS_FILE, /nowhere/keys.yml"),
        "{broken:?}"
    );
}

#[test]
fn commands_of_the_pod_work_where_only_hashes_are_known() {
    let lab = Lab::new();
    let (_, line) = made(&lab, "ci", &[]);
    std::fs::write(lab.path("keys.yml"), line).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let file = lab.path("keys.yml").display().to_string();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file).with("AGENTICORE_PORT", port);
    let server = lab.serve();
    assert_eq!(lab.run(&["jobs"]).status.code(), Some(0));
    assert_eq!(lab.run(&["status"]).status.code(), Some(0));
    let submitted = lab.run(&["run", "t"]);
    assert_eq!(submitted.status.code(), Some(2), "{submitted:?}");
    let why = String::from_utf8_lossy(&submitted.stderr).into_owned();
    assert!(why.contains("no key was given") && why.contains("AGENTICORE_API_KEY"), "{submitted:?}");
    // A key whose time is over is told so, and may be made only with a warning.
    let late = lab.run(&["key", "new", "late", "--expires", "2020-01-01"]);
    assert!(String::from_utf8_lossy(&late.stderr).contains("--expires is in the past"), "{late:?}");
    let line = String::from_utf8(late.stdout).unwrap();
    let (key, entry) = (line.lines().nth(1).unwrap().to_owned(), line.lines().last().unwrap().to_owned());
    std::fs::write(lab.path("keys.yml"), entry).unwrap();
    let late = || lab.command(&["jobs"]).env("AGENTICORE_API_KEY", &key).output().unwrap();
    eventually("its time is over", || {
        String::from_utf8_lossy(&late().stderr).contains("the time of the key `late` is over").then_some(())
    });
    assert_eq!(lab.run(&["drain", "--timeout", "1"]).status.code(), Some(0));
    let key = std::fs::read_dir(lab.path("home/.agenticore/own-keys")).unwrap().next().unwrap().unwrap().path();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    server.stop();
    assert!(!key.exists(), "it goes with its server");
}

#[test]
fn a_key_may_have_so_many_jobs_waiting_and_leaves_room_for_others() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let ((few, of_few), (other, of_other)) = (made(&lab, "few", &["--max-queued", "2"]), made(&lab, "other", &[]));
    std::fs::write(lab.path("keys.yml"), [of_few, of_other].join("\n")).unwrap();
    let file = lab.path("keys.yml").display().to_string();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file);
    let server = lab.serve();
    let hang = r#"{"task": "[[sleep 600000]]"}"#;
    assert_eq!(ask(&server, &other, "POST", "/jobs", hang).0, 200);
    eventually("it runs", || (ask(&server, &other, "GET", "/jobs?status=running", "").1["count"] == 1).then_some(()));
    assert_eq!((ask(&server, &few, "POST", "/jobs", hang).0, ask(&server, &few, "POST", "/jobs", hang).0), (200, 200));
    let (status, answer) = ask(&server, &few, "POST", "/jobs", hang);
    assert!(
        status == 429 && answer["error"].as_str().unwrap().contains("2 jobs of the key `few` wait already"),
        "{answer}"
    );
    assert_eq!(ask(&server, &other, "POST", "/jobs", hang).0, 200);
    server.stop();
}

#[test]
fn a_key_in_the_address_works_and_is_called_deprecated() {
    let lab = Lab::new().with("AGENTICORE_API_KEYS", "secret-key-1");
    let server = lab.serve();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let answer = agent.get(format!("{}/jobs?api_key=secret-key-1&limit=1", server.url)).call().unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["deprecation"].to_str().unwrap()), (200, "@1767225600"));
    let answer = agent.get(format!("{}/jobs", server.url)).header("X-Api-Key", "secret-key-1").call().unwrap();
    assert!(answer.status() == 200 && answer.headers().get("deprecation").is_none());
    assert!(!server.log().contains("secret-key-1"));
    server.stop();
}

#[test]
fn an_error_is_a_problem_document_with_the_requests_name() {
    let lab = Lab::new();
    let server = lab.serve();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let ask = |path: &str, body: &str, id: &str| {
        let request = agent.post(format!("{}{path}", server.url)).header("X-Request-Id", id);
        let mut answer = request.send(body).unwrap();
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let (kind, id) = (header("content-type"), header("x-request-id"));
        (kind, id, serde_json::from_str::<Value>(&answer.body_mut().read_to_string().unwrap()).unwrap())
    };
    let (kind, id, problem) = ask("/jobs", r#"{"task": 7}"#, "from-outside-1");
    assert_eq!((kind.as_str(), id.as_str()), ("application/problem+json", "from-outside-1"));
    assert!(problem["type"].as_str().unwrap().ends_with("docs/errors.md#invalid-request"), "{problem:#}");
    assert_eq!(
        (&problem["status"], &problem["field"], &problem["success"]),
        (&json!(400), &json!("task"), &json!(false))
    );
    assert_eq!(problem["detail"], problem["error"]);
    // One that could break a header or a line is not taken over.
    let (_, id, _) = ask("/nothing", "", "a b\"c");
    assert!(uuid::Uuid::try_parse(&id).is_ok(), "{id}");
    let (kind, id, answer) = ask("/jobs", TASK, "job-77");
    assert_eq!(
        (kind.as_str(), id.as_str(), &answer["job"]["request_id"]),
        ("application/json", "job-77", &json!("job-77"))
    );
    eventually("the log names it", || server.log().contains(r#""request_id":"job-77""#).then_some(()));
    server.stop();
}

#[test]
fn limits_are_told_and_one_keys_flood_leaves_room_for_others() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1").with("AGENTICORE_SUBMISSIONS_PER_MINUTE", "5");
    let ((flood, of_flood), (other, of_other)) = (made(&lab, "flood", &[]), made(&lab, "other", &[]));
    std::fs::write(lab.path("keys.yml"), [of_flood, of_other].join("\n")).unwrap();
    let file = lab.path("keys.yml").display().to_string();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file).with("AGENTICORE_QUEUED_MOST", "8");
    let server = lab.serve();
    let slow = r#"{"task": "[[sleep 600000]]"}"#;
    let answers: Vec<u16> = (0..12).map(|_| ask(&server, &flood, "POST", "/jobs", slow).0).collect();
    assert!(answers[..5].iter().all(|status| *status == 200) && answers[6..].contains(&429), "{answers:?}");
    assert_eq!(ask(&server, &other, "POST", "/jobs", slow).0, 200);
    assert_eq!(
        ask(&server, &other, "GET", "/status", "").1["limits"],
        json!({"submissions_per_minute": 5, "queued": 8, "request_seconds": 300})
    );
    // The server's own limit is a 503, whosever the job is.
    eventually("the line is full", || (ask(&server, &other, "POST", "/jobs", slow).0 != 200).then_some(()));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let refused = agent.post(format!("{}/jobs", server.url)).header("X-Api-Key", &flood).send(slow).unwrap();
    assert!([429, 503].contains(&refused.status().as_u16()) && refused.headers().contains_key("retry-after"));
    // What the server could not do is a line of its own in the log, with the request's name.
    eventually("the line is still full", || {
        let request = agent.post(format!("{}/jobs", server.url)).header("X-Request-Id", "no-place");
        (request.header("X-Api-Key", &other).send(slow).unwrap().status() == 503).then_some(())
    });
    let is_told = |line: &str| line.contains(r#""level":"warn""#) && line.contains("no-place");
    eventually("it is in the log", || server.log().lines().any(is_told).then_some(()));
    server.stop();
}

/// However many come at once.
#[test]
fn a_key_that_may_have_three_waiting_has_three() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "0").with("AGENTICORE_QUEUED_MOST", "5");
    let ((one, of_one), (two, of_two)) = (made(&lab, "one", &["--max-queued", "3"]), made(&lab, "two", &[]));
    std::fs::write(lab.path("keys.yml"), [of_one, of_two].join("\n")).unwrap();
    let file = lab.path("keys.yml").display().to_string();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file);
    let server = lab.serve();
    for (key, wanted, refusal) in [(&one, 3, 429), (&two, 2, 503)] {
        let answers: Vec<u16> = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..40).map(|_| scope.spawn(|| ask(&server, key, "POST", "/jobs", r#"{"task": "t"}"#).0)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(answers.iter().filter(|status| **status == 200).count(), wanted, "{answers:?}");
        assert!(answers.iter().all(|status| [200, refusal].contains(status)), "{answers:?}");
    }
    server.stop();
}

#[test]
fn an_address_may_have_so_many_connections() {
    let lab = Lab::new().with("AGENTICORE_CONNECTIONS_PER_ADDRESS", "3");
    let server = lab.serve();
    let address = server.url.trim_start_matches("http://").to_owned();
    let open = || std::net::TcpStream::connect(&address).unwrap();
    let held: Vec<_> = (0..3).map(|_| open()).collect();
    for _ in 0..20 {
        let (mut text, mut refused) = (String::new(), open());
        // Who is cut off while it sends may never see why.
        std::thread::sleep(std::time::Duration::from_millis(5));
        let _ = write!(refused, "GET /jobs HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(3_000));
        refused.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 429") && text.contains("too many connections of your address"), "{text}");
        assert!(text.contains("X-Request-Id: ") && text.contains("Retry-After: 1"), "{text}");
    }
    drop(held);
    eventually("there is room again", || (server.get("/health").0 == 200).then_some(()));
    let counted = r#"agenticore_http_requests_total{code="429",method="none",route="unreadable"} 20"#;
    let metrics = server.get("/metrics").1;
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
    server.stop();
}

/// A stream that was opened with a key ends when that key is gone; so does the waiting for a job, which goes on.
#[test]
fn what_waits_ends_with_its_key() {
    let lab = Lab::new();
    let file = lab.path("keys.yml");
    let other = "- {name: other, key: another-key-000, scopes: [admin]}\n";
    std::fs::write(&file, format!("{other}- {{name: ci, key: submit-key-000, scopes: [submit]}}\n")).unwrap();
    let lab = lab.with("AGENTICORE_API_KEYS_FILE", file.display().to_string());
    let server = lab.serve();
    let gate = lab.path("gate");
    let body = json!({"task": format!("[[wait-for {}]] [[say done]]", gate.display()), "wait": true}).to_string();
    let open = |request: &str, body: &str| {
        let mut stream = std::net::TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        let (key, length) = ("Authorization: Bearer submit-key-000", body.len());
        let accept = if request == "POST /mcp" { "application/json, text/event-stream" } else { "text/event-stream" };
        let more = format!("Content-Type: application/json\r\nAccept: {accept}");
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\n{key}\r\n{more}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 OK", "{request}");
        stream
    };
    let mut waits = open("POST /jobs", &body);
    let id = eventually("its job runs", || {
        let jobs = ask(&server, "another-key-000", "GET", "/jobs?status=running", "").1;
        jobs["jobs"][0]["id"].as_str().map(str::to_owned)
    });
    // MCP too: the model hears that the job goes on, and hands in no other.
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {
        "name": "wait_for_job", "arguments": {"job_id": id}}});
    let mut called = open("POST /mcp", &call.to_string());
    let mut streams = [open(&format!("GET /jobs/{id}/events"), ""), open("GET /events", "")];
    std::fs::write(&file, other).unwrap();
    let rest = |stream: &mut std::net::TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("0\r\n\r\n"), "it ends in order: {text}");
        text
    };
    let told = rest(&mut waits);
    assert!(told.contains(r#""status":401"#) && told.contains("the job goes on"), "{told}");
    streams.iter_mut().for_each(|stream| drop(rest(stream)));
    let told = rest(&mut called);
    assert!(told.contains(r#""id":7"#) && told.contains(&format!("job {id} goes on")), "{told}");
    std::fs::write(&gate, "").unwrap();
    eventually("the job goes on", || {
        let job = ask(&server, "another-key-000", "GET", &format!("/jobs/{id}"), "").1;
        (job["job"]["output"] == "done").then_some(())
    });
    server.stop();
}
