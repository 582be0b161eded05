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

impl House {
    fn prepare(&self) -> String {
        let body = json!({"repo_url": self.repo.url()});
        let (status, made) = self.server.send("/worktrees", &[], &body.to_string());
        assert_eq!(status, 200, "{made}");
        let id = made["worktree"]["id"].as_str().unwrap().to_owned();
        eventually("it is made", || (self.server.job(&id)["status"] == "succeeded").then_some(()));
        id
    }
}

#[test]
fn what_one_job_of_a_worktree_left_out_the_next_may_change() {
    let house = House::new();
    for (first, second) in [
        (
            "git sparse-checkout set --cone dist; echo z > dist/z",
            "git sparse-checkout add next; echo new > next/x; rm next/y",
        ),
        (
            "git update-index --skip-worktree next/x next/y; rm -r next; echo z > z",
            "git update-index --no-skip-worktree next/x next/y; mkdir next; echo new > next/x",
        ),
    ] {
        let id = house.prepare();
        let job = house.run(first, json!({"worktree_id": id}));
        assert_eq!(house.published(&job, "next/y").as_deref(), Some("new y"), "{first}: {job:#}");
        let job = house.run(second, json!({"worktree_id": id}));
        assert_eq!(house.published(&job, "next/x").as_deref(), Some("new"), "{second}: {job:#}");
        assert_eq!(house.published(&job, "next/y"), None, "{second}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn a_prepared_worktree_with_staged_contents_is_not_removed() {
    let house = House::new();
    let id = house.prepare();
    let job = house.run("echo precious > s; git add s; rm s", json!({"worktree_id": id}));
    assert!(job["kept_because"].as_str().unwrap_or_default().contains("is in no file"), "{job:#}");
    let (status, answer) = house.server.request("DELETE", &format!("/worktrees/{id}"), None);
    assert_eq!(status, 409, "{answer}");
    house.server.stop();
}

#[test]
fn staged_contents_of_a_tracked_file_are_not_lost() {
    let house = House::new();
    for after in ["rm a.txt", "rm a.txt; mkdir a.txt; echo q > a.txt/q", "ln -sf h a.txt"] {
        let job = house.run(&format!("echo v2 > a.txt; git add a.txt; {after}; echo z > z"), json!({}));
        let why = job["kept_because"].as_str().unwrap_or_default();
        assert!(why.contains("what the agent staged of `a.txt` is in no file"), "{after}: {job:#}");
        let worktree = Path::new(job["worktree_path"].as_str().unwrap());
        assert_eq!(git(worktree, &["show", ":a.txt"]).unwrap(), "v2");
    }
    house.server.stop();
}

#[test]
fn commits_of_a_detached_head_are_found_however_it_was_left() {
    let house = House::new();
    let begin = "B=$(git branch --show-current); git switch -q --detach; echo 1 > n; git add n; git commit -qm n";
    for leave in [
        "git rebase -q origin/feat $B",
        "git checkout -q --orphan q; git rm -rfq .; git switch -q $B",
        "GIT_REFLOG_ACTION=x git switch -q $B",
        "git symbolic-ref HEAD refs/heads/$B; git reset -q --hard",
        "git update-ref --no-deref HEAD origin/main; git switch -q $B",
        "git switch -q $B",
    ] {
        let job = house.run(&format!("{begin}; {leave}; echo z > z"), json!({}));
        let why = job["kept_because"].as_str().unwrap_or_default();
        assert!(why.contains("on another branch"), "{leave}: {job:#}");
        let worktree = Path::new(job["worktree_path"].as_str().unwrap());
        let hash = why.split("commit ").nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(git(worktree, &["show", &format!("{hash}:n")]).unwrap(), "1", "{leave}");
    }
    // What was replaced on purpose is no work.
    for habit in [
        "echo 1 > n; git add n; git commit -qm n; echo 2 > n; git commit -qa --amend -m m",
        "echo 1 > n; git add n; git commit -qm n; git rebase -q origin/feat",
        "echo 1 > n; git add n; git commit -qm n; git reset -q --hard HEAD~1; echo z > z",
        "B=$(git branch --show-current); git switch -q -c x; echo 1 > n; git add n; git commit -qm n; git switch -q $B; \
         git merge -q x; git branch -q -d x",
    ] {
        let job = house.run(habit, json!({}));
        assert!(job["kept_because"].is_null() && job["pushed"] == true, "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn what_was_only_fetched_is_not_published_in_another_form() {
    let house = House::new();
    // A blob that its attributes would have in another form.
    let clone = house.lab.path("clone");
    git(&house.lab.path("."), &["clone", "-q", &house.repo.url(), clone.to_str().unwrap()]).unwrap();
    std::fs::write(clone.join(".gitattributes"), "*.txt text\n").unwrap();
    std::fs::write(clone.join("n"), "one\r\ntwo\r\n").unwrap();
    let blob = git(&clone, &["hash-object", "-w", "--no-filters", "n"]).unwrap();
    git(&clone, &["add", ".gitattributes"]).unwrap();
    git(&clone, &["update-index", "--add", "--cacheinfo", &format!("100644,{},n.txt", blob.trim())]).unwrap();
    git(&clone, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "newcr"]).unwrap();
    git(&clone, &["push", "-q", "origin", "HEAD:newcr"]).unwrap();
    for habit in ["git pull -q origin newcr", "git merge -q --no-edit origin/newcr", "git switch -q newcr"] {
        let job = house.run(habit, json!({}));
        assert!(job["pushed"] == false && job["kept_because"].is_null(), "{habit}: {job:#}");
    }
    let job = house.run("git reset -q --hard origin/newcr; echo z > z", json!({}));
    assert_eq!(house.published(&job, "z").as_deref(), Some("z"), "{job:#}");
    let size = house.repo.git(&["cat-file", "-s", &format!("{}:n.txt", job["branch"].as_str().unwrap())]);
    assert_eq!(size.unwrap().trim(), "10", "{job:#}");
    house.server.stop();
}

#[test]
fn conflicts_are_found_in_the_commit_and_not_on_the_disk() {
    let house = House::new();
    let strict = json!({"profile": "strict"});
    for habit in [
        "printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > a.txt; git commit -qam x; git update-index --skip-worktree a.txt; rm a.txt",
        "printf '<<<<<<< a\\n=======\\n>>>>>>> b\\n' > next/x; git commit -qam x; git sparse-checkout set --cone dist",
    ] {
        let job = house.run(habit, strict.clone());
        let error = job["error"].as_str().unwrap_or_default();
        assert!(error.contains("publish_conflicts") && job["pushed"] == false, "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn what_a_commit_says_beyond_the_files_stays() {
    let house = House::new();
    let mode = |job: &Value, path: &str| {
        let tree = house.repo.git(&["ls-tree", job["branch"].as_str().unwrap(), path]).unwrap();
        tree.split(' ').next().unwrap().to_owned()
    };
    let job = house.run("git update-index --chmod=+x h; git commit -qm x; echo z > z", json!({}));
    assert_eq!(mode(&job, "h"), "100755", "{job:#}");
    let job = house.run("echo hi > new.sh; git add --chmod=+x new.sh", json!({}));
    assert_eq!(mode(&job, "new.sh"), "100755", "{job:#}");
    let job = house.run("echo hi > new.sh; chmod +x new.sh; git add --chmod=-x new.sh; git commit -qm x", json!({}));
    assert_eq!(mode(&job, "new.sh"), "100644", "{job:#}");
    // A file that is tracked no more, and stays.
    for habit in
        ["git rm -q --cached h; git commit -qm 'stop tracking'; echo z > z", "git rm -q --cached h; echo z > z"]
    {
        let job = house.run(habit, json!({}));
        assert_eq!(house.published(&job, "h"), None, "{habit}: {job:#}");
        assert_eq!(house.published(&job, "z").as_deref(), Some("z"), "{habit}");
    }
    let job = house.run("git rm -q --cached h; git commit -qm 'stop tracking'; echo z > z", json!({}));
    assert!(job["kept_because"].is_null(), "{job:#}");
    // Removed from the index after the agent's own commit of it: nobody knows what was meant.
    let job = house.run("echo s > secret; git add secret; git commit -qm s; git rm -q --cached secret", json!({}));
    assert!(job["kept_because"].as_str().unwrap_or_default().contains("`secret`"), "{job:#}");
    house.server.stop();
}

#[test]
fn a_branch_that_the_agent_pushed_itself_goes_on() {
    let house = House::new();
    let push = "echo 1 > n; git add n; git commit -qm half; git push -q -u origin HEAD";
    for after in ["echo 2 > m", "echo 2 > m; git add m; git commit -qm rest", "echo 2 > m; git fetch -q"] {
        let job = house.run(&format!("{push}; {after}"), json!({}));
        assert_eq!((&job["status"], &job["pushed"], &job["error"]), (&json!("succeeded"), &json!(true), &json!(null)));
        assert_eq!(house.published(&job, "n").as_deref(), Some("1"), "{after}: {job:#}");
        assert_eq!(house.published(&job, "m").as_deref(), Some("2"), "{after}: {job:#}");
    }
    // Rewritten after that: nobody moves it by force.
    let job = house.run(&format!("{push}; git commit -q --amend -m other; echo 2 > m"), json!({}));
    let error = job["error"].as_str().unwrap_or_default();
    assert!(job["status"] == "succeeded" && error.contains("the agent pushed the branch"), "{job:#}");
    assert!(Path::new(job["worktree_path"].as_str().unwrap()).join("m").exists(), "{job:#}");
    // To another branch, with a fetch or without: it is its work all the same.
    for habit in [
        "git switch -qc fix-1; echo 1 > n; git add n; git commit -qm n; git push -q -u origin HEAD",
        "git fetch -q; git switch -qc fix-2; echo 1 > n; git add n; git commit -qm two; git push -q -u origin HEAD",
        "echo 1 > n; git add n; git commit -qm three; git push -q origin HEAD:refs/heads/nn; git fetch -q",
    ] {
        let job = house.run(habit, json!({}));
        assert_eq!(house.published(&job, "n").as_deref(), Some("1"), "{habit}: {job:#}");
    }
    house.server.stop();
}

#[test]
fn files_that_are_staged_as_they_are_are_published_so() {
    let lab = Lab::new();
    let repo = lab.repo();
    repo.commit("main", &[("src/a.txt", "one\r\ntwo\r\n"), ("src/b.txt", "1\r\n")]);
    let clone = lab.path("clone");
    git(&lab.path("."), &["clone", "-q", &repo.url(), clone.to_str().unwrap()]).unwrap();
    std::fs::write(clone.join(".gitattributes"), "*.txt text\n").unwrap();
    git(&clone, &["add", ".gitattributes"]).unwrap();
    git(&clone, &["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "attributes"]).unwrap();
    git(&clone, &["push", "-q", "origin", "HEAD:main"]).unwrap();
    let server = lab.serve();
    let job = server.run(json!({"task": "[[bash git mv src lib]] [[say done]]", "repo_url": repo.url()}));
    let branch = job["branch"].as_str().unwrap();
    let raw = repo.git(&["diff", "--name-status", "-M", "main", branch]).unwrap();
    assert_eq!(raw.lines().filter(|line| line.starts_with("R100")).count(), 2, "{raw} {job:#}");
    server.stop();
}

#[test]
fn a_bisect_that_has_not_ended_is_named() {
    let house = House::new();
    let job = house.run("git bisect start origin/feat origin/main > /dev/null; echo 1 > fix", json!({}));
    assert!(job["caution"].as_str().unwrap_or_default().contains("a bisect"), "{job:#}");
    house.server.stop();
}

#[test]
fn what_was_committed_too_early_and_is_ignored_now_is_removed() {
    let house = House::new();
    let habit = "echo s > .env; git add -A; git commit -qm x; echo .env >> .gitignore; git rm -q --cached .env";
    let job = house.run(habit, json!({}));
    assert_eq!(house.published(&job, ".env"), None, "{job:#}");
    assert_eq!(house.published(&job, ".gitignore").as_deref(), Some(".env"));
    house.server.stop();
}
