//! One test for each fault that was found in use and ended since, named after what was seen. The letters and numbers
//! are those of the list that the faults were told in. Others are in the stores' suite (`src/store/conformance`).

use crate::support::fleet::Fleet;
use crate::support::{BINARY, GitHub, Lab, Server, eventually};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// A request that waits for its job; returns once it is accepted.
fn wait_for(server: &Server, key: &str, task: &str) -> TcpStream {
    let body = json!({"task": task, "wait": true}).to_string();
    let head = format!(
        "POST /jobs HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = connect(server);
    stream.write_all(head.as_bytes()).unwrap();
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    stream
}

/// The server with limits on descriptors, as a shell sets them.
fn with_limits(lab: &Lab, soft: u32, hard: u32) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn \"$2\" && ulimit -Hn \"$1\" && exec \"$0\" serve"]);
    command.arg(BINARY).args([hard.to_string(), soft.to_string()]);
    command.env_clear().envs(&lab.variables);
    command
}

fn limit_of(pid: u32) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().to_owned()
}

fn threads_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// C1
#[test]
fn idle_connections_lock_nobody_out_and_jobs_find_descriptors() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = Server::start(with_limits(&lab, 256, 256));
    let idle: Vec<TcpStream> = (0..300).map(|_| connect(&server)).collect();
    assert_eq!(server.get("/health").0, 200);
    let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url()}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert!(descriptors_of(server.child.id()) < 200);
    drop(idle);
    server.stop();
}

/// C1
#[test]
fn a_connection_takes_one_descriptor_and_the_limit_is_raised_for_the_server_alone() {
    let lab = Lab::new();
    let told = lab.path("limit");
    let server = Server::start(with_limits(&lab, 300, 2_000));
    let pid = server.child.id();
    assert_eq!(limit_of(pid), "2000");
    let job = server.run(json!({"task": format!("[[bash ulimit -Sn > {}]]", told.display())}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    assert_eq!(std::fs::read_to_string(&told).unwrap().trim(), "300");
    assert_eq!(server.get("/health").0, 200);
    let before = descriptors_of(pid);
    let open: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = connect(&server);
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut begin = [0; 15];
            stream.read_exact(&mut begin).unwrap();
            stream
        })
        .collect();
    assert!(descriptors_of(pid) <= before + open.len() + 3, "{before} and {}", descriptors_of(pid));
    server.stop();
}

/// C2
#[test]
fn a_thousand_waiting_requests_leave_the_probes_alone_and_hold_no_thread() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let server = lab.serve();
    let gate = lab.path("gate");
    let running = server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}));
    let before = threads_of(server.child.id());
    let task = "[[say done]]";
    let mut waiting: Vec<TcpStream> = (0..1_000).map(|_| wait_for(&server, "one", task)).collect();
    for path in ["/health", "/ready", "/jobs?limit=1"] {
        let (code, answer) = server.get(path);
        assert_eq!(code, 200, "{path}: {answer}");
    }
    eventually("nobody holds a thread", || (threads_of(server.child.id()) <= before + 4).then_some(()));
    // One that hangs up is noticed, and its job goes on.
    drop(waiting.pop());
    eventually("its descriptor is given back", || (descriptors_of(server.child.id()) < before + 1_040).then_some(()));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(server.wait(&running)["status"], "succeeded");
    for stream in &mut waiting {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        assert!(text.contains("Transfer-Encoding: chunked") && body.ends_with("0\r\n\r\n"), "{text}");
        assert!(body.contains(r#""status":"succeeded""#) && body.contains(r#""output":"done""#), "{body}");
    }
    server.stop();
}

fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// C1 and C2 together, with the limits that machines begin with: a soft one of 1 024, and a hard one that is the same.
#[test]
fn idle_and_waiting_connections_beside_one_another_harm_nobody() {
    let own = format!("--pid={}", std::process::id());
    let raised = Command::new("prlimit").args([own.as_str(), "--nofile=4096:"]).status();
    assert!(raised.is_ok_and(|status| status.success()), "this test holds 2 000 connections");
    let check = |server: &Server, repo: &crate::support::Repo| {
        for path in ["/ready", "/health"] {
            let began = std::time::Instant::now();
            assert_eq!(server.get(path).0, 200, "{path}");
            println!("{path} took {} ms", began.elapsed().as_millis());
        }
        let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url()}));
        assert_eq!(job["status"], "succeeded", "{job:#}");
    };
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "2");
    let repo = lab.repo();
    let gate = lab.path("gate");
    let server = Server::start(with_limits(&lab, 1024, 8192));
    let idle: Vec<TcpStream> = (0..900).map(|_| connect(&server)).collect();
    let task = format!("[[wait-for {}]] [[say done]]", gate.display());
    let mut waiting: Vec<TcpStream> = (0..1_000).map(|_| wait_for(&server, "one", &task)).collect();
    check(&server, &repo);
    let memory = memory_of(server.child.id());
    println!("{memory} MiB");
    assert!(memory <= 120, "{memory} MiB");
    std::fs::write(&gate, "").unwrap();
    for stream in &mut waiting {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains(r#""output":"done""#), "{text}");
    }
    drop((idle, waiting));
    server.stop();

    let server = Server::start(with_limits(&lab, 1024, 1024));
    let idle: Vec<TcpStream> = (0..600).map(|_| connect(&server)).collect();
    check(&server, &repo);
    drop(idle);
    server.stop();
}

/// C3: a thousand bodies of 1 MiB at once took 1.05 GB.
#[test]
fn large_bodies_that_come_at_once_are_bounded_together() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let server = lab.serve();
    let body = json!({"task": "x".repeat(1_000_000)}).to_string();
    let head = format!("POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let (most, last) = body.as_bytes().split_at(body.len() - 1);
    // What a socket does not take is not waited for.
    let mut streams: Vec<TcpStream> = (0..120)
        .map(|_| {
            let mut stream = connect(&server);
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(head.as_bytes());
            stream
        })
        .collect();
    let mut sent = vec![0; streams.len()];
    for _ in 0..200 {
        for (stream, sent) in streams.iter_mut().zip(&mut sent) {
            *sent += stream.write(&most[*sent..]).unwrap_or(0);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let memory = memory_of(server.child.id());
    assert!(memory < 100, "{memory} MiB");
    // A short request waits for none of them.
    assert_eq!(server.get("/ready").0, 200);
    let small = server.submit(json!({"task": "[[say small]]"}));
    assert_eq!(server.wait(&small)["output"], "small");
    // Whoever sends the rest is answered; those that wait for room follow as it comes.
    let mut whole: Vec<TcpStream> =
        streams.into_iter().zip(&sent).filter(|(_, sent)| **sent == most.len()).map(|(stream, _)| stream).collect();
    for stream in &mut whole {
        stream.set_nonblocking(false).unwrap();
        stream.write_all(last).unwrap();
    }
    let mut taken = 0;
    for stream in &mut whole {
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        taken += usize::from(&begin == b"HTTP/1.1 200");
        assert!([b"HTTP/1.1 200", b"HTTP/1.1 503", b"HTTP/1.1 408"].contains(&&begin));
    }
    assert!(taken > 0, "{} were sent whole", whole.len());
    server.stop();
}

/// Q5
#[test]
fn a_server_that_was_told_to_go_goes_whatever_is_asked_of_its_drain() {
    let lab = Lab::new().with("AGENTICORE_SHUTDOWN_GRACE", "600");
    let mut server = lab.serve();
    let gate = lab.path("gate");
    let id = server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}));
    eventually("it runs", || (server.job(&id)["status"] == "running").then_some(()));
    server.signal("TERM");
    eventually("it drains", || (server.get("/admin/drain").1["draining"] == true).then_some(()));
    let (status, answer) = server.request("DELETE", "/admin/drain", None);
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("cannot be taken back"), "{answer}");
    assert_eq!(server.get("/admin/drain").1["draining"], true);
    std::fs::write(&gate, "").unwrap();
    server.wait_for_death();
    lab.assert_no_process();
}

/// Q6
#[test]
fn an_old_wish_to_end_a_drain_does_not_end_a_later_one() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-a");
    let state: String =
        eventually("it says how it is", || fleet.redis.try_ask(&["GET", "agenticore:pod:pod-a:state"]).ok());
    let state: Value = serde_json::from_str(&state).unwrap();
    let flag = "agenticore:pod:pod-a:draining";
    let wish = format!("{} cancel", state["incarnation"].as_str().unwrap());
    let _: () = fleet.redis.ask(&["SET", flag, &wish]);
    eventually("it is heeded, and gone", || fleet.redis.ask::<Option<String>>(&["GET", flag]).is_none().then_some(()));
    pod.request("POST", "/admin/drain?timeout=600", None);
    for _ in 0..20 {
        assert_eq!(pod.get("/admin/drain").1["draining"], true);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(pod.request("DELETE", "/admin/drain", None).0, 200);
    fleet.finish(vec![pod]);
}

/// Q7
#[test]
fn drains_that_begin_and_end_at_once_leave_a_pod_that_takes_jobs_or_does_not() {
    let lab = Lab::new();
    let server = lab.serve();
    std::thread::scope(|scope| {
        for method in ["POST", "DELETE", "POST", "DELETE"] {
            let server = &server;
            scope.spawn(move || (0..60).for_each(|_| drop(server.request(method, "/admin/drain", None))));
        }
    });
    assert_eq!(server.request("DELETE", "/admin/drain", None).1["draining"], false);
    assert_eq!(
        (server.get("/ready").0, &server.run(json!({"task": "[[say x]]"}))["status"]),
        (200, &json!("succeeded"))
    );
    assert_eq!(server.request("POST", "/admin/drain", None).1["draining"], true);
    let id = server.submit(json!({"task": "[[say y]]"}));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.job(&id)["status"], "queued");
    server.stop();
}

/// Q9
#[test]
fn a_cancel_between_a_hand_back_and_the_agents_end_leaves_nothing() {
    let lab = Lab::new().with("AGENTICORE_KILL_GRACE", "2");
    let repo = lab.repo();
    let server = lab.serve();
    // It does not heed SIGTERM, so ending it takes the whole grace.
    let task = "[[stubborn]] [[sleep 600000]]";
    let id = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it runs", || server.job(&id)["pid"].is_number().then_some(()));
    server.request("POST", "/admin/drain?timeout=0", None);
    let cancelled =
        eventually("it can be cancelled", || Some(server.cancel(&id)).filter(|(status, _)| *status == 200)).1;
    assert_eq!(cancelled["job"]["status"], "cancelled");
    eventually("nothing runs", || (server.get("/admin/drain").1["running"] == json!([])).then_some(()));
    assert_eq!(server.job(&id)["status"], "cancelled");
    eventually("it is tidied without a restart", || {
        let open = std::fs::read_dir(lab.path("jobs/open")).unwrap().count();
        let worktrees = std::fs::read_dir(lab.path("worktrees")).unwrap().count();
        ((open, worktrees) == (0, 0)).then_some(())
    });
    server.stop();
    lab.assert_tidy();
}

/// Q11
#[test]
fn forty_jobs_keep_their_order_when_redis_is_emptied() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod_with("pod-a", &[("AGENTICORE_MAX_PARALLEL_JOBS", "0")]);
    let ids: Vec<String> = (0..40).map(|n| pod.submit(json!({"task": n.to_string()}))).collect();
    // Old enough not to be taken for one that is on its way into the queue just now.
    std::thread::sleep(Duration::from_millis(5_200));
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    let line = || fleet.redis.ask::<Vec<String>>(&["LRANGE", "agenticore:queue", "0", "-1"]);
    eventually("all are back", || (line().len() == 40).then_some(()));
    assert_eq!(line().into_iter().rev().collect::<Vec<_>>(), ids);
    ids.iter().for_each(|id| assert_eq!(pod.cancel(id).0, 200));
    fleet.finish(vec![pod]);
}

/// P1
#[test]
fn what_kubernetes_sets_for_a_service_of_our_name_is_no_setting() {
    let lab =
        Lab::new().with("AGENTICORE_PORT", "tcp://10.96.12.7:8200").with("AGENTICORE_PORT_8200_TCP_ADDR", "10.9.1.2");
    let output = lab.run(&["config", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let settings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let port = settings.as_array().unwrap().iter().find(|setting| setting["variable"] == "AGENTICORE_PORT").unwrap();
    assert_eq!((&port["value"], &port["source"]), (&json!("8200"), &json!("default")));
}

/// P6
#[test]
fn a_hangup_is_an_end_in_order_and_no_death() {
    let lab = Lab::new();
    let mut server = lab.serve();
    let gate = lab.path("gate");
    let id = server.submit(json!({"task": format!("[[wait-for {}]] [[say done]]", gate.display())}));
    eventually("it runs", || server.job(&id)["pid"].is_number().then_some(()));
    server.signal("HUP");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    std::fs::write(&gate, "").unwrap();
    let server = lab.serve();
    let job = server.wait(&id);
    assert_eq!(
        (&job["status"], &job["deaths"], &job["attempt"]),
        (&json!("succeeded"), &json!(0), &json!(2)),
        "{job:#}"
    );
    server.stop();
}

/// A pipe or a directory where a job's events are kept: agents can write there.
#[test]
fn what_an_agent_plants_for_events_holds_up_neither_the_job_nor_its_end() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let server = lab.serve();
    let gate = lab.path("gate");
    let first = server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}));
    let ids: Vec<String> = (0..3).map(|n| server.submit(json!({"task": format!("[[say {n}]]")}))).collect();
    let journal = |id: &str| lab.path("jobs/events").join(format!("{id}-1.jsonl"));
    assert!(Command::new("mkfifo").arg(journal(&ids[0])).status().unwrap().success());
    std::fs::create_dir(journal(&ids[1])).unwrap();
    std::fs::write(&gate, "").unwrap();
    for id in [&first, &ids[0], &ids[1], &ids[2]] {
        let job = server.wait(id);
        assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job:#}");
        let mut stream = connect(&server);
        write!(stream, "GET /jobs/{id}/events HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("event: end\n") && text.contains(r#""kind":"ended""#), "{text}");
    }
    assert_eq!(server.log().matches("the job goes on without").count(), 2, "{}", server.log());
    server.stop();
}

/// A record that was away for a moment was taken for a job that is gone.
#[test]
fn a_waiting_request_is_not_answered_while_redis_is_emptied_again_and_again() {
    let Some(fleet) = Fleet::new() else { return };
    let own = fleet.lab.path("own-jobs").display().to_string();
    let pod = fleet.pod_with("pod-a", &[("AGENTICORE_JOBS_DIR", &own)]);
    let gate = fleet.lab.path("gate");
    let mut waiting = wait_for(&pod, "k", &format!("[[wait-for {}]] [[say done]]", gate.display()));
    eventually("it runs", || (pod.get("/jobs?status=running").1["count"] == 1).then_some(()));
    for _ in 0..8 {
        let _: () = fleet.redis.ask(&["FLUSHALL"]);
        std::thread::sleep(Duration::from_millis(700));
    }
    std::fs::write(&gate, "").unwrap();
    let mut text = String::new();
    waiting.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""status":"succeeded""#), "{text}");
    fleet.finish_quietly(pod);
}

#[test]
fn clients_that_do_not_read_hold_no_thread_and_keep_nobody_waiting() {
    let lab = Lab::new();
    let server = lab.serve();
    let chatter = "[[bash seq 1 3000]] ".repeat(60);
    let long = server.run(json!({"task": format!("{chatter} [[say done]]")}));
    let before = threads_of(server.child.id());
    let deaf: Vec<TcpStream> = (0..400)
        .map(|_| {
            let mut stream = connect(&server);
            write!(stream, "GET /jobs/{}/events HTTP/1.1\r\nHost: localhost\r\n\r\n", long["id"].as_str().unwrap())
                .unwrap();
            stream
        })
        .collect();
    let job = server.post(&json!({"task": "[[say quick]]", "wait": true})).1;
    assert_eq!(job["job"]["output"], "quick");
    eventually("nobody holds a thread", || (threads_of(server.child.id()) <= before + 4).then_some(()));
    drop(deaf);
    server.stop();
}

#[test]
fn head_has_no_body_and_a_second_request_behind_a_waiting_one_resets_nothing() {
    let lab = Lab::new();
    let server = lab.serve();
    let job = server.run(json!({"task": "[[say x]]"}));
    let mut head = connect(&server);
    write!(head, "HEAD /jobs/{}/events HTTP/1.1\r\nHost: localhost\r\n\r\n", job["id"].as_str().unwrap()).unwrap();
    let mut text = String::new();
    head.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n"), "{text}");
    let mut waiting = wait_for(&server, "k", "[[sleep 300]] [[say done]]");
    waiting.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    waiting.read_to_string(&mut text).expect("an end, and no reset");
    assert!(text.contains(r#""output":"done""#), "{text}");
    server.stop();
}

#[test]
fn a_server_that_goes_says_that_a_waiting_requests_job_has_not_ended() {
    let lab = Lab::new();
    let server = lab.serve();
    let mut waiting = wait_for(&server, "k", "[[sleep 600000]]");
    server.stop();
    let mut text = String::new();
    waiting.read_to_string(&mut text).unwrap();
    assert!(text.contains(r#""success":false"#) && text.contains("the job goes on"), "{text}");
}

#[test]
fn a_parameter_that_means_nothing_is_said() {
    let lab = Lab::new();
    let server = lab.serve();
    for (method, path, why) in [
        ("POST", "/admin/drain?timout=5", "did you mean `timeout`?"),
        ("POST", "/jobs?wait=true", "unknown parameter `wait`"),
        ("GET", "/jobs?limt=3", "did you mean `limit`?"),
    ] {
        let (status, answer) = server.request(method, path, Some(br#"{"task":"x"}"#));
        assert!(status == 400 && answer["error"].as_str().unwrap().contains(why), "{path}: {answer}");
    }
    assert_eq!(server.get("/health?probe=1").0, 200);
    assert_eq!(server.get("/admin/drain").1["draining"], false);
    server.stop();
}

/// P4. A log driver that stopped reading, and a pipe that is full.
#[test]
fn a_server_whose_log_nobody_reads_serves_and_ends() {
    let lab = Lab::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let full = std::thread::spawn({
        let mut writer = writer.try_clone().unwrap();
        // Blocks at the last bytes, for as long as nobody reads.
        move || drop(writer.write_all(&vec![b'x'; 1 << 20]))
    });
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = lab.command(&["serve"]);
    command.env("AGENTICORE_PORT", port.to_string()).env("AGENTICORE_HOST", "127.0.0.1");
    let mut child = command.stderr(writer).spawn().unwrap();
    drop(command);
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let health = format!("http://127.0.0.1:{port}/health");
    eventually("it serves", || agent.get(&health).call().is_ok().then_some(()));
    let done = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(done.success());
    eventually("it ends", || child.try_wait().unwrap());
    drop(reader);
    full.join().unwrap();
}

/// As a pod does, which has no capabilities: there git could not start the server's own program for a login.
#[test]
fn a_login_reaches_git_where_no_process_may_look_into_another() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("team/app");
    let lab = lab.with_all(github.variables_with_token());
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(BINARY).arg("serve");
    command.env_clear().envs(&lab.variables);
    let server = Server::start(command);
    let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": github.repo_url("team/app")}));
    assert!(job["status"] == "succeeded" && job["pr_url"].is_string(), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

/// The scratch image has no git: its self-test waited for one for ever.
#[test]
fn a_server_without_git_runs_the_self_test_and_says_what_other_jobs_wait_for() {
    let lab = Lab::new();
    let repo = lab.repo();
    let no_git = lab.path("bin");
    std::fs::create_dir(&no_git).unwrap();
    let lab = lab.with("PATH", no_git.display().to_string());
    let server = lab.serve();
    let waits = server.submit(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url()}));
    let done = server.run(json!({"task": "in an image with nothing in it", "profile": "self-test"}));
    assert_eq!(done["status"], "succeeded", "{done:#}");
    let why = "this server to be well: git is not installed, or not on PATH; install git";
    assert_eq!((&server.job(&waits)["status"], &server.job(&waits)["waiting_for"]), (&json!("queued"), &json!(why)));
    assert!(server.log().contains("git is not installed, or not on PATH; install git"), "{}", server.log());
    // One that is claimed all the same, as it would be for its profile, goes back instead of failing.
    let back = server.submit(json!({"task": "t", "profile": "self-test", "repo_url": repo.url()}));
    eventually("it was tried and put back", || server.log().contains("handed back").then_some(()));
    assert_eq!(server.job(&back)["status"], "queued");
    server.stop();
    lab.assert_no_process();
}
