//! What the tests share: a place of their own, the real binary as a server, and stand-ins.

pub mod fleet;
pub mod github;
pub mod http;
pub mod lfs;
pub mod messages;
pub mod proxy;
pub mod redis;
pub mod repo;

pub use github::GitHub;
pub use repo::Repo;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_agenticore");

/// Far longer than anything takes: reaching it is a failure, not slowness.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a script of the project's fetches, by the path that it prints; None where it cannot be had: that is said, and in
/// CI it is a failure.
pub fn fetched(script: &str, what: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    let done = Command::new(script).output().unwrap();
    let path = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    if done.status.success() && Path::new(&path).exists() {
        return Some(path.into());
    }
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(std::env::var_os("CI").is_none(), "CI has {what}: {why}");
    eprintln!("SKIPPED: {what} cannot be had here: {why}");
    None
}

/// A program of the Python libraries that `scripts/python-tools.sh` fetches.
pub fn python(program: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python-3/bin").join(program);
    assert!(path.exists(), "scripts/python-tools.sh fetches {}", path.display());
    path
}

/// The scripted agent, which cargo builds beside the tests.
pub fn scripted_agent() -> PathBuf {
    let path = Path::new(BINARY).with_file_name("examples").join("scripted-agent");
    assert!(path.exists(), "the scripted agent is not built: run `cargo build --examples`");
    path
}

/// Waits until `ready` has something.
pub fn eventually<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    // Shorter by hand, while a test is being written.
    let patience = std::env::var("AGENTICORE_TEST_PATIENCE").ok().and_then(|seconds| seconds.parse().ok());
    let until = Instant::now() + patience.map_or(PATIENCE, Duration::from_secs);
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < until, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Directories and settings of one test.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub variables: BTreeMap<String, String>,
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let mut variables: BTreeMap<String, String> = [
            ("PATH", std::env::var("PATH").unwrap()),
            ("HOME", path("home")),
            ("TMPDIR", path("tmp")),
            ("AGENTICORE_PORT", "0".into()),
            ("AGENTICORE_POD_NAME", "test-pod".into()),
            ("AGENTICORE_JOBS_DIR", path("jobs")),
            ("AGENTICORE_REPOS_ROOT", path("repos")),
            ("AGENTICORE_WORKTREE_ROOT", path("worktrees")),
            ("AGENTICORE_ALLOW_LOCAL_REPOS", "true".into()),
            ("AGENTICORE_CLAUDE_BINARY", scripted_agent().display().to_string()),
            ("AGENTICORE_PUBLISH_BACKOFF", "50ms".into()),
            ("AGENTICORE_SHUTDOWN_GRACE", "0".into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        variables.extend(std::env::var("LD_LIBRARY_PATH").map(|path| ("LD_LIBRARY_PATH".to_owned(), path)));
        Self { dir, variables }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    pub fn with_all(mut self, variables: Vec<(String, String)>) -> Self {
        self.variables.extend(variables);
        self
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repo(&self) -> Repo {
        Repo::with_commit(&self.path("remote.git"))
    }

    pub fn profile(&self, name: &str, yml: &str) -> PathBuf {
        let path = self.path("home/.agenticore/profiles").join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("profile.yml"), yml).unwrap();
        path
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().envs(&self.variables).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn serve(&self) -> Server {
        Server::start(self.command(&["serve"]))
    }

    /// Worktrees, registrations, agents' homes: nothing of an attempt is left.
    pub fn assert_tidy(&self) {
        let entries = |path: PathBuf| -> Vec<String> {
            let found = std::fs::read_dir(path).into_iter().flatten().flatten();
            found.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(entries(self.path("worktrees")), Vec::<String>::new(), "worktrees are left");
        assert_eq!(entries(self.path("jobs/open")), Vec::<String>::new(), "open jobs are left");
        let temporary: Vec<String> =
            entries(self.path("tmp")).into_iter().filter(|name| name != "agenticore-jobs").collect();
        assert_eq!(temporary, Vec::<String>::new(), "temporary files are left");
        for key in entries(self.path("repos")) {
            let cache = self.path("repos").join(&key).join("repo");
            let of_jobs = [cache.join("worktrees"), self.path("repos").join(&key).join("jobs")].map(entries).concat();
            assert_eq!(of_jobs, Vec::<String>::new(), "registrations are left");
            let branches = repo::git(&cache, &["for-each-ref", "refs/heads"]).unwrap();
            assert_eq!(branches, "", "branches are left in the cache");
        }
        self.assert_no_process();
    }

    /// No process knows this lab's directory.
    pub fn assert_no_process(&self) {
        self.assert_no_process_but("no such program");
    }

    pub fn assert_no_process_but(&self, program: &str) {
        let others = || self.processes().iter().filter(|text| !text.starts_with(program)).count();
        eventually("all processes are gone", || (others() == 0).then_some(()));
    }

    pub fn processes(&self) -> Vec<String> {
        let mark = self.dir.path().display().to_string();
        let me = std::process::id().to_string();
        let of = |pid: &Path| {
            let read = |name: &str| std::fs::read(pid.join(name)).unwrap_or_default();
            let cwd = std::fs::read_link(pid.join("cwd")).unwrap_or_default();
            let all = [read("cmdline"), read("environ"), cwd.display().to_string().into_bytes()].concat();
            String::from_utf8_lossy(&all).replace('\0', " ")
        };
        let pids = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let pids = pids
            .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().bytes().all(|b| b.is_ascii_digit())));
        pids.filter(|pid| !pid.ends_with(&me)).map(|pid| of(&pid)).filter(|text| text.contains(&mark)).collect()
    }
}

/// The real binary, serving.
pub struct Server {
    pub child: Child,
    pub url: String,
    log: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (log, mut line) = (std::sync::Arc::new(std::sync::Mutex::new(String::new())), String::new());
        let url = loop {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the server did not start:\n{}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        Self { child, url, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn port(&self) -> String {
        self.url.rsplit(':').next().unwrap().to_owned()
    }

    pub fn request(&self, method: &str, path: &str, body: Option<&[u8]>) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .proxy(None)
            .build()
            .into();
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let mut response = agent.run(request.body(body.unwrap_or_default().to_vec()).unwrap()).unwrap();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(json!(text)))
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        self.request("GET", path, None)
    }

    pub fn post(&self, body: &Value) -> (u16, Value) {
        self.request("POST", "/jobs", Some(body.to_string().as_bytes()))
    }

    /// Posts a body with these headers.
    pub fn send(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let mut request = agent.post(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap())
    }

    /// Submits a job that must be accepted; returns its id.
    pub fn submit(&self, body: Value) -> String {
        let (status, answer) = self.post(&body);
        assert_eq!(status, 200, "{answer}");
        answer["job"]["id"].as_str().unwrap().to_owned()
    }

    pub fn job(&self, id: &str) -> Value {
        let (status, mut answer) = self.get(&format!("/jobs/{id}"));
        assert_eq!(status, 200, "{answer}");
        answer["job"].take()
    }

    pub fn wait(&self, id: &str) -> Value {
        eventually(&format!("job {id} has ended"), || {
            let job = self.job(id);
            (!matches!(job["status"].as_str(), Some("queued" | "running"))).then_some(job)
        })
    }

    /// Submits a job and waits for its end.
    pub fn run(&self, body: Value) -> Value {
        self.wait(&self.submit(body))
    }

    pub fn cancel(&self, id: &str) -> (u16, Value) {
        self.request("DELETE", &format!("/jobs/{id}"), None)
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Asks it to go, and waits until it has; returns its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    /// As a crash does it.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn wait_for_death(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed half-way leaves no server behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What happened to a job, from the files that it is kept in: what its attempts wrote, and what its record tells.
pub fn events(lab: &Lab, id: &str) -> Vec<Value> {
    events_in(&lab.path("jobs"), id)
}

pub fn events_in(jobs: &Path, id: &str) -> Vec<Value> {
    let read = |path: PathBuf| std::fs::read_to_string(path).ok();
    let record = read(jobs.join(format!("{id}.json"))).or_else(|| read(jobs.join("open").join(format!("{id}.json"))));
    let Some(record) = record.and_then(|text| serde_json::from_str::<Value>(&text).ok()) else { return Vec::new() };
    let mut found = vec![json!({"attempt": 0, "number": 1, "kind": "queued", "text": ""})];
    for attempt in 1..=record["attempt"].as_u64().unwrap() {
        let text = read(jobs.join(format!("events/{id}-{attempt}.jsonl"))).unwrap_or_default();
        found.extend(text.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok()));
        let handovers = record["handovers"].as_array().into_iter().flatten();
        for handover in handovers.filter(|handover| handover["attempt"] == attempt) {
            let kind = if handover["lost"] == true { "worker_lost" } else { "handed_back" };
            found.push(json!({"attempt": attempt, "number": 999_998, "kind": kind, "text": handover["why"]}));
        }
    }
    if !["queued", "running"].contains(&record["status"].as_str().unwrap()) {
        let (attempt, text) = (&record["attempt"], &record["error"]);
        found.push(json!({"attempt": attempt, "number": 999_999, "kind": "ended", "text": text}));
    }
    found
}

/// Each event has its place: attempts one after the other, numbers without a gap.
pub fn assert_in_order(events: &[Value]) {
    let places: Vec<(u64, u64)> =
        events.iter().map(|event| (event["attempt"].as_u64().unwrap(), event["number"].as_u64().unwrap())).collect();
    for pair in places.windows(2) {
        let ((attempt, number), next) = (pair[0], pair[1]);
        let follows = next == (attempt, number + 1) || next.1 >= 999_998 || (next.1 == 1 && next.0 == attempt + 1);
        assert!(follows && pair[0] < pair[1], "{places:?}");
    }
}

pub fn kinds(lab: &Lab, id: &str) -> Vec<String> {
    events(lab, id).iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}
