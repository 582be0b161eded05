//! A reader that is cut off again and again and goes on at the other pod, while pods are killed and Redis is emptied:
//! in the end it has the job's events, each once.

use crate::support::fleet::Fleet;
use crate::support::{Server, eventually};
use crate::watching::{Stream, all};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the reader moves at least before the job may end.
const MOVES: usize = 100;

/// Where the two pods are just now; the one that is down is not asked.
type Addresses = Arc<Mutex<Vec<String>>>;

/// Reads to the job's end, a few events at a time, each time from another pod.
fn roam(addresses: &Addresses, id: &str, moves: &AtomicUsize) -> (Vec<Value>, Value) {
    let mut heard: Vec<Value> = Vec::new();
    loop {
        let number = moves.fetch_add(1, Ordering::SeqCst);
        let known = addresses.lock().unwrap().clone();
        let url = &known[number % known.len()];
        let after = heard.last().map(|event| event["cursor"].as_str().unwrap().to_owned());
        // It may be gone by now.
        let Some(mut stream) = Stream::try_open(url, id, after.as_deref()) else {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        };
        stream.read_some(1 + number % 5, Duration::from_millis(200));
        heard.append(&mut stream.events);
        if let Some(end) = stream.end.take() {
            return (heard, end);
        }
    }
}

/// The events of this attempt's journal on the volume.
fn journal(fleet: &Fleet, id: &str, attempt: u32) -> String {
    let path = fleet.lab.path("shared/job-state").join(format!("events/{id}-{attempt}.jsonl"));
    std::fs::read_to_string(path).unwrap_or_default()
}

fn chatter(part: &str) -> String {
    (0..30).map(|n| format!("[[raw {part}-{n}]] [[sleep 20]] ")).collect()
}

fn until(gate: &Path) -> String {
    format!("[[wait-for {}]] ", gate.display())
}

#[test]
fn a_reader_that_moves_a_hundred_times_hears_everything_once() {
    let Some(fleet) = Fleet::new() else { return };
    let gates: Vec<_> = ["gate-1", "gate-2", "gate-3"].map(|name| fleet.lab.path(name)).into();
    let mut pods: Vec<Option<Server>> = ["pod-a", "pod-b"].map(|name| Some(fleet.pod(name))).into();
    let addresses: Addresses = Arc::default();
    let publish = |pods: &[Option<Server>]| {
        *addresses.lock().unwrap() = pods.iter().flatten().map(|pod| pod.url.clone()).collect();
    };
    publish(&pods);
    let parts: String =
        ["one", "two", "three"].iter().zip(&gates).map(|(part, gate)| chatter(part) + &until(gate)).collect();
    let id = pods[0].as_ref().unwrap().submit(json!({"task": format!("{parts} [[say done]]")}));
    let moves = AtomicUsize::new(0);
    let (heard, end) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| roam(&addresses, &id, &moves));
        for (part, gate) in ["one", "two"].iter().zip(&gates) {
            let attempt = if *part == "one" { 1 } else { 2 };
            let _: () = fleet.redis.ask(&["FLUSHALL"]);
            // The agent is silent now, and the volume has what it said.
            let last = format!("{part}-29");
            eventually("the part is on the volume", || journal(&fleet, &id, attempt).contains(&last).then_some(()));
            let server = pods.iter().flatten().next().unwrap();
            let runs_on = eventually("it runs", || {
                let job = server.job(&id);
                (job["status"] == "running").then(|| job["pod_name"].as_str().unwrap().to_owned())
            });
            let at = usize::from(runs_on == "pod-b");
            let pod = pods[at].take().unwrap();
            publish(&pods);
            pod.kill();
            let other = pods.iter().flatten().next().unwrap();
            eventually("the other pod goes on", || (other.job(&id)["attempt"] == attempt + 1).then_some(()));
            // Its claim is on the volume. A Redis that is emptied before that gives the number of the attempt again.
            eventually("and wrote so", || (!journal(&fleet, &id, attempt + 1).is_empty()).then_some(()));
            std::fs::write(gate, "").unwrap();
            pods[at] = Some(fleet.pod(&runs_on));
            publish(&pods);
        }
        let last = "three-29";
        eventually("the last part is on the volume", || journal(&fleet, &id, 3).contains(last).then_some(()));
        let _: () = fleet.redis.ask(&["FLUSHALL"]);
        eventually("the reader has moved often enough", || (moves.load(Ordering::SeqCst) >= MOVES).then_some(()));
        std::fs::write(&gates[2], "").unwrap();
        reader.join().unwrap()
    });
    let pods: Vec<Server> = pods.into_iter().flatten().collect();
    assert_eq!((&end["status"], &end["attempt"], &end["deaths"]), (&json!("succeeded"), &json!(3), &json!(2)), "{end}");
    let texts = |events: &[Value]| -> Vec<String> {
        events.iter().map(|e| format!("{} {} {}", e["cursor"], e["kind"], e["text"])).collect()
    };
    for pod in &pods {
        assert_eq!(texts(&heard), texts(&all(pod, &id, 1000)));
    }
    assert!(heard.windows(2).all(|pair| pair[0]["cursor"].as_str() < pair[1]["cursor"].as_str()));
    // Each attempt begins again, so the first part was said by all three.
    let said = heard.iter().filter(|event| event["text"].as_str().is_some_and(|text| text == "one-7")).count();
    assert_eq!(said, 3);
    fleet.finish(pods);
}
