//! `doctor --fix` acts on what is provably nobody's, and on nothing else.

use crate::support::repo::git;
use crate::support::{BINARY, Lab, Repo, Server, eventually};
use fs2::FileExt;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

fn fix(lab: &Lab, more: &[(&str, &str)]) -> (Option<i32>, Value) {
    let done = lab.command(&["doctor", "--fix", "--json"]).envs(more.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    (done.status.code(), serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {done:?}")))
}

fn of<'a>(found: &'a Value, check: &str) -> &'a Value {
    found.as_array().unwrap().iter().find(|finding| finding["check"] == check).unwrap()
}

fn worktrees(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.path("worktrees")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with('.'))
        .collect()
}

fn run_local(lab: &Lab, repo: &Repo, task: &str) -> Child {
    let mut command = lab.command(&["run", "--local", task, "--repo", &repo.url()]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn discard(lab: &Lab, id: &str) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = lab.run(&["doctor", "--discard", id]);
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

/// The server's directory, so that `doctor` has something to look at.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.serve().stop();
    lab
}

#[test]
fn a_local_run_that_is_under_way_is_left_alone() {
    let lab = lab();
    let repo = lab.repo();
    let gate = lab.path("gate");
    let child = run_local(&lab, &repo, &format!("[[write a.txt 1]] [[wait-for {}]]", gate.display()));
    eventually("it works", || worktrees(&lab).first().filter(|path| path.join("a.txt").exists()).map(drop));
    let (code, found) = fix(&lab, &[]);
    assert_eq!(code, Some(0), "a live local run is no fault: {found:#}");
    let id = worktrees(&lab)[0].file_name().unwrap().to_string_lossy().into_owned();
    let (code, said) = discard(&lab, &id);
    assert!(code == Some(1) && said.contains("somebody works in"), "{said}");
    fs::write(&gate, "").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let branch = repo.branches().into_iter().find(|branch| branch.starts_with("agenticore-")).unwrap();
    assert_eq!(repo.git(&["diff", "--name-status", "main", &branch]).unwrap(), "A\ta.txt");
    lab.assert_tidy();
}

#[test]
fn a_running_job_is_left_alone_whatever_the_settings_and_the_name_of_the_binary() {
    let lab = Lab::new();
    let repo = lab.repo();
    let gate = lab.path("gate");
    let renamed = lab.path("ac");
    fs::copy(BINARY, &renamed).unwrap();
    let mut command = Command::new(&renamed);
    command.arg("serve").env_clear().envs(&lab.variables);
    let server = Server::start(command);
    let task = format!("[[write a.txt 1]] [[wait-for {}]]", gate.display());
    let id = server.submit(json!({"task": task, "repo_url": repo.url()}));
    eventually("it works", || worktrees(&lab).first().filter(|path| path.join("a.txt").exists()).map(drop));
    let other = lab.path("other-jobs");
    fs::create_dir(&other).unwrap();
    for settings in [&[][..], &[("AGENTICORE_JOBS_DIR", other.to_str().unwrap())]] {
        let (_, found) = fix(&lab, settings);
        for check in ["worktrees", "processes"] {
            assert_eq!(of(&found, check)["problems"], json!([]), "{found:#}");
        }
    }
    fs::write(&gate, "").unwrap();
    let job = server.wait(&id);
    assert_eq!((&job["status"], &job["pushed"]), (&json!("succeeded"), &json!(true)), "{job:#}");
    server.stop();
    lab.assert_tidy();
}

/// A local run that was killed, and whose store is gone: nobody knows its job any more.
fn abandoned(lab: &Lab, repo: &Repo, task: &str) -> (String, PathBuf) {
    let mut child = run_local(lab, repo, &format!("{task} [[daemon {}]] [[sleep 600000]]", lab.path("pid").display()));
    eventually("it works", || lab.path("pid").exists().then_some(()));
    let path = worktrees(lab).remove(0);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("its tree is gone", || lab.processes().is_empty().then_some(()));
    fs::remove_file(lab.path("pid")).unwrap();
    let id = path.file_name().unwrap().to_string_lossy().into_owned();
    // Its store knows it.
    let (_, found) = fix(lab, &[]);
    assert_eq!(of(&found, "worktrees")["problems"], json!([]), "{found:#}");
    fs::remove_dir_all(lab.path("home/.agenticore/local")).unwrap();
    (id, path)
}

#[test]
fn what_nobody_knows_goes_if_it_holds_no_work_and_else_when_it_is_named() {
    let lab = lab();
    let repo = lab.repo();
    let (_, path) = abandoned(&lab, &repo, "");
    let (_, found) = fix(&lab, &[]);
    let finding = of(&found, "worktrees");
    assert!(finding["repaired"].to_string().contains("removed"), "{found:#}");
    assert!(!path.exists());
    let (id, path) = abandoned(&lab, &repo, "[[write precious.txt 1]]");
    let (code, found) = fix(&lab, &[]);
    let problems = of(&found, "worktrees")["problems"].to_string();
    assert!(code == Some(1) && path.join("precious.txt").exists(), "{found:#}");
    assert!(problems.contains("changes that are in no commit") && problems.contains("--discard"), "{problems}");
    let (code, said) = discard(&lab, &id);
    assert!(code == Some(0) && said.contains("changes that are in no commit"), "{said}");
    assert!(!path.exists());
    let (code, said) = discard(&lab, &id);
    assert!(code == Some(1) && said.contains("there is no worktree"), "{said}");
    assert_eq!(discard(&lab, "nonsense").0, Some(2));
    let (code, found) = fix(&lab, &[]);
    assert_eq!(code, Some(0), "{found:#}");
    assert_eq!(fs::read_dir(lab.path("worktrees")).unwrap().count(), 0);
    let cache = fs::read_dir(lab.path("repos")).unwrap().flatten().next().unwrap().path();
    assert_eq!(fs::read_dir(cache.join("jobs")).unwrap().count(), 0);
    lab.assert_no_process();
}

#[test]
fn a_lock_file_of_git_goes_only_under_the_repositorys_lock() {
    let lab = lab();
    let repo = lab.repo();
    let server = lab.serve();
    server.run(json!({"task": "[[say x]]", "repo_url": repo.url()}));
    server.stop();
    let cache = fs::read_dir(lab.path("repos")).unwrap().flatten().next().unwrap().path();
    let left = cache.join("repo/packed-refs.lock");
    fs::write(&left, "").unwrap();
    let age = |path: &Path| {
        let done = Command::new("touch").args(["-d", "1 hour ago"]).arg(path).status().unwrap();
        assert!(done.success());
    };
    age(&left);
    let lock = fs::File::create(cache.join(".lock")).unwrap();
    lock.lock_exclusive().unwrap();
    let (code, _) = fix(&lab, &[]);
    assert!(code == Some(1) && left.exists(), "somebody works in the cache");
    drop(lock);
    let (code, found) = fix(&lab, &[]);
    assert!(code == Some(0) && !left.exists(), "{found:#}");
    git(&cache.join("repo"), &["pack-refs", "--all"]).unwrap();
}
