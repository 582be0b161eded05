//! Draining: nothing is begun, what runs may end, the rest goes back to the head of the queue.

use crate::support::fleet::{Fleet, stream};
use crate::support::redis::free_port;
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};

fn drain(fleet: &Fleet, pod: &str, port: &str, more: &[&str]) -> Command {
    let arguments: Vec<&str> = ["drain"].iter().chain(more).copied().collect();
    let mut command = fleet.command(pod, &arguments, &[("AGENTICORE_PORT", port)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(child: Child) -> (Option<i32>, String) {
    let done = child.wait_with_output().unwrap();
    (done.status.code(), format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)))
}

fn wait_until_draining(pod: &Server) {
    eventually("it drains", || (pod.get("/ready").0 == 503).then_some(()));
}

#[test]
fn a_drain_waits_and_what_ends_in_time_is_well() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod("pod-a");
    let gate = fleet.lab.path("gate");
    let running = first.submit(fleet.job(format!("[[write a.txt 1]] [[wait-for {}]]", gate.display())));
    eventually("it runs", || (first.job(&running)["status"] == "running").then_some(()));
    assert_eq!(first.get("/ready").0, 200);
    let waiting = drain(&fleet, "pod-a", &first.port(), &["--timeout", "600"]).spawn().unwrap();
    wait_until_draining(&first);
    let queued = first.submit(fleet.job("[[write b.txt 1]]"));
    assert_eq!(first.get("/jobs").1["count"], 2, "it serves as before");
    let flag: String = fleet.redis.ask(&["GET", "agenticore:pod:pod-a:draining"]);
    assert!(flag.contains(' '), "{flag}");
    std::fs::write(&gate, "").unwrap();
    let (code, text) = said(waiting);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("waiting for 1 job,") && text.contains(&running[..8]), "{text}");
    assert_eq!(
        (&first.job(&running)["status"], &first.job(&queued)["status"]),
        (&json!("succeeded"), &json!("queued"))
    );
    // Again: it is empty still. Taken back: it works.
    assert_eq!(said(drain(&fleet, "pod-a", &first.port(), &["--timeout", "5"]).spawn().unwrap()).0, Some(0));
    assert_eq!(said(drain(&fleet, "pod-a", &first.port(), &["--cancel"]).spawn().unwrap()).0, Some(0));
    assert_eq!(first.get("/ready").0, 200);
    assert_eq!(first.wait(&queued)["status"], "succeeded");
    fleet.check_ledger(&first, &[running, queued]);
    fleet.finish(vec![first]);
}

/// `through_redis`: the server cannot be reached.
fn handed_back(through_redis: bool) {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod("pod-a");
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let task = format!("[[count {}]] [[write a.txt 1]] [[wait-for {}]]", count.display(), gate.display());
    let running = first.submit(fleet.job(task));
    eventually("it runs", || count.exists().then_some(()));
    let port = if through_redis { free_port().to_string() } else { first.port() };
    let waiting = drain(&fleet, "pod-a", &port, &["--timeout", "1", "--json"]).spawn().unwrap();
    wait_until_draining(&first);
    let later = first.submit(json!({"task": "[[say later]]"}));
    let (code, text) = said(waiting);
    assert_eq!(code, Some(3), "{text}");
    let told: Value = serde_json::from_str(&text[text.find('{').unwrap()..=text.rfind('}').unwrap()]).unwrap();
    assert_eq!(told["handed_back"], json!([running]), "{told}");
    let line: Vec<String> = fleet.redis.ask(&["LRANGE", "agenticore:queue", "0", "-1"]);
    assert_eq!(line, [later.clone(), running.clone()], "at the head, which is taken from the right");
    assert_eq!(first.get("/health").0, 200, "it serves until SIGTERM");
    std::fs::write(&gate, "").unwrap();
    let second = fleet.pod("pod-b");
    let jobs = fleet.check_ledger(&second, &[running.clone(), later]);
    assert_eq!(
        (&jobs[0]["status"], &jobs[0]["attempt"], &jobs[0]["deaths"], &jobs[0]["pod_name"]),
        (&json!("succeeded"), &json!(2), &json!(0), &json!("pod-b")),
        "{:#}",
        jobs[0]
    );
    assert!(stream(&fleet.redis, &running).iter().any(|event| event["kind"] == "handed_back"));
    fleet.finish(vec![first, second]);
}

#[test]
fn at_the_limit_the_rest_goes_back_to_the_head() {
    handed_back(false);
}

#[test]
fn a_drain_reaches_its_pod_through_redis_too() {
    handed_back(true);
}

#[test]
fn a_pod_that_restarts_is_not_draining() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod("pod-a");
    assert_eq!(said(drain(&fleet, "pod-a", &first.port(), &[]).spawn().unwrap()).0, Some(0));
    first.kill();
    let first = fleet.pod("pod-a");
    assert_eq!(first.get("/ready").0, 200);
    assert_eq!(first.run(json!({"task": "[[say x]]"}))["status"], "succeeded");
    fleet.finish(vec![first]);
}

/// SIGKILL of a pod that drains, as Kubernetes does it when the time is up, is no death.
#[test]
fn a_draining_pod_that_is_killed_counts_no_death() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod("pod-a");
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let id = first.submit(json!({"task": format!("[[count {}]] [[wait-for {}]]", count.display(), gate.display())}));
    eventually("it runs", || count.exists().then_some(()));
    first.request("POST", "/admin/drain?timeout=600", None);
    first.kill();
    std::fs::write(&gate, "").unwrap();
    let second = fleet.pod("pod-b");
    let job = &fleet.check_ledger(&second, &[id])[0];
    assert_eq!(
        (&job["status"], &job["attempt"], &job["deaths"]),
        (&json!("succeeded"), &json!(2), &json!(0)),
        "{job:#}"
    );
    fleet.finish(vec![second]);
}

#[test]
fn sigterm_drains_and_exits_0_and_a_second_one_hurries() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod_with("pod-a", &[("AGENTICORE_SHUTDOWN_GRACE", "600")]);
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let id = first.submit(json!({"task": format!("[[count {}]] [[wait-for {}]]", count.display(), gate.display())}));
    eventually("it runs", || count.exists().then_some(()));
    first.signal("TERM");
    wait_until_draining(&first);
    assert_eq!(first.get("/jobs").0, 200, "requests are served");
    assert_eq!(first.stop(), Some(0));
    let line: Vec<String> = fleet.redis.ask(&["LRANGE", "agenticore:queue", "0", "-1"]);
    assert_eq!(line, std::slice::from_ref(&id));
    std::fs::write(&gate, "").unwrap();
    let second = fleet.pod("pod-b");
    let job = &fleet.check_ledger(&second, &[id])[0];
    assert_eq!((&job["attempt"], &job["deaths"]), (&json!(2), &json!(0)), "{job:#}");
    fleet.finish(vec![second]);
}

#[test]
fn under_load_nothing_is_lost() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let ids: Vec<String> =
        (0..30).map(|n| first.submit(fleet.job(format!("[[write n-{n}.txt 1]] [[sleep 30]]")))).collect();
    for _ in 0..3 {
        let code = said(drain(&fleet, "pod-a", &first.port(), &["--timeout", "0"]).spawn().unwrap()).0;
        assert!(matches!(code, Some(0 | 3)));
        assert_eq!(said(drain(&fleet, "pod-a", &first.port(), &["--cancel"]).spawn().unwrap()).0, Some(0));
    }
    for job in fleet.check_ledger(&second, &ids) {
        assert_eq!((&job["status"], &job["deaths"]), (&json!("succeeded"), &json!(0)), "{job:#}");
    }
    assert_eq!(fleet.github.pulls().len(), 30);
    fleet.finish(vec![first, second]);
}

/// The embedded store drains as well, through the server alone.
#[test]
fn without_redis_it_drains_too() {
    let lab = Lab::new();
    let server = lab.serve();
    let (count, gate) = (lab.path("count"), lab.path("gate"));
    let id = server.submit(json!({"task": format!("[[count {}]] [[wait-for {}]]", count.display(), gate.display())}));
    eventually("it runs", || count.exists().then_some(()));
    let mut command = lab.command(&["drain", "--timeout", "0"]);
    assert_eq!(command.env("AGENTICORE_PORT", server.port()).output().unwrap().status.code(), Some(3));
    assert_eq!((&server.job(&id)["status"], server.get("/ready").0), (&json!("queued"), 503));
    std::fs::write(&gate, "").unwrap();
    let mut command = lab.command(&["drain", "--cancel"]);
    assert_eq!(command.env("AGENTICORE_PORT", server.port()).output().unwrap().status.code(), Some(0));
    assert_eq!(server.wait(&id)["status"], "succeeded");
    assert_eq!(lab.run(&["drain", "--timeout", "soon"]).status.code(), Some(2));
    assert_eq!(lab.run(&["drain"]).status.code(), Some(6), "no server, no Redis");
    server.stop();
}

/// Nobody else takes it, so it says what for it waits.
#[test]
fn without_redis_a_job_that_waits_for_the_end_of_a_drain_says_so() {
    let lab = Lab::new();
    let server = lab.serve();
    server.request("POST", "/admin/drain?timeout=600", None);
    let id = server.submit(json!({"task": "t"}));
    let why = server.job(&id)["waiting_for"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("this server, which drains") && why.contains("agenticore drain --cancel"), "{why}");
    server.request("DELETE", "/admin/drain", None);
    assert_eq!(server.wait(&id)["status"], "succeeded");
    server.stop();
}
