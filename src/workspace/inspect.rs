//! Looks at what an agent left in its worktree, without running anything of the repository's and
//! without believing the agent's index.
//!
//! The index used is the one from when the worktree was made: whatever flags the agent set in its
//! own, or whatever it wrote there, hides no change.

use super::cache::Error;
use super::git::{self, Call};
use super::private_git_dir::PrivateGitDir;
use super::worktree::Worktree;
use super::{refs, regular_file};
use crate::process::limited;
use std::fs;
use std::path::PathBuf;

/// The largest index that is looked at: ten million files.
const INDEX_LIMIT: u64 = 1 << 30;
/// How many of an agent's references are asked for.
const STRAYS_LIMIT: usize = 1000;

const STATUS: [&str; 6] =
    ["status", "--porcelain=v2", "-z", "--untracked-files=normal", "--no-renames", "--ignore-submodules=dirty"];

/// What an agent left.
#[derive(Debug, PartialEq)]
pub struct Inspection {
    /// The commit that is checked out.
    pub head: String,
    /// There are changes that no commit holds.
    pub is_dirty: bool,
    /// The commit that is checked out is not the base, nor before it.
    pub has_commits: bool,
    /// Work that no publishing reaches, in a sentence: on another branch, or in a submodule.
    pub hidden: Option<String>,
}

impl Inspection {
    /// Something to commit or to push.
    pub fn is_publishable(&self) -> bool {
        self.is_dirty || self.has_commits
    }

    /// Something would be lost with the worktree.
    pub fn has_work(&self) -> bool {
        self.is_publishable() || self.hidden.is_some()
    }
}

impl<'a> Worktree<'a> {
    pub fn inspect(&self, base_commit: &str) -> Result<Inspection, Error> {
        let head = self.head_of(base_commit)?;
        let ours = self.view(&head)?;
        let has_commits = head != base_commit && !is_ancestor(&ours, &head, base_commit)?;
        let hidden = self.hidden(&ours, &[&head, base_commit])?;
        // An agent may have removed its worktree: what it committed before is still there.
        let is_dirty = self.is_on_disk() && is_dirty(&self.private_git_dir(base_commit)?)?;
        Ok(Inspection { head, is_dirty, has_commits, hidden })
    }

    /// A private git directory with the work tree, the index, and the agent's HEAD, detached.
    pub(super) fn private_git_dir(&self, base_commit: &str) -> Result<PrivateGitDir<'a>, Error> {
        if !self.is_on_disk() {
            return Err(Error::Final(format!("the worktree {} is gone, and the work in it", self.path().display())));
        }
        let head = self.head_of(base_commit)?;
        let ours = self.view(&head)?;
        let index = ours.path("index");
        let is_known = regular_file::copy(&self.first_index(), &index, INDEX_LIMIT).is_ok();
        let ours = ours.with_work_tree(&self.path(), &index);
        if is_known && head == base_commit {
            return Ok(ours);
        }
        // Entries that are the same in HEAD keep what is known of their files.
        let merged = ours.run(&["read-tree", "--reset", &head], Call::default());
        if matches!(merged, Err(git::Error::Failed { .. })) {
            let _ = fs::remove_file(&index);
            ours.run(&["read-tree", &head], Call::default())?;
        }
        Ok(ours)
    }

    /// Why the worktree has to stay although `commit` is published: something in it is not in there.
    pub fn remainder(&self, base_commit: &str, commit: &str) -> Result<Option<String>, Error> {
        let ours = self.view(commit)?;
        if let Some(why) = self.hidden(&ours, &[commit, base_commit])? {
            return Ok(Some(why));
        }
        let changed =
            ours.run(&["diff-tree", "-r", "--raw", "-z", "--no-renames", base_commit, commit], Call::default())?;
        if changed.stdout.len() >= limited::OUTPUT_LIMIT {
            return Ok(Some("there are too many changes to look through for nested repositories".into()));
        }
        let changed = String::from_utf8_lossy(&changed.stdout).into_owned();
        let mut fields = changed.split('\0');
        while let Some(meta) = fields.next() {
            let path = fields.next().unwrap_or_default();
            if meta.split(' ').nth(1) == Some("160000") {
                return Ok(Some(format!(
                    "`{path}` is a repository of its own, of which only the commit's name is published"
                )));
            }
        }
        // Compared with the new commit: what `git add` could not take up.
        let is_left = self.is_on_disk() && {
            let index = ours.path("index");
            let _ = regular_file::copy(&self.first_index(), &index, INDEX_LIMIT);
            let ours = ours.with_work_tree(&self.path(), &index);
            ours.run(&["read-tree", "--reset", commit], Call::default())?;
            is_dirty(&ours)?
        };
        Ok(is_left.then(|| "not every change in it could be committed".into()))
    }

    /// A private git directory onto the cache and what the agent added to it, at `head`.
    pub(super) fn view(&self, head: &str) -> Result<PrivateGitDir<'a>, Error> {
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, head)?;
        Ok(ours.with_objects_of(&self.repository())?)
    }

    fn hidden(&self, ours: &PrivateGitDir, known: &[&str]) -> Result<Option<String>, Error> {
        if let Some(stray) = self.stray(ours, known)? {
            return Ok(Some(format!(
                "the agent's commit {stray} is on another branch than the one it left checked out, or in a stash"
            )));
        }
        let submodule = self.populated_submodule(ours)?;
        Ok(submodule.map(|path| format!("the agent worked in the submodule `{path}`, which is not published")))
    }

    /// A submodule with files in it: we check none out, so the agent did.
    fn populated_submodule(&self, ours: &PrivateGitDir) -> Result<Option<String>, Error> {
        if fs::symlink_metadata(self.path().join(".gitmodules")).is_err() {
            return Ok(None);
        }
        let listed = ours.run(&["ls-tree", "-r", "-z", "HEAD"], Call::default())?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let modules =
            listed.split('\0').filter(|line| line.starts_with("160000 ")).filter_map(|line| line.split_once('\t'));
        let is_populated =
            |path: &&str| fs::read_dir(self.path().join(path)).is_ok_and(|mut files| files.next().is_some());
        let found = modules.map(|(_, path)| path).find(is_populated).map(str::to_owned);
        Ok(found)
    }

    /// A commit that a reference of the agent's points to, and that none of `known` contains. What it amended or
    /// rebased away is no work.
    fn stray(&self, ours: &PrivateGitDir, known: &[&str]) -> Result<Option<String>, Error> {
        let mut tips = refs::tips(&self.repository());
        tips.retain(|hash| !known.contains(&hash.as_str()));
        tips.truncate(STRAYS_LIMIT);
        if tips.is_empty() {
            return Ok(None);
        }
        let arguments: Vec<&str> = ["rev-list", "--ignore-missing", "--max-count=1"]
            .into_iter()
            .chain(tips.iter().map(String::as_str))
            .chain(["--not"])
            .chain(known.iter().copied())
            .chain(["--remotes"])
            .collect();
        let found = ours.run(&arguments, Call::default())?;
        let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        Ok((!found.is_empty()).then_some(found))
    }

    /// The commit that the agent left checked out. It may have removed its branch, or written
    /// nonsense: then its files are all there is, on top of the base.
    fn head_of(&self, base_commit: &str) -> Result<String, Error> {
        let own = self.repository();
        let head = regular_file::read_text(&own.join("HEAD"), 4096).unwrap_or_default();
        let name = head.trim().strip_prefix("ref: ").unwrap_or(head.trim());
        let commit = refs::read_any(&own, name).unwrap_or_else(|| name.to_owned());
        let is_there = refs::is_hash(&commit) && self.view(base_commit)?.commit_of(&commit, Call::default())?.is_some();
        Ok(if is_there { commit } else { base_commit.to_owned() })
    }

    /// A directory, and not a link to somebody else's.
    fn is_on_disk(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok_and(|found| found.is_dir())
    }

    pub(super) fn git_dir(&self) -> Result<PathBuf, Error> {
        let found = self.spaces.git_dir_of(self.url);
        found.ok_or_else(|| Error::Final(format!("the clone cache of {} is gone", self.url)))
    }
}

fn is_dirty(ours: &PrivateGitDir) -> Result<bool, git::Error> {
    ours.run(&STATUS, Call::default()).map(|told| !told.stdout.is_empty())
}

fn is_ancestor(ours: &PrivateGitDir, commit: &str, of: &str) -> Result<bool, git::Error> {
    match ours.run(&["merge-base", "--is-ancestor", commit, of], Call::default()) {
        Ok(_) => Ok(true),
        Err(git::Error::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
