//! What the runner costs, measured side by side with the same work done by hand, in the same run.
//!
//! `make bench`. Prints ratios and whether each mark is met; a noisy machine makes no failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
const STARTS: usize = 30;
const LARGE_FILES: usize = 40_000;
const LARGE_REFS: usize = 10_000;

fn binary() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/agenticore")
}

fn run(command: &mut Command) {
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn git(directory: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=b", "-c", "user.email=b@localhost", "-C"];
    run(Command::new("git").args(identity).arg(directory).args(arguments));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(action: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    action();
    begin.elapsed()
}

struct Server {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Server {
    fn start(place: &Path, claude: &Path) -> Self {
        let mut command = Command::new(binary());
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", place.join("home"))
            .env("TMPDIR", place.join("tmp"))
            .env("AGENTICORE_PORT", "0")
            .env("AGENTICORE_ALLOW_LOCAL_REPOS", "true")
            .env("AGENTICORE_SHUTDOWN_GRACE", "0")
            .env("AGENTICORE_CLAUDE_BINARY", claude)
            .stderr(Stdio::piped());
        std::fs::create_dir_all(place.join("home")).unwrap();
        std::fs::create_dir_all(place.join("tmp")).unwrap();
        let mut child = command.spawn().unwrap();
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

    fn get(&self, path: &str) -> Value {
        let mut answer = self.agent.get(format!("{}{path}", self.url)).call().unwrap();
        serde_json::from_str(&answer.body_mut().with_config().limit(1 << 28).read_to_string().unwrap()).unwrap()
    }

    fn post(&self, body: &Value) -> Value {
        let mut answer = self.agent.post(format!("{}/jobs", self.url)).send(body.to_string()).unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!(answer["success"], true, "{answer}");
        answer["job"].clone()
    }

    fn wait_until_all_ended(&self) {
        let count = |status: &str| self.get(&format!("/jobs?limit=1&status={status}"))["count"].as_u64().unwrap();
        while count("queued") + count("running") > 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn stop(mut self) {
        run(Command::new("kill").arg(self.child.id().to_string()));
        self.child.wait().unwrap();
    }
}

fn mark(name: &str, value: f64, unit: &str, must: f64, hunt: f64, lower_is_better: bool) {
    let better = |bound: f64| if lower_is_better { value <= bound } else { value >= bound };
    let verdict = if better(hunt) {
        "better than hunted for"
    } else if better(must) {
        "met"
    } else {
        "MISSED"
    };
    println!("{name:58} {value:9.2} {unit:8} must {must}, hunt {hunt}: {verdict}");
}

fn repository(place: &Path) -> PathBuf {
    let (remote, work) = (place.join("remote.git"), place.join("work"));
    std::fs::create_dir_all(&work).unwrap();
    run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&remote));
    git(&work, &["init", "-q", "-b", "main"]);
    for n in 0..200 {
        std::fs::create_dir_all(work.join(format!("d{}", n % 10))).unwrap();
        std::fs::write(work.join(format!("d{}/f{n}.txt", n % 10)), format!("file {n}\n").repeat(50)).unwrap();
    }
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["push", "-q", remote.to_str().unwrap(), "main"]);
    remote
}

/// By hand: a worktree of a clone, the agent in it, and the worktree's end.
fn by_hand(clone: &Path, place: &Path, agent: &Path, task: &str, number: usize) -> Duration {
    let worktree = place.join(format!("hand-{number}"));
    let config = place.join(format!("hand-config-{number}"));
    std::fs::write(place.join("prompt"), task).unwrap();
    timed(|| {
        git(clone, &["worktree", "add", "-q", "-b", &format!("hand-{number}"), worktree.to_str().unwrap(), "main"]);
        let done = Command::new(agent)
            .args(["-p", "--output-format", "stream-json", "--verbose"])
            .env("CLAUDE_CONFIG_DIR", &config)
            .current_dir(&worktree)
            .stdin(std::fs::File::open(place.join("prompt")).unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success());
    })
}

fn overhead(place: &Path, agent: &Path) {
    let remote = repository(place);
    let clone = place.join("clone");
    run(Command::new("git").args(["clone", "-q"]).arg(&remote).arg(&clone));
    let server = Server::start(place, agent);
    let task = "[[sleep 1000]] [[say done]]";
    let with_change = "[[sleep 1000]] [[write new.txt x]] [[say done]]";
    let url = remote.display().to_string();
    server.post(&json!({"task": "[[say warm]]", "repo_url": url, "wait": true}));
    let (mut hand, mut runner, mut pushing) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        hand.push(by_hand(&clone, place, agent, task, round));
        runner.push(timed(|| drop(server.post(&json!({"task": task, "repo_url": url, "wait": true})))));
        pushing.push(timed(|| drop(server.post(&json!({"task": with_change, "repo_url": url, "wait": true})))));
    }
    let (hand, runner, pushing) = (median(hand), median(runner), median(pushing));
    let added = |with: Duration| (with.as_secs_f64() / hand.as_secs_f64() - 1.0) * 100.0;
    println!("by hand {hand:?}; the runner {runner:?}; the runner with commit and push {pushing:?}");
    mark("added to a 1 s agent over worktree add by hand", added(runner), "%", 15.0, 10.0, true);
    println!("{:58} {:9.2} %", "the same, with a commit pushed besides", added(pushing));
    server.stop();
}

/// From the submission to the agent's start in a large repository whose cache is warm, beside fetch and worktree by
/// hand. Where there is one, in memory: what a disk takes to create files hides everything else.
fn large() {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let place = place.path();
    let (remote, work) = (place.join("remote.git"), place.join("work"));
    std::fs::create_dir_all(&work).unwrap();
    run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&remote));
    git(&work, &["init", "-q", "-b", "main"]);
    for n in 0..LARGE_FILES {
        let directory = work.join(format!("d{}/e{}", n % 40, n % 1000));
        if n < 1000 {
            std::fs::create_dir_all(&directory).unwrap();
        }
        std::fs::write(directory.join(format!("f{n}.txt")), format!("file {n}\n")).unwrap();
    }
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "one"]);
    git(&work, &["push", "-q", remote.to_str().unwrap(), "main"]);
    let refs: String = (0..LARGE_REFS).map(|n| format!("create refs/heads/b{n} main\n")).collect();
    let list = place.join("refs");
    std::fs::write(&list, refs).unwrap();
    let created = Command::new("git")
        .args(["--git-dir", remote.to_str().unwrap(), "update-ref", "--stdin"])
        .stdin(std::fs::File::open(&list).unwrap())
        .status();
    assert!(created.unwrap().success());
    git(&remote, &["pack-refs", "--all"]);
    std::fs::remove_dir_all(&work).unwrap();
    let clone = place.join("clone");
    run(Command::new("git").args(["clone", "-q", "--bare"]).arg(&remote).arg(&clone));
    git(&clone, &["config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"]);
    git(&clone, &["fetch", "-q", "origin"]);
    let agent = place.join("instant.sh");
    let begun = place.join("begun");
    let result =
        r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":1,"total_cost_usd":0}"#;
    std::fs::write(&agent, format!("#!/bin/sh\ntouch {}\necho '{result}'\n", begun.display())).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start(place, &agent);
    let body = json!({"task": "t", "repo_url": remote.display().to_string()});
    let wait = |done: &dyn Fn() -> bool| {
        while !done() {
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    let start = || {
        let _ = std::fs::remove_file(&begun);
        let time = timed(|| {
            server.post(&body);
            wait(&|| begun.exists());
        });
        server.wait_until_all_ended();
        time
    };
    start();
    let (mut hand, mut runner) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let worktree = place.join(format!("hand-{round}"));
        hand.push(timed(|| {
            git(&clone, &["fetch", "-q", "origin"]);
            let branch = format!("hand-{round}");
            git(
                &clone,
                &["worktree", "add", "-q", "-b", &branch, worktree.to_str().unwrap(), "refs/remotes/origin/main"],
            );
        }));
        std::fs::remove_dir_all(&worktree).unwrap();
        git(&clone, &["worktree", "prune"]);
        runner.push(start());
    }
    let (hand, runner) = (median(hand), median(runner));
    println!("{LARGE_FILES} files, {LARGE_REFS} branches: by hand {hand:?}; the runner {runner:?}");
    let ratio = runner.as_secs_f64() / hand.as_secs_f64();
    mark("job start in a large repository over fetch and worktree", ratio, "times", 1.3, 1.0, true);
    server.stop();
}

fn start_and_idle(place: &Path, agent: &Path) {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let begin = Instant::now();
        let server = Server::start(place, agent);
        server.get("/health");
        times.push(begin.elapsed());
        server.stop();
    }
    mark("start until /health answers", median(times).as_secs_f64() * 1e3, "ms", 50.0, 20.0, true);
    let server = Server::start(place, agent);
    server.get("/health");
    std::thread::sleep(Duration::from_secs(2));
    mark("memory when idle", server.memory_kib() as f64 / 1024.0, "MiB", 10.0, 6.0, true);
    server.stop();
    let size = std::fs::metadata(binary()).unwrap().len();
    mark("size of the binary", size as f64 / 1e6, "MB", 6.0, 4.0, true);
}

fn throughput(place: &Path, repo: Option<&Path>, jobs: usize, must: f64, hunt: f64) {
    let agent = place.join("instant.sh");
    let result =
        r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":1,"total_cost_usd":0}"#;
    std::fs::write(&agent, format!("#!/bin/sh\necho '{result}'\n")).unwrap();
    std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
    let by_hand = timed(|| {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..jobs / 3).for_each(|_| run(&mut Command::new(&agent))));
            }
        });
    });
    let server = Server::start(place, &agent);
    let body = json!({"task": "t", "repo_url": repo.map(|repo| repo.display().to_string())});
    let spent = timed(|| {
        (0..jobs).for_each(|_| drop(server.post(&body)));
        server.wait_until_all_ended();
    });
    let rate = |time: Duration| jobs as f64 / time.as_secs_f64();
    let name = if repo.is_some() { "instant jobs with a repository" } else { "instant jobs without a repository" };
    mark(name, rate(spent), "jobs/s", must, hunt, false);
    println!(
        "{:58} {:9.2} jobs/s, {:.0} times the runner's",
        "  the bare agent by hand, three at once",
        rate(by_hand),
        rate(by_hand) / rate(spent)
    );
    server.stop();
}

fn main() {
    // `cargo test` starts benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let agent = binary().with_file_name("examples").join("scripted-agent");
    assert!(binary().exists() && agent.exists(), "build first: cargo build --release --bins --examples");
    let place = tempfile::tempdir().unwrap();
    overhead(place.path(), &agent);
    large();
    start_and_idle(place.path(), &agent);
    let other = tempfile::tempdir().unwrap();
    throughput(other.path(), None, 1500, 33.0, 500.0);
    let third = tempfile::tempdir().unwrap();
    let remote = repository(third.path());
    throughput(third.path(), Some(&remote), 300, 6.0, 60.0);
}
