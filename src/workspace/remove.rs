//! Removes a directory tree that an agent left, whatever its permissions.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Removes `path` and all below it; one that is not there is removed already. Follows no link.
pub fn tree(path: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    if !is_directory {
        return gone(fs::remove_file(path));
    }
    match gone(fs::remove_dir_all(path)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Go's module cache, for one, takes the write permission from its directories.
            open_up(path);
            gone(fs::remove_dir_all(path))
        }
        other => other,
    }
}

/// How the names of what is being removed begin. Nobody looks for anything of this name.
const REMOVED: &str = ".removed-";

/// Trees that were taken away from their places, and are removed when this is dropped.
#[derive(Default)]
pub struct Removed(Vec<PathBuf>);

impl Removed {
    /// Renames `path` to a name in `beside`, which is on the same disk. One that cannot be renamed is removed at once.
    pub fn take(&mut self, path: &Path, beside: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        let aside = beside.join(format!("{REMOVED}{}", uuid::Uuid::new_v4().simple()));
        if fs::rename(path, &aside).is_err() {
            return tree(path);
        }
        self.0.push(aside);
        Ok(())
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = tree(path) {
                crate::log::warn(&format!("cannot remove {}: {error}", path.display()));
            }
        }
    }
}

/// Removes what a server that died had begun to remove in `directory`.
pub fn finish(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(REMOVED));
    drop(Removed(left.map(|entry| entry.path()).collect()));
}

fn open_up(directory: &Path) {
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
