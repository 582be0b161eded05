//! `GET /events`: what becomes of all jobs, as a stream and in pages, from any pod.

use crate::support::fleet::Fleet;
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(server: &Server, after: &str) -> Self {
        let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET /events HTTP/1.0\r\nHost: localhost\r\nLast-Event-ID: {after}\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next change; its cursor is the event's id.
    fn next(&mut self) -> Value {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(cursor) = line.strip_prefix("id: ") {
                id = cursor.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let change: Value = serde_json::from_str(data).unwrap();
                assert_eq!(change["cursor"], id.as_str());
                return change;
            }
        }
    }
}

fn page(server: &Server, query: &str) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = agent.get(format!("{}/events?{query}", server.url)).header("accept", "application/json");
    serde_json::from_str(&request.call().unwrap().body_mut().read_to_string().unwrap()).unwrap()
}

fn statuses(changes: &[Value], id: &str) -> Vec<String> {
    let of_job = changes.iter().filter(|change| change["job"] == id);
    of_job.map(|change| change["status"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_changes_of_all_jobs_are_followed_and_read_in_pages() {
    let lab = Lab::new();
    let server = lab.serve();
    assert_eq!(page(&server, ""), json!({"success": true, "events": [], "next": null}));
    let mut early = Stream::open(&server, "");
    let first = server.run(json!({"task": "[[say done]]"}))["id"].as_str().unwrap().to_owned();
    let heard: Vec<Value> = (0..3).map(|_| early.next()).collect();
    assert_eq!(statuses(&heard, &first), ["queued", "running", "succeeded"]);
    let whole = page(&server, "");
    assert_eq!((&whole["events"], &whole["next"]), (&json!(heard), &heard[2]["cursor"]));
    let next = whole["next"].as_str().unwrap();
    // In pages of one, and on from any cursor.
    assert_eq!(page(&server, "limit=1")["events"], json!([heard[0]]));
    let after = heard[0]["cursor"].as_str().unwrap();
    assert_eq!(page(&server, &format!("after={after}"))["events"], json!([heard[1], heard[2]]));
    let mut late = Stream::open(&server, after);
    assert_eq!((late.next(), late.next()), (heard[1].clone(), heard[2].clone()));
    // A page waits until something changes, or its time is over.
    assert_eq!(page(&server, &format!("wait=1&after={next}")), json!({"success": true, "events": [], "next": next}));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| page(&server, &format!("wait=600&after={next}")));
        eventually("it waits", || (server.get("/health").0 == 200 && !waiting.is_finished()).then_some(()));
        let second = server.submit(json!({"task": "[[sleep 600000]]"}));
        assert_eq!(waiting.join().unwrap()["events"][0]["job"], second.as_str());
        server.cancel(&second);
        let mut seen = Vec::new();
        while statuses(&seen, &second).last().is_none_or(|status| status != "cancelled") {
            seen.push(early.next());
        }
        assert!(seen.windows(2).all(|pair| pair[0]["cursor"].as_str() < pair[1]["cursor"].as_str()));
    });
    for bad in ["after=x", "limit=0", "wait=-1", "since=1"] {
        assert_eq!(server.get(&format!("/events?{bad}")).0, 400, "{bad}");
    }
    server.stop();
}

#[test]
fn the_changes_are_the_same_from_any_pod() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod_with("pod-b", &[("AGENTICORE_MAX_PARALLEL_JOBS", "0")]));
    let mut streams = [Stream::open(&first, ""), Stream::open(&second, "")];
    let ids: Vec<String> = (0..3).map(|_| second.submit(json!({"task": "[[say done]]"}))).collect();
    ids.iter().for_each(|id| drop(first.wait(id)));
    let heard: Vec<Vec<Value>> =
        streams.iter_mut().map(|stream| (0..9).map(|_| stream.next()).collect::<Vec<_>>()).collect();
    assert_eq!(heard[0], heard[1]);
    for id in &ids {
        assert_eq!(statuses(&heard[0], id), ["queued", "running", "succeeded"]);
    }
    assert_eq!(page(&second, "")["events"], json!(heard[0]));
    // Redis comes back empty: what happens from then on is heard all the same.
    let last = heard[0][8]["cursor"].as_str().unwrap();
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    let id = first.submit(json!({"task": "[[say done]]"}));
    let mut resumed = Stream::open(&second, last);
    for stream in streams.iter_mut().chain([&mut resumed]) {
        let mut seen = Vec::new();
        while statuses(&seen, &id).last().is_none_or(|status| status != "succeeded") {
            seen.push(stream.next());
        }
        assert!(seen.iter().all(|change| change["cursor"].as_str() > Some(last)));
    }
    fleet.finish(vec![first, second]);
}

#[test]
fn a_redis_that_is_away_is_said_before_an_answer_begins() {
    let Some(mut fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    fleet.redis.kill();
    for query in ["", "?wait=600"] {
        let (status, answer) = pod.get(&format!("/events{query}"));
        let why = answer["error"].as_str().unwrap();
        assert!(status == 503 && why.contains("cannot be used just now"), "{query}: {answer}");
    }
    fleet.redis.come_back();
    let id = pod.run(json!({"task": "[[say done]]"}))["id"].as_str().unwrap().to_owned();
    let events = page(&pod, "limit=1000")["events"].as_array().unwrap().clone();
    assert_eq!(statuses(&events, &id).last().unwrap(), "succeeded");
    fleet.finish(vec![pod]);
}
