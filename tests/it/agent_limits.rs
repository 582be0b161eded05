//! Agents that do not behave: each ends its job with one clear sentence, and nothing else.

use crate::support::{Lab, events, eventually, kinds};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn error_of(lab: &Lab, request: Value) -> String {
    let server = lab.serve();
    let job = server.run(request);
    assert_eq!(job["status"], "failed", "{job:#}");
    assert_eq!(server.get("/health").0, 200);
    server.stop();
    lab.assert_tidy();
    job["error"].as_str().unwrap().to_owned()
}

#[test]
fn ways_to_end_badly() {
    let lab = Lab::new();
    lab.profile("brief", "claude: {timeout: 1}");
    let repo = lab.repo();
    for (task, why) in [
        ("[[exit 1]]", "exited with code 1 without reporting a result"),
        ("[[mute]]", "exited with code 0 without reporting a result"),
        ("[[raw complete garbage]] [[exit 3]]", "exited with code 3 without reporting a result: complete garbage"),
        ("[[signal 9]]", "was ended by signal 9"),
        ("[[error API Error: 529]]", "API Error: 529"),
        ("[[nonsense]]", "knows no [[nonsense]]"),
    ] {
        let error = error_of(&lab, json!({"task": task, "repo_url": repo.url()}));
        assert!(error.contains(why), "{task}: {error}");
    }
    let error = error_of(&lab, json!({"task": "[[sleep 600000]]", "profile": "brief"}));
    assert!(error.contains("time limit of 1 s"), "{error}");
}

#[test]
fn programs_that_are_no_claude() {
    let lab = Lab::new();
    let script = |name: &str, text: &str, mode: u32| {
        let path = lab.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let cases = [
        (lab.path("nothing").display().to_string(), "which is not here"),
        (script("data", "#!/bin/sh\n", 0o644), "is not executable"),
        (script("nothing-said", "#!/bin/sh\nexit 0\n", 0o755), "exited with code 0 without"),
        (script("garbage", "#!/bin/sh\nhead -c 3000 /dev/urandom\n", 0o755), "without reporting a result"),
    ];
    for (binary, why) in cases {
        let mut lab = Lab::new();
        lab.set("AGENTICORE_CLAUDE_BINARY", binary);
        if why.starts_with("exited") || why.starts_with("without") {
            let error = error_of(&lab, json!({"task": "t"}));
            assert!(error.contains(why), "{error}");
            continue;
        }
        // What cannot be started is no job's fault: it waits, and says why. In front of its user it fails at once.
        let server = lab.serve();
        let id = server.submit(json!({"task": "t"}));
        // One reading: between two of them the next try may have begun.
        let (status, waits) = eventually("it waits", || {
            let job = server.job(&id);
            Some((job["status"].clone(), job["waiting_for"].as_str()?.to_owned()))
        });
        assert!(waits.contains(why) && status == "queued", "{status}: {waits}");
        server.stop();
        let local = lab.run(&["run", "--local", "--json", "t"]);
        let said = [local.stdout, local.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(local.status.code() == Some(1) && said.contains(why), "{said}");
    }
}

#[test]
fn silence_is_a_stall() {
    let lab = Lab::new().with("AGENTICORE_STALL_TIMEOUT", "500ms");
    let error = error_of(&lab, json!({"task": "[[sleep 600000]]"}));
    assert!(error.contains("said nothing for 0.5 s"), "{error}");
}

#[test]
fn a_process_that_lingers_after_its_result_keeps_it() {
    let lab = Lab::new().with("AGENTICORE_RESULT_GRACE", "300ms").with("AGENTICORE_KILL_GRACE", "300ms");
    let server = lab.serve();
    let job = server.run(json!({"task": "[[say done]] [[linger]]"}));
    assert_eq!((&job["status"], &job["output"]), (&json!("succeeded"), &json!("done")), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn whatever_a_line_holds() {
    let lab = Lab::new();
    let server = lab.serve();
    let job = server.run(json!({"task": "[[bytes]] [[raw {\"half\": ]] [[say fine]]"}));
    assert_eq!((&job["status"], &job["output"]), (&json!("succeeded"), &json!("fine")), "{job:#}");
    let texts: Vec<String> = events(&lab, job["id"].as_str().unwrap())
        .iter()
        .filter_map(|e| e["text"].as_str().map(str::to_owned))
        .collect();
    assert!(texts.iter().any(|text| text == "caf\u{fffd}"), "{texts:?}");
    let big = server.run(json!({"task": "[[big 52428800]]"}));
    assert_eq!(big["status"], "succeeded");
    let output = big["output"].as_str().unwrap();
    assert!(output.len() <= 50_000 && output.ends_with("[cut]"), "{}", output.len());
    let said = events(&lab, big["id"].as_str().unwrap());
    let said = said.iter().find(|event| event["kind"] == "agent_text").unwrap();
    assert_eq!(said["cut"], true);
    assert!(said.to_string().len() <= 16 * 1024);
    server.stop();
}

#[test]
fn a_task_reaches_the_agent_as_text() {
    let lab = Lab::new();
    let server = lab.serve();
    for task in
        ["nul \0 inside", "--version", "-p", "/cost", " /cost", "/nosuch x", "@/etc/passwd", &"ä".repeat(100_000)]
    {
        let dump = lab.path("dump.json");
        let task = format!("{task} [[dump {}]]", dump.display());
        let job = server.run(json!({"task": task}));
        assert_eq!(job["status"], "succeeded", "{job:#}");
        let dump: Value = serde_json::from_slice(&std::fs::read(&dump).unwrap()).unwrap();
        assert_eq!(dump["prompt"].as_str().unwrap().trim_start_matches('\n'), task);
        assert_eq!(job["turns"], 2, "it was no command");
    }
    server.stop();
}

#[test]
fn daemons_go_with_the_job_and_those_of_others_stay() {
    let lab = Lab::new();
    let (mine, other, gate) = (lab.path("mine"), lab.path("other"), lab.path("gate"));
    let server = lab.serve();
    let stays =
        server.submit(json!({"task": format!("[[daemon {}]] [[wait-for {}]]", other.display(), gate.display())}));
    let goes = server.run(json!({"task": format!("[[daemon {}]]", mine.display())}));
    assert_eq!(goes["status"], "succeeded", "{goes:#}");
    let alive = |file: &std::path::Path| {
        let pid = std::fs::read_to_string(file).unwrap_or_default();
        !pid.trim().is_empty() && std::path::Path::new("/proc").join(pid.trim()).exists()
    };
    assert!(!alive(&mine), "its daemon is left");
    crate::support::eventually("the other's daemon runs", || alive(&other).then_some(()));
    assert_eq!(server.job(&stays)["status"], "running");
    std::fs::write(gate, "").unwrap();
    server.wait(&stays);
    assert!(!alive(&other));
    server.stop();
}

#[test]
fn an_agent_that_kills_its_supervisor_leaves_nothing() {
    let lab = Lab::new();
    let daemon = lab.path("daemon");
    let server = lab.serve();
    // The supervisor is the agent's parent.
    let task = format!(
        "[[daemon {}]] [[bash kill -9 $(awk '{{print $4}}' /proc/$PPID/stat)]] [[sleep 600000]]",
        daemon.display()
    );
    let job = server.run(json!({"task": task}));
    assert_eq!(job["status"], "failed", "{job:#}");
    assert!(kinds(&lab, job["id"].as_str().unwrap()).contains(&"agent_ended".to_owned()));
    let pid = std::fs::read_to_string(daemon).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "its daemon is left");
    assert_eq!(server.run(json!({"task": "[[say next]]"}))["status"], "succeeded");
    server.stop();
    lab.assert_tidy();
}
