//! `/openapi.json` against the server that it describes: schemathesis draws requests from it, and looks at each answer.

use crate::support::{Lab, python};
use serde_json::json;
use std::process::Command;

/// None of what is drawn may be a fault of the server, or an answer that the description does not have. Left out: what
/// flows without end, and what empties the server.
#[test]
fn every_answer_is_as_described() {
    let program = python("schemathesis");
    let lab = Lab::new();
    let server = lab.serve();
    server.run(json!({"task": "[[say hi]]", "labels": {"team": "a"}}));
    // It may be cancelled and tried again, and then others wait for it: not for long.
    server.submit(json!({"task": "[[sleep 2000]]"}));
    let mut command = Command::new(program);
    command.args(["run", &format!("{}/openapi.json", server.url), "--seed", "1", "--no-color", "--max-examples", "15"]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--request-timeout",
        "60",
        "--suppress-health-check",
        "all",
    ]);
    command.args(["--exclude-path-regex", "/admin/|/events"]);
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    command.args(["--checks", checks]);
    command.env_clear().envs(&lab.variables).current_dir(lab.dir.path());
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    let tried =
        said.lines().find_map(|line| line.trim().strip_suffix(" passed")?.split(' ').next()?.parse::<u32>().ok());
    assert!(tried > Some(200), "{said}");
    server.stop();
}
