//! The cache's store of contents. Only the runner writes there; but an agent's git-lfs may link to the files, so what
//! was written to since is told by its time, and has to hash to its name again.

use crate::workspace::{regular_file, remove};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The time of change that marks a content as checked: nobody's own.
const CHECKED: Duration = Duration::from_secs(1);

/// Where git-lfs keeps the contents that the repository with this git directory, and all that borrow from it, find.
pub fn store_of(git_dir: &Path) -> PathBuf {
    git_dir.join("lfs")
}

/// Where the content of this name lies in a store, as git-lfs has it.
pub fn path_in(store: &Path, oid: &str) -> PathBuf {
    store.join("objects").join(&oid[..2]).join(&oid[2..4]).join(oid)
}

/// Removes what was written to since it was checked, and is not what its name says.
pub fn check(store: &Path) {
    for file in files(store) {
        if is_checked(&file) {
            continue;
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match digest_of(&file) {
            Ok(found) if found == name => seal(&file),
            _ => drop(remove::tree(&file)),
        }
    }
}

/// Marks what git-lfs has just brought, and compared with its name.
pub fn seal_new(store: &Path) {
    files(store).iter().filter(|file| !is_checked(file)).for_each(|file| seal(file));
}

/// Nothing that writes to its own files writes to it by a link.
pub fn seal(file: &Path) {
    // One that cannot be marked is checked again the next time.
    let _ = regular_file::open(file).and_then(|open| {
        open.set_permissions(fs::Permissions::from_mode(0o444))?;
        open.set_modified(SystemTime::UNIX_EPOCH + CHECKED)
    });
}

fn is_checked(file: &Path) -> bool {
    let changed = fs::symlink_metadata(file).and_then(|found| found.modified());
    changed.is_ok_and(|at| at == SystemTime::UNIX_EPOCH + CHECKED)
}

fn files(store: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    below(store.join("objects")).flat_map(below).flat_map(below).collect()
}

/// The SHA-256 of a file, in hex.
pub fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = regular_file::open(path)?;
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()),
            count => digest.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_to_is_checked_again() {
        let dir = tempfile::tempdir().unwrap();
        let put = |oid: &str, text: &str| {
            let path = path_in(dir.path(), oid);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let oid = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let (good, bad) = (put(oid, "abc"), put(&oid.replace("ba78", "ba79"), "abc"));
        check(dir.path());
        assert!(good.exists() && !bad.exists() && is_checked(&good));
        assert_eq!(fs::metadata(&good).unwrap().permissions().mode() & 0o777, 0o444);
        // Of the same size, behind its back.
        fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&good, "abd").unwrap();
        check(dir.path());
        assert!(!good.exists());
    }
}
