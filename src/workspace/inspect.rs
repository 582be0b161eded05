//! Looks at what an agent left in its worktree, without running anything of the repository's and
//! without believing the agent's index.
//!
//! The index used is the one from when the worktree was made: whatever flags the agent set in its
//! own, or whatever it wrote there, hides no change.

use super::agent_index::Staged;
use super::cache::Error;
use super::git::{self, Call};
use super::looking::Left;
use super::private_git_dir::PrivateGitDir;
use super::staging::changes;
use super::worktree::{Worktree, gitdir};
use super::{lfs, refs, regular_file};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The largest index that is looked at: ten million files.
pub(super) const INDEX_LIMIT: u64 = 1 << 30;

/// How many files with conflict markers are named.
const CONFLICTS_NAMED: usize = 10;

/// What git notes of what is under way: gitrepository-layout(5), and git's own sources.
const UNFINISHED: [(&str, &str); 7] = [
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_LOG", "a bisect"),
    ("sequencer", "a cherry-pick or revert of several commits"),
];

/// What an agent left.
#[derive(Debug, PartialEq)]
pub struct Inspection {
    /// The commit that is checked out.
    pub head: String,
    /// There are changes that no commit holds.
    pub is_dirty: bool,
    /// Those of them that the files alone do not show.
    pub staged: Staged,
    /// The commit that is checked out is not the base, nor before it.
    pub has_commits: bool,
    /// What it began with git and did not finish, in a sentence.
    pub unfinished: Option<String>,
    /// Submodules that the agent worked in.
    pub submodules: Vec<String>,
    /// Paths, each ended by a NUL, that git thinks changed and that nobody has touched.
    pub untouched: Vec<u8>,
    /// Work that no publishing reaches, in a sentence: on another branch, or in a submodule.
    pub hidden: Option<String>,
    /// It is on another branch, and so in this repository.
    pub hidden_is_in_refs: bool,
}

impl Inspection {
    /// Something to commit or to push.
    pub fn is_publishable(&self) -> bool {
        self.is_dirty || self.has_commits
    }

    /// Something would be lost with the worktree.
    pub fn has_work(&self) -> bool {
        self.is_publishable() || self.hidden.is_some() || !self.staged.only_staged.is_empty()
    }
}

impl<'a> Worktree<'a> {
    /// `of_remote`: commits that are the remote's, beside those that the cache knows to be.
    pub fn inspect(&self, base_commit: &str, of_remote: &[String]) -> Result<Inspection, Error> {
        self.refuse_pipes()?;
        let head = self.head_of(base_commit)?;
        // First: it finds what git would wait for. An agent may have removed its worktree: what it committed before is
        // still there.
        let mut untouched = Vec::new();
        let left = match self.is_on_disk() {
            true => self.left_in(&self.private_git_dir(base_commit)?, &mut untouched)?,
            false => None,
        };
        let ours = self.view(&head)?;
        // A branch of the remote's that is checked out is no work.
        let has_commits = head != base_commit && beyond(&ours, &[&head], &[base_commit], of_remote)?.is_some();
        let submodules = self.submodules_with_work(of_remote)?;
        let (hidden, hidden_is_in_refs) = self.hidden(&ours, &[&head, base_commit], &submodules, of_remote)?;
        let staged = self.staged(&head, base_commit, &untouched)?;
        let is_dirty = self.is_on_disk() && (staged.is_more || left.is_some());
        let unfinished = self.unfinished();
        Ok(Inspection {
            head,
            is_dirty,
            staged,
            has_commits,
            unfinished,
            submodules,
            hidden,
            hidden_is_in_refs,
            untouched,
        })
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
        let ours = self.with_files(ours, &index);
        if is_known && head == base_commit {
            self.leave_out(&ours, &head)?;
            return Ok(ours);
        }
        // Entries that are the same in HEAD keep what is known of their files.
        let merged = ours.run(&["read-tree", "--reset", &head], Call::default());
        if matches!(merged, Err(git::Error::Failed { .. })) {
            let _ = fs::remove_file(&index);
            ours.run(&["read-tree", &head], Call::default())?;
        }
        self.leave_out(&ours, &head)?;
        Ok(ours)
    }

    /// The same with the worktree's files; contents of LFS files are pointers to git.
    pub(super) fn with_files<'b>(&self, ours: PrivateGitDir<'b>, index: &Path) -> PrivateGitDir<'b> {
        let ours = ours.with_work_tree(&self.path(), index);
        if self.spaces.moves_lfs() { ours.with_settings(lfs::filters(&self.lfs_store())) } else { ours }
    }

    /// Why the worktree has to stay although `commit` is published: something in it is not in there.
    /// What is hidden is looked for by [`Worktree::inspect`] alone.
    pub fn remainder(&self, base_commit: &str, commit: &str) -> Result<Option<String>, Error> {
        let ours = self.view(commit)?;
        if let Some(why) = self.unknown_link(&ours, base_commit, commit)? {
            return Ok(Some(why));
        }
        // Compared with the new commit: what `git add` could not take up.
        if !self.is_on_disk() {
            return Ok(None);
        }
        let index = ours.path("index");
        let _ = regular_file::copy(&self.first_index(), &index, INDEX_LIMIT);
        let ours = self.with_files(ours, &index);
        ours.run(&["read-tree", "--reset", commit], Call::default())?;
        self.leave_out(&ours, commit)?;
        self.committed_on_purpose(&ours, base_commit, commit)?.exclude_from(&ours)?;
        self.leave_links(&ours)?;
        Ok(self.left_in(&ours, &mut Vec::new())?.map(|left| self.explain(left)))
    }

    /// A repository of which `commit` has the name alone.
    pub(super) fn unknown_link(
        &self,
        ours: &PrivateGitDir,
        base_commit: &str,
        commit: &str,
    ) -> Result<Option<String>, Error> {
        let made = self.submodules();
        let arguments = ["diff-tree", "-r", "--raw", "-z", "--no-renames", "--ignore-submodules=dirty"];
        let changed = ours.run(&[&arguments[..], &[base_commit, commit]].concat(), Call::default())?;
        let changed = String::from_utf8_lossy(&changed.stdout).into_owned();
        let mut fields = changed.split('\0');
        while let Some(meta) = fields.next() {
            let path = fields.next().unwrap_or_default();
            // One of a submodule that was looked into names a commit of its remote.
            let is_known = || made.iter().any(|made| made.path == path);
            if meta.split(' ').nth(1) == Some("160000") && !is_known() {
                return Ok(Some(format!(
                    "`{path}` is a repository of its own, of which only the commit's name is published"
                )));
            }
        }
        Ok(None)
    }

    /// What of the files is not in the index of `ours`, where `commit` is made of that index.
    pub(super) fn left_beside(&self, ours: &PrivateGitDir, commit: &str) -> Result<Option<String>, Error> {
        if !self.is_on_disk() {
            return Ok(None);
        }
        let head = ours.path("HEAD");
        fs::write(&head, format!("{commit}\n"))
            .map_err(|error| Error::Final(format!("{}: {error}", head.display())))?;
        Ok(self.left_in(ours, &mut Vec::new())?.map(|left| self.explain(left)))
    }

    fn explain(&self, left: Left) -> String {
        match left {
            Left::Unseen(said) => format!("git could not look at all of it: {said}"),
            Left::Path(path) if self.submodules().iter().any(|made| made.path == path) => {
                format!("the submodule `{path}` is checked out at another commit than the one that is published")
            }
            Left::Path(path) if fs::symlink_metadata(self.path().join(&path).join(".git")).is_ok() => {
                format!("`{path}` is a repository of its own, which is not published")
            }
            Left::Path(path) => format!(
                "not every change in it could be committed, `{path}` for one (it cannot be read, has a filter, or git \
                 does not take it as it is)"
            ),
        }
    }

    /// A private git directory onto the cache and what the agent added to it, at `head`.
    pub(super) fn view(&self, head: &str) -> Result<PrivateGitDir<'a>, Error> {
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, head)?;
        Ok(ours.with_objects_of(&self.repository())?)
    }

    /// Git opens these, and would wait for whoever writes to a pipe.
    fn refuse_pipes(&self) -> Result<(), Error> {
        let is_odd = |name: &&&str| {
            fs::symlink_metadata(self.path().join(name)).is_ok_and(|found| {
                let kind = found.file_type();
                !(kind.is_file() || kind.is_dir() || kind.is_symlink())
            })
        };
        match [".gitignore", ".gitattributes", ".gitmodules"].iter().find(is_odd) {
            Some(name) => Err(Error::Final(format!("`{name}` in the worktree is no file: remove it there"))),
            None => Ok(()),
        }
    }

    /// One of the remote's branches contains it. `known`: a commit that is known to be the remote's.
    pub(super) fn is_of_remote(&self, commit: &str, known: &str) -> Result<bool, Error> {
        let ours = self.view(known)?;
        Ok(ours.commit_of(commit, Call::default())?.is_some() && beyond(&ours, &[commit], &[known], &[])?.is_none())
    }

    fn unfinished(&self) -> Option<String> {
        let own = self.repository();
        let begun = UNFINISHED.iter().find(|(note, _)| fs::symlink_metadata(own.join(note)).is_ok());
        begun.map(|(_, what)| format!("the agent did not finish {what} that it had begun"))
    }

    /// Files of `commit` with conflict markers that `base` had not, in a sentence.
    pub fn conflicts(&self, base: &str, commit: &str) -> Result<Option<String>, Error> {
        let ours = self.view(commit)?;
        let arguments = ["diff-tree", "-r", "--raw", "-z", "--no-renames", "-G^<<<<<<< ", base, commit];
        let told = ours.run(&arguments, Call::default())?.stdout;
        let mut named: Vec<String> = Vec::new();
        // In the commit, not on the disk: a file may be left out there.
        for change in changes(&told).iter().filter(|change| change.new_mode.starts_with(b"100")) {
            let blob = String::from_utf8_lossy(change.new_hash).into_owned();
            let text = ours.run(&["cat-file", "blob", &blob], Call::default())?.stdout;
            if text.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"<<<<<<< ")) {
                named.push(format!("`{}`", String::from_utf8_lossy(change.path)));
            }
            if named.len() >= CONFLICTS_NAMED {
                break;
            }
        }
        Ok((!named.is_empty()).then(|| format!("conflicts are left unresolved in {}", named.join(", "))))
    }

    fn hidden(
        &self,
        ours: &PrivateGitDir,
        known: &[&str],
        submodules: &[String],
        of_remote: &[String],
    ) -> Result<(Option<String>, bool), Error> {
        if fs::symlink_metadata(self.repository().join("reftable")).is_ok() {
            let told = "its repository has its references in another format, which is not looked into";
            return Ok((Some(told.into()), false));
        }
        let tips = match refs::tips(&self.repository()) {
            Ok(tips) => tips,
            Err(error) => {
                return Ok((Some(format!("the references of its repository cannot be read: {error}")), false));
            }
        };
        // A commit that a reference of the agent's points to, and that none of the known ones contains. What it amended
        // or rebased away is no work.
        let published = self.published();
        let known: Vec<&str> =
            known.iter().copied().chain(published.lines().filter(|line| refs::is_hash(line))).collect();
        if let Some(stray) = beyond(ours, &tips, &known, of_remote)? {
            let told = format!(
                "the agent's commit {stray} is on another branch than the one it left checked out, or in a stash"
            );
            return Ok((Some(told), true));
        }
        if let Some(other) = self.other_repository() {
            return Ok((Some(other), false));
        }
        if let Some(path) = submodules.first() {
            let told = format!("the agent worked in the submodule `{path}`, which is not published");
            return Ok((Some(told), false));
        }
        Ok((self.repository_in_tracked(ours)?, false))
    }

    /// A repository or worktree of the agent's, whose work is nowhere else.
    fn other_repository(&self) -> Option<String> {
        let own = self.repository();
        let link = self.path().join(".git");
        let is_own = || regular_file::read_text(&link, 8192).is_ok_and(|text| text.trim_end() == gitdir(&own));
        if self.is_on_disk() && fs::symlink_metadata(&link).is_ok() && !is_own() {
            return Some("the agent put another repository in the place of its own, which is not published".into());
        }
        let added = fs::read_dir(own.join("worktrees")).into_iter().flatten().flatten().find_map(|entry| {
            let link = regular_file::read_text(&entry.path().join("gitdir"), 8192).ok()?;
            let files = PathBuf::from(link.trim_end()).parent()?.to_owned();
            fs::symlink_metadata(&files).is_ok().then_some(files)
        });
        added.map(|files| format!("the agent added a worktree, {}, which is not looked into", files.display()))
    }

    /// A directory of the commit that is checked out in which the agent made a repository, where git looks at the files
    /// as before; or a submodule that it filled, where git does not look.
    fn repository_in_tracked(&self, ours: &PrivateGitDir) -> Result<Option<String>, Error> {
        if !self.is_on_disk() {
            return Ok(None);
        }
        let made = self.submodules();
        let told = ours.run(&["ls-tree", "-r", "-d", "-z", "HEAD"], Call::default())?.stdout;
        for entry in told.split(|byte| *byte == 0) {
            let mut parts = entry.splitn(2, |byte| *byte == b'\t');
            let (Some(meta), Some(path)) = (parts.next(), parts.next()) else { continue };
            let on_disk = self.on_disk(path);
            let shown = String::from_utf8_lossy(path);
            if meta.starts_with(b"160000 ") && !made.iter().any(|made| made.path.as_bytes() == path) {
                let has_files = fs::read_dir(on_disk).is_ok_and(|mut files| files.next().is_some());
                if has_files {
                    return Ok(Some(format!("the agent worked in the submodule `{shown}`, which is not published")));
                }
            } else if meta.starts_with(b"040000 ") && fs::symlink_metadata(on_disk.join(".git")).is_ok() {
                return Ok(Some(format!("`{shown}` is a repository of its own, which is not published")));
            }
        }
        Ok(None)
    }

    /// The commit that the agent left checked out. It may have removed its branch, or written
    /// nonsense: then its files are all there is, on top of the base.
    fn head_of(&self, base_commit: &str) -> Result<String, Error> {
        let own = self.repository();
        let head = match regular_file::read_text(&own.join("HEAD"), 4096) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Error::Final(format!("HEAD of its repository cannot be read: {error}")));
            }
            head => head.unwrap_or_default(),
        };
        let name = head.trim().strip_prefix("ref: ").unwrap_or(head.trim());
        let commit = refs::read_any(&own, name).unwrap_or_else(|| name.to_owned());
        if commit == base_commit {
            return Ok(commit);
        }
        let is_there = refs::is_hash(&commit) && self.view(base_commit)?.commit_of(&commit, Call::default())?.is_some();
        Ok(if is_there { commit } else { base_commit.to_owned() })
    }

    /// A directory, and not a link to somebody else's.
    pub(super) fn is_on_disk(&self) -> bool {
        fs::symlink_metadata(self.path()).is_ok_and(|found| found.is_dir())
    }

    pub(super) fn git_dir(&self) -> Result<PathBuf, Error> {
        let found = self.spaces.git_dir_of(self.url);
        found.ok_or_else(|| Error::Final(format!("the clone cache of {} is gone", self.url)))
    }
}

/// A commit that one of `tips` contains, and none of `known` nor of the remote's branches.
fn beyond(
    ours: &PrivateGitDir,
    tips: &[impl AsRef<str>],
    known: &[&str],
    of_remote: &[String],
) -> Result<Option<String>, Error> {
    if tips.iter().all(|tip| known.contains(&tip.as_ref())) {
        return Ok(None);
    }
    let tips = tips.iter().map(|tip| format!("{}\n", tip.as_ref()));
    let known = known.iter().copied().chain(of_remote.iter().map(String::as_str)).map(|hash| format!("^{hash}\n"));
    let list: String = tips.chain(known).collect();
    let path = ours.path("tips");
    fs::write(&path, list).map_err(|error| Error::Final(format!("{}: {error}", path.display())))?;
    let arguments = ["rev-list", "--ignore-missing", "--max-count=1", "--stdin", "--not", "--remotes"];
    let found = ours.run_on(&path, &arguments, Call::default())?;
    let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    Ok((!found.is_empty()).then_some(found))
}
