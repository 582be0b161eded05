//! Bad input: the right refusal, one clear sentence, nothing lost, the server alive.

use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

/// Sends bytes as they are; returns the status and the body, or None without an answer.
fn raw(server: &Server, bytes: &[u8]) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(text.split_once("\r\n\r\n")?.1).unwrap_or_default()))
}

#[test]
fn requests_that_say_the_wrong_thing() {
    let lab = Lab::new();
    let server = lab.serve();
    let url = "https://example.com/o/r";
    let cases = [
        (json!({}), "`task`"),
        (json!({"task": ""}), "`task`"),
        (json!({"task": "  \n "}), "`task`"),
        (json!({"task": 5}), "must be text"),
        (json!([]), "must be a JSON object"),
        (json!("task"), "must be a JSON object"),
        (json!({"task": "t", "repository": "x", "when": 1}), "unknown field repository, when"),
        (json!({"task": "t", "wait": 1}), "`wait` must be true or false"),
        (json!({"task": "t", "profile": "nope"}), "unknown profile `nope`: known are coding, plan, review"),
        (json!({"task": "t", "profile": "../x"}), "unknown profile"),
        (json!({"task": "t", "repo_url": "--upload-pack=x"}), "option"),
        (json!({"task": "t", "repo_url": "ext::sh -c x"}), "white space"),
        (json!({"task": "t", "repo_url": "ext::x"}), "remote helper"),
        (json!({"task": "t", "repo_url": "http://example.com/o/r"}), "https://"),
        (json!({"task": "t", "repo_url": "https://u:p@example.com/o/r"}), "credentials"),
        (json!({"task": "t", "repo_url": url, "base_ref": "-b"}), "begins with a dash"),
        (json!({"task": "t", "repo_url": url, "base_ref": "a..b"}), "characters"),
        (json!({"task": "t", "base_ref": "main"}), "needs a `repo_url`"),
        (json!({"task": "t", "session_id": "abc"}), "must be a UUID"),
        (json!({"task": "t", "file_path": "x.json"}), "absolute path"),
        (json!({"task": "t", "file_path": "/nonexistent.json"}), "AGENTICORE_MCP_FILE_DIRS"),
        (json!({"task": "t", "file_path": "/etc/passwd"}), "AGENTICORE_MCP_FILE_DIRS"),
        (json!({"task": "t", "session_id": "613D26FB-A63F-460B-9DEE-1DE47CF66177"}), "UUID in lower case"),
        (json!({"task": "t", "session_id": "613d26fba63f460b9dee1de47cf66177"}), "UUID in lower case"),
        (json!({"task": "t", "repo_url": "https://169.254.169.254/o/r"}), "AGENTICORE_REPO_HOSTS"),
        (json!({"task": "t", "worktree_id": "x"}), "no such worktree"),
        (json!({"task": "t", "create_repo": true}), "needs a `repo_url`"),
        (json!({"task": "t", "create_repo": true, "repo_url": url}), "GitHub alone"),
    ];
    for (body, why) in cases {
        let (status, answer) = server.post(&body);
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && answer["success"] == false && error.contains(why), "{body}: {status} {answer}");
    }
    for (path, status) in [
        ("/jobs?limit=0", 400),
        ("/jobs?limit=1001", 400),
        ("/jobs?limit=abc", 400),
        ("/jobs?status=done", 400),
        ("/jobs?page=2", 400),
        ("/jobs/00000000-0000-4000-8000-000000000000", 404),
        ("/jobs/abc", 404),
        ("/jobs/zzzz", 404),
        ("/jobs/..%2f..%2fetc", 404),
        ("/jobs/../../etc/passwd", 404),
        ("/nothing", 404),
        ("/nothing", 404),
    ] {
        let (found, answer) = server.get(path);
        assert!(found == status && answer["error"].is_string(), "{path}: {found} {answer}");
    }
    assert_eq!(server.request("PUT", "/jobs", Some(b"{}")).0, 405);
    assert_eq!(server.request("POST", "/health", Some(b"{}")).0, 405);
    assert_eq!(server.get("/jobs").1["count"], 0, "nothing was half done");
    server.stop();
}

#[test]
fn requests_that_are_framed_wrong() {
    let lab = Lab::new();
    let server = lab.serve();
    let post = |headers: &str, body: &str| {
        format!("POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n\r\n{body}").into_bytes()
    };
    for (bytes, status) in [
        (post("Content-Length: 100000000000", ""), 413),
        (post("Content-Length: 1048577", "{"), 413),
        (post("Content-Length: 5, 5", "{}   "), 400),
        (post("Content-Length: abc", "{}"), 400),
        (post("Content-Length: 2\r\nContent-Length: 2", "{}"), 400),
        (post("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n"), 411),
        (post("Content-Length: 7", "not {js"), 400),
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (vec![b'x'; 40_000], 431),
        (format!("GET /health HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200)).into_bytes(), 431),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let (found, answer) = raw(&server, &bytes).unwrap_or_else(|| panic!("no answer to {shown}"));
        assert!(found == status && answer["error"].is_string(), "{shown}: {found} {answer}");
        assert_eq!(server.get("/health").0, 200);
    }
    let over = vec![b' '; (1 << 20) + 1];
    assert_eq!(server.request("POST", "/jobs", Some(&over)).0, 413);
    // Exactly as much as is allowed is read.
    let mut most = br#"{"task":"t"}"#.to_vec();
    most.resize(1 << 20, b' ');
    assert_eq!(server.request("POST", "/jobs", Some(&most)).0, 200);
    // Two requests on one connection, the second sent with the first.
    let two = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /profiles HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.write_all(two).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    server.stop();
}

#[test]
fn half_requests_keep_nobody_out() {
    let lab = Lab::new();
    let server = lab.serve();
    let address = server.url.trim_start_matches("http://").to_owned();
    let half: Vec<TcpStream> = (0..500)
        .map(|n| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let bytes: &[u8] = if n % 2 == 0 {
                b"GET /hea"
            } else {
                b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
            };
            stream.write_all(bytes).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/health").0, 200);
    assert_eq!(server.run(json!({"task": "[[say fine]]"}))["status"], "succeeded");
    drop(half);
    server.stop();
}

#[test]
fn more_connections_than_there_may_be_push_out_the_idle_ones() {
    let lab = Lab::new();
    let server = lab.serve();
    let address = server.url.trim_start_matches("http://").to_owned();
    let idle: Vec<TcpStream> = (0..1100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    eventually("a good one is answered", || (server.get("/health").0 == 200).then_some(()));
    drop(idle);
    server.stop();
}

#[test]
fn keys_are_wanted_once_there_are_some() {
    let lab = Lab::new().with("AGENTICORE_API_KEYS", "first-key,second-key");
    let server = lab.serve();
    assert_eq!(server.get("/health").0, 200);
    for path in ["/jobs", "/profiles", "/jobs/x", "/nothing"] {
        let (status, answer) = server.get(path);
        assert_eq!((status, &answer["error"]), (401, &json!("Invalid or missing API key")), "{path}");
    }
    assert_eq!(server.get("/jobs?api_key=second-key").0, 200);
    assert_eq!(server.get("/jobs?api_key=second").0, 401);
    let with = |header: &str| {
        raw(
            &server,
            format!("GET /jobs HTTP/1.1\r\nHost: localhost\r\n{header}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .unwrap()
        .0
    };
    assert_eq!(
        (with("X-Api-Key: first-key"), with("Authorization: Bearer second-key"), with("Authorization: Basic x")),
        (200, 200, 401)
    );
    server.stop();
}

#[test]
fn settings_that_do_not_parse_stop_the_start() {
    for (name, value, allowed) in [
        ("AGENTICORE_PORT", "http", "a port"),
        ("AGENTICORE_MAX_PARALLEL_JOBS", "many", "a whole number"),
        ("AGENTICORE_STALL_TIMEOUT", "soon", "seconds"),
        ("REDIS_URL", "redis://:secret@h/none", "HOST"),
        ("GITHUB_APP_ID", "1", "GITHUB_APP_INSTALLATION_ID"),
    ] {
        let done = Lab::new().with(name, value).run(&["serve"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(matches!(done.status.code(), Some(1 | 2)), "{said}");
        assert!(said.contains(name) && said.contains(allowed) && !said.contains("secret@"), "{said}");
    }
    let done = Lab::new()
        .with("GITHUB_APP_ID", "1")
        .with("GITHUB_APP_INSTALLATION_ID", "2")
        .with("GITHUB_APP_PRIVATE_KEY", "no key")
        .run(&["serve"]);
    assert!(String::from_utf8_lossy(&done.stderr).contains("private key is no RSA key"));
}

/// Disks that refuse: a full one, and one that is read-only.
#[test]
fn a_disk_that_is_full_or_read_only() {
    let lab = Lab::new();
    let jobs = lab.path("jobs");
    let mount = |options: &str| Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&jobs).status();
    if !mount("size=256k").is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        eprintln!("SKIPPED a_disk_that_is_full_or_read_only: cannot mount a tmpfs");
        return;
    }
    let _unmount = Unmount(jobs.clone());
    let (gate, started) = (lab.path("gate"), lab.path("started"));
    let server = lab.serve();
    let running = server.submit(
        json!({"task": format!("[[count {}]] [[wait-for {}]] [[say done]]", started.display(), gate.display())}),
    );
    eventually("it runs", || started.exists().then_some(()));
    let ballast = jobs.join("ballast");
    let fill = || {
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[0; 1024]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    };
    fill();
    let (status, answer) = server.post(&json!({"task": "t"}));
    assert_eq!(status, 503, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("No space left"), "{answer}");
    std::fs::write(&gate, "").unwrap();
    eventually("the running job waits for room", || server.log().contains("waits").then_some(()));
    assert_eq!((server.get("/health").0, &server.job(&running)["status"]), (200, &json!("running")));
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(server.wait(&running)["status"], "succeeded", "its end was written once there was room");
    assert_eq!(server.run(json!({"task": "[[say again]]"}))["status"], "succeeded");
    assert_eq!(server.get("/jobs").1["count"], 2, "the refused one was not half accepted");
    server.stop();
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&jobs).status().unwrap().success());
    let refused = lab.run(&["serve"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && said.contains("Read-only file system") && said.contains("jobs"),
        "{said}"
    );
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
    }
}

#[test]
fn a_broken_profile_is_named_and_keeps_no_other_from_working() {
    let lab = Lab::new();
    lab.profile("orphan", "extends: nobody");
    lab.profile("deep", &(0..200).map(|n| format!("{}k:\n", "  ".repeat(n))).collect::<String>());
    for n in 0..300 {
        lab.profile(
            &format!("chain-{n}"),
            &format!("extends: {}", if n == 0 { "coding".into() } else { format!("chain-{}", n - 1) }),
        );
    }
    let server = lab.serve();
    let (status, answer) = server.get("/profiles");
    assert_eq!((status, answer["profiles"].as_array().unwrap().len() >= 303), (200, true));
    assert!(
        answer["errors"].to_string().contains("profile orphan: extends the unknown profile `nobody`"),
        "{}",
        answer["errors"]
    );
    let (status, answer) = server.post(&json!({"task": "t", "profile": "orphan"}));
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("nobody"), "{answer}");
    assert_eq!(server.run(json!({"task": "[[say x]]", "profile": "chain-299"}))["status"], "succeeded");
    server.stop();
}
