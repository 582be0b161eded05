//! What a list costs among many jobs, beside the same among a thousand, in the embedded store. (`fleet` has Redis'.)
//!
//! `make bench`; BENCH_JOBS says how many (100000). Prints figures and ratios; a noisy machine makes no failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FEW: usize = 1_000;
const ROUNDS: usize = 300;
const LISTS: [(&str, &str); 4] = [
    ("20 of all", "/jobs?limit=20&view=summary"),
    ("20 of one status", "/jobs?limit=20&view=summary&status=succeeded"),
    ("20 plans", "/plans?limit=20"),
    ("a search for what is nowhere", "/jobs?limit=20&view=summary&q=nowhere-at-all"),
];

struct Server {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Server {
    fn start(place: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release");
        let mut command = Command::new(root.join("agenticore"));
        command.arg("serve").env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", place);
        command.env("TMPDIR", place).env("AGENTICORE_PORT", "0").env("AGENTICORE_JOB_TTL", "315360000");
        command.env("AGENTICORE_CLAUDE_BINARY", root.join("examples/scripted-agent")).env("ANTHROPIC_API_KEY", "x");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server did not start");
        }
        let url = line.split("listening on ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        std::thread::spawn(move || lines.lines().for_each(drop));
        let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        Self { child, url, agent }
    }

    fn ask(&self, path: &str) -> Option<Value> {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call().ok()?;
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().ok()?;
        serde_json::from_str::<Value>(&text).ok().filter(|answer| answer["success"] == true)
    }

    fn post(&self, path: &str, body: &str) -> Value {
        let mut answer = self.agent.post(format!("{}{path}", self.url)).send(body).unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The time that one of many takes, the middle one.
fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

/// A history of `count` jobs, made of one that was really run; and how long each list of it takes.
fn measure(count: usize) -> Vec<Duration> {
    let place = tempfile::tempdir().unwrap();
    let jobs = place.path().join(".agenticore/jobs");
    let server = Server::start(place.path());
    let ids: Vec<String> = ["/jobs", "/plans"]
        .iter()
        .map(|path| {
            let answer = server.post(path, r#"{"task":"[[say hi]]","wait":true}"#);
            answer["job"]["id"].as_str().or(answer["plan"]["id"].as_str()).unwrap().to_owned()
        })
        .collect();
    drop(server);
    let text = std::fs::read_to_string(jobs.join(format!("{}.json", ids[0]))).unwrap();
    let created = serde_json::from_str::<Value>(&text).unwrap()["created_at"].as_str().unwrap().to_owned();
    for number in 0..count {
        let id = uuid::Uuid::new_v4().to_string();
        let (hours, rest) = (number / 3_600_000 % 24, number % 3_600_000);
        let (minutes, rest) = (rest / 60_000, rest % 60_000);
        let time = format!("2026-01-02T{hours:02}:{minutes:02}:{:02}.{:03}Z", rest / 1000, rest % 1000);
        let copy = text.replace(&ids[0], &id).replace(&created, &time);
        std::fs::write(jobs.join(format!("{id}.json")), copy).unwrap();
    }
    let began = Instant::now();
    let server = Server::start(place.path());
    while server.ask("/jobs?limit=1").is_none() {
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("{count} jobs: known {:.1} s after the start", began.elapsed().as_secs_f64());
    LISTS.iter().map(|(_, path)| median(|| drop(server.ask(path).unwrap()))).collect()
}

fn main() {
    let many = std::env::var("BENCH_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let (few, all) = (measure(FEW), measure(many));
    for (((what, _), few), many_took) in LISTS.iter().zip(few).zip(all) {
        let ratio = many_took.as_secs_f64() / few.as_secs_f64();
        println!("{what}: {few:?} among {FEW}, {many_took:?} among {many}: {ratio:.2} times as long");
    }
}
