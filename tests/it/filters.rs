//! Filters of `.gitattributes`: what they encrypt is never published as plain text, and one that fails stops the job.
//!
//! With the real git-crypt.

use crate::support::repo::git;
use crate::support::{Lab, Repo, Server, kinds};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

struct House {
    lab: Lab,
    repo: Repo,
    server: Server,
}

/// A git of this name before the real one, with a system configuration of its own.
fn with_system_config(lab: Lab, config: &str) -> Lab {
    let bin = lab.path("bin");
    fs::create_dir(&bin).unwrap();
    let system = lab.path("gitconfig");
    fs::write(&system, config).unwrap();
    let path = std::env::var("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|git| git.exists()).unwrap();
    let script = format!("#!/bin/sh\nGIT_CONFIG_SYSTEM={} exec {} \"$@\"\n", system.display(), real.display());
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    lab.with("PATH", format!("{}:{path}", bin.display()))
}

impl House {
    fn new(config: &str) -> Self {
        let lab = with_system_config(Lab::new(), config);
        let repo = lab.repo();
        let server = lab.serve();
        Self { lab, repo, server }
    }

    fn run(&self, habit: &str) -> Value {
        self.server.run(json!({"task": format!("[[bash {habit}]] [[say done]]"), "repo_url": self.repo.url()}))
    }

    /// A clone with git-crypt, whose key is in the file that is returned.
    fn encrypt(&self) -> PathBuf {
        let clone = self.lab.path("clone");
        git(&self.lab.path("."), &["clone", "-q", &self.repo.url(), clone.to_str().unwrap()]).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(["-c", "user.name=a", "-c", "user.email=a@b"].iter().filter(|_| program == "git"));
            let output = command.args(arguments).current_dir(&clone).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        };
        let key = self.lab.path("key");
        run("git-crypt", &["init"]);
        run("git-crypt", &["export-key", key.to_str().unwrap()]);
        fs::write(clone.join(".gitattributes"), "secret/** filter=git-crypt diff=git-crypt\n").unwrap();
        fs::create_dir(clone.join("secret")).unwrap();
        fs::write(clone.join("secret/password"), "hunter2").unwrap();
        run("git", &["add", "."]);
        run("git", &["commit", "-qm", "secrets"]);
        run("git", &["push", "-q", "origin", "HEAD:main"]);
        key
    }

    fn published(&self, job: &Value, path: &str) -> Option<String> {
        self.repo.file(job["branch"].as_str().unwrap(), path)
    }
}

#[test]
fn what_git_crypt_encrypts_is_never_published_as_plain_text() {
    let house = House::new("");
    let key = house.encrypt();
    // Without the key: an ordinary job is an ordinary job.
    let job = house.run("echo 1 > one.txt");
    assert_eq!((&job["pushed"], &job["kept_because"]), (&json!(true), &json!(null)), "{job:#}");
    // Not committed: it stays, the rest is published.
    let job = house.run("echo plain > secret/new; echo 2 > two.txt");
    assert_eq!(job["pushed"], json!(true), "{job:#}");
    assert!(job["kept_because"].as_str().unwrap().contains("`secret/new`"), "{job:#}");
    assert_eq!((house.published(&job, "secret/new"), house.published(&job, "two.txt")), (None, Some("2".into())));
    // Committed: nothing is, whatever the agent did to hide it or to undo it.
    for habit in [
        "echo plain > secret/new; git add .; git commit -qm new",
        "echo plain > secret/password; git commit -qam changed",
        "echo plain > secret/new; git add .; git commit -qm new; git rm -q secret/new; git commit -qm undone",
        "echo plain > secret/new; git add .; git commit -qm new; echo > .gitattributes; git commit -qam attributes",
        "echo > .gitattributes; echo plain > secret/new; git add .; git commit -qm both",
        // A content that the remote has elsewhere already, or that another file of the commit has.
        "cp README.md secret/new; git add .; git commit -qm copied",
        "git mv README.md secret/; git commit -qm moved",
        "echo plain > aaa.txt; cp aaa.txt secret/new; git add .; git commit -qm twice",
        "printf plain > $(printf secret/a\\nb); git add .; git commit -qm odd",
    ] {
        let job = house.run(habit);
        let error = job["error"].as_str().unwrap_or_default();
        assert!(error.contains("as plain text") && error.contains("`git-crypt`"), "{habit}: {job:#}");
        assert!(Path::new(job["worktree_path"].as_str().unwrap()).is_dir());
        assert_eq!(job["pushed"], json!(false));
    }
    // With the key: what its git encrypted is published.
    let job = house.run(&format!(
        "git-crypt unlock {}; cat secret/password; echo more > secret/new; git add .; git commit -qm new",
        key.display()
    ));
    assert_eq!(job["pushed"], json!(true), "{job:#}");
    let branch = job["branch"].as_str().unwrap();
    let bytes = Command::new("git")
        .args(["--git-dir", &house.repo.url(), "cat-file", "blob", &format!("{branch}:secret/new")])
        .output()
        .unwrap();
    assert!(bytes.stdout.starts_with(b"\0GITCRYPT\0"), "{bytes:?}");
    house.server.stop();
}

#[test]
fn a_filter_that_fails_at_checkout_stops_the_job() {
    for (required, config) in [
        (true, "[filter \"git-crypt\"]\n\tsmudge = git-crypt smudge\n\tclean = git-crypt clean\n\trequired = true\n"),
        (false, "[filter \"git-crypt\"]\n\tsmudge = false\n\tclean = cat\n"),
    ] {
        let house = House::new(config);
        house.encrypt();
        let job = house.run("true");
        assert_eq!(job["status"], "failed", "{required}: {job:#}");
        let error = job["error"].as_str().unwrap();
        assert!(error.contains("the filter `") && error.contains("/etc/gitconfig"), "{job:#}");
        assert!(!kinds(&house.lab, job["id"].as_str().unwrap()).contains(&"agent_started".to_owned()));
        house.server.stop();
        house.lab.assert_tidy();
    }
}

#[test]
fn a_filter_that_fails_at_publishing_leaves_its_file_out() {
    // It works where files are checked out, and not where they are added.
    let config = "[filter \"odd\"]\n\tsmudge = cat\n\tclean = false\n\trequired = true\n";
    let house = House::new(config);
    house.repo.commit("main", &[(".gitattributes", "*.odd filter=odd\n"), ("a.odd", "1")]);
    let job = house.run("echo changed > a.odd; echo new > b.odd; echo 1 > one.txt");
    assert_eq!(job["pushed"], json!(true), "{job:#}");
    assert!(job["kept_because"].as_str().unwrap().contains(".odd`"), "{job:#}");
    assert_eq!(house.published(&job, "one.txt").as_deref(), Some("1"));
    assert_eq!((house.published(&job, "a.odd"), house.published(&job, "b.odd")), (Some("1".into()), None));
    assert_eq!(fs::read_to_string(Path::new(job["worktree_path"].as_str().unwrap()).join("b.odd")).unwrap(), "new\n");
    house.server.stop();
}
