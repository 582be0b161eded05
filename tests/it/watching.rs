//! Those who wait for a job and those who follow it: nothing is missed, nothing comes twice, nobody asks Redis.

use crate::support::fleet::Fleet;
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An event stream, read as it comes.
pub struct Stream {
    lines: BufReader<TcpStream>,
    pub events: Vec<Value>,
    pub end: Option<Value>,
}

impl Stream {
    fn open(server: &Server, id: &str, after: Option<&str>) -> Self {
        Self::try_open(&server.url, id, after).unwrap()
    }

    /// None: the server is gone.
    pub fn try_open(url: &str, id: &str, after: Option<&str>) -> Option<Self> {
        let mut stream = TcpStream::connect(url.trim_start_matches("http://")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let last = after.map(|cursor| format!("Last-Event-ID: {cursor}\r\n")).unwrap_or_default();
        // HTTP/1.0: the lines come as they are, without chunks.
        write!(stream, "GET /jobs/{id}/events HTTP/1.0\r\nHost: localhost\r\n{last}\r\n").ok()?;
        let mut lines = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        for part in ["200 OK", "text/event-stream", "X-Accel-Buffering: no"] {
            assert!(head.contains(part), "{head}");
        }
        Some(Self { lines, events: Vec::new(), end: None })
    }

    /// Reads `most` events at most, and no longer than until nothing comes for `patience`, or the server is gone. What
    /// did not come whole counts as not heard.
    pub fn read_some(&mut self, most: usize, patience: Duration) {
        self.lines.get_ref().set_read_timeout(Some(patience)).unwrap();
        let mut is_end = false;
        while self.events.len() < most && self.end.is_none() {
            let mut line = String::new();
            if !self.lines.read_line(&mut line).is_ok_and(|count| count > 0) || !line.ends_with('\n') {
                return;
            }
            is_end |= line == "event: end\n";
            if let Some(data) = line.strip_prefix("data: ") {
                let data = serde_json::from_str(data).unwrap();
                if is_end { self.end = Some(data) } else { self.events.push(data) }
            }
        }
    }

    /// Reads until `enough`, or to the end.
    fn read(&mut self, enough: impl Fn(&[Value]) -> bool) -> &mut Self {
        let (mut id, mut name) = (String::new(), String::new());
        while !enough(&self.events) {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                break;
            }
            let line = line.trim_end();
            if let Some(cursor) = line.strip_prefix("id: ") {
                id = cursor.to_owned();
            } else if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                if name == "end" {
                    self.end = Some(data);
                } else {
                    assert_eq!(data["cursor"], id.as_str());
                    self.events.push(data);
                }
            } else {
                assert!(line.is_empty() || line.starts_with(':') || line == "retry: 2000", "{line}");
            }
        }
        self
    }

    fn cursors(&self) -> Vec<&str> {
        self.events.iter().map(|event| event["cursor"].as_str().unwrap()).collect()
    }
}

pub fn page(server: &Server, id: &str, query: &str) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = agent.get(format!("{}/jobs/{id}/events?{query}", server.url)).header("accept", "application/json");
    let text = request.call().unwrap().body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}

/// All events of a job, by pages.
pub fn all(server: &Server, id: &str, limit: usize) -> Vec<Value> {
    let (mut found, mut after): (Vec<Value>, String) = Default::default();
    loop {
        let page = page(server, id, &format!("limit={limit}&after={after}"));
        assert_eq!(page["success"], true, "{page}");
        found.extend(page["events"].as_array().unwrap().clone());
        after = page["next"].as_str().unwrap_or_default().to_owned();
        if page["ended"] == true {
            return found;
        }
        assert_eq!(page["events"].as_array().unwrap().len(), limit);
    }
}

#[test]
fn a_job_is_followed_from_its_begin_and_from_any_cursor_on() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let task = format!("[[raw one]] [[raw two]] [[wait-for {}]] [[raw three]] [[say done]]", gate.display());
    let id = server.submit(json!({"task": task}));
    let mut early = Stream::open(&server, &id, None);
    early.read(|events| events.iter().any(|event| event["text"] == "two"));
    let middle = early.cursors().last().unwrap().to_string();
    let mut late = Stream::open(&server, &id, Some(&middle));
    std::fs::write(&gate, "").unwrap();
    early.read(|_| false);
    late.read(|_| false);
    assert!(early.cursors().is_sorted() && early.events[0]["kind"] == "queued");
    assert_eq!(early.events.last().unwrap()["kind"], "ended");
    let at = early.cursors().iter().position(|cursor| *cursor == middle).unwrap();
    assert_eq!(late.events, early.events[at + 1..]);
    for stream in [&early, &late] {
        let end = stream.end.as_ref().unwrap();
        assert_eq!((&end["id"], &end["status"], &end["output"]), (&json!(id), &json!("succeeded"), &json!("done")));
    }
    for limit in [1, 2, 5, 1000] {
        assert_eq!(all(&server, &id, limit), early.events, "pages of {limit}");
    }
    assert_eq!(Stream::open(&server, &id, None).read(|_| false).events, early.events, "also afterwards");
    for (path, status) in [("after=x", 400), ("limit=0", 400), ("since=1", 400)] {
        assert_eq!(server.get(&format!("/jobs/{id}/events?{path}")).0, status, "{path}");
    }
    assert_eq!(server.get("/jobs/00000000-0000-4000-8000-000000000000/events").0, 404);
    server.stop();
}

#[test]
fn a_page_waits_until_something_happens_or_its_time_is_over() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let id = server.submit(json!({"task": format!("[[raw one]] [[wait-for {}]] [[say done]]", gate.display())}));
    eventually("the agent speaks", || page(&server, &id, "")["events"].to_string().contains("one").then_some(()));
    let seen = page(&server, &id, "wait=60");
    let (events, next) = (seen["events"].as_array().unwrap(), seen["next"].as_str().unwrap().to_owned());
    assert!(!events.is_empty() && seen["ended"] == false, "what is there is given at once: {seen}");
    let empty = page(&server, &id, &format!("wait=1&after={next}"));
    assert_eq!(empty, json!({"success": true, "events": [], "next": next, "ended": false}));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| page(&server, &id, &format!("wait=600&after={next}")));
        eventually("it waits", || (server.get("/health").0 == 200 && !waiting.is_finished()).then_some(()));
        std::fs::write(&gate, "").unwrap();
        let page = waiting.join().unwrap();
        assert!(page["events"][0]["cursor"].as_str().unwrap() > next.as_str(), "{page}");
    });
    server.wait(&id);
    let last = all(&server, &id, 1000).last().unwrap()["cursor"].as_str().unwrap().to_owned();
    assert_eq!(page(&server, &id, &format!("wait=600&after={last}"))["ended"], true, "nothing follows an end");
    assert_eq!(server.get(&format!("/jobs/{id}/events?wait=x")).0, 400);
    server.stop();
}

#[test]
fn whoever_waits_when_the_server_goes_is_told_at_once() {
    let lab = Lab::new();
    let server = lab.serve();
    let id = server.submit(json!({"task": "[[raw one]] [[sleep 600000]]"}));
    eventually("the agent speaks", || page(&server, &id, "")["events"].to_string().contains("one").then_some(()));
    let last = page(&server, &id, "")["next"].as_str().unwrap().to_owned();
    let (url, page_of) = (server.url.clone(), format!("/jobs/{id}/events?wait=600&after={last}"));
    let waiting: Vec<_> = (0..8)
        .map(|_| {
            let (url, path) = (url.clone(), page_of.clone());
            let mut stream = TcpStream::connect(url.trim_start_matches("http://")).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n").unwrap();
            let mut begin = [0; 15];
            stream.read_exact(&mut begin).unwrap();
            stream
        })
        .collect();
    // The job is handed back first, which is news for all of them: each looks it up as the server goes.
    server.stop();
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"success\":true") && answer.ends_with("0\r\n\r\n"), "{answer}");
    }
}

#[test]
fn a_reader_that_stops_reading_is_dropped_and_the_others_hear_everything() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let chatter = "[[bash seq 1 3000]] ".repeat(150);
    let id = server.submit(json!({"task": format!("[[wait-for {}]] {chatter} [[say done]]", gate.display())}));
    let deaf = Stream::open(&server, &id, None);
    let streams: Vec<Stream> = (0..20).map(|_| Stream::open(&server, &id, None)).collect();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| std::thread::spawn(move || (stream.read(|_| false).end.take(), stream.events)))
        .collect();
    std::fs::write(&gate, "").unwrap();
    let job = server.wait(&id);
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let expected = all(&server, &id, 1000);
    assert!(expected.len() > 300, "{}", expected.len());
    for reader in readers {
        let (end, events) = reader.join().unwrap();
        assert!(events == expected && end.is_some(), "{} of {}", events.len(), expected.len());
    }
    drop(deaf);
    server.stop();
}

#[test]
fn events_are_the_same_from_any_pod_also_when_redis_was_emptied() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod_with("pod-b", &[("AGENTICORE_MAX_PARALLEL_JOBS", "0")]));
    let gates = [fleet.lab.path("gate-1"), fleet.lab.path("gate-2")];
    let task = format!(
        "[[raw one]] [[raw two]] [[wait-for {}]] [[raw three]] [[wait-for {}]] [[raw four]] [[say done]]",
        gates[0].display(),
        gates[1].display()
    );
    let id = first.submit(json!({"task": task}));
    let says = |text: &'static str| move |events: &[Value]| events.iter().any(|event| event["text"] == text);
    let mut streams = [Stream::open(&first, &id, None), Stream::open(&second, &id, None)];
    for stream in &mut streams {
        stream.read(says("two"));
    }
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    std::fs::write(&gates[0], "").unwrap();
    for stream in &mut streams {
        stream.read(says("three"));
    }
    let last = streams[0].cursors().last().unwrap().to_string();
    let mut resumed = Stream::open(&second, &id, Some(&last));
    std::fs::write(&gates[1], "").unwrap();
    for stream in &mut streams {
        stream.read(|_| false);
    }
    resumed.read(|_| false);
    let [of_first, of_second] = &streams;
    assert!(of_first.end.is_some() && of_second.end.is_some() && resumed.end.is_some());
    assert_eq!(of_first.events, of_second.events);
    assert!(of_first.events.ends_with(&resumed.events) && !resumed.events.is_empty());
    // The ended job's events need no Redis any more.
    let _: () = fleet.redis.ask(&["DEL", &format!("agenticore:events:{id}")]);
    assert_eq!(all(&second, &id, 3), of_first.events);
    assert!(of_first.cursors().is_sorted());
    fleet.finish(vec![first, second]);
}

#[test]
fn a_jobs_events_are_bounded_in_redis_and_whole_on_the_volume() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let gate = fleet.lab.path("gate");
    let chatter = "[[bash seq 1 3000]] ".repeat(100);
    let id = pod.submit(json!({"task": format!("{chatter} [[wait-for {}]] [[say done]]", gate.display())}));
    eventually("it said everything", || {
        let page = page(&pod, &id, "limit=1000&after=00001-000190");
        (page["events"].as_array().unwrap().len() > 10).then_some(())
    });
    let key = format!("agenticore:events:{id}");
    let bytes: u64 = fleet.redis.ask(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]);
    assert!(bytes < 900_000, "{bytes} bytes");
    std::fs::write(&gate, "").unwrap();
    pod.wait(&id);
    let events = all(&pod, &id, 1000);
    let said: usize = events.iter().map(|event| event["text"].as_str().unwrap().len()).sum();
    assert!(events.len() > 200 && said > 1_200_000, "{} events, {said} bytes", events.len());
    fleet.finish(vec![pod]);
}

/// What Redis was asked so far, all commands together.
fn commands(fleet: &Fleet) -> u64 {
    let info: String = fleet.redis.ask(&["INFO", "stats"]);
    let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_thousand_waiting_requests_ask_redis_for_nothing() {
    let Some(fleet) = Fleet::new() else { return };
    let none = [("AGENTICORE_MAX_PARALLEL_JOBS", "0")];
    let (first, second) = (fleet.pod_with("pod-a", &none), fleet.pod_with("pod-b", &none));
    let body = json!({"task": "[[say done]]", "wait": true}).to_string();
    let wait = |key: &str| {
        let mut stream = TcpStream::connect(first.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        let head = "POST /jobs HTTP/1.0\r\nHost: localhost\r\n";
        write!(stream, "{head}Idempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).unwrap();
        stream
    };
    // A hundred jobs, with one request each, then with ten.
    let mut waiting: Vec<TcpStream> = (0..100).map(|n| wait(&n.to_string())).collect();
    let over_three_seconds = || {
        let before = commands(&fleet);
        std::thread::sleep(Duration::from_secs(3));
        commands(&fleet) - before
    };
    let with_hundred = over_three_seconds();
    waiting.extend((100..1_000).map(|n| wait(&(n % 100).to_string())));
    let with_thousand = over_three_seconds();
    let said = format!("{with_hundred} commands with a hundred requests, {with_thousand} with a thousand");
    assert!(with_thousand < with_hundred + 500, "{said}");
    let jobs = first.get("/jobs?limit=1000&status=queued").1;
    assert_eq!(jobs["count"], 100);
    for job in jobs["jobs"].as_array().unwrap() {
        assert_eq!(second.cancel(job["id"].as_str().unwrap()).0, 200);
    }
    for mut stream in waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["job"]["status"], "cancelled", "{answer}");
    }
    fleet.finish(vec![first, second]);
}

#[test]
fn a_waiting_request_survives_a_redis_that_goes_and_comes_back() {
    let Some(mut fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let gate = fleet.lab.path("gate");
    let body = json!({"task": format!("[[wait-for {}]] [[say done]]", gate.display()), "wait": true}).to_string();
    let url = pod.url.clone();
    let asking = std::thread::spawn(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let text = agent.post(format!("{url}/jobs")).send(body).unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    });
    eventually("it runs", || (pod.get("/jobs?status=running").1["count"] == 1).then_some(()));
    fleet.redis.kill();
    std::thread::sleep(Duration::from_millis(500));
    fleet.redis.set_state(None);
    fleet.redis.come_back();
    std::fs::write(&gate, "").unwrap();
    let answer = asking.join().unwrap();
    assert_eq!((&answer["job"]["status"], &answer["job"]["output"]), (&json!("succeeded"), &json!("done")), "{answer}");
    fleet.finish(vec![pod]);
}

/// A command that talks to `server`.
fn command(lab: &Lab, server: &Server, words: &[&str]) -> std::process::Command {
    let mut command = lab.command(words);
    command.env("AGENTICORE_URL", &server.url).env("AGENTICORE_PORT", "1");
    command
}

#[test]
fn logs_shows_the_same_whether_it_followed_or_came_later() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let task = format!("[[bash seq 1 20]] [[wait-for {}]] [[bash false]] [[say I am done.]]", gate.display());
    let id = server.submit(json!({"task": task}));
    let following =
        command(&lab, &server, &["logs", &id[..8], "-f"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the agent works", || {
        let events = page(&server, &id, "limit=100");
        events["events"].as_array().unwrap().iter().any(|event| event["kind"] == "agent_tool_result").then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    let followed = following.wait_with_output().unwrap();
    assert!(followed.status.success());
    let later = command(&lab, &server, &["logs", &id]).output().unwrap();
    assert_eq!(String::from_utf8(followed.stdout).unwrap(), String::from_utf8(later.stdout.clone()).unwrap());
    let text = String::from_utf8(later.stdout).unwrap();
    for part in [
        "0:00 job   queued\n",
        "does  Bash: ",
        "sees  1\n",
        "… 15 more lines\n",
        "fails error:",
        "says  I am done.\n",
        "job   ended: succeeded\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text}");
    // Machines get one event a line, and can go on after any of them.
    let json = command(&lab, &server, &["logs", &id, "--json"]).output().unwrap().stdout;
    let json: Vec<Value> =
        String::from_utf8(json).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json, all(&server, &id, 1000));
    let middle = json[json.len() / 2]["cursor"].as_str().unwrap();
    let rest = command(&lab, &server, &["logs", &id, "--json", "--since", middle]).output().unwrap().stdout;
    assert_eq!(String::from_utf8(rest).unwrap().lines().count(), json.len() - json.len() / 2 - 1);
    for (words, why) in [(&["logs", "zzzz"][..], "no such job"), (&["logs", &id, "--since", "x"], "cursor")] {
        let output = command(&lab, &server, words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(why), "{words:?}: {said}");
    }
    server.stop();
}

#[test]
fn following_goes_on_when_the_server_comes_back() {
    let lab = Lab::new().with("AGENTICORE_PORT", crate::support::redis::free_port().to_string());
    let server = lab.serve();
    let gate = lab.path("gate");
    let words = ["run", &format!("[[raw one]] [[wait-for {}]] [[say done]]", gate.display()), "--wait"];
    let mut run = lab.command(&words);
    let run = run.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let id = eventually("it runs", || {
        let jobs = server.get("/jobs?status=running").1;
        jobs["jobs"][0]["session_id"].is_string().then(|| jobs["jobs"][0]["id"].as_str().unwrap().to_owned())
    });
    let mut follow = lab.command(&["logs", &id, "-f", "--json"]);
    let follow = follow.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    server.stop();
    std::fs::write(&gate, "").unwrap();
    let server = lab.serve();
    let ended = run.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0), "{out}{err}");
    assert!(out.contains("succeeded") && !out.contains("says"), "the outcome is on standard output: {out}");
    assert!(err.contains("says  done") && err.contains("handed back"), "what happened is on standard error: {err}");
    let followed = follow.wait_with_output().unwrap();
    let followed = String::from_utf8(followed.stdout).unwrap();
    let followed: Vec<Value> = followed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(followed, all(&server, &id, 1000), "nothing is missing and nothing came twice");
    server.stop();
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_job() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let task = format!("[[wait-for {}]] [[say done]]", gate.display());
    let mut run = command(&lab, &server, &["run", &task, "-w"]);
    let run = run.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let id = eventually("it runs", || {
        let jobs = server.get("/jobs?status=running").1;
        jobs["jobs"][0]["id"].as_str().map(str::to_owned)
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap().success());
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(130) && said.contains(&format!("agenticore cancel {}", &id[..8])), "{said}");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(server.wait(&id)["status"], "succeeded");
    server.stop();
}
