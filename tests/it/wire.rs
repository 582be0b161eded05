//! The wire, field by field, as it was when it was written down (`golden/wire.json`): every answer of every route,
//! and what the commands print with `--json`. `WRITE_GOLDEN=1` writes it anew.

use crate::support::{Lab, Server, eventually};
use serde_json::{Map, Value, json};
use std::path::Path;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/wire.json");

/// What differs from run to run, replaced by what kind of thing it is.
fn normal(value: &Value, lab: &Path, port: &str) -> Value {
    match value {
        Value::Object(fields) => {
            let same = |(name, value): (&String, &Value)| {
                let value = match (name.as_str(), value) {
                    ("pid", Value::Number(_)) => json!("<pid>"),
                    ("commit" | "base_commit", Value::String(_)) => json!("<commit>"),
                    (_, value) => normal(value, lab, port),
                };
                (name.clone(), value)
            };
            Value::Object(fields.iter().map(same).collect())
        }
        Value::Array(items) => items.iter().map(|item| normal(item, lab, port)).collect(),
        Value::String(text) => {
            json!(normal_text(
                &text.replace(&lab.display().to_string(), "<lab>").replace(&format!(":{port}"), ":<port>")
            ))
        }
        other => other.clone(),
    }
}

fn normal_text(text: &str) -> String {
    let is_uuid = |word: &str| {
        let parts: Vec<usize> = word.split('-').map(str::len).collect();
        parts == [8, 4, 4, 4, 12] && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
    };
    let is_time = |text: &str| text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T';
    if is_time(text) {
        return "<time>".into();
    }
    let mut found = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || c == '-' {
            word.push(c);
            continue;
        }
        let is_branch = word.strip_prefix("agenticore-").is_some_and(|id| id.len() == 8);
        found.push_str(match () {
            () if is_uuid(&word) => "<uuid>",
            () if is_branch => "<branch>",
            () => &word,
        });
        word.clear();
        if c != '\0' {
            found.push(c);
        }
    }
    found
}

fn queued_forever() -> Lab {
    Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "0")
}

fn told(server: &Server, method: &str, path: &str, body: &str) -> Value {
    let (status, answer) = server.request(method, path, Some(body.as_bytes()));
    json!({"status": status, "body": answer})
}

#[test]
fn the_wire_is_as_it_was() {
    let lab = Lab::new().with("AGENTICORE_JOB_TTL", "3600");
    let repo = lab.repo();
    let server = lab.serve();
    let mut seen = Map::new();
    let mut note = |lab: &Lab, server: &Server, name: &str, value: Value| {
        seen.insert(name.to_owned(), normal(&value, lab.dir.path(), &server.port()));
    };
    let publish = json!({"task": "[[write a.txt 1]] [[say done]]", "repo_url": repo.url(), "wait": true}).to_string();
    note(&lab, &server, "POST /jobs, wait, pushed", told(&server, "POST", "/jobs", &publish));
    let failing = json!({"task": "[[say no]] [[exit 3]]", "wait": true}).to_string();
    let failed = told(&server, "POST", "/jobs", &failing);
    let id = failed["body"]["job"]["id"].as_str().unwrap().to_owned();
    note(&lab, &server, "POST /jobs, wait, failed", failed);
    note(&lab, &server, "GET /jobs/{id}", told(&server, "GET", &format!("/jobs/{id}"), ""));
    note(&lab, &server, "DELETE /jobs/{id}, too late", told(&server, "DELETE", &format!("/jobs/{id}"), ""));
    let running = server.submit(json!({"task": "[[say working]] [[sleep 600]]"}));
    eventually("it says something", || server.job(&running)["session_id"].is_string().then_some(()));
    note(&lab, &server, "GET /jobs/{id}, running", told(&server, "GET", &format!("/jobs/{running}"), ""));
    note(&lab, &server, "GET /jobs?status=running", told(&server, "GET", "/jobs?status=running", ""));
    note(&lab, &server, "GET /admin/drain", told(&server, "GET", "/admin/drain", ""));
    note(&lab, &server, "DELETE /jobs/{id}, running", told(&server, "DELETE", &format!("/jobs/{running}"), ""));
    note(&lab, &server, "DELETE /jobs/{id}, again", told(&server, "DELETE", &format!("/jobs/{running}"), ""));
    note(&lab, &server, "GET /profiles", told(&server, "GET", "/profiles", ""));
    note(&lab, &server, "GET /health", told(&server, "GET", "/health", ""));
    note(&lab, &server, "GET /ready", told(&server, "GET", "/ready", ""));
    for (name, method, path, body) in [
        ("no such job", "GET", "/jobs/00000000-0000-4000-8000-000000000000", ""),
        ("no such id", "GET", "/jobs/zzzz", ""),
        ("no JSON", "POST", "/jobs", "{"),
        ("a field twice wrong", "POST", "/jobs", r#"{"task":1}"#),
        ("no such limit", "GET", "/jobs?limit=0", ""),
        ("no such timeout", "POST", "/admin/drain?timeout=x", ""),
    ] {
        note(&lab, &server, name, told(&server, method, path, body));
    }
    let of_command = |lab: &Lab, server: &Server, words: &[&str]| -> Value {
        let output = lab.command(words).env("AGENTICORE_PORT", server.port()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        json!({"exit": output.status.code(), "json": serde_json::from_str::<Value>(&text).unwrap_or(json!(text))})
    };
    for words in [
        &["jobs", "--json", "-n", "1", "-s", "failed"][..],
        &["job", &id, "--json"],
        &["profiles", "--json"],
        &["status", "--json"],
        &["run", "[[say yes]]", "--wait", "--json"],
    ] {
        let name = format!("agenticore {}", words.join(" ").replace(&id, "ID"));
        let mut told = of_command(&lab, &server, words);
        // What each check found is this machine's own.
        if let Some(Value::Array(checks)) = told["json"].get_mut("checks") {
            checks.iter_mut().for_each(|check| *check = check["name"].take());
        }
        note(&lab, &server, &name, told);
    }
    note(&lab, &server, "POST /admin/drain", told(&server, "POST", "/admin/drain?timeout=0", ""));
    note(&lab, &server, "GET /ready, draining", told(&server, "GET", "/ready", ""));
    note(&lab, &server, "GET /health, draining", told(&server, "GET", "/health", ""));
    note(&lab, &server, "DELETE /admin/drain", told(&server, "DELETE", "/admin/drain", ""));
    server.stop();

    let lab = queued_forever().with("AGENTICORE_API_KEYS", "secret-key");
    let server = lab.serve();
    note(&lab, &server, "no key", told(&server, "GET", "/jobs", ""));
    let queued = told(&server, "POST", "/jobs?api_key=secret-key", r#"{"task":"[[say hello]]","private":false}"#);
    let id = queued["body"]["job"]["id"].as_str().unwrap().to_owned();
    note(&lab, &server, "POST /jobs, queued", queued);
    note(&lab, &server, "GET /jobs, queued", told(&server, "GET", "/jobs?api_key=secret-key", ""));
    let cancelled = told(&server, "DELETE", &format!("/jobs/{id}?api_key=secret-key"), "");
    note(&lab, &server, "DELETE /jobs/{id}, queued", cancelled);
    server.stop();

    let found = format!("{:#}\n", Value::Object(seen));
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &found).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    let differs = golden.lines().zip(found.lines()).enumerate().find(|(_, (was, is))| was != is);
    assert_eq!(differs, None, "the wire is not as it was; see {GOLDEN}");
    assert_eq!(golden.lines().count(), found.lines().count());
}
