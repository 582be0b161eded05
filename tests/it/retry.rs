//! An ended job's request again, as a new job, through every door; each of the two names the other.

use crate::support::fleet::Fleet;
use crate::support::{Lab, Server, eventually};
use serde_json::{Value, json};

fn retry(server: &Server, id: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    server.send(&format!("/jobs/{id}/retry"), headers, body)
}

const ASKED: [&str; 8] =
    ["task", "repo_url", "base_ref", "profile", "session_id", "file_path", "create_repo", "private"];

#[test]
fn a_retry_is_the_same_request_and_each_names_the_other() {
    let lab = Lab::new();
    let repo = lab.repo();
    lab.profile("careful", "description: c\n");
    let server = lab.serve();
    let request = json!({"task": "[[exit 3]]", "repo_url": repo.url(), "base_ref": "main", "profile": "careful",
        "private": false});
    let first = server.run(request);
    assert_eq!(
        (&first["status"], &first["retry_of"], &first["retried_as"]),
        (&json!("failed"), &json!(null), &json!(null))
    );
    let id = first["id"].as_str().unwrap();
    let (status, answer) = retry(&server, id, &[], "");
    assert_eq!((status, &answer["success"], &answer["job"]["retry_of"]), (200, &json!(true), &json!(id)), "{answer}");
    let second = answer["job"]["id"].as_str().unwrap();
    assert_ne!(second, id);
    let ended = server.wait(second);
    for field in ASKED.iter().filter(|field| **field != "session_id") {
        assert_eq!(ended[field], first[field], "{field}");
    }
    let noted = server.job(id);
    assert_eq!((&noted["retried_as"], &noted["ended_at"]), (&json!(second), &first["ended_at"]));
    // With wait the answer is the job as it ended; a prefix of the id will do.
    let (status, waited) = retry(&server, &id[..8], &[], r#"{"wait": true}"#);
    assert_eq!((status, &waited["job"]["status"], &waited["job"]["mode"]), (200, &json!("failed"), &json!("sync")));
    // A key makes it one job however often it is sent, and is not another request's.
    let key = [("Idempotency-Key", "again")];
    let (_, once) = retry(&server, id, &key, "{}");
    let (_, twice) = retry(&server, id, &key, "{}");
    assert_eq!(once["job"]["id"], twice["job"]["id"]);
    assert_eq!(retry(&server, second, &key, "{}").0, 422);
    assert_eq!(server.job(id)["retried_as"], once["job"]["id"], "the latest");
    let lab = server.stop().map(|_| lab).unwrap();
    let server = lab.serve();
    assert_eq!(server.job(id)["retried_as"], once["job"]["id"]);
    assert_eq!(server.job(second)["retry_of"], id);
    server.stop();
}

#[test]
fn what_cannot_be_retried_is_refused_in_a_sentence() {
    let lab = Lab::new();
    let profile = lab.profile("gone-soon", "description: c\n");
    let server = lab.serve();
    let gate = lab.path("gate");
    let runs = server.submit(json!({"task": format!("[[wait-for {}]] [[say done]]", gate.display())}));
    let (status, answer) = retry(&server, &runs, &[], "");
    let why = answer["error"].as_str().unwrap();
    assert!(status == 409 && why.contains("only a job that has ended") && answer["job"]["id"] == runs, "{answer}");
    std::fs::write(&gate, "").unwrap();
    server.wait(&runs);
    let (status, answer) = retry(&server, &runs, &[], r#"{"task": "another"}"#);
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("`wait` alone"), "{answer}");
    assert_eq!(retry(&server, "00000000-0000-4000-8000-000000000000", &[], "").0, 404);
    assert_eq!(server.request("GET", &format!("/jobs/{runs}/retry"), None).0, 405);
    let with_profile = server.run(json!({"task": "[[say done]]", "profile": "gone-soon"}));
    std::fs::remove_dir_all(profile).unwrap();
    let (status, answer) = retry(&server, with_profile["id"].as_str().unwrap(), &[], "");
    assert!(status == 400 && answer["error"].as_str().unwrap().contains("gone-soon"), "{answer}");
    assert_eq!(server.get("/jobs").1["count"], 2, "nothing was made of what was refused");
    server.stop();
}

#[test]
fn the_command_and_the_tool_retry_too() {
    let lab = Lab::new();
    let server = lab.serve();
    let id = server.run(json!({"task": "[[say one]]"}))["id"].as_str().unwrap().to_owned();
    let run = |words: &[&str]| {
        let output = lab.command(words).env("AGENTICORE_URL", &server.url).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told, _) = run(&["retry", &id[..8]]);
    assert!(code == Some(0) && told.starts_with("queued "), "{told}");
    let (code, told, _) = run(&["retry", &id, "--wait", "--json"]);
    let job: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &job["status"], &job["retry_of"]), (Some(0), &json!("succeeded"), &json!(id)));
    let (_, shown, _) = run(&["job", &id]);
    assert!(shown.contains(&format!("retried_as     {}", job["id"].as_str().unwrap())), "{shown}");
    let (code, told, _) = run(&["retry", &id, &id, "--json"]);
    let both: Vec<Value> = serde_json::from_str(&told).unwrap();
    assert!(code == Some(0) && both.len() == 2 && both.iter().all(|job| job["retry_of"] == id), "{told}");
    let (code, told, refused) = run(&["retry", &id, "00000000-0000-4000-8000-000000000000"]);
    assert!(code == Some(2) && told.starts_with("queued ") && refused.contains("00000000"), "{told} {refused}");
    assert_eq!(run(&["retry", &id, &id, "--wait"]).0, Some(2));
    assert_eq!(run(&["retry"]).0, Some(2));
    assert_eq!(run(&["retry", "../x"]).0, Some(2));
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "retry_job", "arguments": {"job_id": id}}});
    let (_, answer) = server.send("/mcp", &[("Content-Type", "application/json")], &call.to_string());
    assert_eq!(answer["result"]["structuredContent"]["job"]["retry_of"], id.as_str(), "{answer}");
    server.stop();
}

#[test]
fn a_retry_is_linked_on_every_pod_also_when_redis_was_emptied() {
    let Some(fleet) = Fleet::new() else { return };
    let (first, second) = (fleet.pod("pod-a"), fleet.pod("pod-b"));
    let id = first.run(json!({"task": "[[exit 1]]"}))["id"].as_str().unwrap().to_owned();
    let (status, answer) = retry(&second, &id, &[], "");
    assert_eq!(status, 200, "{answer}");
    let again = answer["job"]["id"].as_str().unwrap();
    assert_eq!(first.job(&id)["retried_as"], again);
    first.wait(again);
    let _: () = fleet.redis.ask(&["FLUSHALL"]);
    eventually("both are known, and linked", || {
        let (earlier, later) = (first.get(&format!("/jobs/{id}")).1, second.get(&format!("/jobs/{again}")).1);
        (earlier["job"]["retried_as"] == again && later["job"]["retry_of"] == id.as_str()).then_some(())
    });
    fleet.finish(vec![first, second]);
}
