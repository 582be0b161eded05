//! SIGKILL of the server at each event of a job: one outcome, one pull request, nothing left over.

use crate::support::{GitHub, Lab, Server, assert_in_order, events, eventually};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Kills a server at `point` of a job, restarts it, and returns the job and how often its agent ran.
fn killed_at(point: &str) -> (Value, usize) {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    let repo = github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    let count = lab.path("count");
    let mut command = lab.command(&["serve"]);
    command.env("AGENTICORE_TEST_CRASH_AT", point);
    let mut server = Server::start(command);
    let body = json!({"task": format!("[[count {}]] [[write a.txt 1]] [[say done]]", count.display()), "repo_url": github.repo_url("me/project")});
    // The answer may be lost with the server; the job may not.
    let url = server.url.clone();
    let asking = std::thread::spawn(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let _ = agent.post(format!("{url}/jobs")).send(body.to_string());
    });
    server.wait_for_death();
    asking.join().unwrap();
    let server = lab.serve();
    let listed = server.get("/jobs").1;
    assert_eq!(listed["count"], 1, "{point}: {listed}");
    let job = server.wait(listed["jobs"][0]["id"].as_str().unwrap());
    assert_eq!(job["status"], "succeeded", "{point}: {job:#}");
    assert_eq!(job["error"], json!(null), "{point}");
    assert_eq!(github.pulls().len(), 1, "{point}: one pull request");
    assert_eq!(job["pr_url"], github.pulls()[0]["html_url"], "{point}");
    assert_eq!(repo.branches().len(), 2, "{point}: one branch");
    let all = events(&lab, job["id"].as_str().unwrap());
    let ended = all.iter().filter(|event| event["kind"] == "ended").count();
    assert_eq!((ended, all.last().unwrap()["kind"].as_str()), (1, Some("ended")), "{point}");
    assert_in_order(&all);
    server.stop();
    github.assert_content();
    lab.assert_tidy();
    (job, std::fs::read_to_string(count).unwrap().lines().count())
}

#[test]
fn before_the_agent_ended_it_is_run_again() {
    for point in [
        "claimed:after-record",
        "claimed:after-event",
        "cloning:after-event",
        "worktree_ready:after-record",
        "worktree_ready:after-event",
    ] {
        let (job, runs) = killed_at(point);
        assert_eq!((&job["attempt"], &job["deaths"], runs), (&json!(2), &json!(1), 1), "{point}");
    }
    for point in ["agent_started:after-event", "agent_tool:after-event", "agent_text:after-event"] {
        let (job, runs) = killed_at(point);
        assert_eq!((&job["attempt"], &job["deaths"]), (&json!(2), &json!(1)), "{point}");
        assert!((1..=2).contains(&runs), "{point}: {runs}");
    }
}

#[test]
fn a_queued_job_is_no_loss() {
    let (job, runs) = killed_at("queued:after-record");
    assert_eq!((&job["attempt"], &job["deaths"], runs), (&json!(1), &json!(0), 1));
}

#[test]
fn once_the_agent_has_ended_it_is_never_run_again() {
    let kinds = ["agent_ended", "committed", "pushed", "pr_opened"];
    for point in kinds.iter().flat_map(|kind| [format!("{kind}:after-record"), format!("{kind}:after-event")]) {
        let (job, runs) = killed_at(&point);
        assert_eq!((&job["attempt"], runs), (&json!(2), 1), "{point}");
    }
    for point in ["ended:after-record", "ended:after-event"] {
        let (job, runs) = killed_at(point);
        assert_eq!((&job["attempt"], &job["deaths"], runs), (&json!(1), &json!(0), 1), "{point}");
    }
}

#[test]
fn three_lost_workers_are_poison() {
    let lab = Lab::new();
    let started = lab.path("started");
    let mut id = String::new();
    for round in 1..=3 {
        let server = lab.serve();
        if round == 1 {
            id = server.submit(json!({"task": format!("[[count {}]] [[sleep 600000]]", started.display())}));
        }
        crate::support::eventually("the agent runs", || {
            (std::fs::read_to_string(&started).unwrap_or_default().lines().count() == round).then_some(())
        });
        server.kill();
        // The supervisor saw the server die and ended the agent.
        lab.assert_no_process();
    }
    let server = lab.serve();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["deaths"], &job["attempt"]), (&json!("failed"), &json!(3), &json!(3)), "{job:#}");
    assert!(job["error"].as_str().unwrap().contains("poison"), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

/// The directory is emptied and not replaced: a disk that was looked at in between seemed dead, and for two seconds
/// `/ready` said 503 and no job began; and where everybody may write, somebody else could have made it meanwhile.
#[test]
fn what_a_dead_server_left_in_its_runtime_directory_goes_and_the_directory_stays() {
    let lab = Lab::new();
    lab.serve().kill();
    let temporary = lab.path("tmp");
    let runtimes = || std::fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path());
    let is_runtime = |path: &PathBuf| path.is_dir() && !path.ends_with("agenticore-jobs");
    let runtime = runtimes().find(is_runtime).unwrap();
    let left = runtime.join("an-attempt");
    std::fs::create_dir_all(left.join("home")).unwrap();
    // Held open, so that its number is not given to a new one.
    let old = std::fs::File::open(&runtime).unwrap();
    let server = lab.serve();
    eventually("what was left is gone", || (!left.exists()).then_some(()));
    assert_eq!(server.run(json!({"task": "[[say done]]"}))["status"], "succeeded");
    let (now, before) = (std::fs::metadata(&runtime).unwrap(), old.metadata().unwrap());
    assert_eq!((now.ino(), now.dev()), (before.ino(), before.dev()));
    let (code, answer) = server.get("/ready");
    assert_eq!(code, 200, "{answer}");
    server.stop();
    assert_eq!(runtimes().find(is_runtime), None);
}
