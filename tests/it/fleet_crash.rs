//! SIGKILL of a pod at each event of a job: another pod goes on; one outcome, one pull request.

use crate::support::eventually;
use crate::support::fleet::{Fleet, stream};
use serde_json::json;

fn killed_at(point: &str) {
    let Some(fleet) = Fleet::new() else { return };
    let mut first = fleet.pod_with("pod-a", &[("AGENTICORE_TEST_CRASH_AT", point)]);
    let body = fleet.job("[[write a.txt 1]] [[say done]]").to_string();
    // The answer may be lost with the pod; the job may not.
    let url = first.url.clone();
    let asking = std::thread::spawn(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let _ = agent.post(format!("{url}/jobs")).send(body);
    });
    first.wait_for_death();
    asking.join().unwrap();
    let second = fleet.pod("pod-b");
    let id = eventually("the job is known", || {
        let listed = second.get("/jobs").1;
        listed["jobs"][0]["id"].as_str().map(str::to_owned)
    });
    let job = fleet.check_ledger(&second, std::slice::from_ref(&id)).remove(0);
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{point}: {job:#}");
    assert_eq!(fleet.github.pulls().len(), 1, "{point}: one pull request");
    assert_eq!(fleet.repo.branches().len(), 2, "{point}: one branch");
    assert!(job["deaths"].as_u64().unwrap() <= 1, "{point}: {job:#}");
    let events = stream(&fleet.redis, &id);
    let ends = events.iter().filter(|event| event["kind"] == "ended").count();
    assert_eq!((ends, &events.last().unwrap()["kind"]), (1, &json!("ended")), "{point}");
    // On the disk that it had.
    let first = fleet.pod("pod-a");
    eventually("its disk is tidy", || {
        let left = std::fs::read_dir(fleet.disk_of("pod-a").join("worktrees")).unwrap().flatten();
        (left.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count() == 0).then_some(())
    });
    fleet.finish(vec![first, second]);
}

fn killed_at_each(points: &[&str]) {
    for some in points.chunks(4) {
        std::thread::scope(|scope| some.iter().for_each(|point| drop(scope.spawn(|| killed_at(point)))));
    }
}

#[test]
fn a_pod_killed_before_its_agent_ended() {
    killed_at_each(&[
        "queued:after-record",
        "claimed:after-record",
        "claimed:after-event",
        "cloning:after-event",
        "worktree_ready:after-record",
        "worktree_ready:after-event",
        "agent_started:after-event",
        "agent_text:after-event",
    ]);
}

#[test]
fn a_pod_killed_after_its_agent_ended() {
    killed_at_each(&[
        "agent_ended:after-record",
        "agent_ended:after-event",
        "committed:after-record",
        "committed:after-event",
        "pushed:after-record",
        "pushed:after-event",
        "pr_opened:after-record",
        "pr_opened:after-event",
        "ended:after-seal",
        "ended:after-record",
        "ended:after-event",
    ]);
}
