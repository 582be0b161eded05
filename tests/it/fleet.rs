//! Many jobs, cancelling, going away and coming back.

use crate::support::{BINARY, Lab, Repo, Server, eventually, kinds};
use serde_json::json;
use std::process::Command;

#[test]
fn a_hundred_jobs_on_three_workers_over_five_repositories() {
    let lab = Lab::new();
    let repos: Vec<Repo> = (0..5).map(|n| Repo::with_commit(&lab.path(&format!("remote-{n}.git")))).collect();
    let server = lab.serve();
    let ids: Vec<String> = (0..100)
        .map(|n| server.submit(json!({"task": format!("[[write n.txt {n}]]"), "repo_url": repos[n % 5].url()})))
        .collect();
    let jobs: Vec<_> = ids.iter().map(|id| server.wait(id)).collect();
    for job in &jobs {
        assert_eq!(
            (&job["status"], &job["pushed"], &job["attempt"]),
            (&json!("succeeded"), &json!(true), &json!(1)),
            "{job:#}"
        );
    }
    let started: Vec<&str> = jobs.iter().map(|job| job["started_at"].as_str().unwrap()).collect();
    assert!(started.is_sorted(), "they start in order of submission: {started:?}");
    for (n, repo) in repos.iter().enumerate() {
        assert_eq!(repo.branches().len(), 21, "repository {n}");
    }
    server.stop();
    lab.assert_tidy();
    let listing: Vec<_> = walk(&lab.path("repos"))
        .into_iter()
        .filter(|path| path.ends_with(".lock") && !path.ends_with("/.lock"))
        .collect();
    assert_eq!(listing, Vec::<String>::new(), "stray locks");
}

fn walk(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] }).collect()
}

#[test]
fn waiting_requests_hold_no_worker() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let gate = lab.path("gate");
    let server = lab.serve();
    let first = server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}));
    std::thread::scope(|scope| {
        let server = &server;
        let waiting: Vec<_> =
            (0..30).map(|_| scope.spawn(|| server.post(&json!({"task": "[[say x]]", "wait": true})))).collect();
        eventually("all are queued", || (server.get("/jobs?status=queued&limit=100").1["count"] == 30).then_some(()));
        assert_eq!(server.get("/health").0, 200);
        assert_eq!(server.job(&first)["status"], "running");
        std::fs::write(gate, "").unwrap();
        for answer in waiting {
            let (status, answer) = answer.join().unwrap();
            assert_eq!(
                (status, &answer["job"]["status"], &answer["job"]["mode"]),
                (200, &json!("succeeded"), &json!("sync"))
            );
        }
    });
    server.stop();
}

#[test]
fn cancel_ends_the_whole_tree_and_stays() {
    let lab = Lab::new();
    let repo = lab.repo();
    let (daemon, ran) = (lab.path("daemon"), lab.path("ran"));
    let server = lab.serve();
    let task = format!(
        "[[daemon {}]] [[bash touch {}; trap '' TERM; while :; do sleep 0.1; done]]",
        daemon.display(),
        ran.display()
    );
    let id = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("the agent works", || (ran.exists() && server.job(&id)["pid"].is_number()).then_some(()));
    let (status, answer) = server.cancel(&id);
    assert_eq!((status, &answer["job"]["status"]), (200, &json!("cancelled")), "{answer}");
    let pid = std::fs::read_to_string(&daemon).unwrap();
    eventually("its tree is gone", || (!std::path::Path::new("/proc").join(pid.trim()).exists()).then_some(()));
    eventually("its worktree is gone", || {
        (std::fs::read_dir(lab.path("worktrees")).unwrap().count() == 0).then_some(())
    });
    eventually("and its record names it no more", || server.job(&id)["worktree_path"].is_null().then_some(()));
    assert_eq!(server.job(&id)["status"], "cancelled");
    assert_eq!(kinds(&lab, &id).last().unwrap(), "ended");
    assert_eq!(server.cancel(&id).0, 200, "asked again, the answer is the same");
    let done = server.run(json!({"task": "t"}));
    let (status, answer) = server.cancel(done["id"].as_str().unwrap());
    assert_eq!(status, 409, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("succeeded"));
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_queued_job_that_is_cancelled_never_runs() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let (gate, count) = (lab.path("gate"), lab.path("count"));
    let server = lab.serve();
    let first = server.submit(json!({"task": format!("[[wait-for {}]]", gate.display())}));
    let second = server.submit(json!({"task": format!("[[count {}]]", count.display())}));
    assert_eq!(server.cancel(&second).1["job"]["status"], "cancelled");
    std::fs::write(gate, "").unwrap();
    server.wait(&first);
    server.run(json!({"task": "t"}));
    assert!(!count.exists() && server.job(&second)["status"] == "cancelled");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_server_that_is_asked_to_go_hands_its_jobs_back() {
    let lab = Lab::new();
    let repo = lab.repo();
    let (gate, count) = (lab.path("gate"), lab.path("count"));
    let task = format!("[[count {}]] [[write a.txt 1]] [[wait-for {}]]", count.display(), gate.display());
    let server = lab.serve();
    let running = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it runs", || (count.exists()).then_some(()));
    assert_eq!(server.stop(), Some(0));
    lab.assert_no_process();
    assert_eq!(std::fs::read_dir(lab.path("worktrees")).unwrap().count(), 0);
    assert_eq!(kinds(&lab, &running).last().unwrap(), "handed_back");
    std::fs::write(gate, "").unwrap();
    let server = lab.serve();
    let job = server.wait(&running);
    assert_eq!(
        (&job["status"], &job["attempt"], &job["deaths"]),
        (&json!("succeeded"), &json!(2), &json!(0)),
        "{job:#}"
    );
    assert_eq!(repo.branches().len(), 2);
    server.stop();
    lab.assert_tidy();
}

#[test]
fn the_grace_lets_running_jobs_end_and_a_second_signal_hurries() {
    let lab = Lab::new().with("AGENTICORE_SHUTDOWN_GRACE", "600");
    let (gate, count) = (lab.path("gate"), lab.path("count"));
    let task = json!({"task": format!("[[count {}]] [[wait-for {}]]", count.display(), gate.display())});
    let server = lab.serve();
    let id = server.submit(task.clone());
    eventually("it runs", || count.exists().then_some(()));
    server.signal("TERM");
    eventually("it goes", || server.log().contains("waiting up to").then_some(()));
    let queued = server.submit(json!({"task": "[[say later]]"}));
    std::fs::write(&gate, "").unwrap();
    assert_eq!(server.stop(), Some(0));
    std::fs::remove_file(&gate).unwrap();
    std::fs::remove_file(&count).unwrap();
    let server = lab.serve();
    assert_eq!(server.job(&id)["attempt"], 1);
    assert_eq!(server.wait(&queued)["status"], "succeeded", "taken in while the server went, and kept");
    let id = server.submit(task);
    eventually("it runs", || count.exists().then_some(()));
    server.signal("INT");
    eventually("it goes", || server.log().contains("waiting up to").then_some(()));
    assert_eq!(server.stop(), Some(0));
    assert_eq!(kinds(&lab, &id).last().unwrap(), "handed_back");
    lab.assert_no_process();
}

#[test]
fn a_second_server_on_the_same_directory_says_so() {
    let lab = Lab::new();
    let server = lab.serve();
    let second = lab.run(&["serve"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("another server") && said.contains(&server.child.id().to_string()), "{said}");
    server.stop();
}

/// In a PID namespace of its own the binary is PID 1: it has to reap, pass signals on, and exit.
#[test]
fn the_binary_works_as_pid_1() {
    let lab = Lab::new();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", BINARY, "serve"]).env_clear().envs(&lab.variables);
    let probe = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to make PID namespaces");
        eprintln!("SKIPPED the_binary_works_as_pid_1: this machine makes no PID namespaces");
        return;
    }
    let server = Server::start(command);
    let daemon = lab.path("daemon");
    let job = server.run(json!({"task": format!("[[daemon {}]] [[bash true & true]]", daemon.display())}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let init = eventually("init runs", || {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.child.id())).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    });
    assert!(Command::new("kill").args(["-TERM", &init]).status().unwrap().success());
    let mut server = server;
    server.wait_for_death();
    lab.assert_tidy();
}
