//! What a server says on standard error: the story of each job, for people and for machines.

use crate::support::{Lab, eventually};
use serde_json::{Value, json};

/// Ids, times, commits, processes, places and durations differ; the rest is as it was.
fn without_what_differs(log: &str, lab: &Lab, id: &str, job: &Value) -> String {
    let mut text = log.replace(id, "ID").replace(&id[..8], "ID8");
    text = text.replace(&lab.dir.path().display().to_string(), "PLACE");
    for (name, shown) in [("commit", "COMMIT"), ("base_commit", "BASE")] {
        if let Some(commit) = job[name].as_str() {
            text = text.replace(commit, shown).replace(&commit[..12], shown);
        }
    }
    let word = |word: &str| -> String {
        let number = word.trim_end_matches(';');
        let is_time = word.len() == 24 && word.ends_with('Z') && word.contains('T');
        match number.parse::<f64>() {
            _ if is_time => "TIME".into(),
            Ok(_) => word.replace(number, "N"),
            Err(_) => word.into(),
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(|text| format!("{}\n", line(text))).collect()
}

fn golden(name: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), found, "WRITE_GOLDEN=1 writes {}", path.display());
}

#[test]
fn the_log_tells_the_story_of_a_job() {
    let lab = Lab::new().with("AGENTICORE_LOG_FORMAT", "text");
    let repo = lab.repo();
    let server = lab.serve();
    let good = server.submit(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url()}));
    let good = (good.clone(), server.wait(&good));
    let bad = server.submit(json!({"task": "[[exit 3]]"}));
    let bad = (bad.clone(), server.wait(&bad));
    let mut shown = String::new();
    for (id, job) in [&good, &bad] {
        let story = eventually("the last line is told", || {
            let log = server.log();
            let lines: Vec<&str> = log.lines().filter(|line| line.contains(&format!("job {id}: "))).collect();
            lines.last().is_some_and(|line| line.contains(": ended: ")).then(|| lines.join("\n"))
        });
        shown.push_str(&without_what_differs(&story, &lab, id, job));
    }
    golden("log.txt", &shown);
    server.stop();
}

#[test]
fn what_collects_lines_gets_json_that_can_be_searched() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let id = server.submit(json!({"task": "[[write a.txt 1]]", "repo_url": repo.url(), "profile": "coding"}));
    server.wait(&id);
    let ended = eventually("the end is told", || {
        let lines: Vec<Value> = server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().all(|line| line["time"].is_string() && line["level"].is_string()));
        let of_job: Vec<&Value> = lines.iter().filter(|line| line["job"] == id.as_str()).collect();
        let steps: Vec<String> = of_job.iter().filter_map(|line| line["step"].as_str().map(str::to_owned)).collect();
        let last = of_job.iter().find(|line| line["step"] == "ended").map(|line| (*line).clone())?;
        let expected = ["queued", "claimed", "cloned", "agent started", "agent ended", "committed", "pushed"];
        assert!(expected.iter().all(|step| steps.iter().any(|found| found == step)), "{steps:?}");
        Some(last)
    });
    assert_eq!((&ended["repository"], &ended["profile"]), (&json!(repo.url()), &json!("coding")));
    assert!(ended["seconds"].is_number() && ended["detail"] == "succeeded" && ended["attempt"] == 1, "{ended}");
    server.stop();
}

#[test]
fn a_level_leaves_out_what_matters_less() {
    let lab = Lab::new().with("AGENTICORE_LOG", "debug").with("AGENTICORE_LOG_FORMAT", "text");
    let server = lab.serve();
    assert_eq!(server.get("/jobs?limit=1&status=queued").0, 200);
    eventually("requests are told", || server.log().contains("debug GET /jobs: 200 in ").then_some(()));
    server.stop();
    let loud = lab.with("AGENTICORE_LOG", "loud").run(&["serve"]);
    let said = String::from_utf8_lossy(&loud.stderr).into_owned();
    assert!(loud.status.code() == Some(2) && said.contains("one of: error, warn, info, debug"), "{said}");
}

/// An end of line in what somebody else wrote would forge a line, an escape would act on the terminal that shows it.
#[test]
fn nothing_from_outside_acts_through_the_log() {
    let lab = Lab::new().with("AGENTICORE_LOG_FORMAT", "text").with("GITHUB_TOKEN", "ghp_abcdefghijkl");
    let server = lab.serve();
    let task = "[[say \u{1b}[2J\n2026-01-01T00:00:00.000Z info  forged ghp_abcdefghijkl]] [[exit 4]]";
    let id = server.submit(json!({"task": task}));
    let job = server.wait(&id);
    assert_eq!(job["status"], "failed", "{job:#}");
    eventually("the end is told", || server.log().contains(": ended: failed").then_some(()));
    let log = server.log();
    assert!(!log.contains('\u{1b}') && !log.contains("ghp_abcdefghijkl"), "{log}");
    assert!(!log.lines().any(|line| line.contains("info  forged")), "{log}");
    server.stop();
}
