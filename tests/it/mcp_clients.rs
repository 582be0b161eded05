//! Real MCP clients: the SDKs over every transport, the inspector's command line, the official conformance suite.

use crate::support::{BINARY, Lab, Server, fetched};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the clients are, or None where they cannot be had; that is said, and in CI it is a failure.
pub fn clients() -> Option<PathBuf> {
    fetched("mcp-clients.sh", "the MCP clients")
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name).display().to_string()
}

/// Runs a program of the clients' in an environment of its own; what it said, if it ended well.
fn run(lab: &Lab, tools: &Path, program: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(words).env_clear().envs(&lab.variables).env("AGENTICORE_TRANSPORT", "stdio");
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", tools.join("node/bin").display())).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(format!("{words:?}: {said}")) }
}

/// Over every transport: two that need a server, two that start a program.
fn over_every_transport(use_it: impl Fn(&Lab, &Path, &str, &str) -> Result<String, String>) {
    let Some(tools) = clients() else { return };
    let lab = Lab::new();
    let server = lab.serve();
    for kind in ["http", "sse", "bridge"] {
        let said = use_it(&lab, &tools, kind, &server.url).unwrap();
        assert!(said.contains(&format!("{kind} is well")), "{said}");
    }
    assert_eq!(server.get("/jobs").1["count"], 3);
    server.stop();
    let alone = Lab::new();
    let said = use_it(&alone, &tools, "stdio", "http://127.0.0.1:9").unwrap();
    assert!(said.contains("stdio is well"), "{said}");
    alone.assert_no_process();
}

#[test]
fn python_sdk_1() {
    over_every_transport(|lab, tools, kind, url| {
        run(lab, tools, &tools.join("python1/bin/python"), &[&script("client.py"), kind, url, BINARY])
    });
}

#[test]
fn python_sdk_2() {
    over_every_transport(|lab, tools, kind, url| {
        run(lab, tools, &tools.join("python2/bin/python"), &[&script("client.py"), kind, url, BINARY])
    });
}

fn typescript(lab: &Lab, tools: &Path, sdk: &str, kind: &str, url: &str) -> Result<String, String> {
    let packages = tools.join("node").display().to_string();
    let words = [&script("client.mjs"), &packages, sdk, kind, url, BINARY];
    run(lab, tools, &tools.join("node/bin/node"), &words)
}

#[test]
fn typescript_sdk_1() {
    over_every_transport(|lab, tools, kind, url| typescript(lab, tools, "1", kind, url));
}

#[test]
fn typescript_sdk_2() {
    over_every_transport(|lab, tools, kind, url| typescript(lab, tools, "2", kind, url));
}

#[test]
fn the_inspectors_command_line() {
    let Some(tools) = clients() else { return };
    let lab = Lab::new();
    let server = lab.serve();
    let inspector = tools.join("node/node_modules/.bin/mcp-inspector");
    for (path, transport) in [("mcp", "http"), ("sse", "sse")] {
        let url = format!("{}/{path}", server.url);
        let inspect = |words: &[&str]| {
            let first = ["--cli", &url, "--transport", transport, "--method"];
            run(&lab, &tools, &inspector, &[&first, words].concat()).unwrap()
        };
        assert!(inspect(&["tools/list"]).contains("\"run_task\""));
        let said = inspect(&["tools/call", "--tool-name", "list_jobs", "--tool-arg", "limit=1"]);
        let answer: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(answer["structuredContent"]["success"], true, "{said}");
    }
    server.stop();
}

/// The scenarios of the suite that ask for nothing of a server's own, and what each is run for.
const SCENARIOS: [(&str, &[&str]); 2] = [
    (
        "2025-11-25",
        &[
            "server-initialize",
            "server-session-lifecycle",
            "ping",
            "tools-list",
            "server-sse-multiple-streams",
            "dns-rebinding-protection",
        ],
    ),
    (
        "2026-07-28",
        &[
            "tools-list",
            "server-sse-multiple-streams",
            "dns-rebinding-protection",
            "server-stateless",
            "http-header-validation",
            "caching",
            "input-required-result-unsupported-methods",
        ],
    ),
];

/// What may fail, and why. All other scenarios of the suite call tools, prompts or resources of its own test server
/// by name.
const NOT_FOR_US: [(&str, &str); 7] = [
    ("sep-2575-server-rejects-undeclared-capability", "needs the tool test_missing_capability"),
    ("sep-2575-missing-capability-http-400", "needs the tool test_missing_capability"),
    ("sep-2575-http-server-no-independent-requests-on-stream", "needs the tool test_streaming_elicitation"),
    ("sep-2575-server-no-log-without-loglevel", "needs the tool test_logging_tool"),
    ("sep-2549-prompts-list-caching-hints", "no prompts are served"),
    ("sep-2549-resources-list-caching-hints", "no resources are served"),
    ("sep-2549-resources-templates-list-caching-hints", "no resources are served"),
];

/// The scenarios of the tasks extension in which something is asked that is no tool of the suite's own server, and
/// what of that has to be well. Their other checks, and the other scenarios, call `greet`, `slow_compute`,
/// `failing_job`, `protocol_error_job`, `confirm_delete`, `multi_input` and `test_tool_with_task`.
const TASKS: [(&str, &[&str]); 3] = [
    ("tasks-capability-negotiation", &["tasks-extension-advertised", "sep-2663-tasks-methods-non-declaring"]),
    (
        "tasks-dispatch-and-envelope",
        &[
            "sep-2663-tasks-result-removed-method-not-found",
            "tasks-removed-tasks-list",
            "sep-2663-tasks-get-invalid-task-id-32602",
        ],
    ),
    ("tasks-request-headers", &["tasks-headers-reject-mismatched-method"]),
];

/// The checks of one scenario: how many were made and did not fail, and which failed.
fn check(lab: &Lab, tools: &Path, server: &Server, version: &str, scenario: &str) -> (usize, BTreeSet<String>) {
    let checks = checks(lab, tools, server, version, scenario);
    let failed = checks.iter().filter(|(_, status)| status == "FAILURE").map(|(id, _)| id.clone()).collect();
    // Of a server without session ids two scenarios have only something to note.
    let made = checks.iter().filter(|(_, status)| status != "FAILURE" && status != "SKIPPED").count();
    (made, failed)
}

/// Each check of one scenario, and how it went.
fn checks(lab: &Lab, tools: &Path, server: &Server, version: &str, scenario: &str) -> Vec<(String, String)> {
    let results = lab.path(&format!("{version}-{scenario}"));
    let (suite, url) = (tools.join("node/node_modules/.bin/conformance"), format!("{}/mcp", server.url));
    let directory = results.display().to_string();
    let mut words = vec!["server", "--url", &url, "--scenario", scenario, "--spec-version", version, "-o", &directory];
    // Of an extension the suite does not know for which revision it is.
    words.extend(scenario.starts_with("tasks-").then_some("--force"));
    // It ends with 1 when a check fails, also when that is one of those.
    let said = run(lab, tools, &suite, &words).unwrap_or_else(|said| said);
    let mut found = Vec::new();
    let folders = std::fs::read_dir(&results).unwrap_or_else(|_| panic!("{scenario}: {said}"));
    for folder in folders {
        let checks: Vec<Value> =
            serde_json::from_slice(&std::fs::read(folder.unwrap().path().join("checks.json")).unwrap()).unwrap();
        let text = |check: &Value, field: &str| check[field].as_str().unwrap().to_owned();
        found.extend(checks.iter().map(|check| (text(check, "id"), text(check, "status"))));
    }
    found
}

#[test]
fn the_official_conformance_suite() {
    let Some(tools) = clients() else { return };
    let lab = Lab::new();
    let server = lab.serve();
    let mut failed = BTreeSet::new();
    for (version, scenarios) in SCENARIOS {
        for scenario in scenarios {
            let (made, failures) = check(&lab, &tools, &server, version, scenario);
            assert!(made + failures.len() > 0, "{version} {scenario}: no check was made");
            failed.extend(failures);
        }
    }
    let expected: BTreeSet<String> = NOT_FOR_US.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(failed, expected);
    for (scenario, wanted) in TASKS {
        let checks = checks(&lab, &tools, &server, "2026-07-28", scenario);
        for id in wanted {
            let is_well = checks.iter().any(|(made, status)| made == id && status == "SUCCESS");
            assert!(is_well, "{scenario}: {id} in {checks:?}");
        }
    }
    server.stop();
}
