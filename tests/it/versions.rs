//! Two versions side by side on one Redis and one volume, as during a rollout: what either wrote the other reads,
//! carries on and ends.
//!
//! AGENTICORE_OLDER_BINARY is the version before (`scripts/older.sh` builds it; `make versions`). Without it both are
//! this one: a rollout still, of the same version.

use crate::support::fleet::Fleet;
use crate::support::{BINARY, Server, eventually};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn older() -> PathBuf {
    std::env::var_os("AGENTICORE_OLDER_BINARY").map_or(BINARY.into(), PathBuf::from)
}

/// Reads of a job what any version has to show alike.
fn gist(job: &Value) -> Value {
    let names = ["id", "status", "task", "output", "exit_code", "attempt", "pr_url", "created_at", "ended_at"];
    names.iter().map(|name| (name.to_string(), job[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn side_by_side(first: &Path, second: &Path) {
    let Some(fleet) = Fleet::new() else { return };
    let gate = |name: &str| fleet.lab.path(name);
    let waits = |name: &str| {
        let (started, gate) = (gate(&format!("{name}-started")), gate(name));
        format!("[[count {}]] [[write {name}.txt 1]] [[wait-for {}]]", started.display(), gate.display())
    };
    let runs = |name: &str, server: &Server, id: &str| {
        eventually("it runs", || gate(&format!("{name}-started")).exists().then_some(()));
        eventually("that is seen", || (server.job(id)["status"] == "running").then_some(()))
    };
    let one = fleet.pod_of(first, "pod-a");
    let done = one.submit(fleet.job("[[write done.txt 1]] [[say written by the first]]"));
    one.wait(&done);
    let runs_on = one.submit(fleet.job(waits("runs-on")));
    runs("runs-on", &one, &runs_on);
    let dies = one.submit(fleet.job(waits("dies")));
    let cancelled = one.submit(json!({"task": waits("cancelled")}));
    runs("dies", &one, &dies);
    runs("cancelled", &one, &cancelled);
    let queued: Vec<String> = (0..3).map(|n| one.submit(fleet.job(format!("[[write queued-{n}.txt 1]]")))).collect();

    // The second comes, reads everything, and is told of nothing that it does not know.
    let two = fleet.pod_of(second, "pod-b");
    assert_eq!(gist(&two.job(&done)), gist(&one.job(&done)));
    assert_eq!(two.get("/jobs").1["count"], one.get("/jobs").1["count"]);
    for id in &queued {
        assert_eq!(two.wait(id)["status"], "succeeded");
    }
    // It cancels what the first runs, and the first what the second runs.
    assert_eq!(two.cancel(&cancelled).0, 200);
    eventually("it is cancelled", || (one.job(&cancelled)["status"] == "cancelled").then_some(()));
    let theirs = two.submit(json!({"task": waits("theirs"), "wait": false}));
    eventually("it runs", || gate("theirs-started").exists().then_some(()));

    // A rollout: the first drains, hands back what does not end, and goes; what it died with is taken over.
    let (code, text) = fleet.drain(first, "pod-a", &one.port(), "1");
    assert_eq!(code, Some(3), "{text}");
    for name in ["runs-on", "dies", "theirs"] {
        std::fs::write(gate(name), "").unwrap();
    }
    let mut accepted = vec![done, runs_on, dies, cancelled, theirs];
    accepted.extend(queued);
    for id in &accepted {
        let job = two.wait(id);
        assert!(job["status"] == "succeeded" || job["status"] == "cancelled", "{job:#}");
        assert_eq!(gist(&one.job(id)), gist(&job), "the first reads what the second ended");
    }
    assert_eq!(one.stop(), Some(0));
    // And a kill in the middle, with the first back: roll-backs happen too.
    let back = fleet.pod_of(first, "pod-a");
    let (dying, count) = (gate("dying"), gate("dying-started"));
    let last = back.submit(fleet.job(format!(
        "[[count {}]] [[write x.txt 1]] [[wait-for {}]]",
        count.display(),
        dying.display()
    )));
    eventually("it runs", || count.exists().then_some(()));
    let runner = two.job(&last)["pod_name"].clone();
    let (killed, left, again) =
        if runner == "pod-a" { (back, two, (first, "pod-a")) } else { (two, back, (second, "pod-b")) };
    killed.kill();
    std::fs::write(&dying, "").unwrap();
    accepted.push(last);
    let jobs = fleet.check_ledger(&left, &accepted);
    assert!(jobs.iter().all(|job| job["status"] == "succeeded" || job["status"] == "cancelled"));
    // It clears up after itself.
    let again = fleet.pod_of(again.0, again.1);
    fleet.finish(vec![left, again]);
}

#[test]
fn the_version_before_and_then_this_one() {
    side_by_side(&older(), Path::new(BINARY));
}

/// A roll-back.
#[test]
fn this_version_and_then_the_one_before() {
    side_by_side(Path::new(BINARY), &older());
}
