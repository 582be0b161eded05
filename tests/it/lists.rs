//! Lists of jobs: filters, and cursors that stay right while jobs come and go. And going on with one of them.

use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};

fn tasks(answer: &Value) -> Vec<String> {
    answer["jobs"].as_array().unwrap().iter().map(|job| job["task"].as_str().unwrap().to_owned()).collect()
}

fn list(server: &Server, query: &str) -> Value {
    let (status, answer) = server.get(&format!("/jobs?{query}"));
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn jobs_are_found_by_what_they_are() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    server.run(json!({"task": "mend the PARSER [[say a]]", "labels": {"team": "core", "run": "1"}}));
    server.run(json!({"task": "look at it [[say b]]", "profile": "review", "repo_url": repo.url()}));
    let pushed =
        server.run(json!({"task": "write [[write a.txt 1]]", "repo_url": repo.url(), "labels": {"team": "core"}}));
    server.run(json!({"task": "breaks [[error no parser here]]"}));
    let branch = pushed["branch"].as_str().unwrap();
    for (query, wanted) in [
        ("q=parser", &["breaks", "mend"][..]),
        ("status=failed&q=parser", &["breaks"]),
        ("profile=review", &["look"]),
        ("repo=remote.git", &["write", "look"]),
        (&format!("repo={}", repo.url()), &["write", "look"]),
        (&format!("branch={branch}"), &["write"]),
        ("label=team%3Dcore", &["write", "mend"]),
        ("label=team%3Dcore&label=run%3D1", &["mend"]),
        ("since=1h", &["breaks", "write", "look", "mend"]),
        ("since=2999-01-01", &[]),
        ("mine=true&limit=1", &["breaks"]),
        ("submitted_by=nobody", &[]),
    ] {
        let found = tasks(&list(&server, query));
        let begins: Vec<&str> = found.iter().map(|task| task.split(' ').next().unwrap()).collect();
        assert_eq!(begins, wanted, "{query}");
    }
    for (query, why) in [
        ("since=soon", "`since` must be an age"),
        ("after=x", "`after` must be the `next` of a list"),
        ("label=x", "a label must be NAME=VALUE"),
        ("lable=x", "did you mean `label`?"),
    ] {
        let (status, answer) = server.get(&format!("/jobs?{query}"));
        assert!(status == 400 && answer["error"].as_str().unwrap().contains(why), "{query}: {answer}");
    }
    let lab = lab.with("AGENTICORE_PORT", server.port());
    let done = lab.run(&["jobs", "--label", "team=core", "--search", "parser", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap().as_array().unwrap().len(), 1, "{done:?}");
    server.stop();
}

#[test]
fn a_list_goes_on_behind_its_cursor_whatever_comes_and_goes() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "0");
    let server = lab.serve();
    let ids: Vec<String> = (0..7).map(|number| server.submit(json!({"task": format!("t{number}")}))).collect();
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&server, &format!("limit=2&view=summary&after={after}"));
        seen.extend(page["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        server.submit(json!({"task": "came meanwhile"}));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, ids);
    server.stop();
}

#[test]
fn a_job_is_resumed_by_its_id() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let resume = |id: &str, body: Value| {
        server.request("POST", &format!("/jobs/{id}/resume"), Some(body.to_string().as_bytes()))
    };
    let failed = server.run(json!({
        "task": "[[write f.txt 1]] [[error no]]", "repo_url": repo.url(), "labels": {"team": "core"}
    }));
    let (status, answer) = resume(failed["id"].as_str().unwrap(), json!({"task": "[[bash cat f.txt > g.txt]]"}));
    assert_eq!(status, 200, "{answer}");
    let job = server.wait(answer["job"]["id"].as_str().unwrap());
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "g.txt").as_deref(), Some("1"), "{job:#}");
    assert_eq!((&job["session_id"], &job["labels"]), (&failed["session_id"], &json!({"team": "core"})));
    // From the branch that it pushed, also through the command line.
    let lab = lab.with("AGENTICORE_PORT", server.port());
    let id = job["id"].as_str().unwrap();
    let done = lab.run(&["resume", &id[..8], "[[bash cat g.txt > h.txt]]", "--wait", "--json"]);
    let third: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(repo.file(third["branch"].as_str().unwrap(), "h.txt").as_deref(), Some("1"), "{third:#}");
    // The first one again: its conversation went on since, and so did the files.
    let again = resume(failed["id"].as_str().unwrap(), json!({"task": "[[bash cat h.txt > i.txt]]"})).1;
    let fourth = server.wait(again["job"]["id"].as_str().unwrap_or_else(|| panic!("{again}")));
    assert_eq!(repo.file(fourth["branch"].as_str().unwrap(), "i.txt").as_deref(), Some("1"), "{fourth:#}");
    assert_eq!(fourth["resumed_from"], third["id"]);
    for (id, body, status, why) in [
        (id, json!({}), 400, "`task`"),
        (id, json!({"task": "t", "profil": "x"}), 400, "unknown field profil"),
        ("00000000-0000-4000-8000-000000000000", json!({"task": "t"}), 404, "no such job"),
    ] {
        let (found, answer) = resume(id, body);
        assert!(found == status && answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    let runs = server.submit(json!({"task": "[[sleep 600000]]"}));
    eventually("it runs", || (server.job(&runs)["status"] == "running").then_some(()));
    assert_eq!(resume(&runs, json!({"task": "t"})).0, 409);
    server.cancel(&runs);
    let never = server.run(json!({"task": "t", "repo_url": repo.url(), "base_ref": "no-such"}));
    let (status, answer) = resume(never["id"].as_str().unwrap(), json!({"task": "t"}));
    assert!(status == 409 && answer["error"].as_str().unwrap().contains("retry it instead"), "{answer}");
    server.stop();
}
