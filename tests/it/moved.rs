//! Files that no time tells changed: moved with their directory, under a HEAD that was moved, staged in another form.
//! And what is decided about them outlives a crash, and the next job of the same worktree.

use crate::support::repo::git;
use crate::support::{Lab, Repo, Server, eventually};
use serde_json::{Value, json};
use std::path::Path;

struct House {
    lab: Lab,
    repo: Repo,
    server: Server,
}

impl House {
    fn new() -> Self {
        let lab = Lab::new();
        let repo = lab.repo();
        repo.commit("main", &[("a.txt", "one"), ("dist/x", "old x"), ("dist/y", "old y"), ("next/x", "new x")]);
        repo.commit("main", &[("next/y", "new y"), ("crlf.txt", "one\r\ntwo\r\n"), ("h", "1")]);
        repo.commit("feat", &[("a.txt", "feat"), ("feat.txt", "1")]);
        lab.profile("strict", "auto_pr: true\npublish_conflicts: false\n");
        let server = lab.serve();
        Self { lab, repo, server }
    }

    fn run(&self, habit: &str, more: Value) -> Value {
        let mut body = json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": self.repo.url()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.server.run(body)
    }

    fn published(&self, job: &Value, path: &str) -> Option<String> {
        self.repo.file(job["branch"].as_str().unwrap(), path)
    }
}

#[test]
fn a_directory_that_was_moved_over_another_is_published_as_it_is() {
    let house = House::new();
    for habit in [
        "rm -rf dist && mv next dist",
        "git rm -rq dist && git mv next dist",
        "mv dist t; mv next dist; mv t next; rm -r next",
        "mv next n && cp -al n dist2 && rm -rf dist n && mv dist2 dist",
    ] {
        let job = house.run(habit, json!({}));
        assert_eq!(job["pushed"], true, "{habit}: {job:#}");
        assert_eq!(house.published(&job, "dist/x").as_deref(), Some("new x"), "{habit}");
        assert_eq!(house.published(&job, "dist/y").as_deref(), Some("new y"), "{habit}");
        assert_eq!(house.published(&job, "next/x"), None, "{habit}");
    }
    let job = house.run("mv dist t; mv next dist; mv t next", json!({}));
    assert_eq!(house.published(&job, "dist/x").as_deref(), Some("new x"), "{job:#}");
    assert_eq!(house.published(&job, "next/x").as_deref(), Some("old x"));
    // An agent that failed leaves it, as any other work.
    let job = house.server.run(json!({
        "task": "[[bash mv dist t; mv next dist; mv t next]] [[error no]]", "repo_url": house.repo.url()
    }));
    assert!(Path::new(job["worktree_path"].as_str().unwrap()).join("dist/x").exists(), "{job:#}");
    house.server.stop();
}

#[test]
fn files_that_nobody_touched_are_changes_where_head_was_moved_under_them() {
    let house = House::new();
    let feat = json!({"base_ref": "feat"});
    // A branch is squashed.
    let job = house.run("git reset -q --soft origin/main; echo z > z; git add z", feat);
    assert_eq!(house.published(&job, "a.txt").as_deref(), Some("feat"), "{job:#}");
    assert_eq!(house.published(&job, "feat.txt").as_deref(), Some("1"));
    assert_eq!(house.published(&job, "z").as_deref(), Some("z"));
    for habit in ["git reset -q origin/feat; echo z > z", "git update-ref HEAD origin/feat; echo z > z"] {
        let job = house.run(habit, json!({}));
        assert_eq!(house.published(&job, "a.txt").as_deref(), Some("one"), "{habit}: {job:#}");
    }
    let job = house.run("git reset -q --soft HEAD~1; echo z > z; git add z", json!({}));
    assert_eq!(house.published(&job, "h").as_deref(), Some("1"), "{job:#}");
    house.server.stop();
    house.lab.assert_tidy();
}

#[test]
fn what_was_renormalized_is_published() {
    let house = House::new();
    for habit in [
        "echo '* text=auto' > .gitattributes; git add --renormalize .; git add .gitattributes",
        "echo '* text=auto' > .gitattributes; git add .gitattributes; git commit -qm attributes; git add --renormalize .",
    ] {
        let job = house.run(habit, json!({}));
        assert_eq!(job["pushed"], true, "{habit}: {job:#}");
        assert!(house.published(&job, ".gitattributes").is_some(), "{habit}");
        let blob = house.repo.git(&["cat-file", "-s", &format!("{}:crlf.txt", job["branch"].as_str().unwrap())]);
        assert_eq!(blob.unwrap().trim(), "8", "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn what_a_profile_keeps_back_the_next_job_of_the_worktree_does_not_publish() {
    let house = House::new();
    house.repo.commit("clash", &[("c.txt", "1")]);
    let body = json!({"repo_url": house.repo.url()});
    let (status, made) = house.server.send("/worktrees", &[], &body.to_string());
    assert_eq!(status, 200, "{made}");
    let id = made["worktree"]["id"].as_str().unwrap().to_owned();
    eventually("it is made", || (house.server.job(&id)["status"] == "succeeded").then_some(()));
    let in_it = json!({"worktree_id": id, "profile": "strict"});
    let merge = "git merge -q --no-commit --no-ff origin/clash; echo 1 > one.txt";
    for habit in [merge, "echo 3 > three.txt"] {
        let job = house.run(habit, in_it.clone());
        let error = job["error"].as_str().unwrap_or_default();
        assert!(error.contains("publish_conflicts") && job["pushed"] == false, "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn staged_contents_stay_staged_in_the_worktree_that_is_kept() {
    let house = House::new();
    let job = house.run("echo x > s; git add s; rm s; echo z > z", json!({}));
    assert!(job["kept_because"].as_str().unwrap_or_default().contains("is in no file"), "{job:#}");
    let worktree = Path::new(job["worktree_path"].as_str().unwrap());
    assert_eq!(git(worktree, &["show", ":s"]).unwrap(), "x");
    // One without shows the commit, and nothing as changed.
    let job = house.run("echo z > z; git stash -q -u; git stash apply -q", json!({}));
    let worktree = Path::new(job["worktree_path"].as_str().unwrap());
    assert_eq!(house.published(&job, "z").as_deref(), Some("z"), "{job:#}");
    assert!(git(worktree, &["stash", "list"]).unwrap().contains("stash@{0}"));
    house.server.stop();
}

/// Killed between the server's commit and the record of it: what the profile keeps back, and what is in no file, is
/// seen by the next attempt too.
#[test]
fn a_crash_after_the_commit_publishes_nothing_that_was_kept_back() {
    for (profile, habit, expected) in [
        ("strict", "git merge -q --no-commit --no-ff origin/clash; echo z > z", "publish_conflicts"),
        ("coding", "echo s > s; git add s; rm s; echo z > z", "is in no file"),
    ] {
        let mut lab = Lab::new();
        let repo = lab.repo();
        repo.commit("main", &[("a.txt", "one")]);
        repo.commit("clash", &[("c.txt", "1")]);
        lab.profile("strict", "auto_pr: true\npublish_conflicts: false\n");
        lab.set("AGENTICORE_TEST_CRASH_AT", "committed:before-record");
        let mut server = lab.serve();
        let body = json!({"task": format!("[[bash {habit}]]"), "repo_url": repo.url(), "profile": profile});
        let id = server.submit(body);
        server.wait_for_death();
        lab.variables.remove("AGENTICORE_TEST_CRASH_AT");
        drop(server);
        let server = lab.serve();
        let job = server.wait(&id);
        let said = format!("{} {}", job["error"], job["kept_because"]);
        assert!(said.contains(expected), "{profile}: {job:#}");
        server.stop();
    }
}
