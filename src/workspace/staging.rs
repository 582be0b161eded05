//! What of an agent's uncommitted changes goes into the runner's own commit, and what stays out of it: nothing that
//! would be published as something else than what lies in the worktree.

use super::agent_index::{STAGED, Staged};
use super::cache::Error;
use super::git::{self, Call};
use super::inspect::Inspection;
use super::links::{Link, links_in, make_room, remove_vendored};
use super::private_git_dir::PrivateGitDir;
use super::worktree::Worktree;
use crate::process::stop::Stop;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The most files that are left out of a commit because they cannot be added.
const LEFT_OUT_MOST: usize = 50;
/// So many times is git tried with a part of the files.
const HALVES_MOST: usize = 1000;
/// Fewer missing files than this are deletions, however small the repository is.
const DELETIONS_FROM: usize = 20;

/// A change in the index: what it was, what it is, and where.
pub(super) struct Change<'a> {
    pub old_mode: &'a [u8],
    pub new_mode: &'a [u8],
    pub old_hash: &'a [u8],
    pub new_hash: &'a [u8],
    /// One letter, as `git diff --raw` has it.
    pub status: &'a [u8],
    pub path: &'a [u8],
}

impl Worktree<'_> {
    /// Stages what can be committed on top of the head that was found: all files, and what of the staged they do not
    /// show. False: there is nothing.
    pub(super) fn stage(
        &self,
        ours: &PrivateGitDir,
        found: &Inspection,
        base: &str,
        stop: &Stop,
    ) -> Result<bool, Error> {
        let (head, staged) = (found.head.as_str(), &found.staged);
        let committed = self.committed_on_purpose(ours, base, head)?;
        for (path, is_executable) in committed.modes.iter().chain(&staged.modes) {
            set_executable(path, *is_executable)
                .map_err(|error| Error::Final(format!("{}: {error}", path.display())))?;
        }
        let links = links_in(ours)?;
        let vendored = remove_vendored(ours, staged, &links)?;
        make_room(ours, &staged.links)?;
        let held = self.hold_links(ours, &links, &vendored)?;
        self.add_all(ours, &vendored, stop)?;
        self.update_links(ours, &links, &held, &staged.links)?;
        self.add_staged(ours, head, staged, &vendored)?;
        run_with(ours, "untracked", &committed.untracked, &["update-index", "-z", "--force-remove", "--stdin"])?;
        let left = self.take_back(ours, head, &links, found)?;
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
    pub(super) fn add_all(&self, ours: &PrivateGitDir, vendored: &HashSet<Vec<u8>>, stop: &Stop) -> Result<(), Error> {
        // A submodule that the agent removed from its index is no file as long as it is a repository.
        let is_repository = |path: &&Vec<u8>| fs::symlink_metadata(self.on_disk(path).join(".git")).is_ok();
        let excluded = |path: &Vec<u8>| format!(":(exclude,literal){}", String::from_utf8_lossy(path));
        let mut left_out: Vec<String> = vendored.iter().filter(is_repository).map(excluded).collect();
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
                // It names none, or one whose name it writes in another way.
                _ => return self.add_by_halves(ours, stop),
            }
        }
    }

    /// Adds whatever can be added, without being told what cannot: by halves of the list, and halves of those.
    fn add_by_halves(&self, ours: &PrivateGitDir, stop: &Stop) -> Result<(), Error> {
        let listed = ours.run(&["ls-files", "-z", "-m", "-d", "-o", "--exclude-standard"], Call::default())?.stdout;
        let paths: BTreeSet<&[u8]> = listed.split(|byte| *byte == 0).collect();
        // With a slash at its end it is a repository.
        let paths: Vec<&[u8]> = paths.into_iter().filter(|path| !path.is_empty() && !path.ends_with(b"/")).collect();
        let mut waiting = vec![&paths[..]];
        let list = ours.path("adding");
        for _ in 0..HALVES_MOST {
            let Some(some) = waiting.pop() else { return Ok(()) };
            let text: Vec<u8> = some.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
            fs::write(&list, text).map_err(|error| Error::Final(format!("{}: {error}", list.display())))?;
            let arguments = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
            match ours.run_on(&list, &arguments, Call { login: None, stop: Some(stop) }) {
                Ok(_) => {}
                Err(git::Error::Failed { .. }) => {
                    let (one, other) = some.split_at(some.len() / 2);
                    waiting.extend([one, other].into_iter().filter(|half| !half.is_empty() && half.len() < some.len()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn add_staged(
        &self,
        ours: &PrivateGitDir,
        head: &str,
        staged: &Staged,
        vendored: &HashSet<Vec<u8>>,
    ) -> Result<(), Error> {
        if !staged.is_more {
            return Ok(());
        }
        let told = changed(ours, head)?;
        let there: HashSet<&[u8]> = changes(&told).iter().map(|change| change.path).collect();
        let added = listed(staged.added.iter().filter(|path| !there.contains(path.as_slice())));
        run_with(ours, "added", &added, &["update-index", "-z", "--add", "--stdin"])?;
        let is_seen = |path: &&Vec<u8>| !there.contains(path.as_slice());
        let again = listed(staged.renormalized.iter().filter(is_seen));
        let removed = listed(staged.removed.iter().filter(|path| !vendored.contains(*path)));
        for list in [&removed, &again] {
            run_with(ours, "removed", list, &["update-index", "-z", "--force-remove", "--stdin"])?;
        }
        // Without an entry that says otherwise it is taken in the form that its attributes ask for.
        run_with(ours, "again", &again, &["update-index", "-z", "--add", "--stdin"])?;
        Ok(())
    }

    /// A file that was staged and is, byte for byte, what was staged is taken so, in whatever form git would write it.
    fn take_as_staged(
        &self,
        ours: &PrivateGitDir,
        head: &str,
        staged: &Staged,
        told: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        let all = changes(&told);
        let other: Vec<&Change> = all
            .iter()
            .filter(|change| {
                let wanted = staged.contents.get(change.path);
                wanted.is_some_and(|hash| hash.as_bytes() != change.new_hash) && !change.path.contains(&b'\n')
            })
            .collect();
        let paths: Vec<u8> = other.iter().flat_map(|change| change.path.iter().copied().chain([b'\n'])).collect();
        if paths.is_empty() {
            return Ok(told);
        }
        let hashes = match run_with(ours, "as-staged", &paths, &["hash-object", "--no-filters", "--stdin-paths"]) {
            Ok(hashes) => hashes,
            // One of them cannot be read: they stay as git took them.
            Err(Error::Final(_)) => return Ok(told),
            Err(error) => return Err(error),
        };
        let mut list: Vec<u8> = Vec::new();
        for (change, hash) in other.iter().zip(hashes.split(|byte| *byte == b'\n')) {
            if staged.contents.get(change.path).is_some_and(|wanted| wanted.as_bytes() == hash) {
                list.extend([change.new_mode, b" ", hash, b"\t", change.path, b"\0"].concat());
            }
        }
        if list.is_empty() {
            return Ok(told);
        }
        run_with(ours, "taken", &list, &["update-index", "-z", "--index-info"])?;
        changed(ours, head)
    }

    /// Takes out of the index what would be published as something else than it is: repositories inside the worktree,
    /// of which only a commit's name would be, submodules with commits that nobody else has, and files whose filter is
    /// not run here. Returns the changes that are left.
    fn take_back(
        &self,
        ours: &PrivateGitDir,
        head: &str,
        links: &[Link],
        found: &Inspection,
    ) -> Result<Vec<u8>, Error> {
        let told = self.take_as_staged(ours, head, &found.staged, changed(ours, head)?)?;
        let changes = changes(&told);
        let filtered = self.filtered(ours, &changes)?;
        // Only the name of a commit would be published: of one that its remote has, and of a submodule.
        let merged = self.merged_links()?;
        let named = self.named_in_gitmodules(ours)?;
        // What the commit below names its remote has, wherever it is moved to.
        let is_named = |hash: &[u8]| links.iter().any(|link| link.commit.as_bytes() == hash);
        let is_known = |change: &Change| {
            let path = String::from_utf8_lossy(change.path);
            let is_of_remote = || self.is_at_its_remote(change.path, change.new_hash);
            // A repository that is not staged is nobody's submodule: the agent may have taken it out of its commit.
            let is_meant = change.status != b"A" || found.staged.links.iter().any(|(link, _)| link == change.path);
            named.contains(&*path)
                && is_meant
                && !found.submodules.iter().any(|with_work| *with_work == path)
                && (merged.contains(change.new_hash) || is_named(change.new_hash) || is_of_remote())
        };
        let is_link = |mode: &[u8]| mode == b"160000";
        let is_linked_file = |change: &Change| change.new_mode == b"120000" && change.path.ends_with(b".gitmodules");
        let is_no_file = |change: &Change| (is_link(change.new_mode) && !is_known(change)) || is_linked_file(change);
        // What was in the place of a repository that stays is deleted by nobody.
        let kept_links: Vec<&[u8]> =
            changes.iter().filter(|change| is_no_file(change)).map(|change| change.path).collect();
        let is_below_kept = |change: &Change| {
            kept_links.iter().any(|link| change.path.strip_prefix(*link).is_some_and(|rest| rest.starts_with(b"/")))
        };
        // One that stays keeps all that is about submodules: halves of a move are worse than nothing.
        let is_torn =
            changes.iter().any(|change| is_no_file(change) && named.contains(&*String::from_utf8_lossy(change.path)));
        let is_about_submodules = |change: &Change| {
            is_torn && (is_link(change.old_mode) || is_link(change.new_mode) || change.path == b".gitmodules")
        };
        // What is gone there may be what is new here: of a move both halves stay.
        let is_new_kept = changes.iter().any(|change| change.status == b"A" && filtered.contains(change.path));
        let is_kept = |change: &Change| filtered.contains(change.path) && (change.status != b"D" || is_new_kept);
        let mut back: Vec<u8> = Vec::new();
        for change in changes.iter().filter(|change| {
            is_no_file(change) || is_about_submodules(change) || is_kept(change) || is_below_kept(change)
        }) {
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
    let fields: Vec<&[u8]> = told.split(|byte| *byte == 0).collect();
    let is_run_elsewhere = |value: &[u8]| ![&b"unspecified"[..], b"unset"].contains(&value);
    let found = fields.chunks_exact(3).filter(|chunk| is_run_elsewhere(chunk[2]));
    Ok(found.map(|chunk| (chunk[0].to_vec(), String::from_utf8_lossy(chunk[2]).into_owned())).collect())
}

/// The staged changes, as `diff-index --raw -z` has them.
fn changed(ours: &PrivateGitDir, head: &str) -> Result<Vec<u8>, Error> {
    Ok(ours.run(&[&STAGED[..], &[head]].concat(), Call::default())?.stdout)
}

pub(super) fn changes(told: &[u8]) -> Vec<Change<'_>> {
    let fields: Vec<&[u8]> = told.split(|byte| *byte == 0).collect();
    fields.chunks_exact(2).filter_map(|pair| change(pair[0], pair[1])).collect()
}

/// `:OLDMODE NEWMODE OLDHASH NEWHASH STATUS`, and the path.
fn change<'a>(meta: &'a [u8], path: &'a [u8]) -> Option<Change<'a>> {
    let meta: Vec<&[u8]> = meta.strip_prefix(b":")?.split(|byte| *byte == b' ').collect();
    let [old_mode, new_mode, old_hash, new_hash, status] = meta[..] else { return None };
    Some(Change { old_mode, new_mode, old_hash, new_hash, status, path })
}

/// Paths as git reads a list of them.
fn listed<'a>(paths: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    paths.flat_map(|path| path.iter().copied().chain([0])).collect()
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
