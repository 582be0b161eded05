//! A private git directory that looks onto a cache: its objects and references, not its
//! configuration, hooks or attributes.
//!
//! The agent shares the runner's uid and may write `config` and `hooks/` of the cache through
//! its worktree. Every git of the runner therefore has a GIT_DIR of its own, made for the call and
//! gone after it, in which `objects`, `packed-refs` and `refs/remotes` are links into the cache.

use super::git::{Call, Error, Git};
use crate::process::limited::Finished;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

/// A HEAD for calls that need none.
pub const NOWHERE: &str = "ref: refs/heads/agenticore-none";

const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n";

pub struct PrivateGitDir<'a> {
    git: &'a Git,
    directory: PathBuf,
    work_tree: Option<PathBuf>,
    index: Option<PathBuf>,
}

impl<'a> PrivateGitDir<'a> {
    /// Looks onto the git directory `cache`. `head` is what HEAD holds: a commit, or `ref: …`.
    pub fn onto(git: &'a Git, cache: &Path, head: &str) -> Result<Self, Error> {
        let directory = git.runtime_dir.join(format!("git-{}", uuid::Uuid::new_v4().simple()));
        let ours = Self { git, directory, work_tree: None, index: None };
        ours.make(cache, head).map_err(|error| {
            Error::NotStarted(format!("cannot make a private git directory in {}: {error}", git.runtime_dir.display()))
        })?;
        Ok(ours)
    }

    fn make(&self, cache: &Path, head: &str) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        fs::write(self.path("config"), CONFIG)?;
        fs::write(self.path("HEAD"), format!("{head}\n"))?;
        // Of the references only those that we fetched: an agent's could break, or (refs/replace)
        // change, what every other job sees.
        fs::create_dir_all(cache.join("refs/remotes"))?;
        fs::create_dir(self.path("refs"))?;
        for part in ["objects", "packed-refs", "refs/remotes"] {
            symlink(cache.join(part), self.path(part))?;
        }
        if cache.join("shallow").exists() {
            symlink(cache.join("shallow"), self.path("shallow"))?;
        }
        Ok(())
    }

    /// The same with files: a work tree and the index that describes it.
    pub fn with_work_tree(mut self, work_tree: &Path, index: &Path) -> Self {
        self.work_tree = Some(work_tree.to_owned());
        self.index = Some(index.to_owned());
        self
    }

    /// A path inside the private directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What HEAD holds now.
    pub fn head(&self) -> String {
        fs::read_to_string(self.path("HEAD")).unwrap_or_default().trim().to_owned()
    }

    pub fn run(&self, arguments: &[&str], call: Call) -> Result<Finished, Error> {
        self.run_as(arguments, &[], call)
    }

    pub fn run_as(&self, arguments: &[&str], variables: &[(&str, &str)], call: Call) -> Result<Finished, Error> {
        let mut command = self.git.command();
        command.env("GIT_DIR", &self.directory).args(arguments).current_dir(&self.directory);
        command.envs(variables.iter().copied());
        if let Some(work_tree) = &self.work_tree {
            command.env("GIT_WORK_TREE", work_tree).current_dir(work_tree);
        }
        if let Some(index) = &self.index {
            command.env("GIT_INDEX_FILE", index);
        }
        self.git.run(command, arguments.first().copied().unwrap_or_default(), call)
    }

    /// The commit that `name` stands for, if it is there.
    pub fn commit_of(&self, name: &str, call: Call) -> Result<Option<String>, Error> {
        let wanted = format!("{name}^{{commit}}");
        match self.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &wanted], call) {
            Ok(finished) => Ok(Some(String::from_utf8_lossy(&finished.stdout).trim().to_owned())),
            Err(Error::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for PrivateGitDir<'_> {
    fn drop(&mut self) {
        // Only links and small files: what they point to stays.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
