//! What a job changed, and what a job has otherwise than its profile says; a first configuration.

use crate::support::repo::git;
use crate::support::*;
use serde_json::{Value, json};

#[test]
fn what_a_job_changed_can_be_seen_and_applied() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let published = server.run(json!({"task": "[[write new.txt hello]]", "repo_url": repo.url()}));
    let failed = server.run(json!({"task": "[[write kept.txt left]] [[error no]]", "repo_url": repo.url()}));
    let nothing = server.run(json!({"task": "[[say hi]]", "repo_url": repo.url()}));
    let lab = lab.with("AGENTICORE_PORT", server.port());
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    for (job, line) in [(&published, "+hello"), (&failed, "+left")] {
        let (status, answer) = server.get(&format!("/jobs/{}/diff", id(job)));
        assert_eq!(status, 200, "{answer}");
        assert!(answer["diff"].as_str().unwrap().contains(line), "{answer:#}");
        assert_eq!((&answer["base"], &answer["cut"]), (&job["base_commit"], &json!(false)));
        // As git takes it.
        let clone = lab.path(&format!("clone-{}", &id(job)[..8]));
        repo.git(&["clone", "-q", &repo.url(), &clone.display().to_string()]).unwrap();
        let patch = lab.run(&["diff", &id(job)[..8]]);
        let file = clone.join("the.patch");
        std::fs::write(&file, &patch.stdout).unwrap();
        git(&clone, &["apply", "the.patch"]).unwrap();
        let made = if line == "+hello" { "new.txt" } else { "kept.txt" };
        assert!(clone.join(made).is_file(), "{}", String::from_utf8_lossy(&patch.stdout));
    }
    let (status, answer) = server.get(&format!("/jobs/{}/diff", id(&nothing)));
    assert!(status == 404 && answer["error"].as_str().unwrap().contains("changed nothing"), "{answer}");
    let refused = lab.run(&["diff", &id(&nothing)]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    server.stop();
}

/// What a text cannot hold is said, so that nobody applies something else.
#[test]
fn a_diff_says_what_it_lacks() {
    let lab = Lab::new().with("ANTHROPIC_API_KEY", "sk-ant-of-this-test");
    let repo = lab.repo();
    let server = lab.serve();
    let lab = lab.with("AGENTICORE_PORT", server.port());
    for (command, wanted) in [
        ("echo Binary files a and b differ > a.txt", json!([])),
        ("head -c 3000 /dev/urandom > pic.png", json!(["binary files"])),
        (r"printf 'caf\351\n' > latin1.txt", json!(["bytes that are no UTF-8"])),
        ("echo sk-ant-of-this-test > s.txt", json!(["secrets, which are masked"])),
    ] {
        let task = format!("[[bash {command}]] [[error no]]");
        let id = server.run(json!({"task": task, "repo_url": repo.url()}))["id"].as_str().unwrap().to_owned();
        let answer = server.get(&format!("/jobs/{id}/diff")).1;
        assert_eq!(answer["lacks"], wanted, "{command}: {answer:#}");
        let told = lab.run(&["diff", &id]);
        let warned = String::from_utf8_lossy(&told.stderr).into_owned();
        let is_warned = warned.contains("the diff lacks") && warned.contains("the job's branch, or its kept work");
        assert_eq!((told.status.code(), is_warned), (Some(0), wanted != json!([])), "{command}: {warned}");
    }
    server.stop();
}

#[test]
fn a_secret_does_not_stand_in_a_diff_and_a_huge_one_is_cut() {
    let lab = Lab::new().with("GITHUB_TOKEN", "ghp_0123456789abcdefghijABCDEFGHIJ0123456789");
    let repo = lab.repo();
    let server = lab.serve();
    let token = "ghp_0123456789abcdefghijABCDEFGHIJ0123456789";
    let job = server.run(json!({
        "task": format!("[[write s.txt {token}]] [[bash seq 1 200000 > big.txt; echo x > {token}{token}.txt]] [[error no]]"), "repo_url": repo.url()
    }));
    let (status, answer) = server.get(&format!("/jobs/{}/diff", job["id"].as_str().unwrap()));
    assert_eq!(status, 200, "{answer}");
    let text = answer["diff"].as_str().unwrap();
    assert!(answer["cut"] == true && text.len() <= 512 << 10 && text.ends_with('\n'), "{}", text.len());
    assert!(answer["summary"].as_str().unwrap().contains("big.txt"), "{}", answer["summary"]);
    // Nor a part of it, in a name that was shortened.
    assert!(!answer.to_string().contains(&token[10..]), "the token stands in it: {}", answer["summary"]);
    server.stop();
}

/// The dump of an agent's arguments has this flag with this value.
fn said(dump: &str, flag: &str, value: &str) -> bool {
    let dump: Value = serde_json::from_str(dump).unwrap();
    let words: Vec<&str> = dump["arguments"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    words.windows(2).any(|pair| pair == [flag, value])
}

#[test]
fn a_job_may_have_its_own_model_turns_and_time() {
    let lab = Lab::new();
    let server = lab.serve();
    let lab = lab.with("AGENTICORE_PORT", server.port());
    let file = lab.path("task.md");
    let dump = lab.path("dump.json");
    std::fs::write(&file, format!("[[dump {}]]\n", dump.display())).unwrap();
    let file = file.display().to_string();
    let line = ["run", "--task-file", &file, "--model", "opus", "--max-turns", "7", "--wait", "--json"];
    let done = lab.run(&line);
    let job: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let output = std::fs::read_to_string(&dump).unwrap();
    assert!(said(&output, "--model", "opus") && said(&output, "--max-turns", "7"), "{output}");
    assert_eq!((&job["model"], &job["max_turns"]), (&json!("opus"), &json!(7)));
    // A retry is the same again.
    let again = lab.run(&["retry", job["id"].as_str().unwrap(), "--wait", "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["model"], "opus", "{again:#}");
    let late = server.run(json!({"task": "[[sleep 600000]]", "timeout": 1}));
    assert!(late["status"] == "failed" && late["error"].as_str().unwrap().contains("1 s"), "{late:#}");
    for (body, why) in [
        (json!({"task": "t", "timeout": 0}), "`timeout` must be a whole number from 1 to 86400, not 0"),
        (json!({"task": "t", "timeout": "5"}), "`timeout` must be a whole number from 1 to 86400, not text"),
        (json!({"task": "t", "max_turns": 10_001}), "from 1 to 10000, not 10001"),
        (json!({"task": "t", "model": "-x"}), "`model` must be the name of a model"),
        (json!({"task": "t", "model": "a b"}), "`model` must be the name of a model"),
    ] {
        let (status, answer) = server.post(&body);
        assert!(status == 400 && answer["error"].as_str().unwrap().contains(why), "{answer}");
    }
    for (line, why) in [
        (&["run", "t", "--task-file", "x"][..], "TASK and --task-file exclude each other"),
        (&["run", "--task-file", "/nonexistent/x"], "--task-file is `/nonexistent/x`"),
        (&["run", "--task-file", "/dev/zero"], "it must be a regular file"),
        (&["run", "t", "--detach", "--wait"], "--detach and --wait exclude each other"),
        (&["run", "t", "--local", "--server", "http://x"], "--local and --server exclude each other"),
        (&["jobs", "-s", "failed", "--status", "queued"], "--status is given twice: it takes one value"),
        (&["run", "t", "--model"], "--model needs a value"),
        (&["run", "t", "--timeout", "soon"], "--timeout must be whole seconds from 1 on"),
    ] {
        let refused = lab.run(line);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && told.contains(why), "{line:?}: {told}");
    }
    server.stop();
}

#[test]
fn a_first_configuration_is_written_once_and_works() {
    let lab = Lab::new();
    let done = lab.run(&["init", "--profile", "mine", "--model", "haiku", "--jobs", "2", "--no-pull-requests"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(told.contains("config.yml") && told.contains("agenticore serve"), "{told}");
    let settings = lab.run(&["config", "--json"]);
    let settings = String::from_utf8_lossy(&settings.stdout).into_owned();
    assert!(settings.contains("mine"), "{settings}");
    let server = lab.serve();
    let job = server.run(json!({"task": format!("[[dump {}]]", lab.path("dump.json").display())}));
    let dump = std::fs::read_to_string(lab.path("dump.json")).unwrap();
    assert!(job["profile"] == "mine" && said(&dump, "--model", "haiku"), "{job:#}\n{dump}");
    server.stop();
    let built_in = Lab::new().run(&["init", "--profile", "coding"]);
    assert!(String::from_utf8_lossy(&built_in.stderr).contains("is built in"), "{built_in:?}");
    let again = lab.run(&["init", "--yes"]);
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(2) && told.contains("stays as it is"), "{told}");
}
