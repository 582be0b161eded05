//! Prepared worktrees: made, found, worked in by jobs that name them, and removed without losing work.

use crate::support::fleet::Fleet;
use crate::support::{GitHub, Lab, Server, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::thread;

fn prepare(server: &Server, body: &Value) -> Value {
    let (status, mut answer) = server.send("/worktrees", &[], &body.to_string());
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    answer["worktree"].take()
}

fn show(server: &Server, id: &str) -> (u16, Value) {
    server.get(&format!("/worktrees/{id}"))
}

fn remove(server: &Server, id: &str) -> (u16, Value) {
    server.request("DELETE", &format!("/worktrees/{id}"), None)
}

fn why(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

const SLUG: &str = "me/project";

#[test]
fn jobs_work_in_a_prepared_worktree_one_after_the_other() {
    let mut lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    lab = lab.with_all(github.variables_with_token());
    let repo = github.repository(SLUG);
    let server = lab.serve();
    let made = prepare(&server, &json!({"repo_url": github.repo_url(SLUG)}));
    let (id, path) = (made["id"].as_str().unwrap(), Path::new(made["path"].as_str().unwrap()));
    assert_eq!(
        (&made["status"], &made["pod"], &made["base_ref"]),
        (&json!("ready"), &json!("test-pod"), &json!("main"))
    );
    assert!(path.join("README.md").exists(), "{made}");
    assert_eq!(show(&server, id), (200, json!({"success": true, "worktree": made})));
    assert_eq!(server.get("/worktrees").1["worktrees"], json!([made]));
    let in_it = |task: &str| server.submit(json!({"task": task, "worktree_id": id}));

    let gate = lab.path("gate");
    let first = in_it(&format!("[[write a.txt 1]] [[wait-for {}]] [[say done]]", gate.display()));
    // While a job works in it, it is nobody else's, and nobody removes it.
    let (_, shown) = show(&server, id);
    assert_eq!((&shown["worktree"]["status"], &shown["worktree"]["job_id"]), (&json!("in_use"), &json!(first)));
    let (status, answer) = server.post(&json!({"task": "[[say x]]", "worktree_id": id}));
    assert!(status == 409 && why(&answer).contains(&format!("in use by job {first}")), "{answer}");
    let (status, answer) = remove(&server, id);
    assert!(status == 409 && why(&answer).contains("works in it"), "{answer}");
    std::fs::write(&gate, "").unwrap();
    let first = server.wait(&first);
    assert_eq!(
        (&first["status"], &first["worktree_path"], &first["worktree_id"]),
        (&json!("succeeded"), &json!(path), &json!(id)),
        "{first}"
    );
    assert_eq!((&first["repo_url"], &first["base_commit"]), (&made["repo_url"], &made["base_commit"]));
    let branch_of = |job: &Value| format!("agenticore-{}", &job["id"].as_str().unwrap()[..8]);
    assert_eq!(first["branch"].as_str().unwrap(), branch_of(&first));
    assert_eq!(repo.file(&branch_of(&first), "a.txt").as_deref(), Some("1"));

    // The next one goes on with what the first one left, and publishes what it adds; a third one adds nothing.
    let second = server.wait(&in_it("[[bash cat a.txt > b.txt]]"));
    assert_eq!(repo.file(&branch_of(&second), "b.txt").map(|text| text.trim().to_owned()).as_deref(), Some("1"));
    assert_eq!((&second["base_commit"], github.pulls().len()), (&first["commit"], 2));
    let third = server.wait(&in_it("[[bash cat b.txt]]"));
    assert!(third["note"].as_str().unwrap().contains("changed nothing"), "{third}");
    assert_eq!((&third["status"], github.pulls().len()), (&json!("succeeded"), 2));
    let (status, again) = server.send(&format!("/jobs/{}/retry", third["id"].as_str().unwrap()), &[], "");
    assert_eq!((status, &again["job"]["worktree_id"]), (200, &json!(id)), "{again}");
    server.wait(again["job"]["id"].as_str().unwrap());

    // Of many at once one has it.
    let body = json!({"task": "[[sleep 300]] [[say done]]", "worktree_id": id});
    let many: Vec<(u16, Value)> = thread::scope(|scope| {
        let asked: Vec<_> = (0..6).map(|_| scope.spawn(|| server.post(&body))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let taken: Vec<&Value> = many.iter().filter(|(status, _)| *status == 200).map(|(_, answer)| answer).collect();
    assert_eq!(taken.len(), 1, "{many:?}");
    assert!(many.iter().filter(|(status, _)| *status != 200).all(|(_, answer)| why(answer).contains("in use by job")));
    server.wait(taken[0]["job"]["id"].as_str().unwrap());

    // It is still there after a restart; all of its work is published, so it may go.
    server.stop();
    let server = lab.serve();
    assert_eq!(show(&server, id).1["worktree"]["status"], "ready");
    let (status, answer) = remove(&server, id);
    assert_eq!((status, &answer["worktree"]["id"]), (200, &json!(id)), "{answer}");
    assert_eq!((show(&server, id).0, path.exists(), remove(&server, id).0), (404, false, 404));
    let (status, answer) = server.post(&json!({"task": "x", "worktree_id": id}));
    assert!(status == 400 && why(&answer).contains("no such worktree"), "{answer}");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn work_that_is_nowhere_else_keeps_a_worktree() {
    let lab = Lab::new().with("AGENTICORE_WORKTREE_MAX_AGE", "1");
    let repo = lab.repo();
    let server = lab.serve();
    // Past its age soon, and nothing is in it: the server removes it by itself.
    let aged = prepare(&server, &json!({"repo_url": repo.url()}));
    let aged = aged["id"].as_str().unwrap();
    eventually("the aged one is gone", || (show(&server, aged).0 == 404).then_some(()));
    server.stop();
    let lab = lab.with("AGENTICORE_WORKTREE_MAX_AGE", "86400");
    let server = lab.serve();
    let clean_up = |query: &str| server.request("DELETE", &format!("/worktrees{query}"), None);
    let kept = prepare(&server, &json!({"repo_url": repo.url(), "base_ref": "main"}));
    let (id, path) = (kept["id"].as_str().unwrap(), kept["path"].as_str().unwrap());
    let empty = prepare(&server, &json!({"repo_url": repo.url()}));
    // A job that fails leaves its changes.
    let failed = server.run(json!({"task": "[[write w.txt work]] [[exit 3]]", "worktree_id": id}));
    assert_eq!(failed["status"], "failed");
    // Without arguments only what is past its age goes.
    let (status, answer) = clean_up("");
    assert_eq!((status, &answer["count"], &answer["kept"]), (200, &json!(0), &json!([])), "{answer}");
    let both = format!("?paths={path},{}", empty["id"].as_str().unwrap());
    let (status, answer) = clean_up(&both);
    assert_eq!((status, &answer["count"], &answer["removed"][0]["id"]), (200, &json!(1), &empty["id"]), "{answer}");
    assert_eq!((&answer["kept"][0]["id"], &answer["kept"][0]["path"]), (&json!(id), &json!(path)));
    assert!(answer["kept"][0]["why"].as_str().unwrap().contains("in no commit"), "{answer}");
    let (status, answer) = remove(&server, id);
    assert!(
        status == 409 && why(&answer).contains("in no commit") && why(&answer).contains("discard=true"),
        "{answer}"
    );
    // A job that goes on there publishes it, in a remote that is no GitHub without a pull request.
    let goes_on = server.run(json!({"task": "[[say done]]", "worktree_id": id}));
    assert_eq!(repo.file(goes_on["branch"].as_str().unwrap(), "w.txt").as_deref(), Some("work"), "{goes_on}");
    // A commit that is published nowhere is work as well.
    let fails = server.run(json!({"task": "[[write c.txt c]] [[commit more]] [[exit 3]]", "worktree_id": id}));
    assert_eq!(fails["status"], "failed");
    let (status, answer) = clean_up(&format!("?paths={id}"));
    assert!(status == 200 && answer["kept"][0]["why"].as_str().unwrap().contains("published nowhere"), "{answer}");
    let (status, answer) = clean_up("?paths=/etc,/tmp");
    assert!(status == 400 && why(&answer).contains("/etc is no prepared worktree"), "{answer}");
    let (status, answer) = server.request("DELETE", &format!("/worktrees/{id}?discard=true"), None);
    assert_eq!((status, show(&server, id).0, Path::new(path).exists()), (200, 404, false), "{answer}");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn what_cannot_be_prepared_is_refused_before_anything_begins() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let made = prepare(&server, &json!({"repo_url": repo.url()}));
    let id = made["id"].as_str().unwrap();
    let gone = lab.path("nowhere.git").display().to_string();
    for (body, wanted) in [
        (json!({}), "`repo_url` must name"),
        (json!({"repo_url": gone}), "there is no repository at"),
        (json!({"repo_url": "https://127.0.0.1:1/o/r"}), "cannot be reached"),
        (json!({"repo_url": repo.url(), "base_ref": "nope"}), "no branch, tag or commit `nope`"),
        (json!({"repo_url": repo.url(), "task": "x"}), "unknown field task"),
    ] {
        let (status, answer) = server.send("/worktrees", &[], &body.to_string());
        assert!(status == 400 && why(&answer).contains(wanted), "{body}: {status} {answer}");
    }
    let job = server.submit(json!({"task": "[[say x]]"}));
    for (body, status, wanted) in [
        (json!({"worktree_id": "nonsense"}), 400, "is a UUID"),
        (json!({"worktree_id": job}), 400, "is a job, and no worktree"),
        (json!({"worktree_id": id, "repo_url": "https://example.com/o/r"}), 400, "leave `repo_url` out"),
        (json!({"worktree_id": id, "base_ref": "other"}), 400, "leave `base_ref` out"),
    ] {
        let mut body = body;
        body["task"] = json!("[[say x]]");
        let (said, answer) = server.post(&body);
        assert!(said == status && why(&answer).contains(wanted), "{body}: {said} {answer}");
    }
    // The contract's clients send what they know.
    let fits = json!({"task": "[[say x]]", "worktree_id": id, "repo_url": repo.url(), "base_ref": "main"});
    assert_eq!(server.run(fits)["status"], "succeeded");
    let (status, answer) = server.request("DELETE", "/worktrees?max_age_hours=soon", None);
    assert!(status == 400 && why(&answer).contains("number of hours"), "{answer}");
    let (status, answer) = server.request("DELETE", &format!("/worktrees/{id}?discard=yes"), None);
    assert!(status == 400 && why(&answer).contains("true or false"), "{answer}");
    // What fails once it was accepted is no success, and no worktree.
    std::fs::remove_dir_all(lab.path("repos")).unwrap();
    std::fs::write(lab.path("repos"), "in the way").unwrap();
    let (status, answer) = server.send("/worktrees", &[], &json!({"repo_url": repo.url()}).to_string());
    assert_eq!((status, &answer["success"]), (200, &json!(false)), "{answer}");
    assert!(why(&answer).contains("repos"), "{answer}");
    assert_eq!(server.get("/worktrees").1["count"], 1);
    server.stop();
}

#[test]
fn in_a_fleet_a_job_goes_to_the_pod_that_has_the_worktree() {
    let Some(fleet) = Fleet::new() else { return };
    let (a, b) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let request = json!({"repo_url": fleet.job("")["repo_url"]});
    // One on each pod: the pod that does not make the first makes the second, if the first is kept busy.
    let made: Vec<Value> = (0..2).map(|_| prepare(&a, &request)).collect();
    for server in [&a, &b] {
        let listed = server.get("/worktrees").1;
        assert_eq!(listed["count"], 2, "{listed}");
        for worktree in &made {
            let id = worktree["id"].as_str().unwrap();
            assert_eq!(show(server, id).1["worktree"], *worktree);
        }
    }
    // Redis loses everything; the line of the pod as well.
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    eventually("they are listed again", || (b.get("/worktrees").1["count"] == 2).then_some(()));
    let mut ended = Vec::new();
    for worktree in &made {
        let (id, pod) = (worktree["id"].as_str().unwrap(), worktree["pod"].as_str().unwrap());
        for server in [&a, &b] {
            let body = json!({"task": "[[write x.txt more]] [[bash date +%s%N > y.txt]]", "worktree_id": id});
            let (status, answer) = eventually("the pods are known again", || {
                let told = server.post(&body);
                (told.0 != 409 || !why(&told.1).contains("is gone")).then_some(told)
            });
            assert_eq!(status, 200, "{answer}");
            let job = server.wait(answer["job"]["id"].as_str().unwrap());
            assert_eq!((&job["status"], &job["pod_name"]), (&json!("succeeded"), &json!(pod)), "{job}");
            ended.push(job["id"].as_str().unwrap().to_owned());
        }
    }
    fleet.check_ledger(&a, &ended);
    assert!(ended.iter().all(|id| a.job(id)["worktree_path"].is_string()));
    // Removed by either pod, wherever it is.
    for (worktree, server) in made.iter().zip([&a, &b]) {
        let id = worktree["id"].as_str().unwrap();
        let other = if worktree["pod"] == "pod-a" { &b } else { &a };
        let (status, answer) = remove(other, id);
        assert_eq!((status, show(server, id).0), (200, 404), "{answer}");
        let disk = fleet.disk_of(worktree["pod"].as_str().unwrap()).join("worktrees").join(id);
        assert!(!disk.exists() && answer["worktree"]["path"].is_null(), "{answer}");
    }
    // The jobs that worked there name it no more.
    for (id, server) in ended.iter().flat_map(|id| [(id, &a), (id, &b)]) {
        assert!(server.job(id)["worktree_path"].is_null());
    }
    fleet.finish(vec![a, b]);
}

#[test]
fn a_pod_that_is_gone_takes_no_job_and_what_waited_for_it_ends() {
    let Some(fleet) = Fleet::new() else { return };
    let one = [("AGENTICORE_MAX_PARALLEL_JOBS", "1")];
    let a = fleet.pod_with("pod-a", &one);
    let made = prepare(&a, &json!({"repo_url": fleet.job("")["repo_url"]}));
    let id = made["id"].as_str().unwrap();
    let b = fleet.pod("pod-b");
    // The pod is busy, so the job waits in the pod's own line; nobody else takes it.
    let gate = fleet.lab.path("gate");
    let mut busy = fleet.job("");
    busy["task"] = json!(format!("[[wait-for {}]] [[say done]]", gate.display()));
    let busy = eventually("pod-a is busy", || {
        let id = b.submit(busy.clone());
        let runs_on = eventually("it runs", || b.job(&id)["pod_name"].as_str().map(str::to_owned));
        (runs_on == "pod-a").then_some(id)
    });
    let waits = b.submit(json!({"task": "[[say x]]", "worktree_id": id}));
    let line: usize = fleet.redis.ask(&["LLEN", "agenticore:queue:pod-a"]);
    assert_eq!((line, b.job(&waits)["status"].as_str().unwrap()), (1, "queued"));
    a.kill();
    let ended = b.wait(&waits);
    assert_eq!(ended["status"], "failed", "{ended}");
    assert!(ended["error"].as_str().unwrap().contains("pod-a, which alone had its worktree, is gone"), "{ended}");
    let (_, shown) = show(&b, id);
    assert_eq!(shown["worktree"]["status"], "pod_gone", "{shown}");
    let (status, answer) = b.post(&json!({"task": "[[say x]]", "worktree_id": id}));
    assert!(status == 409 && why(&answer).contains("is gone"), "{answer}");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(b.wait(&busy)["status"], "succeeded");
    // What is on its disk nobody can see from here: it is given up only on purpose.
    let (status, answer) = remove(&b, id);
    assert!(status == 409 && why(&answer).contains("on the disk of pod-a, which is not there"), "{answer}");
    let (status, answer) = b.request("DELETE", &format!("/worktrees?paths={id}"), None);
    assert_eq!((status, &answer["count"], &answer["kept"][0]["id"]), (200, &json!(0), &json!(id)), "{answer}");
    let (status, answer) = b.request("DELETE", &format!("/worktrees/{id}?discard=true"), None);
    assert_eq!((status, show(&b, id).0), (200, 404), "{answer}");
    // The pod comes back, and tidies its disk.
    let a = fleet.pod_with("pod-a", &one);
    let disk = fleet.disk_of("pod-a").join("worktrees").join(id);
    eventually("its disk is tidy", || (!disk.exists()).then_some(()));
    fleet.finish(vec![a, b]);
}

#[test]
fn a_removal_that_was_cut_off_is_carried_on_and_nobody_works_in_the_rest() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let made = prepare(&server, &json!({"repo_url": repo.url()}));
    let (id, path) = (made["id"].as_str().unwrap(), made["path"].as_str().unwrap());
    // Somebody holds the repository's lock: the removal is decided, and does not come further.
    let cache = std::fs::read_dir(lab.path("repos")).unwrap().flatten().next().unwrap().path();
    let held = std::fs::File::open(cache.join(".lock")).unwrap();
    fs2::FileExt::lock_exclusive(&held).unwrap();
    thread::scope(|scope| {
        let asked = scope.spawn(|| remove(&server, id));
        eventually("it is being removed", || (show(&server, id).1["worktree"]["status"] == "removing").then_some(()));
        let (status, answer) = server.post(&json!({"task": "[[say x]]", "worktree_id": id}));
        assert!(status == 409 || status == 503, "{answer}");
        let (status, answer) = asked.join().unwrap();
        assert!(status == 409 && why(&answer).contains("its removal goes on"), "{answer}");
    });
    server.kill();
    drop(held);
    let server = lab.serve();
    eventually("it is gone", || (show(&server, id).0 == 404 && !Path::new(path).exists()).then_some(()));
    server.stop();
    lab.assert_tidy();
}

#[test]
fn what_a_job_could_not_publish_keeps_the_worktree_and_what_it_did_is_published_once() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let made = || prepare(&server, &json!({"repo_url": repo.url()}))["id"].as_str().unwrap().to_owned();
    let run = |id: &str, task: &str| server.run(json!({"task": task, "worktree_id": id}));
    // Of a repository of its own only the commit's name is published.
    let nested = made();
    let task =
        "[[bash mkdir n && cd n && git init -q && echo precious > f && git add f && git commit -qm n]] [[say ok]]";
    let job = run(&nested, task);
    assert!(job["kept_because"].as_str().unwrap().contains("repository of its own"), "{job}");
    let (status, answer) = remove(&server, &nested);
    assert_eq!(status, 409, "{answer}");
    assert_eq!(server.request("DELETE", &format!("/worktrees/{nested}?discard=true"), None).0, 200);
    // An agent that leaves another branch checked out: the next job adds nothing, and all is published.
    let other = made();
    let first = run(&other, "[[bash git checkout -q -b mine]] [[write m.txt 1]] [[say ok]]");
    assert_eq!(repo.file(first["branch"].as_str().unwrap(), "m.txt").as_deref(), Some("1"));
    let second = run(&other, "[[say nothing]]");
    assert!(second["note"].as_str().unwrap().contains("changed nothing"), "{second}");
    assert_eq!(remove(&server, &other).0, 200);
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_request_that_is_sent_again_is_the_same_whatever_became_of_what_it_names() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let send = |path: &str, key: &str, body: &Value| server.send(path, &[("Idempotency-Key", key)], &body.to_string());
    let prepared = json!({"repo_url": repo.url()});
    let (_, first) = send("/worktrees", "w", &prepared);
    let id = first["worktree"]["id"].as_str().unwrap();
    let gate = lab.path("gate");
    let job = json!({"task": format!("[[wait-for {}]] [[say done]]", gate.display()), "worktree_id": id});
    let (status, one) = send("/jobs", "j", &job);
    assert_eq!(status, 200, "{one}");
    let (status, two) = send("/jobs", "j", &job);
    assert_eq!((status, &two["job"]["id"]), (200, &one["job"]["id"]), "{two}");
    std::fs::write(&gate, "").unwrap();
    server.wait(one["job"]["id"].as_str().unwrap());
    std::fs::rename(&repo.path, lab.path("moved.git")).unwrap();
    let (status, again) = send("/worktrees", "w", &prepared);
    assert_eq!((status, &again["worktree"]["id"]), (200, &json!(id)), "{again}");
    assert_eq!(remove(&server, id).0, 200);
    let (status, three) = send("/jobs", "j", &job);
    assert_eq!((status, &three["job"]["id"]), (200, &one["job"]["id"]), "{three}");
    server.stop();
}

#[test]
fn a_job_finds_nothing_half_done_by_the_one_before_and_is_not_held_back_by_what_is_published() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.commit("other", &[("other.txt", "1")]);
    let server = lab.serve();
    let made = prepare(&server, &json!({"repo_url": repo.url()}));
    let run = |habit: &str| {
        let job = server.run(json!({"task": format!("[[bash {habit}]]"), "worktree_id": made["id"]}));
        assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{habit}: {job:#}");
        job["branch"].as_str().unwrap().to_owned()
    };
    let branch = run("git merge -q --no-commit --no-ff origin/other");
    assert_eq!(repo.git(&["rev-list", "--parents", "-1", &branch]).unwrap().split(' ').count(), 3, "a merge");
    let branch = run("git merge -q --no-edit origin/other && echo 1 > two.txt");
    assert_eq!(repo.file(&branch, "two.txt").as_deref(), Some("1"));
    run("git checkout -q -b feature; echo 1 > f.txt; git add f.txt; git commit -qm f");
    let branch = run("git reset -q --hard origin/main; echo 1 > g.txt");
    assert_eq!(repo.git(&["diff", "--name-status", "main", &branch]).unwrap(), "A\tg.txt");
    server.stop();
}
