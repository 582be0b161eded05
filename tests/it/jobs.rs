//! The main path: a task goes in, a pull request comes out.

use crate::support::{GitHub, Lab, Server, assert_in_order, events, eventually, kinds};
use serde_json::json;

#[test]
fn a_task_becomes_a_pull_request() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    let repo = github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    let server = lab.serve();
    let task = "Add a greeting\n[[write hello.txt hello world]] [[say I added the greeting.]]";
    let job = server.run(json!({"task": task, "repo_url": github.repo_url("me/project")}));

    assert_eq!(job["status"], "succeeded", "{job:#}");
    let id = job["id"].as_str().unwrap();
    let branch = format!("agenticore-{}", &id[..8]);
    assert_eq!(job["branch"], branch.as_str());
    assert_eq!(job["pr_url"], "https://github.test/me/project/pull/1");
    assert_eq!(
        (&job["output"], &job["exit_code"], &job["error"]),
        (&json!("I added the greeting."), &json!(0), &json!(null))
    );
    assert_eq!(
        (&job["base_ref"], &job["pod_name"], &job["attempt"], &job["deaths"]),
        (&json!("main"), &json!("test-pod"), &json!(1), &json!(0))
    );
    assert_eq!(
        (&job["cost_usd"], &job["turns"], &job["usage"]["output_tokens"]),
        (&json!(0.01), &json!(3), &json!(20))
    );
    assert!(job["session_id"].is_string() && job["worktree_path"].is_null() && job["pid"].is_null());
    assert_eq!(repo.file(&branch, "hello.txt").as_deref(), Some("hello world"));
    assert_eq!(repo.git(&["rev-parse", &branch]).unwrap(), job["commit"].as_str().unwrap());
    assert_eq!(
        repo.git(&["log", "-1", "--format=%an <%ae> %s", &branch]).unwrap(),
        "agenticore <agenticore@localhost> Add a greeting"
    );

    let pulls = github.pulls();
    assert_eq!(pulls.len(), 1);
    assert_eq!((&pulls[0]["title"], &pulls[0]["base"]), (&json!("Add a greeting"), &json!("main")));
    let body = pulls[0]["body"].as_str().unwrap();
    for part in [id, "coding", "Add a greeting", "I added the greeting."] {
        assert!(body.contains(part), "{body}");
    }
    let expected = [
        "queued",
        "claimed",
        "cloning",
        "worktree_ready",
        "agent_started",
        "agent_tool",
        "agent_tool_result",
        "agent_text",
        "agent_ended",
        "committed",
        "pushed",
        "pr_opened",
        "ended",
    ];
    assert_eq!(kinds(&lab, id), expected);
    assert_in_order(&events(&lab, id));
    assert_eq!(server.stop(), Some(0));
    github.assert_content();
    lab.assert_tidy();
}

#[test]
fn what_the_agent_committed_itself_is_pushed_too() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let task = "[[write a.txt 1]] [[commit by the agent]] [[bash git checkout -q -b elsewhere]] [[write b.txt 2]] [[commit second]] [[write c.txt 3]]";
    let job = server.run(json!({"task": task, "repo_url": repo.url()}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let branch = job["branch"].as_str().unwrap();
    let log = repo.git(&["log", "--format=%s", branch]).unwrap();
    assert!(log.contains("second\nby the agent\na change"), "{log}");
    for (file, text) in [("a.txt", "1"), ("b.txt", "2"), ("c.txt", "3")] {
        assert_eq!(repo.file(branch, file).as_deref(), Some(text));
    }
    let note = job["note"].as_str().unwrap();
    assert!(note.contains("GITHUB_SERVER_URL"), "why there is no pull request: {note}");
    server.stop();
    // The branch that the agent made of its own went with its repository.
    lab.assert_tidy();
}

#[test]
fn no_change_is_success_without_a_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let job = server.run(json!({"task": "look [[say nothing to do]]", "repo_url": repo.url()}));
    assert_eq!((&job["status"], &job["pr_url"], &job["error"]), (&json!("succeeded"), &json!(null), &json!(null)));
    assert!(job["note"].as_str().unwrap().contains("changed nothing"));
    assert_eq!(repo.branches(), ["main"]);
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_job_without_a_repository_works_in_a_directory_of_its_own() {
    let lab = Lab::new();
    let server = lab.serve();
    let dump = lab.path("dump.json");
    let job = server.run(json!({"task": format!("[[dump {}]] [[say 42]]", dump.display())}));
    assert_eq!((&job["status"], &job["output"], &job["branch"]), (&json!("succeeded"), &json!("42"), &json!(null)));
    let dump: serde_json::Value = serde_json::from_slice(&std::fs::read(dump).unwrap()).unwrap();
    let directory = lab.path("tmp/agenticore-jobs").join(job["id"].as_str().unwrap());
    assert_eq!(dump["directory"], directory.display().to_string());
    assert_eq!(job["job_config_dir"], directory.join(".claude").display().to_string());
    assert_eq!(dump["environment"]["CLAUDE_CONFIG_DIR"], job["job_config_dir"]);
    server.stop();
}

#[test]
fn the_base_may_be_a_branch_a_tag_a_commit_or_the_default_branch() {
    let lab = Lab::new();
    let repo = lab.repo();
    let first = repo.git(&["rev-parse", "main"]).unwrap();
    repo.git(&["tag", "v1", &first]).unwrap();
    repo.git(&["update-ref", "refs/pull/7/head", &first]).unwrap();
    let trunk = repo.commit("trunk", &[("t.txt", "trunk")]);
    repo.commit("main", &[("m.txt", "main")]);
    repo.git(&["symbolic-ref", "HEAD", "refs/heads/trunk"]).unwrap();
    repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]).unwrap();
    let server = lab.serve();
    for (base, commit) in [
        (None, &trunk),
        (Some("trunk"), &trunk),
        (Some("v1"), &first),
        (Some(first.as_str()), &first),
        (Some("refs/pull/7/head"), &first),
    ] {
        let job = server.run(json!({"task": "t", "repo_url": repo.url(), "base_ref": base}));
        assert_eq!((&job["status"], &job["base_commit"]), (&json!("succeeded"), &json!(commit)), "{base:?} {job:#}");
        assert_eq!(job["base_ref"], base.unwrap_or("trunk"));
    }
    server.stop();
    lab.assert_tidy();
}

#[test]
fn an_earlier_session_is_resumed() {
    let lab = Lab::new();
    let server = lab.serve();
    let first = server.run(json!({"task": "[[cost 0.5]]"}));
    let session = first["session_id"].as_str().unwrap();
    let second = server.run(json!({"task": "[[cost 0.75]]", "session_id": session}));
    assert_eq!((&second["status"], &second["session_id"]), (&json!("succeeded"), &first["session_id"]), "{second:#}");
    assert_eq!(second["cost_usd"], 0.25, "Claude's figure is cumulative; the record's is of this job");
    let unknown = server.run(json!({"task": "t", "session_id": "00000000-0000-4000-8000-000000000000"}));
    assert_eq!(unknown["status"], "failed");
    assert!(unknown["error"].as_str().unwrap().contains("No conversation found"), "{unknown:#}");
    server.stop();
}

#[test]
fn profiles_shape_the_call_and_may_keep_their_hands_off() {
    let lab = Lab::new();
    let repo = lab.repo();
    let profile = lab.profile("careful", "extends: coding\nauto_pr: false\nclaude: {model: opus, max_turns: 3}\n");
    std::fs::create_dir(profile.join(".claude")).unwrap();
    std::fs::write(profile.join(".claude/CLAUDE.md"), "be careful").unwrap();
    std::fs::write(profile.join(".mcp.json"), r#"{"mcpServers":{"a":{"command":"true"}}}"#).unwrap();
    let server = lab.serve();
    let dump = lab.path("dump.json");
    let task = format!("[[dump {}]] [[write x.txt 1]]", dump.display());
    let job = server.run(json!({"task": task, "repo_url": repo.url(), "profile": "careful"}));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    // The work is not published, so it stays, and the record says where.
    let kept = job["worktree_path"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(format!("{kept}/x.txt")).unwrap(), "1\n");
    assert!(job["note"].as_str().unwrap().contains(kept));
    assert_eq!(repo.branches(), ["main"]);
    let dump: serde_json::Value = serde_json::from_slice(&std::fs::read(dump).unwrap()).unwrap();
    let arguments: Vec<&str> = dump["arguments"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    let line = arguments.join(" ");
    for part in
        ["--model opus", "--max-turns 3", "--permission-mode acceptEdits", "--setting-sources user --strict-mcp-config"]
    {
        assert!(line.contains(part), "{line}");
    }
    let config = job["job_config_dir"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(format!("{config}/CLAUDE.md")).unwrap(), "be careful");
    assert!(std::fs::read_to_string(format!("{config}/../.mcp.json")).unwrap().contains("\"a\""));
    server.stop();
}

#[test]
fn a_failed_agents_work_is_kept_and_an_empty_worktree_is_not() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let with_work = server.run(json!({"task": "[[write x.txt 1]] [[error it broke]]", "repo_url": repo.url()}));
    assert_eq!(
        (&with_work["status"], &with_work["error"], &with_work["exit_code"]),
        (&json!("failed"), &json!("it broke"), &json!(1))
    );
    assert!(std::path::Path::new(with_work["worktree_path"].as_str().unwrap()).join("x.txt").exists());
    let without = server.run(json!({"task": "[[error it broke]]", "repo_url": repo.url()}));
    assert_eq!((&without["status"], &without["worktree_path"]), (&json!("failed"), &json!(null)));
    assert_eq!(repo.branches(), ["main"]);
    server.stop();
}

#[test]
fn jobs_expire_and_leave_with_all_that_is_theirs() {
    let lab = Lab::new().with("AGENTICORE_JOB_TTL", "1").with("AGENTICORE_MAX_PARALLEL_JOBS", "1");
    let repo = lab.repo();
    let gate = lab.path("gate");
    let server = lab.serve();
    let first = server.submit(
        json!({"task": format!("[[write x 1]] [[wait-for {}]] [[error no]]", gate.display()), "repo_url": repo.url()}),
    );
    let waiting = server.submit(json!({"task": "never claimed"}));
    let expired = eventually("the waiting job has left or expired", || {
        let (status, answer) = server.get(&format!("/jobs/{waiting}"));
        (status == 404 || answer["job"]["status"] == "expired").then_some(answer)
    });
    if let Some(error) = expired["job"]["error"].as_str() {
        assert!(error.contains("time to live of 1 s"), "{error}");
    }
    std::fs::write(gate, "").unwrap();
    eventually("both have left", || (server.get("/jobs").1["count"] == 0).then_some(()));
    assert_eq!(server.get(&format!("/jobs/{first}")).0, 404);
    assert_eq!(std::fs::read_dir(lab.path("tmp/agenticore-jobs")).unwrap().count(), 0, "job directories are left");
    assert_eq!(std::fs::read_dir(lab.path("jobs/events")).unwrap().count(), 0, "events are left");
    server.stop();
    lab.assert_tidy();
}

#[test]
fn an_agent_that_removes_its_worktree_loses_only_what_it_had_not_committed() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let job =
        server.run(json!({"task": "[[write a.txt 1]] [[commit mine]] [[bash rm -rf $PWD]]", "repo_url": repo.url()}));
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    assert_eq!(repo.file(job["branch"].as_str().unwrap(), "a.txt").as_deref(), Some("1"));
    let job = server.run(json!({"task": "[[write a.txt 1]] [[bash rm -rf $PWD]]", "repo_url": repo.url()}));
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(false)), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

/// On the embedded store too: the same key is the same job, over a restart, for as long as the job is kept.
#[test]
fn an_idempotency_key_lives_as_long_as_its_job() {
    let lab = Lab::new().with("AGENTICORE_JOB_TTL", "2");
    let send = |server: &Server, task: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let asked = agent.post(format!("{}/jobs", server.url)).header("idempotency-key", "k");
        let mut answer = asked.send(json!({"task": task}).to_string()).unwrap();
        let body: serde_json::Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        (answer.status().as_u16(), body["job"]["id"].as_str().map(str::to_owned))
    };
    let server = lab.serve();
    let (status, first) = send(&server, "[[say one]]");
    assert_eq!(status, 200);
    assert_eq!((send(&server, "[[say one]]"), send(&server, "[[say two]]").0), ((200, first.clone()), 422));
    server.stop();
    let server = lab.serve();
    assert_eq!(send(&server, "[[say two]]").0, 422, "over a restart");
    eventually("it is forgotten", || {
        let (status, id) = send(&server, "[[say two]]");
        (status == 200 && id != first).then_some(())
    });
    server.stop();
}
