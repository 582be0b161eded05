//! Looks at a worktree's files with git: what is changed, without what only seems to be, and without waiting for a
//! trap.

use super::cache::Error;
use super::git::{self, Call};
use super::inspect::INDEX_LIMIT;
use super::private_git_dir::PrivateGitDir;
use super::regular_file;
use super::staging::{Change, changes, run_with};
use super::worktree::Worktree;
use std::collections::HashMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const STATUS: [&str; 6] =
    ["status", "--porcelain=v2", "-z", "--untracked-files=normal", "--no-renames", "--ignore-submodules=dirty"];
/// After this long it is looked for what git may be waiting for.
const FIRST_LIMIT: Duration = Duration::from_secs(5);
/// So many directories are looked through for that.
const DIRECTORIES_MOST: usize = 200_000;

/// What a worktree holds beyond the commit that its index is of.
pub(super) enum Left {
    /// A path that is changed, or new.
    Path(String),
    /// Git could not look there: it may be anything.
    Unseen(String),
}

impl Worktree<'_> {
    /// The first of it, if there is anything. `untouched` takes the paths, each ended by a NUL, that git thinks changed
    /// and that nobody has touched since they were checked out.
    pub(super) fn left_in(&self, ours: &PrivateGitDir, untouched: &mut Vec<u8>) -> Result<Option<Left>, Error> {
        let told = self.status(ours)?;
        let Some(found) = first_of(&told) else { return Ok(None) };
        self.refuse_traps()?;
        if !self.leave_untouched(ours, untouched)? {
            return Ok(Some(found));
        }
        Ok(first_of(&self.status(ours)?))
    }

    fn status(&self, ours: &PrivateGitDir) -> Result<crate::process::limited::Finished, Error> {
        match ours.run_within(FIRST_LIMIT, &STATUS, Call::default()) {
            Err(git::Error::TimedOut { .. }) => {}
            other => return Ok(other?),
        }
        self.refuse_traps()?;
        Ok(ours.run(&STATUS, Call::default())?)
    }

    /// What comes next looks at contents, and so at attributes.
    fn refuse_traps(&self) -> Result<(), Error> {
        match trap_below(&self.path()) {
            Some(trap) => {
                Err(Error::Final(format!("git would wait for ever at `{}`: remove it there", trap.display())))
            }
            None => Ok(()),
        }
    }

    /// Git compares a file's content where its time tells nothing, and finds it changed if the repository holds it in
    /// another form than its attributes ask for (line ends, Git LFS). Who did not touch it did not change it.
    fn leave_untouched(&self, ours: &PrivateGitDir, untouched: &mut Vec<u8>) -> Result<bool, Error> {
        let told = ours
            .run(&["diff-files", "--raw", "-z", "--diff-filter=M", "--ignore-submodules=dirty"], Call::default())?
            .stdout;
        let changed = changes(&told);
        if changed.is_empty() {
            return Ok(false);
        }
        let first = self.first_entries(ours)?;
        // The index may be of another commit than the one that was checked out: then untouched files are changes.
        let is_untouched = |change: &&Change| {
            let found = first.get(change.path);
            found.is_some_and(|entry| {
                entry.hash == change.old_hash
                    && entry.mode == change.old_mode
                    && fs::symlink_metadata(self.on_disk(change.path)).is_ok_and(|file| entry.is_of(&file))
            })
        };
        let (left, touched): (Vec<&Change>, Vec<&Change>) = changed.iter().partition(is_untouched);
        let same = self.same_in_bytes(ours, &touched)?;
        let paths = left.into_iter().chain(same).map(|change| change.path);
        *untouched = paths.flat_map(|path| path.iter().copied().chain([0])).collect();
        leave(ours, untouched)?;
        Ok(!untouched.is_empty())
    }
}

impl Worktree<'_> {
    /// Those of the files that are, byte for byte, what the index names: git checked them out so, whoever told it to,
    /// and would only write them in another form.
    fn same_in_bytes<'b>(
        &self,
        ours: &PrivateGitDir,
        changed: &[&'b Change<'b>],
    ) -> Result<Vec<&'b Change<'b>>, Error> {
        let is_plain = |change: &&&Change| {
            // A path that a list of lines can hold.
            !change.path.contains(&b'\n')
                && change.old_mode == change.new_mode
                && fs::symlink_metadata(self.on_disk(change.path)).is_ok_and(|found| found.is_file())
        };
        let some: Vec<&Change> = changed.iter().filter(is_plain).copied().collect();
        if some.is_empty() {
            return Ok(Vec::new());
        }
        let list: Vec<u8> = some.iter().flat_map(|change| change.path.iter().copied().chain([b'\n'])).collect();
        let told = match run_with(ours, "in-bytes", &list, &["hash-object", "--no-filters", "--stdin-paths"]) {
            Ok(told) => told,
            // One of them cannot be read: then all of them are looked at as they are.
            Err(Error::Final(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let hashes = told.split(|byte| *byte == b'\n');
        Ok(some.into_iter().zip(hashes).filter(|(change, hash)| change.old_hash == *hash).map(|(one, _)| one).collect())
    }
}

/// A file as it was checked out.
pub(super) struct FirstEntry {
    mode: Vec<u8>,
    hash: Vec<u8>,
    /// Seconds and nanoseconds, as an index keeps them.
    ctime: (u32, u32),
    inode: u32,
}

impl FirstEntry {
    /// Nobody has touched it: it is the same file, and the time of its last change of any kind, which nobody sets, is
    /// the same. Another directory may have been moved to its path: that changes no time of the files in it.
    pub fn is_of(&self, file: &fs::Metadata) -> bool {
        let ctime = (file.ctime() as u32, file.ctime_nsec() as u32);
        file.is_file() && ctime == self.ctime && file.ino() as u32 == self.inode
    }
}

impl Worktree<'_> {
    /// The files as they were checked out, by their paths.
    pub(super) fn first_entries(&self, ours: &PrivateGitDir) -> Result<HashMap<Vec<u8>, FirstEntry>, Error> {
        let first = ours.path("first-index");
        if regular_file::copy(&self.first_index(), &first, INDEX_LIMIT).is_err() {
            return Ok(HashMap::new());
        }
        let told = ours.run_as(
            &["ls-files", "--stage", "--debug", "-z"],
            &[("GIT_INDEX_FILE", &first.display().to_string())],
            Call::default(),
        )?;
        Ok(first_entries_in(&told.stdout))
    }
}

/// What `ls-files --stage --debug -z` told: `MODE HASH STAGE<tab>PATH<NUL>`, then five lines.
fn first_entries_in(mut told: &[u8]) -> HashMap<Vec<u8>, FirstEntry> {
    let mut found = HashMap::new();
    while let Some(end) = told.iter().position(|byte| *byte == 0) {
        let (entry, rest) = (&told[..end], &told[end + 1..]);
        let lines = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).nth(4);
        let Some(lines) = lines else { break };
        if let Some((path, entry)) = first_entry(entry, &String::from_utf8_lossy(&rest[..lines])) {
            found.insert(path, entry);
        }
        told = &rest[lines..];
    }
    found
}

fn first_entry(entry: &[u8], lines: &str) -> Option<(Vec<u8>, FirstEntry)> {
    let tab = entry.iter().position(|byte| *byte == b'\t')?;
    let mut fields = entry[..tab].split(|byte| *byte == b' ');
    let (mode, hash) = (fields.next()?.to_vec(), fields.next()?.to_vec());
    let value = |name: &str| lines.split_once(name)?.1.split(['\n', '\t']).next();
    let (seconds, nanoseconds) = value("ctime: ")?.split_once(':')?;
    let ctime = (seconds.parse().ok()?, nanoseconds.parse().ok()?);
    Some((entry[tab + 1..].to_vec(), FirstEntry { mode, hash, ctime, inode: value("ino: ")?.parse().ok()? }))
}

/// Has git take these files for what the index says.
pub(super) fn leave(ours: &PrivateGitDir, paths: &[u8]) -> Result<(), Error> {
    if paths.is_empty() {
        return Ok(());
    }
    run_with(ours, "untouched", paths, &["update-index", "-z", "--assume-unchanged", "--stdin"]).map(drop)
}

fn first_of(told: &crate::process::limited::Finished) -> Option<Left> {
    if let Some(said) = unseen_in(&String::from_utf8_lossy(&told.stderr)) {
        return Some(Left::Unseen(said));
    }
    let told = String::from_utf8_lossy(&told.stdout);
    told.split('\0').next().filter(|entry| !entry.is_empty()).map(|entry| {
        // `? PATH`, or `1 XY … PATH` with seven fields between.
        let fields = if entry.starts_with('?') { 1 } else { 8 };
        let path = entry.splitn(fields + 1, ' ').nth(fields).unwrap_or(entry);
        Left::Path(path.trim_end_matches('/').to_owned())
    })
}

/// The warning by which git says, and ends well, that it could not look at something.
fn unseen_in(said: &str) -> Option<String> {
    let words = ["could not open directory", "permission denied", "unable to read", "cannot open"];
    let is_one = |line: &&str| words.iter().any(|word| line.to_ascii_lowercase().contains(word));
    said.lines().map(str::trim).find(is_one).map(|line| crate::job::cut(line.to_owned(), 300))
}

/// A pipe where git opens a file: it would wait for whoever writes to that.
fn trap_below(root: &Path) -> Option<PathBuf> {
    let mut waiting = vec![root.to_owned()];
    for _ in 0..DIRECTORIES_MOST {
        let directory = waiting.pop()?;
        let is_gits = directory.iter().any(|part| part == ".git");
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let is_read = is_gits || entry.file_name().as_bytes().starts_with(b".git");
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if is_read && (kind.is_fifo() || kind.is_char_device() || kind.is_socket()) {
                return Some(entry.path().strip_prefix(root).map(Path::to_owned).unwrap_or_else(|_| entry.path()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_could_not_look_at_is_heard() {
        for (said, is_unseen) in [
            ("warning: could not open directory 'p/': Permission denied\n", true),
            ("a/b/1: Permission denied", true),
            ("warning: in the working copy of 'x', CRLF will be replaced by LF\n", false),
            ("", false),
        ] {
            assert_eq!(unseen_in(said).is_some(), is_unseen, "{said}");
        }
    }

    #[test]
    fn a_pipe_where_git_opens_a_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for (name, is_trap) in [("a/pipe", false), ("a/.gitignore", true), ("n/.git/HEAD", true)] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
            assert_eq!(trap_below(dir.path()), is_trap.then(|| name.into()));
            fs::remove_file(path).unwrap();
        }
    }
}
