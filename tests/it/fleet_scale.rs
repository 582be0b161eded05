//! What an autoscaler reads: the list that waits, and how many pods must stay; and who works when there is
//! less work than pods.

use crate::support::fleet::Fleet;
use crate::support::{BINARY, eventually};
use serde_json::json;
use std::time::{Duration, Instant};

fn length(fleet: &Fleet, key: &str) -> i64 {
    fleet.redis.ask(&["LLEN", &format!("agenticore:{key}")])
}

/// Far less than anything waits for, and more than the server promises: what is "soon" here.
const SOON: Duration = Duration::from_secs(5);

fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    eventually(what, || is_so().then_some(()));
    // A machine that was busy elsewhere may take longer; the promise is checked where it was not.
    if began.elapsed() > SOON * 4 {
        eprintln!("{what}: only after {:?}", began.elapsed());
    }
}

#[test]
fn the_highest_busy_ordinal_is_counted_anew_whatever_happened() {
    let Some(fleet) = Fleet::new() else { return };
    let more = [("AGENTICORE_MAX_PARALLEL_JOBS", "1")];
    let zero = fleet.pod_with("agenticore-0", &more);
    let one = fleet.pod_with("agenticore-1", &more);
    let two = fleet.pod_with("agenticore-2", &more);
    let ids: Vec<String> = (0..3).map(|_| zero.submit(fleet.job("[[sleep 600000]]"))).collect();
    soon("three pods are busy", || length(&fleet, "busy") == 3);
    // Out of memory, nobody can say anything new: what was known holds on.
    let _: String = fleet.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(length(&fleet, "busy"), 3);
    let _: String = fleet.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let more = zero.submit(fleet.job("[[sleep 600000]]"));
    eventually("one waits", || (length(&fleet, "queue") == 1).then_some(()));
    let _: String = fleet.redis.ask(&["FLUSHALL"]);
    soon("it is right again after Redis lost everything", || length(&fleet, "busy") == 3);
    zero.cancel(&more);
    // The one in the middle ends: the highest must stay all the same.
    let on = |pod: &str| {
        let of = |id: &&String| zero.job(id)["pod_name"] == pod;
        ids.iter().find(of).cloned().unwrap()
    };
    let (middle, highest) = (on("agenticore-1"), on("agenticore-2"));
    zero.cancel(&middle);
    eventually("it is gone", || one.get("/admin/drain").1["running"].as_array().unwrap().is_empty().then_some(()));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(length(&fleet, "busy"), 3);
    zero.cancel(&highest);
    soon("only the lowest is busy", || length(&fleet, "busy") == 1);
    // A pod that drains keeps nobody: it is leaving.
    let (status, _) = zero.request("POST", "/admin/drain?timeout=600", None);
    assert_eq!(status, 200);
    soon("a draining pod is not counted", || length(&fleet, "busy") == 0);
    zero.request("DELETE", "/admin/drain", None);
    soon("and is again when the drain is taken back", || length(&fleet, "busy") == 1);
    zero.kill();
    soon("nobody is busy once it was killed", || length(&fleet, "busy") == 0);
    for id in &ids {
        one.cancel(id);
    }
    fleet.finish_quietly(one);
    fleet.finish_quietly(two);
}

#[test]
fn with_less_work_than_pods_the_low_ordinals_work_and_nobody_waits_for_long() {
    let Some(fleet) = Fleet::new() else { return };
    let two = fleet.pod("agenticore-2");
    let one = fleet.pod("agenticore-1");
    let zero = fleet.pod("agenticore-0");
    // All have said that they stand idle.
    std::thread::sleep(Duration::from_millis(2500));
    for _ in 0..12 {
        let job = two.run(json!({"task": "[[say x]]"}));
        // What pods know of one another is up to a second old: the second may think that the first still works.
        assert_ne!(job["pod_name"], "agenticore-2", "{job:#}");
    }
    // More work than idle pods below: everybody takes some.
    let ids: Vec<String> = (0..9).map(|_| two.submit(json!({"task": "[[sleep 3000]]"}))).collect();
    let pods: std::collections::BTreeSet<String> =
        ids.iter().map(|id| two.wait(id)["pod_name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(pods.len(), 3, "{pods:?}");
    fleet.finish(vec![zero, one, two]);
}

#[test]
fn a_lower_pod_that_only_seems_idle_holds_nobody_up() {
    let Some(fleet) = Fleet::new() else { return };
    let two = fleet.pod("agenticore-2");
    let mut waits = Vec::new();
    for _ in 0..6 {
        // As a pod would say it that was killed just now.
        let seconds: Vec<String> = fleet.redis.ask(&["TIME"]);
        let said = format!("0 0 1 1 {}000", seconds[0]);
        let _: i64 = fleet.redis.ask(&["HSET", "agenticore:pods", "agenticore-0", &said]);
        std::thread::sleep(Duration::from_millis(1100));
        let job = two.run(json!({"task": "[[say x]]"}));
        let time = |name: &str| job[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        waits.push((time("started_at") - time("created_at")).total(jiff::Unit::Millisecond).unwrap());
    }
    waits.sort_by(f64::total_cmp);
    eprintln!("milliseconds from accepted to claimed past a pod that seems idle: {waits:?}");
    fleet.finish(vec![two]);
}

/// What switching KEDA on does, and an upgrade that sets `replicas` again: all pods but the first are drained at once and
/// end, whatever they run; and they come back.
#[test]
fn from_four_pods_to_one_and_back_with_a_job_in_each() {
    let Some(fleet) = Fleet::new() else { return };
    let names = ["pod-0", "pod-1", "pod-2", "pod-3"];
    let mut pods: Vec<_> =
        names.iter().map(|name| fleet.pod_with(name, &[("AGENTICORE_MAX_PARALLEL_JOBS", "1")])).collect();
    let gate = fleet.lab.path("gate");
    let task = |n: usize| {
        let started = fleet.lab.path(&format!("started-{n}"));
        format!("[[count {}]] [[write {n}.txt 1]] [[wait-for {}]]", started.display(), gate.display())
    };
    let running: Vec<String> = (0..4).map(|n| pods[0].submit(fleet.job(task(n)))).collect();
    eventually("each pod runs one", || {
        let on: std::collections::BTreeSet<String> =
            running.iter().filter_map(|id| pods[0].job(id)["pod_name"].as_str().map(str::to_owned)).collect();
        (on.len() == 4 && (0..4).all(|n| fleet.lab.path(&format!("started-{n}")).exists())).then_some(())
    });
    let queued: Vec<String> =
        (4..8).map(|n| pods[0].submit(fleet.job(format!("[[write {n}.txt 1]] [[say {n}]]")))).collect();
    let leaving = pods.split_off(1);
    std::thread::scope(|scope| {
        for (pod, name) in leaving.into_iter().zip(&names[1..]) {
            let fleet = &fleet;
            scope.spawn(move || {
                let (code, text) = fleet.drain(std::path::Path::new(BINARY), name, &pod.port(), "1");
                assert_eq!(code, Some(3), "{name}: {text}");
                assert_eq!(pod.stop(), Some(0));
            });
        }
    });
    std::fs::write(&gate, "").unwrap();
    let accepted = [running, queued].concat();
    let jobs = fleet.check_ledger(&pods[0], &accepted);
    assert!(jobs.iter().all(|job| job["status"] == "succeeded" && job["pod_name"] == "pod-0" && job["deaths"] == 0));
    let twice = jobs.iter().filter(|job| job["attempt"] == 2).count();
    assert_eq!(twice, 3, "each that ran elsewhere was handed over once: {jobs:#?}");
    pods.push(fleet.pod("pod-1"));
    assert_eq!(pods[1].run(fleet.job("[[write again.txt 1]]"))["status"], "succeeded");
    fleet.finish(pods);
}
