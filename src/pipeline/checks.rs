//! What this server has to have to run jobs, one after the other: there or not, and what to do. `status` shows it.
//! Claims and `/ready` ask its parts (login, program, parking, clock) themselves. Looks, and changes nothing.

use super::Runner;
use super::parking::Kind;
use crate::api::Check;
use crate::job::Time;
use crate::process::limited::{self, Limits};
use crate::process::sys;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A disk with less than this left, in bytes, is full: a clone and an agent's home take as much at least.
const NEARLY_FULL: u64 = 100 << 20;
/// What asking a program for its version may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// The oldest git that does all that is asked of it (2.34: `ls-files --debug`, bundles, `merge-base` as used here).
const OLDEST_GIT: (u32, u32) = (2, 34);

fn well(name: &str, why: impl Into<String>) -> Check {
    Check { name: name.into(), ok: true, why: why.into(), what_to_do: None }
}

fn wrong(name: &str, why: impl Into<String>, what_to_do: impl Into<String>) -> Check {
    Check { name: name.into(), ok: false, why: why.into(), what_to_do: Some(what_to_do.into()) }
}

impl Runner {
    /// All that can be looked at from here. Starts two programs, to ask for their versions.
    pub fn checks(&self) -> Vec<Check> {
        let mut all = vec![self.check_claude(), self.check_login(), self.check_account(), self.check_git()];
        all.extend([self.check_lfs(), self.check_token()]);
        all.extend(self.check_disks());
        all.extend([self.check_store(), self.check_profiles(), self.check_keys()]);
        all
    }

    /// Whether what is wrong keeps jobs from running here. The others are said, and jobs run.
    pub fn stops_jobs(check: &Check) -> bool {
        !check.ok && !["api_keys", "profiles", "git_lfs", "github_token"].contains(&check.name.as_str())
    }

    fn check_claude(&self) -> Check {
        let binary = &self.config.claude.binary;
        if !self.config.has_program(binary) {
            let what =
                "install Claude Code (`npm install -g @anthropic-ai/claude-code`), or set AGENTICORE_CLAUDE_BINARY";
            return wrong("claude", format!("`{binary}` is not here"), what);
        }
        match version_of(binary, self.config.variables.get("PATH").map(String::as_str)) {
            Ok(version) => well("claude", format!("{binary}, {version}")),
            // A wrapper may not know the question.
            Err(why) => well("claude", format!("{binary}, of a version that it does not tell ({why})")),
        }
    }

    fn check_login(&self) -> Check {
        match self.config.login() {
            Ok(login) => well("login", login),
            Err(what) => wrong("login", "there is none for Claude", what),
        }
    }

    fn check_account(&self) -> Check {
        match self.parking.trouble() {
            Some((trouble, left)) => {
                let name = if trouble.kind == Kind::Account { "account" } else { "machine" };
                let until = Time::now().plus_seconds(left.as_secs());
                wrong(name, format!("{}; no job is begun until {until}", trouble.why), "nothing: one job will try then")
            }
            None => well("account", "the last job that asked the API was answered, or none has asked yet"),
        }
    }

    fn check_git(&self) -> Check {
        let told = version_of("git", self.config.variables.get("PATH").map(String::as_str));
        let Ok(told) = told else { return wrong("git", "it is not installed, or not on PATH", "install git") };
        let number = told.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let mut parts = number.unwrap_or_default().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        match version < OLDEST_GIT {
            true => wrong("git", format!("{told} is too old"), "install git 2.34 or later"),
            false => well("git", told),
        }
    }

    fn check_lfs(&self) -> Check {
        match self.spaces.git.has_lfs() {
            true => well("git_lfs", "git-lfs is installed"),
            false => well("git_lfs", "git-lfs is not installed: Git LFS files stay pointers"),
        }
    }

    fn check_token(&self) -> Check {
        let github = &self.config.github;
        let server = &github.server_url;
        match () {
            () if github.app.is_some() => well("github_token", format!("a GitHub App for {server}")),
            () if github.token.is_some() => well("github_token", format!("GITHUB_TOKEN for {server}")),
            () => well("github_token", format!("none: no private repository of {server}, and no pull requests there")),
        }
    }

    fn check_disks(&self) -> Vec<Check> {
        let config = &self.config;
        let places = [
            ("disk_worktrees", &config.repos.worktree_root),
            ("disk_repos", &config.repos.root),
            ("disk_jobs", &config.jobs_dir),
            ("disk_temporary", &config.runtime_dir),
        ];
        places.into_iter().map(|(name, path)| check_disk(name, path)).collect()
    }

    fn check_store(&self) -> Check {
        let store = &self.store;
        let is_fleet = self.config.redis.is_some() || self.config.wants_redis;
        match store.waits_for().or_else(|| store.trouble()) {
            Some(why) if is_fleet => wrong("redis", why, "see that Redis is reached from here, and what its log says"),
            Some(why) => wrong("store", why, "see what the server's log says"),
            None if is_fleet => well("redis", "it answers, and its time is this pod's"),
            None => well("store", "jobs are kept in files, by this server alone"),
        }
    }

    fn check_profiles(&self) -> Check {
        let (profiles, broken) = self.profiles.all();
        match broken.first() {
            Some(error) => wrong("profiles", error.to_string(), "mend its profile.yml; jobs with other profiles run"),
            None => well("profiles", format!("{} can be used", profiles.len())),
        }
    }

    fn check_keys(&self) -> Check {
        let config = &self.config;
        match config.api_keys.is_empty() && !config.is_local() {
            true => wrong(
                "api_keys",
                "none are set: anybody who reaches the port can run agents here",
                format!("{}, {}", config.where_to_set("api-keys", "AGENTICORE_API_KEYS"), config.then_restart()),
            ),
            false => well("api_keys", "requests need a key, or come from this machine"),
        }
    }
}

fn check_disk(name: &str, path: &Path) -> Check {
    let mut there = path;
    while !there.exists() {
        let Some(above) = there.parent() else { break };
        there = above;
    }
    let free = match sys::free_space(there) {
        Ok(free) => free,
        Err(error) => {
            return wrong(name, format!("{}: {error}", path.display()), "mount it, or name another directory");
        }
    };
    let told = format!("{} MiB are free at {}", free >> 20, path.display());
    match free < NEARLY_FULL {
        true => wrong(name, told, "make room there"),
        false => well(name, told),
    }
}

/// The first line that a program says of its version.
fn version_of(program: &str, path: Option<&str>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version").env_clear().env("HOME", "/nonexistent").env("LC_ALL", "C");
    command.env("PATH", path.unwrap_or("/usr/local/bin:/usr/bin:/bin")).current_dir("/");
    sys::die_with_parent(&mut command);
    let limits = Limits { total: VERSION_LIMIT, silence: VERSION_LIMIT, heard: &mut |_| {} };
    let told =
        limited::run(&mut command, Stdio::null(), limits, None).map_err(|_| "it could not be asked".to_owned())?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    match text.lines().next().map(str::trim) {
        Some(line) if told.code == 0 && !line.is_empty() => Ok(crate::job::cut(line.to_owned(), 100)),
        _ => Err(format!("exit code {}", told.code)),
    }
}
