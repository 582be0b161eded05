//! Each job has a repository of its own: nothing of one job reaches another, whatever its agent does there.

use crate::habits::HABITS;
use crate::support::repo::git;
use crate::support::{Lab, Repo, Server, eventually};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn run(server: &Server, repo: &Repo, task: &str) -> Value {
    server.run(json!({"task": task, "repo_url": repo.url()}))
}

fn cache(lab: &Lab) -> PathBuf {
    std::fs::read_dir(lab.path("repos")).unwrap().flatten().next().unwrap().path().join("repo")
}

/// What a plain job publishes is its own change and nothing else; and the cache is sound.
fn assert_next_is_plain(lab: &Lab, server: &Server, repo: &Repo, after: &str) {
    let job = run(server, repo, "[[write plain.txt plain]]");
    assert_eq!(
        (&job["status"], &job["error"], &job["pushed"]),
        (&json!("succeeded"), &json!(null), &json!(true)),
        "{after}: {job:#}"
    );
    let branch = job["branch"].as_str().unwrap();
    let changed = repo.git(&["diff", "--name-status", "main", branch]).unwrap();
    assert_eq!(changed, "A\tplain.txt", "{after}");
    assert_eq!(repo.git(&["rev-list", "--count", &format!("main..{branch}")]).unwrap(), "1", "{after}");
    let sound = git(&cache(lab), &["fsck", "--connectivity-only", "--no-dangling"]);
    assert!(sound.is_ok(), "{after}: {sound:?}");
}

#[test]
fn what_one_job_does_in_its_repository_no_other_sees() {
    let lab = Lab::new().with("AGENTICORE_MAX_PARALLEL_JOBS", "2");
    let repo = lab.repo();
    let server = lab.serve();
    run(&server, &repo, "[[say cloned]]");
    // Two at a time, in an order that differs from run to run; a plain job after each pair.
    let from = std::process::id() as usize % HABITS.len();
    let habits: Vec<&str> = HABITS.iter().cycle().skip(from).take(HABITS.len() / 2).copied().collect();
    for pair in habits.chunks(2) {
        let ids: Vec<String> = pair
            .iter()
            .map(|habit| {
                server.submit(json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": repo.url()}))
            })
            .collect();
        for id in &ids {
            let job = server.wait(id);
            assert!(["succeeded", "failed"].contains(&job["status"].as_str().unwrap()), "{pair:?}: {job:#}");
        }
        assert_next_is_plain(&lab, &server, &repo, &format!("{pair:?}"));
    }
    // What the next agent finds is what a fresh clone shows.
    let seen = lab.path("seen");
    let look = format!(
        "(git for-each-ref --format='%(refname)' refs/remotes refs/tags refs/notes refs/stash; git stash list; git worktree \
         list | wc -l; git config --local --get-regexp 'user|alias|gpg|hooks|remote'; ls $(git rev-parse --git-path hooks); \
         git rev-parse --is-shallow-repository; git status --porcelain; git rev-list --count HEAD) > {} 2>/dev/null",
        seen.display()
    );
    let job = run(&server, &repo, &format!("[[bash {look}]] [[say looked]]"));
    assert_eq!(job["status"], "succeeded", "{job:#}");
    let fresh = lab.path("fresh");
    git(lab.dir.path(), &["clone", "-q", &repo.url(), fresh.to_str().unwrap()]).unwrap();
    let branches = git(&fresh, &["for-each-ref", "--format=%(refname)", "refs/remotes"]).unwrap();
    let seen = std::fs::read_to_string(&seen).unwrap();
    let mut seen: Vec<&str> = seen.lines().map(str::trim).collect();
    let of_remote: Vec<&str> = branches.lines().collect();
    assert_eq!(seen.drain(..of_remote.len()).collect::<Vec<_>>(), of_remote);
    let url = format!("remote.origin.url {}", repo.url());
    let fetch = "remote.origin.fetch +refs/heads/*:refs/remotes/origin/*";
    assert_eq!(seen, ["1", &url, fetch, "false", "1"]);
    server.stop();
    lab.assert_no_process();
}

/// The files of objects that the cache has.
fn objects(lab: &Lab) -> Vec<String> {
    let directories = std::fs::read_dir(cache(lab).join("objects")).unwrap().flatten();
    let files = directories.flat_map(|entry| std::fs::read_dir(entry.path()).unwrap().flatten());
    let mut names: Vec<String> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The file of a loose object.
const OF_OBJECT: &str =
    "of() { echo $(git rev-parse --git-dir)/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }";

#[test]
fn what_is_published_was_checked_and_what_cannot_be_is_kept() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    for (forgery, why) in [
        // Another content under an object's name; another job's object behind a link; a pipe.
        (
            "x=$(echo other | git hash-object -w --stdin); chmod +w $(of $b); cp $(of $x) $(of $b)",
            "cannot be taken over",
        ),
        ("mv $(of $b) ../moved-$$; ln -s $PWD/../moved-$$ $(of $b)", "no regular file"),
        ("rm -f $(of $b); mkfifo $(of $b)", "no regular file"),
        ("rm -f $(of $b)", "could not be committed"),
    ] {
        let task = format!(
            "[[bash {OF_OBJECT}; echo mine > m.txt; git add m.txt; git commit -qm m; b=$(git rev-parse HEAD:m.txt); {forgery}]]"
        );
        run(&server, &repo, "[[say the cache is there]]");
        let before = objects(&lab);
        let job = run(&server, &repo, &task);
        let error = job["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{forgery}: {job:#}");
        assert_eq!(objects(&lab), before, "{forgery}: nothing unchecked is in the cache");
        assert_eq!((&job["pushed"], job["worktree_path"].is_string()), (&json!(false), true), "{forgery}: {job:#}");
        assert_next_is_plain(&lab, &server, &repo, forgery);
    }
    server.stop();
    lab.assert_no_process();
}

#[test]
fn a_large_commit_is_taken_over_as_a_pack_and_a_small_one_is_not() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let packs = || objects(&lab).iter().filter(|name| name.ends_with(".pack")).count();
    run(&server, &repo, "[[write a.txt 1]]");
    let before = packs();
    let small = run(&server, &repo, "[[write a.txt 1]] [[commit one]]");
    assert_eq!((&small["pushed"], packs()), (&json!(true), before));
    let large =
        run(&server, &repo, "[[bash for n in $(seq 200); do echo $n > f$n; done; git add .; git commit -qm many]]");
    assert_eq!((&large["pushed"], packs()), (&json!(true), before + 1), "{large:#}");
    assert_eq!(repo.file(large["branch"].as_str().unwrap(), "f200").as_deref(), Some("200"));
    server.stop();
    lab.assert_tidy();
}

#[test]
fn a_stash_and_a_side_branch_keep_the_worktree() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    for habit in [
        "echo 1 > s.txt; git stash -qu",
        "git checkout -q -b side; echo 1 > s; git add s; git commit -qm s; git checkout -q -",
    ] {
        let job = run(&server, &repo, &format!("[[bash {habit}]] [[say done]]"));
        let why = job["kept_because"].as_str().unwrap_or_default();
        assert!(
            why.contains("on another branch") && Path::new(job["worktree_path"].as_str().unwrap()).exists(),
            "{job:#}"
        );
    }
    server.stop();
}

#[test]
fn its_repository_goes_with_the_job() {
    let lab = Lab::new();
    let repo = lab.repo();
    let server = lab.serve();
    let gate = lab.path("gate");
    let id = server
        .submit(json!({"task": format!("[[write a.txt 1]] [[wait-for {}]]", gate.display()), "repo_url": repo.url()}));
    let of_job = || lab.path("repos").join(cache(&lab).parent().unwrap().file_name().unwrap()).join("jobs").join(&id);
    eventually("it works", || {
        (server.job(&id)["worktree_path"].is_string() && of_job().join("git/HEAD").exists()).then_some(())
    });
    std::fs::write(&gate, "").unwrap();
    server.wait(&id);
    assert!(!of_job().exists());
    server.stop();
    lab.assert_tidy();
}

/// The agent puts a link to somebody else's repository in the place of its own: nothing is written through it.
#[test]
fn a_link_in_the_place_of_the_repository_leads_nowhere() {
    let lab = Lab::new();
    let repo = lab.repo();
    let victim = lab.path("victim");
    std::fs::create_dir_all(&victim).unwrap();
    let git_in = |words: &[&str]| crate::support::repo::git(&victim, words);
    git_in(&["init", "-q", "-b", "main"]).unwrap();
    std::fs::write(victim.join("theirs.txt"), "theirs").unwrap();
    git_in(&["add", "-A"]).unwrap();
    git_in(&["-c", "user.name=v", "-c", "user.email=v@v", "commit", "-qm", "theirs"]).unwrap();
    let before = (std::fs::read(victim.join(".git/index")).unwrap(), git_in(&["for-each-ref"]).unwrap());
    let server = lab.serve();
    let find = "g=$(git rev-parse --path-format=absolute --git-common-dir)";
    for habit in [
        format!("{find}; mv $g $g.m; ln -s {}/.git $g; echo x > x", victim.display()),
        format!("{find}; mv $g/refs $g/refs.m; ln -s {}/.git/refs $g/refs; echo x > x", victim.display()),
    ] {
        let job = server.run(serde_json::json!({"task": format!("[[bash {habit}]]"), "repo_url": repo.url()}));
        assert!(job["status"] != "running", "{job:#}");
        let after = (std::fs::read(victim.join(".git/index")).unwrap(), git_in(&["for-each-ref"]).unwrap());
        assert!(before == after, "{habit}: {job:#}");
        git_in(&["fsck", "--strict"]).unwrap();
    }
    server.stop();
}
