//! A real nginx with its defaults between client and server: what waits in silence for longer than its 60 s is not cut,
//! and what is said arrives at once.

use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// nginx gives up after 60 s of silence.
const SILENCE: Duration = Duration::from_secs(70);

struct Nginx {
    child: Child,
    address: String,
}

impl Nginx {
    /// In front of `server`; None where there is no nginx: that is said, and in CI it is a failure.
    fn start(directory: &Path, server: &Server) -> Option<Self> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            assert!(std::env::var_os("CI").is_none(), "CI has nginx");
            eprintln!("SKIPPED: nginx is not here");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::create_dir_all(directory).unwrap();
        let place = directory.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {place}/{name};\n"))
            .collect();
        // Where its files lie has to be said. How it proxies is left as it is.
        let settings = format!(
            "pid {place}/pid; error_log {place}/error.log; daemon off; worker_processes 1;\n\
             events {{ }}\nhttp {{ access_log off;\n{temporary}\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {}; }} }} }}\n",
            server.url
        );
        std::fs::write(directory.join("nginx.conf"), settings).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(directory.join("nginx.conf")).arg("-p").arg(directory);
        let log = directory.join("error.log");
        command.arg("-e").arg(&log).stdout(Stdio::null()).stderr(Stdio::null());
        let nginx = Self { child: command.spawn().unwrap(), address: format!("127.0.0.1:{port}") };
        eventually("nginx answers", || TcpStream::connect(&nginx.address).ok());
        Some(nginx)
    }

    /// Sends a request; what comes back, to be read as it comes.
    fn send(&self, method: &str, path: &str, body: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(240))).unwrap();
        let (length, kind) = (body.len(), "Content-Type: application/json\r\nConnection: close\r\n");
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}Content-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(lines.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200") || head.starts_with("HTTP/1.1 202"), "{head}");
        lines
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn rest(mut lines: BufReader<TcpStream>) -> String {
    let mut text = String::new();
    lines.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn what_waits_in_silence_goes_on_through_nginx() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "8");
    let server = lab.serve();
    let Some(nginx) = Nginx::start(&lab.path("nginx"), &server) else { return };
    let gate = lab.path("gate");
    let task = format!("[[raw first]] [[wait-for {}]] [[raw second]] [[say done]]", gate.display());
    let id = server.submit(json!({"task": task}));
    // An event stream: what was said comes at once.
    let mut events = nginx.send("GET", &format!("/jobs/{id}/events"), "");
    let mut line = String::new();
    while !line.contains("\"first\"") {
        line.clear();
        assert!(events.read_line(&mut line).unwrap() > 0);
    }
    // A submission that waits, a page that waits, a call of a tool, and a session of MCP's older transport.
    let waiting = nginx.send("POST", "/jobs", &json!({"task": task, "wait": true}).to_string());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "wait_for_job",
        "arguments": {"job_id": id}}});
    let tool = nginx.send("POST", "/mcp", &call.to_string());
    let mut session = nginx.send("GET", "/sse", "");
    let mut endpoint = String::new();
    while !endpoint.starts_with("data: ") {
        endpoint.clear();
        assert!(session.read_line(&mut endpoint).unwrap() > 0);
    }
    let endpoint = endpoint.trim().trim_start_matches("data: ").to_owned();
    std::thread::sleep(SILENCE);
    std::fs::write(&gate, "").unwrap();
    let events = rest(events);
    assert!(events.contains("\"second\"") && events.contains("event: end"), "{events}");
    let waited = rest(waiting);
    assert!(waited.contains("\"status\":\"succeeded\""), "{waited}");
    let told = rest(tool);
    assert!(told.contains("\"output\":\"done\"") && told.contains(": waiting"), "{told}");
    let ping = json!({"jsonrpc": "2.0", "id": "still there", "method": "ping"});
    drop(nginx.send("POST", &endpoint, &ping.to_string()));
    let mut answer = String::new();
    while !answer.contains("still there") {
        assert!(session.read_line(&mut answer).unwrap() > 0, "{answer}");
    }
    let data = answer.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(data).unwrap()["result"], json!({}));
    drop(session);
    server.stop();
}
