//! Real repositories to work on.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Repo {
    pub path: PathBuf,
}

/// git in `directory`, without this machine's configuration.
pub fn git(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "tester").env(format!("GIT_{role}_EMAIL"), "tester@localhost");
    }
    let done = command
        .args(["-c", "safe.directory=*", "-C"])
        .arg(directory)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    if done.status.success() { Ok(out) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
}

impl Repo {
    /// Bare and empty.
    pub fn empty(path: &Path) -> Self {
        std::fs::create_dir_all(path).unwrap();
        git(path, &["init", "-q", "--bare", "-b", "main"]).unwrap();
        Self { path: path.to_owned() }
    }

    pub fn with_commit(path: &Path) -> Self {
        let repo = Self::empty(path);
        repo.commit("main", &[("README.md", "hello\n")]);
        repo
    }

    /// Adds a commit with these files to `branch`.
    pub fn commit(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let work = tempfile::tempdir().unwrap();
        let at = work.path();
        git(at, &["clone", "-q", self.path.to_str().unwrap(), "."]).unwrap();
        if git(at, &["checkout", "-q", branch]).is_err() {
            git(at, &["checkout", "-q", "-b", branch]).unwrap();
        }
        for (name, text) in files {
            let path = at.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(at, &["add", "-A"]).unwrap();
        git(at, &["commit", "-q", "--allow-empty", "-m", "a change"]).unwrap();
        git(at, &["push", "-q", "origin", &format!("HEAD:refs/heads/{branch}")]).unwrap();
        git(at, &["rev-parse", "HEAD"]).unwrap()
    }

    pub fn url(&self) -> String {
        self.path.display().to_string()
    }

    pub fn git(&self, arguments: &[&str]) -> Result<String, String> {
        git(&self.path, arguments)
    }

    /// What `path` holds on `branch`.
    pub fn file(&self, branch: &str, path: &str) -> Option<String> {
        self.git(&["show", &format!("{branch}:{path}")]).ok()
    }

    pub fn branches(&self) -> Vec<String> {
        let listed = self.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]).unwrap();
        listed.lines().map(str::to_owned).collect()
    }
}
