//! A thousand readers of one job's events on one pod: no thread each, little memory, every event for every one.

use crate::support::fleet::Fleet;
use crate::support::{Server, eventually};
use crate::watching::page;
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const READERS: usize = 1_000;
/// What they may cost together, in KiB.
const MEMORY: u64 = 64 * 1024;
/// Of threads: what looks something up for many at once, not for each.
const THREADS: u64 = 80;

/// A line of /proc/PID/status, as a number.
fn of_process(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn open(server: &Server, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    write!(stream, "GET /jobs/{id}/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Reads all of these to their ends.
fn read_all(mut streams: Vec<(TcpStream, Vec<u8>)>) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    let until = Instant::now() + Duration::from_secs(240);
    while !streams.is_empty() {
        assert!(Instant::now() < until, "{} readers have not come to the end", streams.len());
        let mut is_quiet = true;
        let mut piece = [0; 64 * 1024];
        streams.retain_mut(|(stream, text)| match stream.read(&mut piece) {
            Ok(0) => {
                texts.push(std::mem::take(text));
                false
            }
            Ok(count) => {
                is_quiet = false;
                text.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                true
            }
        });
        if is_quiet {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    texts
}

/// What was told: without the head, and without what only shows that the stream is still there.
fn told(text: &[u8]) -> String {
    let text = std::str::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("200 OK"), "{head}");
    body.replace(":\n\n", "")
}

#[test]
fn a_thousand_readers_hear_everything_and_cost_little() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let gates = [fleet.lab.path("gate-1"), fleet.lab.path("gate-2")];
    let chatter = "[[bash seq 1 1500]] ".repeat(30);
    let task = format!(
        "[[raw one]] [[wait-for {}]] {chatter} [[wait-for {}]] [[say done]]",
        gates[0].display(),
        gates[1].display()
    );
    let id = pod.submit(json!({"task": task}));
    eventually("it runs", || (pod.job(&id)["status"] == "running").then_some(()));
    let (memory, threads) = (of_process(&pod, "VmRSS"), of_process(&pod, "Threads"));
    let deaf = open(&pod, &id);
    let streams: Vec<(TcpStream, Vec<u8>)> = (0..READERS).map(|_| (open(&pod, &id), Vec::new())).collect();
    let mut parts: Vec<Vec<_>> = (0..4).map(|_| Vec::new()).collect();
    streams.into_iter().enumerate().for_each(|(at, stream)| parts[at % 4].push(stream));
    let readers: Vec<_> = parts.into_iter().map(|part| std::thread::spawn(move || read_all(part))).collect();
    eventually("they only wait", || (of_process(&pod, "Threads") <= threads + 4).then_some(()));
    std::fs::write(&gates[0], "").unwrap();
    let (mut most_memory, mut most_threads) = (0, 0);
    eventually("the job has said everything", || {
        most_memory = most_memory.max(of_process(&pod, "VmRSS"));
        most_threads = most_threads.max(of_process(&pod, "Threads"));
        (page(&pod, &id, "limit=1000")["events"].as_array().unwrap().len() > 60).then_some(())
    });
    std::fs::write(&gates[1], "").unwrap();
    let job = pod.wait(&id);
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let texts: Vec<Vec<u8>> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
    let first = told(&texts[0]);
    assert!(first.matches("\nid: ").count() > 60 && first.contains("event: end"), "{first}");
    let others = texts.iter().filter(|text| told(text) != first).count();
    assert_eq!((texts.len(), others), (READERS, 0), "each heard the same");
    let grown = most_memory.saturating_sub(memory);
    assert!(grown <= MEMORY, "{READERS} readers cost {grown} KiB");
    assert!(most_threads <= threads + THREADS, "{most_threads} threads, {threads} before");
    drop(deaf);
    fleet.finish(vec![pod]);
}
