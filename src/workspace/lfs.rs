//! Git LFS: what the runner must not publish, because the content of it would exist nowhere.
//!
//! The runner fetches and uploads no LFS objects: pointers stay pointers.

use super::cache::Error;
use super::git::Call;
use super::private_git_dir::PrivateGitDir;
use super::staging::{changes, run_with};
use crate::process::limited::OUTPUT_LIMIT;
use std::collections::{BTreeMap, HashSet};

/// The first line of a pointer: the Git LFS specification, which also limits a pointer to less than this size.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";
const POINTER_LIMIT: u64 = 1024;

/// An error if a commit on top of `base` has a pointer that the base had not: its content is in the agent's repository
/// alone.
pub(super) fn refuse_new_pointers(ours: &PrivateGitDir, base: &str, commit: &str) -> Result<(), Error> {
    let too_many = || Error::Final("the commit changes too many files to look through for Git LFS pointers".into());
    let arguments = ["diff-tree", "-r", "--raw", "-z", "--no-renames", "--no-abbrev", base, commit];
    let told = ours.run(&arguments, Call::default())?.stdout;
    if told.len() >= OUTPUT_LIMIT {
        return Err(too_many());
    }
    let changed = changes(&told);
    let before: HashSet<&[u8]> = changed.iter().map(|change| change.old_hash).collect();
    let is_new_file = |hash: &[u8], mode: &[u8]| mode.starts_with(b"100") && !before.contains(hash);
    let new: BTreeMap<&[u8], &[u8]> = changed
        .iter()
        .filter(|change| is_new_file(change.new_hash, change.new_mode))
        .map(|change| (change.new_hash, change.path))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let sizes =
        run_with(ours, "new", &lines(new.keys().copied()), &["cat-file", "--batch-check=%(objectname) %(objectsize)"])?;
    let small: Vec<&[u8]> = sizes.split(|byte| *byte == b'\n').filter_map(small_one).collect();
    if small.is_empty() {
        return Ok(());
    }
    let contents = run_with(ours, "small", &lines(small.iter().copied()), &["cat-file", "--batch"])?;
    if sizes.len() >= OUTPUT_LIMIT || contents.len() >= OUTPUT_LIMIT {
        return Err(too_many());
    }
    match pointers(&contents).find_map(|hash| new.get(hash)) {
        Some(path) => Err(Error::Final(format!(
            "`{}` is a new Git LFS file, whose content this server cannot upload: nothing is published; upload it from \
             the worktree with `git lfs push`, and push the branch by hand",
            String::from_utf8_lossy(path)
        ))),
        None => Ok(()),
    }
}

fn lines<'a>(hashes: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    hashes.flat_map(|hash| hash.iter().copied().chain([b'\n'])).collect()
}

/// The hash of `HASH SIZE`, if a pointer may be that large.
fn small_one(line: &[u8]) -> Option<&[u8]> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let size: u64 = std::str::from_utf8(&line[space + 1..]).ok()?.parse().ok()?;
    (size < POINTER_LIMIT).then_some(&line[..space])
}

/// The hashes of the pointers in what `cat-file --batch` printed: `HASH blob SIZE`, the content, a newline.
fn pointers(mut told: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let end = told.iter().position(|byte| *byte == b'\n')?;
            let (head, rest) = (&told[..end], &told[end + 1..]);
            let mut fields = head.split(|byte| *byte == b' ');
            let (hash, size) = (fields.next()?, fields.nth(1)?);
            let size: usize = std::str::from_utf8(size).ok()?.parse().ok()?;
            told = rest.get(size + 1..)?;
            if rest.starts_with(POINTER) {
                return Some(hash);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_other_files() {
        let pointer = String::from_utf8_lossy(POINTER);
        let told = format!("aa blob 4\nabc\n\nbb blob {}\n{pointer}\ncc blob 5\nver\nx\n", POINTER.len());
        assert_eq!(pointers(told.as_bytes()).collect::<Vec<_>>(), [b"bb"]);
        assert_eq!(pointers(b"cc missing\n").count(), 0);
        assert_eq!(
            (small_one(b"aa 1023"), small_one(b"aa 1024"), small_one(b"aa missing")),
            (Some(&b"aa"[..]), None, None)
        );
    }
}
