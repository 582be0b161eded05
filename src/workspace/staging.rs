//! What of an agent's uncommitted changes goes into the runner's own commit, and what stays out of it: nothing that
//! would be published as something else than what lies in the worktree.

use super::agent_index::Staged;
use super::cache::Error;
use super::git::{self, Call};
use super::inspect::Inspection;
use super::private_git_dir::PrivateGitDir;
use super::regular_file;
use super::worktree::Worktree;
use crate::process::limited::OUTPUT_LIMIT;
use crate::process::stop::Stop;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The most files that are left out of a commit because they cannot be added.
const LEFT_OUT_MOST: usize = 50;
/// Fewer missing files than this are deletions, however small the repository is.
const DELETIONS_FROM: usize = 20;

/// A change in the index: what it was, what it is, and where.
pub(super) struct Change<'a> {
    pub old_mode: &'a [u8],
    pub new_mode: &'a [u8],
    pub old_hash: &'a [u8],
    /// One letter, as `git diff --raw` has it.
    pub status: &'a [u8],
    pub path: &'a [u8],
}

impl Worktree<'_> {
    /// Stages what can be committed on top of the head that was found: all files, and what of the staged they do not
    /// show. False: there is nothing.
    pub(super) fn stage(&self, ours: &PrivateGitDir, found: &Inspection, stop: &Stop) -> Result<bool, Error> {
        let (head, staged) = (found.head.as_str(), &found.staged);
        for (path, is_executable) in &staged.modes {
            set_executable(path, *is_executable)
                .map_err(|error| Error::Final(format!("{}: {error}", path.display())))?;
        }
        self.add_all(ours, stop)?;
        self.add_staged(ours, head, staged)?;
        let left = self.take_back(ours, head, &found.submodules)?;
        if left.is_empty() {
            return Ok(false);
        }
        let changes = changes(&left);
        let deleted = changes.iter().filter(|change| change.status == b"D").count();
        // Only if there may be so many.
        if deleted >= DELETIONS_FROM {
            refuse_the_absurd(ours, head)?;
        }
        if deleted == changes.len() && ours.run(&["ls-files"], Call::default())?.stdout.is_empty() {
            return Err(Error::Final(format!(
                "all {deleted} files are missing without a commit of the agent's: nothing is published"
            )));
        }
        Ok(true)
    }

    /// What cannot be added (a repository without a commit, a file that cannot be read) keeps the rest from nothing;
    /// `remainder` finds it afterwards.
    fn add_all(&self, ours: &PrivateGitDir, stop: &Stop) -> Result<(), Error> {
        let mut left_out: Vec<String> = Vec::new();
        loop {
            let mut arguments = vec!["add", "--all", "--ignore-errors", "--", "."];
            arguments.extend(left_out.iter().map(String::as_str));
            let said = match ours.run(&arguments, Call { login: None, stop: Some(stop) }) {
                Ok(_) => return Ok(()),
                // Whatever the cause seems to be: the names of files are in what it says.
                Err(git::Error::Failed { said, .. }) => said,
                Err(error) => return Err(error.into()),
            };
            // One file may stop all of them: without it the others are taken.
            let is_there = |path: &&str| fs::symlink_metadata(self.path().join(path)).is_ok();
            let of_filter =
                said.lines().filter_map(|line| line.strip_prefix("fatal: ")?.split_once(": clean filter '"));
            let of_filter = of_filter.map(|(path, _)| path).find(is_there);
            let named = of_filter.or_else(|| said.rsplit('\'').nth(1).filter(is_there));
            match named.map(|path| format!(":(exclude,literal){path}")) {
                Some(path) if !left_out.contains(&path) && left_out.len() < LEFT_OUT_MOST => left_out.push(path),
                _ => return Ok(()),
            }
        }
    }

    fn add_staged(&self, ours: &PrivateGitDir, head: &str, staged: &Staged) -> Result<(), Error> {
        if !staged.is_more {
            return Ok(());
        }
        let told = changed(ours, head)?;
        let there: HashSet<&[u8]> = changes(&told).iter().map(|change| change.path).collect();
        let missing = staged.added.iter().filter(|path| !there.contains(path.as_slice()));
        let added: Vec<u8> = missing.flat_map(|path| path.iter().copied().chain([0])).collect();
        run_with(ours, "added", &added, &["update-index", "-z", "--add", "--stdin"])?;
        let removed: Vec<u8> = staged.removed.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
        run_with(ours, "removed", &removed, &["update-index", "-z", "--force-remove", "--stdin"])?;
        Ok(())
    }

    /// Takes out of the index what would be published as something else than it is: repositories inside the worktree,
    /// of which only a commit's name would be, submodules with commits that nobody else has, and files whose filter is
    /// not run here. Returns the changes that are left.
    fn take_back(&self, ours: &PrivateGitDir, head: &str, submodules: &[String]) -> Result<Vec<u8>, Error> {
        let told = changed(ours, head)?;
        let changes = changes(&told);
        let modules = regular_file::read_text(&self.path().join(".gitmodules"), 1 << 20).unwrap_or_default();
        let filtered = self.filtered(ours, &changes)?;
        let is_no_file = |change: &Change| {
            let is_new = change.old_mode != b"160000" && !names(&modules, change.path);
            let has_work = || submodules.iter().any(|path| path.as_bytes() == change.path);
            change.new_mode == b"160000" && (is_new || has_work())
        };
        // What is gone there may be what is new here: of a move both halves stay.
        let is_new_kept = changes.iter().any(|change| change.status == b"A" && filtered.contains(change.path));
        let is_kept = |change: &Change| filtered.contains(change.path) && (change.status != b"D" || is_new_kept);
        let mut back: Vec<u8> = Vec::new();
        for change in changes.iter().filter(|change| is_no_file(change) || is_kept(change)) {
            for part in [change.old_mode, b" ", change.old_hash, b"\t", change.path, b"\0"] {
                back.extend(part);
            }
        }
        if back.is_empty() {
            return Ok(told);
        }
        run_with(ours, "back", &back, &["update-index", "-z", "--index-info"])?;
        changed(ours, head)
    }

    /// The changed files that a filter which is not run here would turn into something else.
    fn filtered(&self, ours: &PrivateGitDir, changes: &[Change]) -> Result<HashSet<Vec<u8>>, Error> {
        let is_file = |change: &&Change| change.new_mode.starts_with(b"100") || change.old_mode.starts_with(b"100");
        let paths: Vec<u8> =
            changes.iter().filter(is_file).flat_map(|change| change.path.iter().copied().chain([0])).collect();
        let mut found = filters_of(ours, &paths, &[])?;
        if self.spaces.moves_lfs() {
            found.retain(|_, filter| filter != "lfs");
        }
        Ok(found.into_keys().collect())
    }
}

/// The filters of those of `paths`, each ended by a NUL, that have one.
pub(super) fn filters_of(
    ours: &PrivateGitDir,
    paths: &[u8],
    options: &[&str],
) -> Result<HashMap<Vec<u8>, String>, Error> {
    if paths.is_empty() {
        return Ok(HashMap::new());
    }
    let arguments = [&["check-attr", "-z", "--stdin"], options, &["filter"]].concat();
    let told = run_with(ours, "paths", paths, &arguments)?;
    if told.len() >= OUTPUT_LIMIT {
        return Err(Error::Final("there are too many changes to look through for filters".into()));
    }
    let fields: Vec<&[u8]> = told.split(|byte| *byte == 0).collect();
    let is_run_elsewhere = |value: &[u8]| ![&b"unspecified"[..], b"unset"].contains(&value);
    let found = fields.chunks_exact(3).filter(|chunk| is_run_elsewhere(chunk[2]));
    Ok(found.map(|chunk| (chunk[0].to_vec(), String::from_utf8_lossy(chunk[2]).into_owned())).collect())
}

/// `.gitmodules` names a path: it is a submodule.
fn names(modules: &str, path: &[u8]) -> bool {
    let mut values = modules.lines().filter_map(|line| line.trim().strip_prefix("path"));
    values.any(|rest| rest.trim_start_matches([' ', '=', '\t']).as_bytes() == path)
}

/// The staged changes, as `diff-index --raw -z` has them.
fn changed(ours: &PrivateGitDir, head: &str) -> Result<Vec<u8>, Error> {
    let told = ours.run(&["diff-index", "--cached", "--raw", "-z", "--no-renames", head], Call::default())?.stdout;
    if told.len() >= OUTPUT_LIMIT {
        return Err(Error::Final("the agent left more uncommitted changes than can be looked through".into()));
    }
    Ok(told)
}

pub(super) fn changes(told: &[u8]) -> Vec<Change<'_>> {
    let fields: Vec<&[u8]> = told.split(|byte| *byte == 0).collect();
    fields.chunks_exact(2).filter_map(|pair| change(pair[0], pair[1])).collect()
}

/// `:OLDMODE NEWMODE OLDHASH NEWHASH STATUS`, and the path.
fn change<'a>(meta: &'a [u8], path: &'a [u8]) -> Option<Change<'a>> {
    let meta: Vec<&[u8]> = meta.strip_prefix(b":")?.split(|byte| *byte == b' ').collect();
    let [old_mode, new_mode, old_hash, _new_hash, status] = meta[..] else { return None };
    Some(Change { old_mode, new_mode, old_hash, status, path })
}

fn set_executable(path: &Path, is_executable: bool) -> io::Result<()> {
    let mut permissions = fs::symlink_metadata(path)?.permissions();
    let mode = permissions.mode();
    permissions.set_mode(if is_executable { mode | 0o111 } else { mode & !0o111 });
    fs::set_permissions(path, permissions)
}

/// Runs git with an input, which is kept in the private git directory under `name` meanwhile.
pub(super) fn run_with(ours: &PrivateGitDir, name: &str, input: &[u8], arguments: &[&str]) -> Result<Vec<u8>, Error> {
    let path = ours.path(name);
    let cannot = |path: &Path, error| Error::Final(format!("{}: {error}", path.display()));
    fs::write(&path, input).map_err(|error| cannot(&path, error))?;
    Ok(ours.run_on(&path, arguments, Call::default())?.stdout)
}

/// Nobody means to delete most of a repository without a commit that says so: files are missing for another reason.
fn refuse_the_absurd(ours: &PrivateGitDir, head: &str) -> Result<(), Error> {
    let count = |arguments: &[&str]| -> Result<usize, git::Error> {
        Ok(ours.run(arguments, Call::default())?.stdout.iter().filter(|byte| **byte == 0).count())
    };
    let deleted = count(&["diff-index", "--cached", "--name-only", "-z", "-M", "--diff-filter=D", head])?;
    if deleted < DELETIONS_FROM {
        return Ok(());
    }
    let all = count(&["ls-tree", "-r", "--name-only", "-z", head])?;
    if deleted * 2 > all {
        return Err(Error::Final(format!(
            "{deleted} of {all} files are missing without a commit of the agent's: nothing is published"
        )));
    }
    Ok(())
}
