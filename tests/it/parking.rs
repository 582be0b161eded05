//! What keeps one server from running jobs is no job's failure: a limit of its account, a refused login, a full disk, a
//! program that is not there. Other servers go on, and this one when it can again.

use crate::claude::cli;
use crate::support::fleet::Fleet;
use crate::support::messages::Messages;
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

fn lab(messages: &Messages) -> Option<Lab> {
    let lab = Lab::new()
        .with("AGENTICORE_CLAUDE_BINARY", cli()?.display().to_string())
        .with("ANTHROPIC_API_KEY", "sk-ant-made-up-for-tests")
        .with("ANTHROPIC_BASE_URL", messages.url());
    Some(lab)
}

fn waits(server: &Server, id: &str) -> Option<String> {
    let job = server.job(id);
    let why = job["waiting_for"].as_str().unwrap_or_default().to_owned();
    (job["status"] == "queued" && job["attempt"].as_u64() > Some(0)).then_some(why)
}

/// P9, with the real Claude: the job waits until the time that the API names, and then goes on.
#[test]
fn a_usage_limit_ends_no_job() {
    let messages = Messages::start();
    let Some(lab) = lab(&messages) else { return };
    let lab = lab.with("ANTHROPIC_API_KEY", "").with("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-made-up");
    let server = lab.serve();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let headers = [
        ("anthropic-ratelimit-unified-status", "rejected".to_owned()),
        ("anthropic-ratelimit-unified-reset", (now + 20).to_string()),
        ("anthropic-ratelimit-unified-representative-claim", "five_hour".to_owned()),
        ("retry-after", "20".to_owned()),
    ];
    messages.refuse(429, "rate_limit_error", "This request would exceed your account's rate limit", &headers);
    let (first, second) =
        (server.submit(json!({"task": "[[say one]]"})), server.submit(json!({"task": "[[say two]]"})));
    for id in [&first, &second] {
        eventually("it waits again", || {
            let job = server.job(id);
            (job["status"] == "queued" && job["waiting_for"].as_str()?.contains("usage limit")).then_some(())
        });
    }
    let waiting = server.get("/ready").1["waiting_for"].as_str().unwrap_or_default().to_owned();
    assert!(waiting.contains("the next try at 20") && waiting.contains("5-hour limit"), "{waiting}");
    assert_eq!(server.get("/ready").0, 200, "requests can be served");
    // What needs no login is run all the same.
    assert_eq!(server.run(json!({"task": "t", "profile": "self-test"}))["status"], "succeeded");
    messages.refuse_no_more();
    for (id, said) in [(&first, "one"), (&second, "two")] {
        let job = server.wait(id);
        assert_eq!((&job["status"], &job["output"], &job["deaths"]), (&json!("succeeded"), &json!(said), &json!(0)));
        assert!(job["waiting_for"].is_null());
    }
    assert!(server.log().contains("jobs can be run here again"), "{}", server.log());
    server.stop();
}

/// The real Claude asks ten times in three minutes with a key that is refused.
#[test]
fn a_refused_key_is_not_asked_with_for_minutes() {
    let messages = Messages::start();
    let Some(lab) = lab(&messages) else { return };
    messages.refuse(401, "authentication_error", "invalid x-api-key", &[]);
    let server = lab.serve();
    let id = server.submit(json!({"task": "[[say hi]]"}));
    let why = eventually("it waits again", || waits(&server, &id));
    assert!(why.contains("refuses Claude's login") && why.contains("ANTHROPIC_API_KEY"), "{why}");
    assert!(messages.seen().len() <= 7, "{} requests", messages.seen().len());
    // In front of its user it fails at once, and says the same.
    let local = lab.run(&["run", "--local", "--json", "[[say hi]]"]);
    let said = String::from_utf8_lossy(&local.stdout).into_owned();
    assert!(local.status.code() == Some(1) && said.contains("refuses Claude's login"), "{said} {local:?}");
    messages.refuse_no_more();
    assert_eq!(server.wait(&id)["status"], "succeeded");
    server.stop();
    lab.assert_tidy();
}

/// Credit that is used up names no time: the next try comes by itself.
#[test]
fn used_up_credit_ends_no_job_and_one_job_at_a_time_tries() {
    let messages = Messages::start();
    let Some(lab) = lab(&messages) else { return };
    let said = "Your credit balance is too low to access the Anthropic API.";
    messages.refuse(400, "invalid_request_error", said, &[]);
    let lab = lab.with("AGENTICORE_MAX_PARALLEL_JOBS", "2");
    let server = lab.serve();
    let ids: Vec<String> = (0..4).map(|n| server.submit(json!({"task": format!("[[say {n}]]")}))).collect();
    eventually("two met it", || (ids.iter().filter(|id| waits(&server, id).is_some()).count() == 2).then_some(()));
    let asked = messages.seen().len();
    // The next one is tried alone.
    eventually("one tried", || (messages.seen().len() > asked).then_some(()));
    eventually("it waits too", || server.get("/admin/drain").1["running"].as_array()?.is_empty().then_some(()));
    messages.refuse_no_more();
    for id in &ids {
        assert_eq!(server.wait(id)["status"], "succeeded");
    }
    server.stop();
}

/// Q1: a pod that cannot work took nearly all jobs, because failing is quick.
#[test]
fn one_broken_pod_does_not_eat_the_queue() {
    let Some(fleet) = Fleet::new() else { return };
    let disk = fleet.disk_of("full");
    std::fs::create_dir_all(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=600k", "none"]).arg(&disk).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        eprintln!("SKIPPED one_broken_pod_does_not_eat_the_queue: cannot mount a tmpfs");
        return;
    }
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
        }
    }
    let _unmount = Unmount(disk.clone());
    let full = fleet.pod("full");
    // Room for two files: not full yet, and no job can be run there.
    let rest = disk.join("rest");
    std::fs::write(&rest, [0; 8192]).unwrap();
    std::fs::write(disk.join("ballast"), vec![0; 1 << 20]).unwrap_err();
    std::fs::remove_file(&rest).unwrap();
    let without = fleet.pod_with("without", &[("AGENTICORE_CLAUDE_BINARY", "/nonexistent/agent")]);
    let ids: Vec<String> = (0..6).map(|n| full.submit(fleet.job(format!("[[write {n}.txt x]]")))).collect();
    let parked =
        |pod: &Server| eventually("it is parked", || pod.get("/ready").1["waiting_for"].as_str().map(str::to_owned));
    assert!(parked(&full).contains("No space left on device"), "{}", parked(&full));
    assert!(parked(&without).contains("`/nonexistent/agent`, which is not here"), "{}", parked(&without));
    assert_eq!(without.get("/ready").0, 200);
    eventually("all wait", || {
        let queued = full.get("/jobs?status=queued").1["count"].as_u64();
        (queued == Some(6)).then_some(())
    });
    let told = ids.iter().find_map(|id| full.job(id)["waiting_for"].as_str().map(str::to_owned)).unwrap();
    assert!(told.contains("the next try at"), "{told}");
    // Full to the last byte: that is seen without a job, and requests should go to others.
    std::fs::write(&rest, [0; 8192]).unwrap();
    eventually("its disk was looked at", || (full.get("/ready").0 == 503).then_some(()));
    assert!(parked(&full).contains("is full: 0 KiB"), "{}", parked(&full));
    let (_, status) = full.get("/status");
    let disk_is = |check: &&Value| check["name"] == "disk_worktrees";
    let found = status["checks"].as_array().unwrap().iter().find(disk_is).unwrap();
    assert_eq!((&status["runs_jobs"], &found["stops"]), (&json!(false), &json!("requests")), "{status:#}");
    // One that can work does all of it.
    let well = fleet.pod("well");
    let more: Vec<String> = (6..20).map(|n| well.submit(fleet.job(format!("[[write {n}.txt x]]")))).collect();
    for id in ids.iter().chain(&more) {
        let job = well.wait(id);
        assert_eq!(
            (&job["status"], &job["pod_name"], &job["deaths"]),
            (&json!("succeeded"), &json!("well"), &json!(0))
        );
    }
    fleet.check_ledger(&well, &[ids, more].concat());
    // And the others when they can again.
    std::fs::remove_file(disk.join("ballast")).unwrap();
    well.stop();
    without.stop();
    let job = full.run(json!({"task": "[[say there is room]]"}));
    assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("full")), "{job:#}");
    full.stop();
}

/// Nobody can run it: it waits, at most its time to live, and says why.
#[test]
fn a_job_that_no_server_can_run_expires_and_says_why() {
    let lab = Lab::new().with("AGENTICORE_CLAUDE_BINARY", "/nonexistent/agent").with("AGENTICORE_JOB_TTL", "12");
    let server = lab.serve();
    let began = Instant::now();
    let id = server.submit(json!({"task": "t"}));
    let why = eventually("it says why", || server.job(&id)["waiting_for"].as_str().map(str::to_owned));
    assert!(why.contains("/nonexistent/agent") && why.contains("AGENTICORE_CLAUDE_BINARY"), "{why}");
    let job = server.wait(&id);
    assert!(began.elapsed() >= Duration::from_secs(12));
    let error = job["error"].as_str().unwrap();
    assert!(job["status"] == "expired" && error.contains("no server could run it"), "{job:#}");
    assert!(error.contains("/nonexistent/agent") && job["attempt"] == 0, "{job:#}");
    server.stop();
    lab.assert_tidy();
}

/// A job that alone fills the disk is not tried for ever, and stops nobody else.
#[test]
fn a_job_that_is_too_large_for_the_disk_fails_alone() {
    let lab = Lab::new();
    let worktrees = lab.path("worktrees");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=6m", "none"]).arg(&worktrees).status();
    if !mounted.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        eprintln!("SKIPPED a_job_that_is_too_large_for_the_disk_fails_alone: cannot mount a tmpfs");
        return;
    }
    struct Unmount(std::path::PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let _ = Command::new("umount").args(["-l"]).arg(&self.0).status();
        }
    }
    let _unmount = Unmount(worktrees);
    let repo = lab.repo();
    let large = crate::support::Repo::with_commit(&lab.path("large.git"));
    large.commit("main", &[("big.txt", &"large ".repeat(2 << 20))]);
    let server = lab.serve();
    let id = server.submit(json!({"task": "[[say x]]", "repo_url": large.url()}));
    let job = server.wait(&id);
    let error = job["error"].as_str().unwrap_or_default();
    assert!(job["status"] == "failed" && error.contains("needs more disk than there is"), "{job:#}");
    let small: Value = server.run(json!({"task": "[[write a.txt x]]", "repo_url": repo.url()}));
    assert_eq!(small["status"], "succeeded", "{small:#}");
    server.stop();
}

/// A job that takes more than its share is ended alone.
#[test]
fn a_job_that_takes_more_of_the_disk_than_it_may_is_ended() {
    let lab = Lab::new().with("AGENTICORE_JOB_DISK_LIMIT", "5");
    let repo = lab.repo();
    let server = lab.serve();
    let other = lab.path("gate");
    let beside = server.submit(json!({"task": format!("[[wait-for {}]] [[say well]]", other.display())}));
    let task = "[[bash head -c 9000000 /dev/zero > big; ls -l big]] [[sleep 600000]]";
    let job = server.run(json!({"task": task, "repo_url": repo.url()}));
    let error = job["error"].as_str().unwrap_or_default();
    assert!(job["status"] == "failed" && error.contains("AGENTICORE_JOB_DISK_LIMIT is 5 MiB"), "{job:#}");
    std::fs::write(&other, "").unwrap();
    assert_eq!(server.wait(&beside)["status"], "succeeded");
    server.stop();
}
