//! Reads, makes and removes single references of a cache without starting git for each.
//!
//! Loose references only, as gitrepository-layout(5) has them: a file that holds a hash. Whatever is
//! not such a file is left to git. Called under the repository's lock.

use super::regular_file;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Packed references beyond this size (some 200 000 branches) are left to git.
const PACKED_LIMIT: u64 = 16 << 20;

/// The hash that the loose reference `name` holds. None: it is not loose, or not there.
pub fn read(git_dir: &Path, name: &str) -> Option<String> {
    let is_plain = name.starts_with("refs/") && !name.contains("..");
    let text = is_plain.then(|| regular_file::read_text(&git_dir.join(name), 100).ok())??;
    is_hash(text.trim_end()).then(|| text.trim_end().to_owned())
}

/// The commits that branches of this cache point to, loose and packed.
pub fn tips(git_dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![git_dir.join("refs/heads")];
    while let Some(directory) = waiting.pop() {
        for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                waiting.push(path);
            } else if let Ok(text) = regular_file::read_text(&path, 100) {
                found.push(text.trim_end().to_owned());
            }
        }
    }
    let packed = regular_file::read_text(&git_dir.join("packed-refs"), PACKED_LIMIT).unwrap_or_default();
    let of_branch = |line: &str| Some(line.split_once(" refs/heads/")?.0.to_owned());
    found.extend(packed.lines().filter_map(of_branch));
    found.retain(|hash| is_hash(hash));
    found
}

pub fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Makes or moves a branch; its name is one of ours and holds no slash.
pub fn set_branch(git_dir: &Path, branch: &str, commit: &str) -> io::Result<()> {
    let heads = git_dir.join("refs/heads");
    fs::create_dir_all(&heads)?;
    // As git does it: the lock file keeps other gits away and becomes the reference.
    let lock = heads.join(format!("{branch}.lock"));
    // The branch is this job's alone, and its agent does not run now: a lock is a dead git's.
    let _ = fs::remove_file(&lock);
    OpenOptions::new().write(true).create_new(true).open(&lock)?.write_all(format!("{commit}\n").as_bytes())?;
    fs::rename(&lock, heads.join(branch)).inspect_err(|_| drop(fs::remove_file(&lock)))
}

/// Removes a branch. False: it is packed too, and git has to remove that.
pub fn remove_branch(git_dir: &Path, branch: &str) -> bool {
    for path in
        [format!("refs/heads/{branch}"), format!("refs/heads/{branch}.lock"), format!("logs/refs/heads/{branch}")]
    {
        let _ = fs::remove_file(git_dir.join(path));
    }
    let name = format!("refs/heads/{branch}\n").into_bytes();
    match regular_file::read(&git_dir.join("packed-refs"), PACKED_LIMIT) {
        Ok(packed) if (packed.len() as u64) < PACKED_LIMIT => !packed.windows(name.len()).any(|window| window == name),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_references_only() {
        let dir = tempfile::tempdir().unwrap();
        let hash = "0123456789012345678901234567890123456789";
        set_branch(dir.path(), "b", hash).unwrap();
        assert_eq!(read(dir.path(), "refs/heads/b").as_deref(), Some(hash));
        fs::write(dir.path().join("refs/heads/symbolic"), "ref: refs/heads/b\n").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("refs/heads/link")).unwrap();
        for none in [
            "refs/heads/symbolic",
            "refs/heads/link",
            "refs/heads/none",
            "refs/heads",
            "refs/../refs/heads/b",
            "/etc/hostname",
        ] {
            assert_eq!(read(dir.path(), none), None, "{none}");
        }
        fs::create_dir(dir.path().join("refs/heads/x")).unwrap();
        let (other, packed) = (hash.replace('0', "f"), hash.replace('0', "e"));
        fs::write(dir.path().join("refs/heads/x/y"), &other).unwrap();
        fs::write(dir.path().join("packed-refs"), format!("{packed} refs/heads/p\n{packed} refs/tags/t\n")).unwrap();
        let mut found = tips(dir.path());
        found.sort();
        assert_eq!(found, [hash, &packed, &other]);
        fs::remove_file(dir.path().join("packed-refs")).unwrap();
        assert!(remove_branch(dir.path(), "b") && remove_branch(dir.path(), "b"));
        fs::write(dir.path().join("packed-refs"), format!("{hash} refs/heads/b\n")).unwrap();
        assert!(!remove_branch(dir.path(), "b"));
    }
}
