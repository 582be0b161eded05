//! The checkouts that a server may be given: agentihooks by its URL, and a bundle of profiles.
//!
//! Cloned once, fetched again when somebody asks for it, never by the clock. Under the clone lock, so that pods which
//! share a volume do it one after the other. What somebody changed in one stays, and is said. Runs nothing of what it
//! fetched; `installed` does.

pub mod installed;

use crate::config::Config;
use crate::forge::GitHub;
use crate::workspace::cache::Workspaces;
use crate::workspace::git::{Call, Git};
use crate::workspace::remove;
use crate::workspace::url::{self, Policy, RepoUrl};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another pod may be cloning the same just now.
const LOCK_LIMIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Agentihooks,
    Bundle,
}

impl Target {
    pub const ALL: [Target; 2] = [Target::Agentihooks, Target::Bundle];

    pub fn name(self) -> &'static str {
        match self {
            Target::Agentihooks => "agentihooks",
            Target::Bundle => "bundle",
        }
    }

    /// The setting that names its repository.
    pub fn variable(self) -> &'static str {
        match self {
            Target::Agentihooks => "AGENTICORE_AGENTIHOOKS_URL",
            Target::Bundle => "AGENTICORE_AGENTIHOOKS_BUNDLE_URL",
        }
    }

    /// The ones that `all`, `agentihooks` or `bundle` means; the error is a sentence's end.
    pub fn of(text: &str) -> Result<Vec<Target>, String> {
        match Self::ALL.into_iter().find(|target| target.name() == text) {
            Some(target) => Ok(vec![target]),
            None if text == "all" => Ok(Self::ALL.to_vec()),
            None => Err(format!("must be all, agentihooks or bundle, not `{text}`")),
        }
    }
}

/// What became of one.
#[derive(Debug)]
pub struct Synced {
    pub target: Target,
    pub url: String,
    pub path: PathBuf,
    /// The commit that is there now.
    pub commit: String,
    /// It is another one than before.
    pub changed: bool,
}

pub struct Checkouts<'a> {
    pub config: &'a Config,
    pub spaces: &'a Workspaces,
    pub github: &'a GitHub,
}

impl Checkouts<'_> {
    fn url(&self, target: Target) -> Option<&str> {
        let settings = &self.config.checkouts;
        match target {
            // A mounted checkout wins, and is somebody else's.
            Target::Agentihooks => settings.url.as_deref().filter(|_| settings.path.is_none()),
            Target::Bundle => settings.bundle_url.as_deref(),
        }
    }

    fn directory(&self, target: Target) -> PathBuf {
        match target {
            Target::Agentihooks => self.config.checkouts.agentihooks(),
            Target::Bundle => self.config.checkouts.bundle(),
        }
    }

    /// Those that the settings name.
    pub fn configured(&self) -> Vec<Target> {
        Target::ALL.into_iter().filter(|target| self.url(*target).is_some()).collect()
    }

    /// Clones those that are not there yet.
    pub fn make_missing(&self) -> Vec<(Target, Result<Synced, String>)> {
        let targets = self.configured().into_iter();
        let missing = targets.filter(|target| !self.directory(*target).join(".git").exists());
        missing.map(|target| (target, self.sync(target, None))).collect()
    }

    /// Has the newest of `target`, from `url` if that is not the configured one. The error is a sentence.
    pub fn sync(&self, target: Target, url: Option<&str>) -> Result<Synced, String> {
        let settings = &self.config.checkouts;
        let Some(url) = url.or_else(|| self.url(target)) else {
            let set = target.variable();
            return Err(format!("no checkout of {} is configured: set {set}, or give --url", target.name()));
        };
        let policy = Policy { allow_local: true, allow_http: true };
        let url = url::judge(url, policy).map_err(|why| why.replace("repo_url", target.variable()))?;
        let path = self.directory(target);
        let branch = match target {
            Target::Agentihooks => settings.branch.as_deref(),
            Target::Bundle => settings.bundle_branch.as_deref(),
        };
        let beside = settings.root.join(".checkouts");
        let _lock = self.spaces.lock_directory_within(&beside, LOCK_LIMIT)?;
        let before = self.commit_at(&path).ok();
        match &before {
            Some(_) => self.fetch(&path, &url, branch)?,
            None => self.clone(&beside, &path, &url, branch)?,
        }
        let commit = self.commit_at(&path)?;
        let changed = before.as_ref() != Some(&commit);
        Ok(Synced { target, url: url.to_string(), path, commit, changed })
    }

    fn clone(&self, beside: &Path, path: &Path, url: &RepoUrl, branch: Option<&str>) -> Result<(), String> {
        if path.exists() {
            let shown = path.display();
            return Err(format!("{shown} is there, and is no checkout: move it away, then sync again"));
        }
        // Half a clone is nothing to anybody: it gets its name when it is whole.
        let unfinished = beside.join(path.file_name().unwrap_or_default());
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        remove::tree(&unfinished).map_err(failed)?;
        let mut arguments = vec!["clone", "--quiet", "--no-tags", "--depth", "1"];
        arguments.extend(branch.iter().flat_map(|branch| ["--branch", branch]));
        let to = unfinished.to_string_lossy();
        arguments.extend(["--", url.as_str(), &to]);
        self.transfer(Path::new("/"), "clone", &arguments, url)?;
        std::fs::rename(&unfinished, path).map_err(failed)
    }

    fn fetch(&self, path: &Path, url: &RepoUrl, branch: Option<&str>) -> Result<(), String> {
        let changed = self.git(path, "status", &["status", "--porcelain", "--untracked-files=no"])?;
        if let Some(first) = changed.lines().next() {
            let shown = path.display();
            return Err(format!("{shown} was changed by somebody ({first}): take that back there, then sync again"));
        }
        let from = branch.unwrap_or("HEAD");
        self.transfer(
            path,
            "fetch",
            &["fetch", "--quiet", "--no-tags", "--depth", "1", "--", url.as_str(), from],
            url,
        )?;
        self.git(path, "reset", &["reset", "--quiet", "--hard", "FETCH_HEAD"]).map(drop)
    }

    fn commit_at(&self, path: &Path) -> Result<String, String> {
        if !path.join(".git").exists() {
            return Err(format!("{} is no checkout", path.display()));
        }
        self.git(path, "rev-parse", &["rev-parse", "HEAD"]).map(|said| said.trim().to_owned())
    }

    fn command(&self, path: &Path, arguments: &[&str]) -> std::process::Command {
        let git: &Git = &self.spaces.git;
        let mut command = git.command();
        // On a shared volume it may be another uid's.
        command.args(["-c", &format!("safe.directory={}", path.display())]);
        command.current_dir(path).args(arguments);
        command
    }

    fn git(&self, path: &Path, what: &str, arguments: &[&str]) -> Result<String, String> {
        let done = self.spaces.git.run(self.command(path, arguments), what, Call::default());
        done.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).map_err(|error| error.to_string())
    }

    fn transfer(&self, path: &Path, what: &str, arguments: &[&str], url: &RepoUrl) -> Result<(), String> {
        let login = self.github.login(url).map_err(|error| error.to_string())?;
        let call = Call { login, stop: None };
        let done = self.spaces.git.transfer(self.command(path, arguments), what, call, &mut |_| {});
        done.map(drop).map_err(|error| format!("{url}: {error}"))
    }
}
