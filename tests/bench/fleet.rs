//! What the fleet costs, beside what redis-benchmark reaches for the same commands in the same run.
//!
//! `make bench`; `BENCH_ONLY=page BENCH_JOBS=1000000 cargo bench --bench fleet` measures lists alone. Prints ratios; a
//! noisy machine makes no failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAGE_AMONG: usize = 100_000;
const SUBMISSIONS: usize = 4_000;
const CLIENTS: usize = 8;
const PODS: usize = 10;
const PUT: &str = concat!(
    include_str!("../../src/store/redis/scripts/_common.lua"),
    include_str!("../../src/store/redis/scripts/put.lua")
);

struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start(place: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--dir",
        ]);
        let child = command.arg(place).stdout(Stdio::null()).spawn().expect("redis-server is needed");
        let redis = Self { child, port };
        while redis.try_connect().is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    fn try_connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?.get_connection()
    }

    fn connection(&self) -> redis::Connection {
        self.try_connect().unwrap()
    }

    fn info(&self, name: &str) -> f64 {
        let info: String = redis::cmd("INFO").arg("everything").query(&mut self.connection()).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        line.trim().parse().unwrap()
    }

    /// The script that takes a job in, called by redis-benchmark.
    fn benchmark_put(&self, calls: usize, clients: usize) -> (f64, f64) {
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(PUT).query(&mut self.connection()).unwrap();
        let record = record();
        let words = [
            "EVALSHA",
            &sha,
            "6",
            "b:job:__rand_int__",
            "b:queue",
            "b:running",
            "b:lease:__rand_int__",
            "b:events:__rand_int__",
            "b:jobs",
            "__rand_int__",
            "queued",
            &record,
            "0",
            "",
            "stamp",
            "1",
            "tail",
            r#"{"kind":"queued"}"#,
            "1",
        ];
        self.benchmark(calls, clients, &words)
    }

    /// Calls per second, and the median of one in milliseconds.
    fn benchmark(&self, calls: usize, clients: usize, words: &[&str]) -> (f64, f64) {
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &self.port.to_string(), "-n", &calls.to_string(), "-c", &clients.to_string()]);
        let done = command.args(["-r", "1000000000", "--csv"]).args(words).output().expect("redis-benchmark is needed");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let line = text.lines().last().unwrap_or_default().to_owned();
        let fields: Vec<f64> = line.rsplit(',').map(|f| f.trim_matches('"').parse().unwrap_or(0.0)).collect();
        // "test","rps","avg","min","p50","p95","p99","max"
        (fields[6], fields[3])
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Pod {
    child: Child,
    url: String,
}

impl Pod {
    fn start(place: &Path, redis: &Redis, agent: &Path, name: &str) -> Self {
        let own = place.join(name);
        std::fs::create_dir_all(own.join("tmp")).unwrap();
        let shared = place.join("shared");
        std::fs::create_dir_all(&shared).unwrap();
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/agenticore"));
        command
            .arg("serve")
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", &own)
            .env("TMPDIR", own.join("tmp"))
            .env("AGENTICORE_PORT", "0")
            .env("AGENTICORE_POD_NAME", name)
            .env("AGENTICORE_SHUTDOWN_GRACE", "0")
            .env("AGENTICORE_SHARED_FS_ROOT", &shared)
            .env("AGENTICORE_JOBS_DIR", shared.join("job-state"))
            .env("AGENTICORE_CLAUDE_BINARY", agent)
            .env("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port))
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the pod did not start");
        }
        let url = line.split("listening on ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        std::thread::spawn(move || lines.lines().for_each(drop));
        Self { child, url }
    }

    fn drain(&self) {
        agent().post(format!("{}/admin/drain?timeout=86400", self.url)).send_empty().unwrap();
    }

    fn submit(&self, agent: &ureq::Agent) -> String {
        let mut answer = agent.post(format!("{}/jobs", self.url)).send(json!({"task": "t"}).to_string()).unwrap();
        let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        answer["job"]["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    fn get(&self, agent: &ureq::Agent, path: &str) -> Value {
        let mut answer = agent.get(format!("{}{path}", self.url)).call().unwrap();
        serde_json::from_str(&answer.body_mut().with_config().limit(1 << 28).read_to_string().unwrap()).unwrap()
    }

    fn stop(mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        self.child.wait().unwrap();
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into()
}

fn say(name: &str, value: f64, unit: &str, beside: &str, other: f64) {
    println!("{name:42} {value:10.2} {unit:8} {beside:46} {other:10.2}   ratio {:.3}", value / other);
}

/// Both copies: what one lacks, the servers put back from the other.
fn clean(place: &Path, redis: &Redis) {
    redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
    std::fs::remove_dir_all(place.join("shared")).unwrap();
}

fn record() -> String {
    json!({"id": "ID", "task": "t", "status": "queued", "filler": "x".repeat(700)}).to_string()
}

/// Submissions to a pod that begins none of them; beside it the same script, called by redis-benchmark.
fn submissions(place: &Path, redis: &Redis, instant: &Path) {
    let pod = Pod::start(place, redis, instant, "submit");
    pod.drain();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let agent = agent();
                (0..SUBMISSIONS / CLIENTS).for_each(|_| drop(pod.submit(&agent)));
            });
        }
    });
    let rate = SUBMISSIONS as f64 / begin.elapsed().as_secs_f64();
    let (scripts, _) = redis.benchmark_put(SUBMISSIONS * 5, CLIENTS);
    say("submissions", rate, "/s", "redis-benchmark, the same script, no file", scripts);
    pod.stop();
    clean(place, redis);
}

/// From accepted to claimed, on two idle pods; beside it one BRPOPLPUSH that finds something.
fn claim_latency(place: &Path, redis: &Redis, instant: &Path) {
    let pods: Vec<Pod> = (0..2).map(|n| Pod::start(place, redis, instant, &format!("claim-{n}"))).collect();
    let agent = agent();
    let mut waits = Vec::new();
    for _ in 0..200 {
        let id = pods[0].submit(&agent);
        let ended = loop {
            let job = pods[0].get(&agent, &format!("/jobs/{id}"))["job"].take();
            if job["ended_at"].is_string() {
                break job;
            }
        };
        let time = |name: &str| ended[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
        waits.push((time("started_at") - time("created_at")) as f64);
    }
    waits.sort_by(f64::total_cmp);
    let mut connection = redis.connection();
    redis::cmd("LPUSH").arg("b:from").arg((0..60_000).collect::<Vec<_>>()).exec(&mut connection).unwrap();
    let (_, pop) = redis.benchmark(20_000, 1, &["BRPOPLPUSH", "b:from", "b:to", "1"]);
    say(
        "accepted until claimed, median",
        waits[waits.len() / 2],
        "ms",
        "redis-benchmark, one BRPOPLPUSH, ms",
        pop.max(0.001),
    );
    pods.into_iter().for_each(Pod::stop);
    clean(place, redis);
}

/// A page of 20 among 100 000 jobs, or BENCH_JOBS, beside one among 1 000; and the same range, and twenty records, by redis-benchmark.
fn page(place: &Path, redis: &Redis, instant: &Path) {
    let pod = Pod::start(place, redis, instant, "page");
    pod.drain();
    let agent = agent();
    let id = pod.submit(&agent);
    let mut connection = redis.connection();
    let key = |id: &str| format!("agenticore:job:{id}");
    let template: String = redis::cmd("HGET").arg(key(&id)).arg("record").query(&mut connection).unwrap();
    let mut fill = |chunks: std::ops::Range<usize>| {
        for chunk in chunks {
            let mut pipe = redis::pipe();
            for n in 0..1000 {
                let other = uuid::Uuid::new_v4().to_string();
                let record = template.replace(&id, &other);
                let created = 1_000_000 + chunk * 1000 + n;
                pipe.cmd("HSET").arg(key(&other)).arg("record").arg(record).arg("status").arg("succeeded").ignore();
                for list in ["agenticore:jobs", "agenticore:jobs:succeeded"] {
                    pipe.cmd("ZADD").arg(list).arg(created).arg(&other).ignore();
                }
            }
            pipe.exec(&mut connection).unwrap();
        }
    };
    let rounds = 400;
    let rate = |path: &str| {
        let begin = Instant::now();
        for _ in 0..rounds {
            assert_eq!(pod.get(&agent, path)["count"], 20);
        }
        rounds as f64 / begin.elapsed().as_secs_f64()
    };
    let many = std::env::var("BENCH_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(PAGE_AMONG);
    let paths = ["/jobs?limit=20", "/jobs?limit=20&status=succeeded"];
    fill(0..1);
    let few = paths.map(&rate);
    fill(1..many / 1000);
    let pages = paths.map(&rate);
    for ((path, few), all) in paths.iter().zip(few).zip(pages) {
        println!("{path}: {few:.0} /s among 1 000, {all:.0} /s among {many}: {:.2} times as long", few / all);
    }
    let pages = pages[0];
    let (range, _) = redis.benchmark(20_000, 1, &["ZREVRANGE", "agenticore:jobs", "0", "19"]);
    let (get, _) = redis.benchmark(20_000, 1, &["HGET", &key(&id), "record"]);
    // The twenty go in one round trip; that many single calls are what it could cost at most.
    let by_hand = 1.0 / (1.0 / range + 20.0 / get);
    say("pages of 20 among them all", pages, "/s", "redis-benchmark, ZREVRANGE and 20 HGET, /s", by_hand);
    pod.stop();
    clean(place, redis);
}

/// What Redis does for one job, and for nothing, with ten pods.
fn cost(place: &Path, redis: &Redis, instant: &Path) {
    let pods: Vec<Pod> = (0..PODS).map(|n| Pod::start(place, redis, instant, &format!("cost-{n}"))).collect();
    std::thread::sleep(Duration::from_secs(2));
    let now = || {
        (
            redis.info("total_commands_processed"),
            redis.info("used_cpu_user") + redis.info("used_cpu_sys"),
            Instant::now(),
        )
    };
    let idle = {
        let before = now();
        std::thread::sleep(Duration::from_secs(5));
        let after = now();
        let seconds = after.2.duration_since(before.2).as_secs_f64();
        ((after.0 - before.0) / seconds, (after.1 - before.1) / seconds)
    };
    println!(
        "{:42} {:10.2} /s       and {:.2} % of a core, in Redis",
        "commands of ten idle pods",
        idle.0,
        idle.1 * 100.0
    );
    let jobs = 400;
    let agent = agent();
    let before = now();
    let ids: Vec<String> = (0..jobs).map(|n| pods[n % PODS].submit(&agent)).collect();
    loop {
        let ended = pods[0].get(&agent, "/jobs?limit=1000&status=succeeded")["count"].as_u64().unwrap();
        if ended == ids.len() as u64 {
            break;
        }
        assert!(before.2.elapsed() < Duration::from_secs(120), "{ended} of {jobs} jobs have succeeded");
        std::thread::sleep(Duration::from_millis(100));
    }
    let after = now();
    let seconds = after.2.duration_since(before.2).as_secs_f64();
    let commands = (after.0 - before.0 - idle.0 * seconds) / jobs as f64;
    let micros = (after.1 - before.1 - idle.1 * seconds) * 1e6 / jobs as f64;
    let cpu = redis.info("used_cpu_user") + redis.info("used_cpu_sys");
    redis.benchmark_put(20_000, 1);
    let script = (redis.info("used_cpu_user") + redis.info("used_cpu_sys") - cpu) * 1e6 / 20_000.0;
    println!("{:42} {:10.2}          with ten pods, scripts' own calls included", "commands for one job", commands);
    say("Redis's time for one job", micros, "us", "redis-benchmark, one put script, us", script);
    println!("{:42} {:10.2} jobs/s   ten pods, instant agents", "throughput", jobs as f64 / seconds);
    pods.into_iter().for_each(Pod::stop);
}

fn main() {
    // `cargo test` starts benchmarks too, to see that they build.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let redis = Redis::start(place.path());
    let instant: PathBuf = place.path().join("instant.sh");
    let result =
        r#"{"type":"result","subtype":"success","is_error":false,"result":"ok","num_turns":1,"total_cost_usd":0}"#;
    std::fs::write(&instant, format!("#!/bin/sh\necho '{result}'\n")).unwrap();
    std::fs::set_permissions(&instant, std::fs::Permissions::from_mode(0o755)).unwrap();
    if std::env::var("BENCH_ONLY").is_ok_and(|name| name == "page") {
        return page(place.path(), &redis, &instant);
    }
    submissions(place.path(), &redis, &instant);
    claim_latency(place.path(), &redis, &instant);
    page(place.path(), &redis, &instant);
    cost(place.path(), &redis, &instant);
}
