//! Publishing: again when it may work later, once when it is done, and never over anybody's head.

use crate::support::github::{APP_ID, INSTALLATION};
use crate::support::{GitHub, Lab, kinds};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_github_app_logs_in_with_a_signed_token() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    let repo = github.repository("me/project");
    let key = github.install_app(lab.dir.path());
    let lab = lab
        .with_all(github.variables())
        .with("GITHUB_APP_ID", APP_ID)
        .with("GITHUB_APP_INSTALLATION_ID", INSTALLATION)
        .with("GITHUB_APP_PRIVATE_KEY", key.replace('\n', "\\n"))
        .with("GITHUB_TOKEN", "the-app-wins-over-this");
    let tokens = || github.requests().iter().filter(|request| request.contains("access_tokens")).count();
    github.make_next_token_short();
    let server = lab.serve();
    server.run(json!({"task": "t", "repo_url": github.repo_url("me/project")}));
    let before = tokens();
    for _ in 0..2 {
        let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": github.repo_url("me/project")}));
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert!(job["pr_url"].is_string());
    }
    assert_eq!(repo.branches().len(), 3);
    let asked_for_tokens = tokens();
    assert_eq!((before, asked_for_tokens), (1, 2), "one that ends in minutes is renewed, one that lasts is used again");
    server.stop();
    github.assert_content();
    lab.assert_tidy();
}

#[test]
fn passing_failures_are_tried_again() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    github.fail_next("GET", 502);
    github.fail_next("POST", 429);
    github.fail_next("POST", 500);
    let server = lab.serve();
    let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": github.repo_url("me/project")}));
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{job:#}");
    assert_eq!(github.pulls().len(), 1);
    assert_eq!(kinds(&lab, job["id"].as_str().unwrap()).iter().filter(|kind| *kind == "publish_notice").count(), 3);
    server.stop();
    github.assert_content();
}

#[test]
fn a_refused_pull_request_leaves_a_pushed_branch_and_says_so() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    let repo = github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    github.fail_next("POST", 403);
    let server = lab.serve();
    let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": github.repo_url("me/project")}));
    assert_eq!(
        (&job["status"], &job["pr_url"], &job["pushed"]),
        (&json!("succeeded"), &json!(null), &json!(true)),
        "{job:#}"
    );
    assert!(job["error"].as_str().unwrap().contains("403"), "{job:#}");
    assert_eq!(repo.branches().len(), 2);
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_refused_push_keeps_the_work_and_says_where() {
    let lab = Lab::new().with("AGENTICORE_PUBLISH_TRIES", "2");
    let repo = lab.repo();
    let hook = repo.path.join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    // A banner first, then what sounds like the network's fault and is the remote's word.
    let script = "#!/bin/sh\nfor n in 1 2 3 4 5 6; do echo \"* welcome *\"; echo; done >&2\necho 'error: GH013: no new \
                  branches here' >&2\necho '  path: a.txt:1, could not resolve host' >&2\nexit 1\n";
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = lab.serve();
    let job = server.run(json!({"task": "[[write a.txt 1]] [[say summary]]", "repo_url": repo.url()}));
    assert_eq!((&job["status"], &job["output"]), (&json!("succeeded"), &json!("summary")), "{job:#}");
    let error = job["error"].as_str().unwrap();
    assert!(error.contains("GH013: no new branches here") && error.contains("path: a.txt:1"), "{job:#}");
    assert!(!error.contains("welcome") && !error.contains("tried"), "{job:#}");
    let kept = std::path::Path::new(job["worktree_path"].as_str().unwrap()).join("a.txt");
    assert_eq!(std::fs::read_to_string(kept).unwrap(), "1\n");
    server.stop();
}

#[test]
fn a_renamed_repository_gets_its_pull_request_once() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    github.repository("me/project");
    let lab = lab.with_all(github.variables_with_token());
    github.rename("me/project", "us/product");
    // The first request is made and its answer lost: then the pull request is found under the new name.
    let server = lab.serve();
    let job = server.run(json!({"task": "[[write a.txt 1]]", "repo_url": github.repo_url("me/project")}));
    assert_eq!((&job["status"], &job["error"]), (&json!("succeeded"), &json!(null)), "{job:#}");
    let pulls = github.pulls();
    assert_eq!((pulls.len(), &pulls[0]["of"]), (1, &json!("us/product")), "{pulls:?}");
    assert_eq!(job["pr_url"], pulls[0]["html_url"]);
    server.stop();
    github.assert_content();
}

#[test]
fn a_strangers_branch_is_left_alone() {
    let lab = Lab::new();
    let repo = lab.repo();
    let gate = lab.path("gate");
    let server = lab.serve();
    let id = server
        .submit(json!({"task": format!("[[write a.txt 1]] [[wait-for {}]]", gate.display()), "repo_url": repo.url()}));
    let branch = format!("agenticore-{}", &id[..8]);
    let theirs = repo.commit(&branch, &[("theirs.txt", "1")]);
    std::fs::write(gate, "").unwrap();
    let job = server.wait(&id);
    assert_eq!(job["status"], "failed", "{job:#}");
    assert!(job["error"].as_str().unwrap().contains("not this job's work"), "{job:#}");
    assert_eq!(repo.git(&["rev-parse", &branch]).unwrap(), theirs);
    assert!(std::path::Path::new(job["worktree_path"].as_str().unwrap()).join("a.txt").exists());
    server.stop();
}

#[test]
fn a_missing_repository_is_made_when_asked_for() {
    let lab = Lab::new();
    let github = GitHub::start(&lab.path("github"));
    let lab = lab.with_all(github.variables_with_token());
    let server = lab.serve();
    for slug in ["me/fresh", "an-org/fresh"] {
        let request = json!({"task": "[[write a.txt 1]]", "repo_url": github.repo_url(slug), "create_repo": true, "private": false});
        let job = server.run(request.clone());
        assert_eq!(job["status"], "succeeded", "{job:#}");
        assert!(job["pr_url"].as_str().unwrap().contains(slug));
        assert_eq!(server.run(request)["status"], "succeeded", "it is there now");
    }
    let made: Vec<String> = github.requests().into_iter().filter(|request| request.ends_with("/repos")).collect();
    assert_eq!(made, ["POST /user/repos", "POST /orgs/an-org/repos"]);
    server.stop();
    github.assert_content();
}
