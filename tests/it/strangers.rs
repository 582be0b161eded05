//! Hostile clients, all at once, beside a well-behaved one that notices nothing of them.

use crate::support::{Lab, Server, eventually, python};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Connections that send this and then hold still, of a process of their own: descriptors are counted for each.
fn hold(server: &Server, count: usize, bytes: &str) -> Child {
    let script = "import socket, sys, time\n\
                  host, port, count, said = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()\n\
                  held = []\n\
                  for _ in range(count):\n\
                  \x20   try:\n\
                  \x20       one = socket.create_connection((host, port), 20)\n\
                  \x20       one.sendall(said)\n\
                  \x20       held.append(one)\n\
                  \x20   except OSError:\n\
                  \x20       pass\n\
                  print('held', flush=True)\n\
                  sys.stdin.read()\n";
    let (host, port) = server.url.trim_start_matches("http://").split_once(':').unwrap();
    let mut child = Command::new(python("python3"))
        .args(["-c", script, host, port, &count.to_string(), bytes])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    child
}

/// What a server says to these bytes, to the end of the connection.
fn said_to(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn hostile_clients_beside_a_well_behaved_one() {
    let lab = Lab::new().with("AGENTICORE_REQUEST_TIMEOUT", "3").with("AGENTICORE_MAX_PARALLEL_JOBS", "0");
    let server = lab.serve();
    let began = std::time::Instant::now();
    let (goes_on, answered) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let good = {
        let (goes_on, answered, url) = (goes_on.clone(), answered.clone(), server.url.clone());
        std::thread::spawn(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
            while goes_on.load(Ordering::SeqCst) {
                let mut answer = agent.post(format!("{url}/jobs")).send(r#"{"task":"[[say well]]"}"#).unwrap();
                let text = answer.body_mut().read_to_string().unwrap();
                let id = serde_json::from_str::<serde_json::Value>(&text).unwrap()["job"]["id"].clone();
                let path = format!("{url}/jobs/{}", id.as_str().unwrap());
                assert_eq!(agent.get(&path).call().unwrap().status(), 200);
                answered.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    // What it gets done while `hostile` happens.
    let beside = |what: &str| {
        let before = answered.load(Ordering::SeqCst);
        eventually(what, || (answered.load(Ordering::SeqCst) > before + 3).then_some(()));
        eprintln!("{what}: {:?}", began.elapsed());
    };
    let body_never_comes = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{";
    let mut held: Vec<Child> = (0..4).map(|_| hold(&server, 500, "")).collect();
    beside("it is served beside 2 000 idle connections");
    held.push(hold(&server, 200, "GET /hea"));
    held.push(hold(&server, 200, body_never_comes));
    held.push(hold(&server, 100, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    beside("it is served beside half requests, and bodies that never come");
    // Headers without an end.
    let endless = std::thread::spawn({
        let address = server.url.trim_start_matches("http://").to_owned();
        move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n");
            let mut sent = 0;
            while stream.write_all(b"X-Endless: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").is_ok() {
                sent += 1;
                assert!(sent < 1_000_000, "it was never told that this is too much");
            }
        }
    });
    beside("it is served beside headers without an end");
    endless.join().unwrap();
    // A second request in what one takes for a body and another for a request.
    let inner = r#"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 19\r\n\r\n{"task":"smuggled"}"#
        .replace("\\r\\n", "\r\n");
    let length = inner.len();
    for head in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        "Transfer-Encoding: chunked\r\nContent-Length: 4".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Content-Length: 0\r\nContent-Length: 4".to_owned(),
        format!("Content-Length: +{length}"),
        format!("Content-Length : {length}"),
        format!("Content-Length: {length}\r\n folded: yes"),
        format!("X: a\nContent-Length: {length}"),
        format!("X: a\rContent-Length: {length}"),
        format!("X: a\0\r\nContent-Length: {length}"),
    ] {
        let bytes = format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n0\r\n\r\n{inner}");
        let said = said_to(&server, bytes.as_bytes());
        assert!(said.starts_with("HTTP/1.1 4") && said.matches("HTTP/1.1").count() == 1, "{head:?}: {said}");
    }
    beside("it is served beside smuggled requests");
    // Who asks for much and takes a byte now and then is let go after the time of a request.
    let big = "x".repeat(900_000);
    for _ in 0..12 {
        server.submit(json!({"task": big}));
    }
    let mut slow = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    slow.write_all(b"GET /jobs?limit=100 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut one = [0; 1];
    let mut taken = 0;
    eventually("it is let go", || {
        std::thread::sleep(std::time::Duration::from_millis(200));
        // What lies in the kernel's buffers is still given.
        match slow.read(&mut one) {
            Ok(1) if taken < 25 => {
                taken += 1;
                None
            }
            _ => Some(()),
        }
    });
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < 10_000_000, "all {} bytes came", rest.len());
    beside("it is served beside slow readers");
    goes_on.store(false, Ordering::SeqCst);
    good.join().expect("the well-behaved one noticed something");
    for mut child in held {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    let all = server.get("/jobs?limit=1000&q=smuggled").1;
    assert_eq!(all["count"], 0, "{all}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop();
    lab.assert_no_process();
}

/// 0 means no limit here too, and not that nobody is answered.
#[test]
fn a_request_may_take_its_time_where_there_is_no_limit() {
    let lab = Lab::new().with("AGENTICORE_REQUEST_TIMEOUT", "0");
    let server = lab.serve();
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.run(json!({"task": "[[say well]]"}))["output"], "well");
    server.stop();
}

/// The contract's own words of two mistakes.
#[test]
fn a_body_that_is_no_json_and_an_empty_task_are_exactly_400() {
    let lab = Lab::new();
    let server = lab.serve();
    for (path, body) in [
        ("/jobs", "no json"),
        ("/jobs", ""),
        ("/jobs", "{\"task\":\"\"}"),
        ("/jobs", "{\"task\":\"  \\n\"}"),
        ("/jobs", "{}"),
        ("/plans", "no json"),
        ("/plans", "{\"task\":\"\"}"),
        ("/worktrees", "no json"),
    ] {
        let (status, answer) = server.send(path, &[("content-type", "application/json")], body);
        assert_eq!((status, &answer["success"], &answer["status"]), (400, &json!(false), &json!(400)), "{path} {body}");
    }
    server.stop();
}
