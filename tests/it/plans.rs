//! Plans: made by an agent that changes nothing, kept with the record, carried out once.

use crate::support::fleet::Fleet;
use crate::support::{GitHub, Lab, Server, eventually};
use serde_json::{Value, json};
use std::thread;

fn plan(server: &Server, body: Value) -> Value {
    let (status, mut answer) = server.send("/plans", &[], &body.to_string());
    assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
    answer["plan"].take()
}

fn ready(server: &Server, id: &str) -> Value {
    eventually("the plan is over", || {
        let (status, mut answer) = server.get(&format!("/plans/{id}"));
        assert_eq!(status, 200, "{answer}");
        let plan = answer["plan"].take();
        (!["queued", "running"].contains(&plan["status"].as_str().unwrap())).then_some(plan)
    })
}

fn execute(server: &Server, id: &str, body: &str) -> (u16, Value) {
    server.send(&format!("/plans/{id}/execute"), &[], body)
}

const SLUG: &str = "me/project";

#[test]
fn a_plan_is_made_kept_and_carried_out_once_at_its_commit() {
    let mut lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    lab = lab.with_all(github.variables_with_token());
    let repo = github.repository(SLUG);
    let url = github.repo_url(SLUG);
    let server = lab.serve();
    // It writes only once it is told to carry the plan out.
    let gate = lab.path("gate").display().to_string();
    let task = format!("Improve it. [[bash test ! -e {gate} || echo planned > a.txt]] [[say 1. write a.txt]]");
    let made = plan(&server, json!({"task": task, "repo_url": url}));
    let id = made["id"].as_str().unwrap();
    assert!(["queued", "running", "ready"].contains(&made["status"].as_str().unwrap()), "{made}");
    assert_eq!((&made["task"], &made["job_id"]), (&json!(task), &json!(null)));
    let first = ready(&server, id);
    assert_eq!((&first["status"], &first["error"], &first["note"]), (&json!("ready"), &json!(null), &json!(null)));
    assert!(first["plan"].as_str().unwrap().contains("1. write a.txt"), "{first}");
    let base = first["base_commit"].as_str().unwrap().to_owned();
    // The branch moves on; the plan does not.
    repo.commit("main", &[("later.txt", "later")]);
    server.stop();
    let server = lab.serve();
    assert_eq!(ready(&server, id), first);
    let (status, listed) = server.get("/plans?limit=5");
    assert_eq!((status, &listed["count"], &listed["plans"][0]), (200, &json!(1), &first), "{listed}");
    std::fs::write(&gate, "").unwrap();
    // Ten at once make one job.
    let answers: Vec<Value> = thread::scope(|scope| {
        let asked: Vec<_> = (0..10).map(|_| scope.spawn(|| execute(&server, id, "{}"))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap().1).collect()
    });
    let job = answers[0]["job"]["id"].as_str().unwrap();
    assert!(answers.iter().all(|answer| answer["job"]["id"] == job), "{answers:#?}");
    let done = server.wait(job);
    assert_eq!(
        (&done["status"], &done["plan_id"], &done["profile"]),
        (&json!("succeeded"), &json!(id), &json!("coding"))
    );
    assert_eq!((&done["base_commit"], &done["pr_base"]), (&json!(base), &json!("main")), "{done}");
    let task = done["task"].as_str().unwrap();
    assert!(task.starts_with("Improve it.") && task.contains(first["plan"].as_str().unwrap()), "{task}");
    assert_eq!(github.pulls().len(), 1);
    assert_eq!(ready(&server, id)["job_id"], job);
    assert_eq!(server.job(id)["executed_as"], job);
    let (status, again) = execute(&server, id, "");
    assert_eq!((status, &again["job"]["id"]), (200, &json!(job)), "{again}");
    let (status, other) = execute(&server, id, r#"{"profile": "review"}"#);
    let why = other["error"].as_str().unwrap();
    assert!(status == 409 && why.contains("carried out by job") && why.contains("coding"), "{other}");
    let (status, other) = execute(&server, id, r#"{"repo_url": "https://example.com/another"}"#);
    assert!(status == 400 && other["error"].as_str().unwrap().contains("was made for"), "{other}");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn an_agent_that_wrote_files_has_planned_all_the_same_and_nothing_of_it_is_published() {
    let mut lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    lab = lab.with_all(github.variables_with_token());
    let repo = github.repository(SLUG);
    // Also where a user's own profile of that name would publish.
    lab.profile("plan", "description: mine\nauto_pr: true\n");
    let server = lab.serve();
    let body =
        json!({"task": "[[write x.txt oops]] [[say the plan]]", "repo_url": github.repo_url(SLUG), "wait": true});
    let (status, answer) = server.send("/plans", &[], &body.to_string());
    let plan = &answer["plan"];
    assert_eq!((status, &plan["status"], &plan["plan"]), (200, &json!("ready"), &json!("the plan")), "{answer}");
    assert!(plan["note"].as_str().unwrap().contains("changed files, although it was only to plan"), "{answer}");
    assert_eq!((github.pulls().len(), repo.branches()), (0, vec!["main".to_owned()]));
    let job = server.job(plan["id"].as_str().unwrap());
    assert_eq!((&job["purpose"], &job["pushed"], &job["pr_url"]), (&json!("plan"), &json!(false), &json!(null)));
    server.stop();
}

#[test]
fn a_plan_that_is_not_ready_is_not_carried_out_and_says_why() {
    let lab = Lab::new();
    let server = lab.serve();
    let gate = lab.path("gate");
    let waits = plan(&server, json!({"task": format!("[[wait-for {}]] [[say ok]]", gate.display())}));
    let id = waits["id"].as_str().unwrap();
    let (status, answer) = execute(&server, id, "{}");
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("once it is ready"), "{answer}");
    std::fs::write(&gate, "").unwrap();
    ready(&server, id);
    let fails = plan(&server, json!({"task": "[[exit 3]]"}));
    let failed = ready(&server, fails["id"].as_str().unwrap());
    assert_eq!((&failed["status"], &failed["plan"]), (&json!("failed"), &json!(null)), "{failed}");
    assert!(failed["error"].is_string());
    let (status, answer) = execute(&server, failed["id"].as_str().unwrap(), "{}");
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("nothing to carry out"), "{answer}");
    // A plan that says nothing is none, and half a one is not carried out.
    for (task, wanted) in [("[[say ]]", "wrote no plan"), ("[[big 60000]]", "was cut")] {
        let none = plan(&server, json!({"task": task}));
        let none = ready(&server, none["id"].as_str().unwrap());
        assert!(none["status"] == "failed" && none["error"].as_str().unwrap().contains(wanted), "{none}");
        assert_eq!(execute(&server, none["id"].as_str().unwrap(), "{}").0, 409);
    }
    // A retry plans again.
    let (_, again) = server.send(&format!("/jobs/{}/retry", failed["id"].as_str().unwrap()), &[], "");
    assert_eq!(again["job"]["purpose"], "plan", "{again}");
    // What is no plan is none.
    let job = server.submit(json!({"task": "[[say x]]"}));
    for (path, wanted) in [
        (format!("/plans/{job}"), "is a job, and no plan"),
        ("/plans/00000000-0000-4000-8000-000000000000".into(), "no such plan"),
    ] {
        let (status, answer) = server.get(&path);
        assert!(status == 404 && answer["error"].as_str().unwrap().contains(wanted), "{answer}");
    }
    for (body, wanted) in [
        (json!({}), "`task` must say"),
        (json!({"task": " "}), "`task` must say"),
        (json!({"task": "x", "profile": "coding"}), "unknown field profile"),
        (json!({"task": "x", "base_ref": "main"}), "needs a `repo_url`"),
    ] {
        let (status, answer) = server.send("/plans", &[], &body.to_string());
        assert!(status == 400 && answer["error"].as_str().unwrap().contains(wanted), "{body}: {answer}");
    }
    // One key, one plan; and it is none of a job's.
    let key = [("Idempotency-Key", "k")];
    let send = |path: &str| server.send(path, &key, r#"{"task": "[[say x]]"}"#);
    assert_eq!(send("/plans").1["plan"]["id"], send("/plans").1["plan"]["id"]);
    assert_eq!(send("/jobs").0, 422);
    server.stop();
}

#[test]
fn the_commands_plan_list_and_carry_out() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let lab = lab.with("AGENTICORE_URL", server.url.clone());
    let run = |arguments: &[&str]| {
        let output = lab.run(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&["plan", "[[say the plan]]", "--repo", &repo.url(), "--wait"]);
    assert_eq!((code, out.as_str()), (0, "the plan\n"), "{err}");
    let tail = err.rsplit("execute-plan ").next().unwrap().trim().to_owned();
    let (code, out, _) = run(&["plans"]);
    assert!(code == 0 && out.contains("ready") && out.contains(&tail), "{out}");
    let (code, out, err) = run(&["execute-plan", &tail, "--wait", "--json"]);
    let job: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &job["status"]), (0, &json!("succeeded")), "{err}");
    let (_, out, _) = run(&["plans", "--json", "-n", "1"]);
    let listed: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed[0]["job_id"], job["id"], "{listed}");
    let (code, out, _) = run(&["plan", "[[exit 3]]"]);
    assert!(code == 0 && out.contains("execute-plan"), "{out}");
    let id = out.split_whitespace().nth(1).unwrap();
    ready(&server, id);
    let (code, _, err) = run(&["execute-plan", id]);
    assert!(code == 2 && err.contains("failed"), "{err}");
    server.stop();
}

#[test]
fn in_a_fleet_a_plan_is_found_and_carried_out_on_any_pod_also_after_redis_was_emptied() {
    let Some(fleet) = Fleet::new() else { return };
    let (a, b) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let made = plan(&a, fleet.job("[[say the plan]]"));
    let id = made["id"].as_str().unwrap();
    let first = ready(&b, id);
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    eventually("it is listed again", || (b.get("/plans").1["count"] == 1).then_some(()));
    assert_eq!(ready(&b, id), first);
    let (_, one) = execute(&a, id, "");
    let (_, two) = execute(&b, id, "");
    assert_eq!(one["job"]["id"], two["job"]["id"], "{one} {two}");
    let job = a.wait(one["job"]["id"].as_str().unwrap());
    assert_eq!((&job["status"], &job["base_commit"]), (&json!("succeeded"), &first["base_commit"]));
    fleet.finish(vec![a, b]);
}
