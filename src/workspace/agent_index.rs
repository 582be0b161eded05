//! What the agent's own index says beyond the files. It is not believed: it may be cut, altered, or lie. But a file
//! that a sparse checkout leaves out was not deleted by anybody, and what was staged on purpose was meant.

use super::cache::Error;
use super::git::{self, Call};
use super::inspect::INDEX_LIMIT;
use super::new_objects::NewFile;
use super::private_git_dir::PrivateGitDir;
use super::regular_file;
use super::staging::{Change, changes};
use super::worktree::Worktree;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a commit of the index would change of another commit; whatever a `.gitmodules` says of submodules.
pub(super) const STAGED: [&str; 6] =
    ["diff-index", "--cached", "--raw", "-z", "--no-renames", "--ignore-submodules=dirty"];

/// What was staged that the files alone do not show; they are there, all of them.
#[derive(Debug, Default, PartialEq)]
pub struct Staged {
    /// Contents of files, by their paths.
    pub contents: HashMap<Vec<u8>, String>,
    /// `git rm --cached`.
    pub removed: Vec<Vec<u8>>,
    /// New files; `git add --force` takes ignored ones.
    pub added: Vec<Vec<u8>>,
    /// Submodules that are new, or at another commit, and at which.
    pub links: Vec<(Vec<u8>, String)>,
    /// Files whose staged content is another than the commit's, though nobody has touched them since they were checked
    /// out: `git add --renormalize`.
    pub renormalized: Vec<Vec<u8>>,
    /// A file of the agent's own commits that its index does not have: it was removed from there, or the commit was
    /// made with another index.
    pub doubtful: Option<String>,
    /// `git update-index --chmod`: whether each is executable.
    pub modes: Vec<(PathBuf, bool)>,
    /// There is something that `git add --all` does not find.
    pub is_more: bool,
    /// Paths, and names of their staged contents, where the file is gone or as it was.
    pub only_staged: Vec<(String, String)>,
}

impl Staged {
    /// Why the worktree has to stay although `published` is: a content that was staged is in no file.
    pub fn lost(&self, published: &[NewFile]) -> Option<String> {
        let is_published = |hash: &String| published.iter().any(|file| file.hash == *hash);
        let lost = self.only_staged.iter().find(|(_, hash)| !is_published(hash));
        let lost = lost.map(|(path, _)| format!("what the agent staged of `{path}` is in no file"));
        let doubtful = || {
            let path = self.doubtful.as_ref()?;
            Some(format!("the agent's index does not have `{path}`, which its commit has, and which is published"))
        };
        lost.or_else(doubtful)
    }
}

impl Worktree<'_> {
    /// Files that the agent's index leaves out of the worktree (sparse checkout, skip-worktree, assume-unchanged), and
    /// that are not there, are none that are missing in `ours`. One that is there is looked at, whatever its flags.
    pub(super) fn leave_out(&self, ours: &PrivateGitDir, head: &str) -> Result<(), Error> {
        let Some(view) = self.view_with_its_index(head)? else { return Ok(()) };
        let listed = listed(view.run(&["ls-files", "-v", "-z"], Call::default()))?;
        let absent: HashSet<&[u8]> = listed.split(|byte| *byte == 0).filter_map(|entry| self.left_out(entry)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let known = ours.run(&["ls-files", "-z"], Call::default())?.stdout;
        let mut paths: Vec<u8> = Vec::new();
        for path in known.split(|byte| *byte == 0).filter(|path| absent.contains(path)) {
            paths.extend(path.iter().chain([&0]));
        }
        let list = ours.path("left-out");
        fs::write(&list, paths).map_err(|error| Error::Final(format!("{}: {error}", list.display())))?;
        ours.run_on(&list, &["update-index", "-z", "--skip-worktree", "--stdin"], Call::default())?;
        Ok(())
    }

    /// A private git directory with a copy of the agent's index. None: it cannot be read, or nothing was done with it.
    fn view_with_its_index(&self, head: &str) -> Result<Option<PrivateGitDir<'_>>, Error> {
        // Git starts in the worktree; the agent may have removed that.
        if !self.is_on_disk() {
            return Ok(None);
        }
        let view = self.view(head)?;
        let theirs = view.path("agent-index");
        let copied = regular_file::copy(&self.repository().join("index"), &theirs, INDEX_LIMIT);
        // A split index has its other part in a file of its own.
        for entry in fs::read_dir(self.repository()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(name) = name.to_str().filter(|name| name.starts_with("sharedindex.")) {
                let _ = regular_file::copy(&entry.path(), &view.path(name), INDEX_LIMIT);
            }
        }
        // What is no index at all says nothing.
        let is_index = regular_file::read(&theirs, 4).is_ok_and(|begin| begin == b"DIRC");
        if !is_index || is_same(&theirs, &self.first_index()) {
            return Ok(None);
        }
        Ok(copied.is_ok().then(|| self.with_files(view, &theirs)))
    }

    /// What the agent staged on top of `head`. A file is removed only if it was there in `base` too: a commit made with
    /// another index than this one leaves this one behind.
    /// `untouched`: files that are changed for git, and for nobody else.
    pub(super) fn staged(&self, head: &str, base: &str, untouched: &[u8]) -> Result<Staged, Error> {
        let untouched: HashSet<&[u8]> = untouched.split(|byte| *byte == 0).collect();
        let mut staged = Staged::default();
        let Some(view) = self.view_with_its_index(head)? else { return Ok(staged) };
        let of = |commit: &str| listed(view.run(&[&STAGED[..], &[commit]].concat(), Call::default()));
        let told = of(head)?;
        if told.is_empty() {
            return Ok(staged);
        }
        let since_base = of(base)?;
        let since_base = changes(&since_base);
        let was_removed: HashSet<&[u8]> =
            since_base.iter().filter(|change| change.status == b"D").map(|change| change.path).collect();
        let Ok(root) = self.path().canonicalize() else { return Ok(staged) };
        // What of it the files show as well. `git diff` compares contents, and `diff-index` times.
        let shown = ["diff", "--name-only", "-z", "--no-renames", "--ignore-submodules=dirty", head];
        let in_files = listed(view.run(&shown, Call::default()))?;
        let in_files: HashSet<&[u8]> = in_files.split(|byte| *byte == 0).collect();
        // A file that is gone, or is a link or a directory now, does not have it.
        let is_of_kind = |change: &Change| {
            fs::symlink_metadata(self.on_disk(change.path)).is_ok_and(|found| match change.new_mode {
                b"120000" => found.is_symlink(),
                _ => found.is_file(),
            })
        };
        let is_only_staged = |change: &&Change| {
            let is_content = change.new_hash != change.old_hash && change.status != b"D";
            let is_in_files = || in_files.contains(change.path) && is_of_kind(change);
            is_content && !change.new_mode.starts_with(b"16") && !is_in_files()
        };
        let changed = changes(&told);
        let checked_out = fs::symlink_metadata(self.first_index()).ok().map(|at| (at.ctime(), at.ctime_nsec()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let only_staged = changed.iter().filter(is_only_staged);
        staged.only_staged = only_staged.map(|change| (text(change.path), text(change.new_hash))).collect();
        let mut doubtful: Vec<Vec<u8>> = Vec::new();
        for change in changed {
            let on_disk = self.on_disk(change.path);
            let Ok(found) = fs::symlink_metadata(&on_disk) else { continue };
            if !is_below(&on_disk, &root) {
                continue;
            }
            // One that was changed since is seen without being told.
            let is_old = || checked_out.is_some_and(|at| (found.ctime(), found.ctime_nsec()) <= at);
            let is_left = || untouched.contains(change.path) || is_old();
            if change.status == b"M" && found.is_file() && in_files.contains(change.path) && is_left() {
                staged.renormalized.push(change.path.to_vec());
            }
            if found.is_file() && change.new_mode.starts_with(b"100") {
                staged.contents.insert(change.path.to_vec(), text(change.new_hash));
            }
            if change.status == b"A" && found.is_file() && change.new_mode.starts_with(b"100") {
                let is_executable = change.new_mode == b"100755";
                let is_so = found.mode() & 0o100 != 0;
                staged.modes.extend((is_executable != is_so).then(|| (on_disk.clone(), is_executable)));
            }
            match change.status {
                _ if change.new_mode == b"160000" => {
                    staged.links.push((change.path.to_vec(), text(change.new_hash)));
                }
                b"D" if was_removed.contains(change.path) => staged.removed.push(change.path.to_vec()),
                b"D" => doubtful.push(change.path.to_vec()),
                b"A" if !found.is_dir() => {
                    staged.added.push(change.path.to_vec());
                }
                b"M" if found.is_file() && change.old_mode != change.new_mode => {
                    let is_executable = change.new_mode == b"100755";
                    staged.modes.extend(change.new_mode.starts_with(b"100").then_some((on_disk, is_executable)));
                }
                _ => {}
            }
        }
        // What is ignored by now was taken out on purpose.
        let ignored = self.ignored(&view, &doubtful)?;
        let (ignored, left): (Vec<_>, Vec<_>) = doubtful.into_iter().partition(|path| ignored.contains(path));
        staged.removed.extend(ignored);
        staged.doubtful = left.first().map(|path| text(path));
        staged.is_more = ![staged.removed.len(), staged.modes.len(), staged.links.len(), staged.renormalized.len()]
            .iter()
            .all(|count| *count == 0)
            || !self.ignored(&view, &staged.added)?.is_empty();
        Ok(staged)
    }

    /// Why the worktree has to stay although `commit` is published: it does not have a submodule where it was staged.
    pub fn links_left(&self, staged: &Staged, commit: &str) -> Result<Option<String>, Error> {
        if staged.links.is_empty() {
            return Ok(None);
        }
        let told = self.view(commit)?.run(&["ls-tree", "-r", "-z", commit], Call::default())?.stdout;
        let is_there = |path: &[u8], hash: &str| {
            let entry = [b"160000 commit ", hash.as_bytes(), b"\t", path].concat();
            told.split(|byte| *byte == 0).any(|found| found == entry)
        };
        let is_left = |(path, hash): &&(Vec<u8>, String)| {
            // What the agent checked out in it counts more than what it staged.
            !is_there(path, hash) && !self.moved_to(path).is_some_and(|head| is_there(path, &head))
        };
        let left = staged.links.iter().find(is_left).map(|(path, _)| String::from_utf8_lossy(path));
        Ok(left.map(|path| format!("what the agent staged of the submodule `{path}` is not published")))
    }

    /// Those of the paths that are ignored, tracked or not.
    fn ignored(&self, view: &PrivateGitDir, paths: &[Vec<u8>]) -> Result<HashSet<Vec<u8>>, Error> {
        if paths.is_empty() {
            return Ok(HashSet::new());
        }
        let text: Vec<u8> = paths.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
        let list = view.path("asked");
        fs::write(&list, text).map_err(|error| Error::Final(format!("{}: {error}", list.display())))?;
        let told = view.run_on(&list, &["check-ignore", "--no-index", "-z", "--stdin"], Call::default());
        // Exit code 1: none is.
        match told {
            Ok(told) => {
                Ok(told.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect())
            }
            Err(git::Error::Failed { code: 1, .. }) => Ok(HashSet::new()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn on_disk(&self, path: &[u8]) -> PathBuf {
        self.path().join(Path::new(OsStr::from_bytes(path)))
    }

    /// The path of an entry `TAG PATH`, if its tag leaves it out and it is not there.
    fn left_out<'a>(&self, entry: &'a [u8]) -> Option<&'a [u8]> {
        let (tag, path) = (entry.first()?, entry.get(2..)?);
        let is_flagged = *tag == b'S' || tag.is_ascii_lowercase();
        let on_disk = is_flagged.then(|| fs::symlink_metadata(self.on_disk(path)))?;
        on_disk.is_err_and(|error| error.kind() == io::ErrorKind::NotFound).then_some(path)
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let size = |path: &Path| fs::symlink_metadata(path).map(|found| found.len()).ok();
    let bytes = |path: &Path| regular_file::read(path, INDEX_LIMIT).ok();
    size(one) == size(other) && bytes(one) == bytes(other)
}

/// No directory on the way to it is a link that leads out of `root`, or to another place in it.
fn is_below(path: &Path, root: &Path) -> bool {
    let (Some(parent), Ok(real)) = (path.parent(), path.parent().unwrap_or(root).canonicalize()) else { return false };
    real.starts_with(root) && real.strip_prefix(root).is_ok_and(|rest| parent.ends_with(rest))
}

/// What was listed of the agent's index. One that git cannot read may say anything: then nothing is published.
fn listed(told: Result<crate::process::limited::Finished, git::Error>) -> Result<Vec<u8>, Error> {
    told.map(|finished| finished.stdout).map_err(|error| match error {
        git::Error::Failed { .. } => Error::Final(format!("the index of its repository cannot be read ({error})")),
        other => other.into(),
    })
}
