//! A fleet on one Redis: any pod takes any job, a lost pod's jobs go on elsewhere, a cancel reaches
//! everything.

use crate::support::fleet::{Fleet, stream};
use crate::support::{Server, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

fn runs(count: &Path) -> usize {
    std::fs::read_to_string(count).unwrap_or_default().lines().count()
}

#[test]
fn fifty_jobs_on_ten_pods_clone_a_new_repository_once() {
    let Some(fleet) = Fleet::new() else { return };
    // All wait before anybody works: a pod that begins nothing takes them in.
    let door = fleet.pod("door");
    assert_eq!(door.request("POST", "/admin/drain?timeout=600", None).0, 200);
    let ids: Vec<String> = (0..50).map(|n| door.submit(fleet.job(format!("[[write n-{n}.txt {n}]]")))).collect();
    assert_eq!(fleet.redis.ask::<usize>(&["LLEN", "agenticore:queue"]), 50);
    let pods: Vec<Server> = (0..10).map(|n| fleet.pod(&format!("pod-{n}"))).collect();
    let jobs = fleet.check_ledger(&door, &ids);
    let clones = ids
        .iter()
        .flat_map(|id| stream(&fleet.redis, id))
        .filter(|e| e["kind"] == "cloning" && e["text"].as_str().is_some_and(|text| text.starts_with("cloning ")));
    assert_eq!(clones.count(), 1, "one clone for all");
    let at_work: BTreeSet<&str> = jobs.iter().map(|job| job["pod_name"].as_str().unwrap()).collect();
    assert!(at_work.len() > 1 && !at_work.contains("door"), "{at_work:?}");
    for job in &jobs {
        assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    }
    assert_eq!((fleet.github.pulls().len(), fleet.repo.branches().len()), (50, 51));
    fleet.finish(pods.into_iter().chain([door]).collect());
}

#[test]
fn a_killed_pods_jobs_go_on_elsewhere() {
    let Some(fleet) = Fleet::new() else { return };
    let (gate, count) = (fleet.lab.path("gate"), fleet.lab.path("count"));
    let first = fleet.pod("pod-a");
    let task = format!("[[count {}]] [[write a.txt 1]] [[wait-for {}]]", count.display(), gate.display());
    let id = first.submit(fleet.job(task));
    eventually("it runs", || (runs(&count) == 1).then_some(()));
    let second = fleet.pod("pod-b");
    first.kill();
    eventually("it runs again, on the other pod", || (runs(&count) == 2).then_some(()));
    std::fs::write(&gate, "").unwrap();
    let job = &fleet.check_ledger(&second, std::slice::from_ref(&id))[0];
    assert_eq!(
        (&job["status"], &job["attempt"], &job["deaths"], &job["pod_name"]),
        (&json!("succeeded"), &json!(2), &json!(1), &json!("pod-b")),
        "{job:#}"
    );
    let lost = stream(&fleet.redis, &id).into_iter().find(|event| event["kind"] == "worker_lost").unwrap();
    assert!(lost["text"].as_str().unwrap().contains("pod-a"), "{lost}");
    // The pod comes back, on the disk it had, and tidies what it left there.
    let first = fleet.pod("pod-a");
    let left = fleet.disk_of("pod-a").join("worktrees").join(&id);
    eventually("its old worktree is gone", || (!left.exists()).then_some(()));
    fleet.finish(vec![first, second]);
}

#[test]
fn three_lost_pods_are_poison() {
    let Some(fleet) = Fleet::new() else { return };
    let count = fleet.lab.path("count");
    let task = json!({"task": format!("[[count {}]] [[sleep 600000]]", count.display())});
    let mut id = String::new();
    for round in 1..=3 {
        let pod = fleet.pod(&format!("pod-{round}"));
        if round == 1 {
            id = pod.submit(task.clone());
        }
        eventually("the agent runs", || (runs(&count) == round).then_some(()));
        pod.kill();
    }
    let last = fleet.pod("pod-4");
    let job = &fleet.check_ledger(&last, &[id])[0];
    assert_eq!((&job["status"], &job["deaths"], &job["attempt"]), (&json!("failed"), &json!(3), &json!(3)), "{job:#}");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("poison") && error.contains("pod-3"), "{error}");
    fleet.finish(vec![last]);
}

/// Stops a pod at `point` of a job; another one takes over; the first wakes up.
fn stopped_at(point: &str) -> Option<(Value, usize)> {
    let fleet = Fleet::new()?;
    let count = fleet.lab.path("count");
    let first = fleet.pod_with("pod-a", &[("AGENTICORE_TEST_STOP_AT", point)]);
    let id = first.submit(fleet.job(format!("[[count {}]] [[write a.txt 1]] [[say done]]", count.display())));
    eventually("it stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", first.child.id())).unwrap();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')).then_some(())
    });
    let second = fleet.pod("pod-b");
    let ended = second.wait(&id);
    assert_eq!((&ended["status"], &ended["error"]), (&json!("succeeded"), &json!(null)), "{point}: {ended:#}");
    let (events, pulls, requests) = (stream(&fleet.redis, &id).len(), fleet.github.pulls(), fleet.github.requests());
    first.signal("CONT");
    // It goes on as a healthy pod …
    let next: Vec<String> = (0..8).map(|_| first.submit(json!({"task": "[[sleep 50]]"}))).collect();
    next.iter().for_each(|id| drop(first.wait(id)));
    let on_first = eventually("the pod that slept works again", || {
        let job = first.run(json!({"task": "[[sleep 20]]"}));
        (job["pod_name"] == "pod-a").then_some(job)
    });
    assert_eq!(on_first["status"], "succeeded");
    // … and began nothing more for that job.
    assert_eq!(stream(&fleet.redis, &id).len(), events, "{point}: no event");
    assert_eq!(fleet.github.pulls(), pulls, "{point}: no pull request");
    let posted = |all: &[String]| all.iter().filter(|request| request.starts_with("POST")).count();
    assert_eq!(posted(&fleet.github.requests()), posted(&requests), "{point}");
    assert_eq!(fleet.repo.branches().len(), 2, "{point}");
    let job = fleet.check_ledger(&second, &[id])[0].clone();
    assert_eq!(job, ended, "{point}: the outcome stays");
    fleet.finish(vec![first, second]);
    Some((job, runs(&count)))
}

#[test]
fn a_pod_that_slept_past_its_lease_begins_nothing_more() {
    let points = [
        "claimed:after-record",
        "claimed:after-event",
        "worktree_ready:after-event",
        "agent_started:after-event",
        "agent_ended:after-record",
        "agent_ended:after-event",
        "committed:after-record",
        "committed:after-event",
        "pushed:after-record",
        "pushed:after-event",
        "pr_opened:after-record",
        "pr_opened:after-event",
    ];
    for some in points.chunks(4) {
        std::thread::scope(|scope| some.iter().for_each(|point| drop(scope.spawn(|| stopped_at(point)))));
    }
}

#[test]
fn a_sleeping_pods_agent_is_ended_at_the_lease() {
    let Some(fleet) = Fleet::new() else { return };
    let daemon = fleet.lab.path("daemon");
    let first = fleet.pod("pod-a");
    let id = first.submit(json!({"task": format!("[[daemon {}]] [[bash trap '' TERM; sleep 600]]", daemon.display())}));
    let pid = eventually("its agent runs", || std::fs::read_to_string(&daemon).ok().filter(|pid| !pid.is_empty()));
    first.signal("STOP");
    eventually("its agent is ended all the same", || (!Path::new("/proc").join(pid.trim()).exists()).then_some(()));
    first.signal("CONT");
    let (status, answer) =
        eventually("it can be cancelled", || Some(first.cancel(&id)).filter(|(status, _)| *status == 200));
    assert_eq!((status, &answer["job"]["status"]), (200, &json!("cancelled")));
    fleet.finish(vec![first]);
}

#[test]
fn a_job_outlives_many_leases() {
    let Some(fleet) = Fleet::new() else { return };
    let pods = vec![fleet.pod("pod-a"), fleet.pod("pod-b")];
    let id = pods[0].submit(fleet.job("[[sleep 14000]] [[write a.txt 1]]"));
    let job = &fleet.check_ledger(&pods[1], &[id])[0];
    assert_eq!((&job["status"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job:#}");
    fleet.finish(pods);
}

#[test]
fn a_cancel_reaches_every_pod_and_stays() {
    let Some(mut fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod_with("pod-a", &[("AGENTICORE_MAX_PARALLEL_JOBS", "1")]), fleet.lab.path("daemon"));
    let start = |count: usize| {
        let file = fleet.lab.path(&format!("daemon-{count}"));
        let id = first.submit(fleet.job(format!("[[daemon {}]] [[bash trap '' TERM; sleep 600]]", file.display())));
        let pid = eventually("its tree runs", || std::fs::read_to_string(&file).ok().filter(|pid| !pid.is_empty()));
        (id, pid.trim().to_owned())
    };
    let _ = second;
    let (running, pid) = start(1);
    let queued = first.submit(fleet.job("[[write q.txt 1]]"));
    // The other pod begins nothing: it only takes requests.
    let other = fleet.pod("pod-b");
    other.request("POST", "/admin/drain?timeout=600", None);
    let gone = |pid: &str| eventually("its tree is gone", || (!Path::new("/proc").join(pid).exists()).then_some(()));
    assert_eq!(other.cancel(&queued).1["job"]["status"], "cancelled");
    assert_eq!(other.cancel(&running).1["job"]["status"], "cancelled");
    gone(&pid);
    let named = |id: &str| other.get(&format!("/jobs/{id}")).1["job"]["worktree_path"].clone();
    eventually("its record names no worktree that is gone", || named(&running).is_null().then_some(()));
    // With Redis away too.
    let (running_2, pid) = start(2);
    let queued_2 = first.submit(fleet.job("[[write q.txt 2]]"));
    fleet.redis.kill();
    for id in [&queued_2, &running_2] {
        let (status, answer) = other.cancel(id);
        assert_eq!((status, &answer["job"]["status"]), (200, &json!("cancelled")), "{answer}");
    }
    gone(&pid);
    let (_, seen) = other.get(&format!("/jobs/{running_2}"));
    assert_eq!((&seen["stale"], &seen["job"]["status"]), (&json!(true), &json!("cancelled")), "{seen}");
    fleet.redis.come_back();
    let all = [running, queued, running_2, queued_2];
    for job in fleet.check_ledger(&first, &all) {
        assert_eq!((&job["status"], &job["pr_url"]), (&json!("cancelled"), &json!(null)), "{job:#}");
    }
    assert_eq!(fleet.repo.branches().len(), 1);
    fleet.finish(vec![first, other]);
}

/// What a pod left that was killed is looked into when it comes back: what is empty goes, and the record names it no
/// more; what holds work stays, and is saved too.
#[test]
fn a_job_that_was_cancelled_while_its_pod_was_dead_names_what_is_there() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod("pod-a");
    let runs = |habit: &str, name: &str| {
        let started = fleet.lab.path(name);
        let id = first.submit(fleet.job(format!("{habit} [[count {}]] [[sleep 600000]]", started.display())));
        eventually("its agent works", || (started.exists() && first.job(&id)["pid"].is_number()).then_some(()));
        id
    };
    let (empty, works) = (runs("", "one"), runs("[[write left.txt hey]]", "two"));
    first.kill();
    // It begins nothing, so that nobody goes on with them.
    let other = fleet.pod("pod-b");
    other.request("POST", "/admin/drain?timeout=600", None);
    for id in [&empty, &works] {
        assert_eq!(other.cancel(id).1["job"]["status"], "cancelled");
        assert!(other.job(id)["worktree_path"].is_string());
    }
    let back = fleet.pod("pod-a");
    eventually("the empty one is gone", || other.job(&empty)["worktree_path"].is_null().then_some(()));
    assert!(!fleet.disk_of("pod-a").join("worktrees").join(&empty).exists());
    let job = eventually("the work is saved", || Some(other.job(&works)).filter(|job| job["kept"].is_object()));
    assert!(job["worktree_path"].is_string() && job["kept"]["fetch"].is_string(), "{job:#}");
    assert!(fleet.disk_of("pod-a").join("worktrees").join(&works).join("left.txt").exists());
    back.stop();
    other.stop();
}

/// It was queued again when its worktree went; cancelled then, its record names nothing that is gone.
#[test]
fn a_job_that_waits_again_and_is_cancelled_names_no_worktree_that_is_gone() {
    let Some(fleet) = Fleet::new() else { return };
    let first = fleet.pod("pod-a");
    let started = fleet.lab.path("started");
    let id = first.submit(fleet.job(format!("[[count {}]] [[sleep 600000]]", started.display())));
    eventually("its agent works", || (started.exists() && first.job(&id)["pid"].is_number()).then_some(()));
    let worktree = fleet.disk_of("pod-a").join("worktrees").join(&id);
    assert!(worktree.is_dir());
    first.kill();
    let other = fleet.pod_with("pod-b", &[("AGENTICORE_MAX_PARALLEL_JOBS", "0")]);
    eventually("it waits again", || (other.job(&id)["status"] == "queued").then_some(()));
    let back = fleet.pod_with("pod-a", &[("AGENTICORE_MAX_PARALLEL_JOBS", "0")]);
    eventually("its worktree is gone", || (!worktree.exists()).then_some(()));
    assert_eq!(other.cancel(&id).1["job"]["status"], "cancelled");
    eventually("its record says so", || other.job(&id)["worktree_path"].is_null().then_some(()));
    back.stop();
    other.stop();
}

#[test]
fn cancel_against_finish_has_one_winner() {
    let Some(fleet) = Fleet::new() else { return };
    let pods = [fleet.pod("pod-a"), fleet.pod("pod-b")];
    let mut ids = Vec::new();
    for round in 0..24 {
        let id = pods[0].submit(json!({"task": format!("[[sleep {}]]", round * 5)}));
        eventually("it is taken", || (pods[0].job(&id)["status"] != "queued").then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(round * 7 % 120));
        let (status, answer) = pods[1].cancel(&id);
        let said = answer["job"]["status"].as_str().unwrap().to_owned();
        assert!(status == 200 && said == "cancelled" || status == 409 && said == "succeeded", "{status} {answer}");
        assert_eq!(pods[0].wait(&id)["status"], said.as_str());
        ids.push((id, said));
    }
    let all: Vec<String> = ids.iter().map(|(id, _)| id.clone()).collect();
    for (job, (_, said)) in fleet.check_ledger(&pods[0], &all).iter().zip(&ids) {
        assert_eq!(job["status"], said.as_str(), "it stays");
    }
    fleet.finish(pods.into_iter().collect());
}

#[test]
fn what_was_committed_is_published_by_another_pod_and_what_was_not_is_done_again() {
    for (point, runs_wanted) in [("committed:after-event", 1), ("agent_ended:after-event", 2)] {
        let Some(fleet) = Fleet::new() else { return };
        let count = fleet.lab.path("count");
        let mut first = fleet.pod_with("pod-a", &[("AGENTICORE_TEST_CRASH_AT", point)]);
        let id = first.submit(fleet.job(format!("[[count {}]] [[write a.txt 1]]", count.display())));
        first.wait_for_death();
        let second = fleet.pod("pod-b");
        let job = &fleet.check_ledger(&second, &[id])[0];
        assert_eq!((&job["status"], runs(&count)), (&json!("succeeded"), runs_wanted), "{point}: {job:#}");
        let branch = job["branch"].as_str().unwrap();
        assert_eq!(fleet.repo.file(branch, "a.txt").as_deref(), Some("1"), "{point}");
        let first = fleet.pod("pod-a");
        eventually("what the dead pod left on its disk is gone", || {
            let left = std::fs::read_dir(fleet.disk_of("pod-a").join("worktrees")).unwrap().flatten();
            (left.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count() == 0).then_some(())
        });
        fleet.finish(vec![first, second]);
    }
}

/// A clone that hangs, on a pod that sleeps: its git is gone before another pod has the lock, and the
/// one that waits for the lock longer than it may says so.
#[test]
fn a_clone_lock_passes_only_when_its_holders_git_is_gone() {
    let Some(fleet) = Fleet::new() else { return };
    let url = fleet.github.repo_url("me/slow");
    fleet.github.repository("me/slow");
    let hold = fleet.lab.path("hold");
    std::fs::write(&hold, "").unwrap();
    fleet.github.hold_while(&hold);
    let first = fleet.pod("pod-a");
    let id = first.submit(json!({"task": "[[write a.txt 1]]", "repo_url": url}));
    let gits = || {
        let all = fleet.lab.processes();
        all.into_iter().filter(|text| text.contains("ls-remote") && !text.contains("http-backend")).count()
    };
    eventually("git waits for the remote", || (gits() > 0).then_some(()));
    let lock =
        eventually("the lock is held", || fleet.redis.ask::<Vec<String>>(&["KEYS", "agenticore:lock:clone:*"]).pop());
    // It is renewed while it is held.
    std::thread::sleep(std::time::Duration::from_secs(8));
    assert!(fleet.redis.ask::<Option<String>>(&["GET", &lock]).unwrap().starts_with("pod-a/"));
    let second = fleet.pod_with("pod-b", &[("AGENTICORE_LOCK_TIMEOUT", "1")]);
    first.request("POST", "/admin/drain?timeout=600", None);
    let other = second.submit(json!({"task": "[[write b.txt 1]]", "repo_url": url}));
    let failed = second.wait(&other);
    let error = failed["error"].as_str().unwrap();
    assert!(failed["status"] == "failed" && error.contains("AGENTICORE_LOCK_TIMEOUT"), "{failed:#}");
    first.signal("STOP");
    while fleet.redis.ask::<Option<String>>(&["GET", &lock]).is_some_and(|holder| holder.starts_with("pod-a/")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(gits(), 0, "the lock is free, and the git of the one that had it still runs");
    std::fs::remove_file(&hold).unwrap();
    first.signal("CONT");
    let job = second.wait(&id);
    assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!("pod-b")), "{job:#}");
    fleet.check_ledger(&second, &[id, other]);
    fleet.finish(vec![first, second]);
}

/// An attempt that was to be handed back, on a pod that slept while its agent was ended: when it wakes up
/// the job is another pod's, and what that one has in the clone cache stays.
#[test]
fn a_hand_back_that_slept_harms_no_other_pods_worktree() {
    let Some(fleet) = Fleet::new() else { return };
    let (count, gate) = (fleet.lab.path("count"), fleet.lab.path("gate"));
    let grace = [("AGENTICORE_KILL_GRACE", "3"), ("AGENTICORE_LEASE", "8")];
    let first = fleet.pod_with("pod-a", &grace);
    let task = format!("[[count {}]] [[write a.txt 1]] [[stubborn]] [[wait-for {}]]", count.display(), gate.display());
    let id = first.submit(fleet.job(task));
    eventually("it runs", || (runs(&count) == 1).then_some(()));
    first.request("POST", "/admin/drain?timeout=0", None);
    first.signal("STOP");
    let second = fleet.pod("pod-b");
    eventually("it runs on the other pod", || (runs(&count) == 2).then_some(()));
    let cache = std::fs::read_dir(fleet.lab.path("shared/repos")).unwrap().next().unwrap().unwrap().path();
    let registered = cache.join("jobs").join(&id).join("git/refs");
    assert!(registered.is_dir());
    first.signal("CONT");
    eventually("the first pod has let go", || {
        first.get("/admin/drain").1["running"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    assert!(registered.is_dir(), "another pod's job lost its repository");
    std::fs::write(&gate, "").unwrap();
    let job = &fleet.check_ledger(&second, &[id])[0];
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{job:#}");
    fleet.finish(vec![first, second]);
}

/// An attempt that hangs in a request while a later one of the same job runs on the same pod: its end is
/// not the later one's.
#[test]
fn an_attempt_that_hangs_does_not_take_a_later_one_with_it() {
    let Some(fleet) = Fleet::new() else { return };
    let (hold, count) = (fleet.lab.path("hold"), fleet.lab.path("count"));
    std::fs::write(&hold, "").unwrap();
    fleet.github.hang_next(&hold);
    let door = fleet.pod("door");
    door.request("POST", "/admin/drain?timeout=600", None);
    let first = fleet.pod("pod-a");
    let mut body = fleet.job(format!("[[count {}]] [[write a.txt 1]] [[sleep 600000]]", count.display()));
    body["create_repo"] = json!(true);
    let id = first.submit(body);
    eventually("its request hangs", || fleet.github.is_hanging().then_some(()));
    first.signal("STOP");
    eventually("it is given up", || (door.job(&id)["status"] == "queued").then_some(()));
    first.signal("CONT");
    eventually("it runs again, here", || (runs(&count) == 1).then_some(()));
    std::fs::remove_file(&hold).unwrap();
    // The earlier attempt ends; the later one has its worktree, and can be told to go.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(fleet.disk_of("pod-a").join("worktrees").join(&id).join("a.txt").exists());
    let running = first.get("/admin/drain").1;
    assert_eq!(running["running"], json!([id]), "{running}");
    assert_eq!(first.stop(), Some(0));
    door.cancel(&id);
    fleet.check_ledger(&door, &[id]);
    fleet.finish(vec![door]);
}

#[test]
fn a_pod_that_is_told_to_go_while_it_claims_goes() {
    let Some(fleet) = Fleet::new() else { return };
    let door = fleet.pod("door");
    door.request("POST", "/admin/drain?timeout=600", None);
    let mut ids = Vec::new();
    for round in 0..10 {
        let pod = fleet.pod_with("pod-a", &[("AGENTICORE_SHUTDOWN_GRACE", "1")]);
        ids.push(door.submit(json!({"task": "[[sleep 600000]]"})));
        std::thread::sleep(std::time::Duration::from_millis(round * 3));
        assert_eq!(pod.stop(), Some(0));
    }
    ids.iter().for_each(|id| drop(door.cancel(id)));
    fleet.check_ledger(&door, &ids);
    fleet.finish(vec![door]);
}
