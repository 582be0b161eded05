//! What the doors cost: readers of one job's events, in memory and time per event, beside one reader; MCP calls beside
//! the same over REST, in the same run.
//!
//! `make bench`. Prints figures and ratios; a noisy machine makes no failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Pieces that the agent says, each an event.
const SAID: usize = 400;
const CALLS: usize = 3_000;

struct Server {
    child: Child,
    address: String,
    agent: ureq::Agent,
}

impl Server {
    fn start(place: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release");
        let mut command = Command::new(root.join("agenticore"));
        command.arg("serve").env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", place);
        command.env("TMPDIR", place).env("AGENTICORE_PORT", "0").env("AGENTICORE_SHUTDOWN_GRACE", "0");
        command.env("AGENTICORE_CLAUDE_BINARY", root.join("examples/scripted-agent")).env("ANTHROPIC_API_KEY", "x");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server did not start");
        }
        let url = line.split("listening on http://").nth(1).unwrap();
        let address = url.split(' ').next().unwrap().to_owned();
        std::thread::spawn(move || lines.lines().for_each(drop));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Self { child, address, agent }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.agent.post(format!("http://{}{path}", self.address));
        let mut answer = request.header("Content-Type", "application/json").send(body.to_string()).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn get(&self, path: &str) -> Value {
        let mut answer = self.agent.get(format!("http://{}{path}", self.address)).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    fn status(&self, id: &str) -> String {
        self.get(&format!("/jobs/{id}"))["job"]["status"].as_str().unwrap().to_owned()
    }

    /// In KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// What its process has computed so far.
    fn computed(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Reads all of these to their ends; the bytes that came.
fn read_all(mut streams: Vec<TcpStream>) -> usize {
    let (mut bytes, mut piece) = (0, vec![0; 64 * 1024]);
    while !streams.is_empty() {
        let mut is_quiet = true;
        streams.retain_mut(|stream| match stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                (bytes, is_quiet) = (bytes + count, false);
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        if is_quiet {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    bytes
}

/// A job that says much while so many read: the server's memory beyond what it had, and its computing for each event
/// told to each reader beyond what the job alone costs.
fn readers(server: &Server, place: &Path, count: usize) -> (u64, Duration) {
    let gate = place.join(format!("gate-{count}"));
    let said = "[[raw a line of what an agent says, of an ordinary length for that]] ".repeat(SAID);
    let task = format!("[[wait-for {}]] {said} [[say done]]", gate.display());
    let id = server.post("/jobs", &json!({"task": task}))["job"]["id"].as_str().unwrap().to_owned();
    while server.status(&id) != "running" {
        std::thread::sleep(Duration::from_millis(10));
    }
    let memory = server.memory();
    let streams: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            write!(stream, "GET /jobs/{id}/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1_500));
    let before = server.computed();
    let reading = std::thread::spawn(move || read_all(streams));
    std::fs::write(&gate, "").unwrap();
    let mut most = 0;
    while !reading.is_finished() {
        most = most.max(server.memory());
        std::thread::sleep(Duration::from_millis(10));
    }
    let bytes = reading.join().unwrap();
    while server.status(&id) == "running" {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(bytes >= count * SAID * 100, "{bytes} bytes for {count} readers");
    (most.saturating_sub(memory), server.computed() - before)
}

fn per_second(name: &str, mut call: impl FnMut()) -> f64 {
    let begin = Instant::now();
    (0..CALLS).for_each(|_| call());
    let rate = CALLS as f64 / begin.elapsed().as_secs_f64();
    println!("{name:<34} {rate:>8.0} a second");
    rate
}

fn main() {
    let place = tempfile::tempdir().unwrap();
    let server = Server::start(place.path());
    let (_, alone) = readers(&server, place.path(), 0);
    for count in [1, 100, 1_000] {
        let (memory, computed) = readers(&server, place.path(), count);
        let each = computed.saturating_sub(alone).as_secs_f64() * 1e6 / (count * SAID) as f64;
        let a_reader = memory as f64 / count as f64;
        println!("{count:>5} readers: {memory:>7} KiB more ({a_reader:.0} each), {each:>6.2} us an event and reader");
    }
    let id = server.post("/jobs", &json!({"task": "[[say done]]"}))["job"]["id"].as_str().unwrap().to_owned();
    while server.status(&id) != "succeeded" {
        std::thread::sleep(Duration::from_millis(10));
    }
    let rest = per_second("GET /jobs/ID", || drop(server.get(&format!("/jobs/{id}"))));
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "get_job", "arguments": {"job_id": id}}});
    let mcp = per_second("MCP tools/call get_job", || {
        assert_eq!(server.post("/mcp", &call)["result"]["isError"], false);
    });
    println!("a call over MCP takes {:.2} times as long as the same over REST", rest / mcp);
}
