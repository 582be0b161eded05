//! What an autoscaler reads: the list that waits, and how many pods must stay; and who works when there is
//! less work than pods.

use crate::support::eventually;
use crate::support::fleet::Fleet;
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
