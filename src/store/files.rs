//! Files that survive a crash: written whole or not at all, synced with their directory.
//!
//! Every error says what was tried on which path.

use crate::process::sys;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ends the names of files that are not finished; they mean nothing and may be removed.
const UNFINISHED: &str = ".tmp";
/// A record has a task, an output and an error of limited length: 1 MiB, 50 KB, 10 KB, some of it escaped.
const LONGEST: u64 = 64 << 20;

pub fn explain(action: &str, path: &Path, error: &io::Error) -> String {
    let told = format!("cannot {action} {}: {error}", path.display());
    match whose(path).filter(|_| matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM))) {
        Some(whose) => format!("{told}; {whose}: give it to this server's user, or run as that one"),
        None => told,
    }
}

/// Whose the file is, or the nearest directory above it that can be looked at.
fn whose(path: &Path) -> Option<String> {
    let (there, meta) = path.ancestors().find_map(|path| Some((path, fs::symlink_metadata(path).ok()?)))?;
    let (uid, mode) = (meta.uid(), meta.mode() & 0o7777);
    Some(format!("{} belongs to uid {uid}, mode {mode:04o}, and this is uid {}", there.display(), sys::effective_uid()))
}

/// Replaces `path` by `bytes`: temporary name, sync, rename, sync of the directory.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let unfinished = write_unfinished(path, bytes)?;
    fs::rename(&unfinished, path).and_then(|()| sync_directory(path)).map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        explain("write", path, &error)
    })
}

/// What became of a file that may be made once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Made {
    /// By this call, and by no other.
    Here,
    /// Somebody was first, and wrote the same.
    Same,
    /// Somebody was first, and theirs stays.
    Other,
}

/// Makes `path` unless it is there already, by link(2), or by a rename that replaces nothing where there are no
/// links (SMB, FAT).
pub fn make_once(path: &Path, bytes: &[u8]) -> Result<Made, String> {
    let unfinished = write_unfinished(path, bytes)?;
    let linked = match fs::hard_link(&unfinished, path) {
        Err(error) if has_no_links(&error) => sys::rename_no_replace(&unfinished, path),
        // Over NFS the answer to the first try may have been lost.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_one_file(&unfinished, path) => Ok(()),
        other => other,
    };
    let _ = fs::remove_file(&unfinished);
    match linked.and_then(|()| sync_directory(path)) {
        Ok(()) => Ok(Made::Here),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(if read(path)?.is_some_and(|there| there == bytes) { Made::Same } else { Made::Other })
        }
        Err(error) => Err(explain("write", path, &error)),
    }
}

/// The same for whom it is enough that `path` holds these very bytes. False: it holds others.
pub fn create_once(path: &Path, bytes: &[u8]) -> Result<bool, String> {
    Ok(make_once(path, bytes)? != Made::Other)
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

fn has_no_links(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK))
}

/// Removes `path`; one that is not there is removed already. Not synced: whoever finds it again
/// after a crash removes it again.
pub fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(explain("remove", path, &error)),
        _ => Ok(()),
    }
}

/// Removes what a crash left unfinished in `directory`.
pub fn remove_unfinished(directory: &Path) -> Result<(), String> {
    for path in list(directory)? {
        if path.to_string_lossy().ends_with(UNFINISHED) && path.is_file() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The same where other servers may be writing just now: only what is older than `age`.
pub fn remove_abandoned(directory: &Path, age: Duration) -> Result<(), String> {
    for path in list(directory)? {
        let is_old =
            || fs::metadata(&path).and_then(|m| m.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|e| e > age));
        if path.to_string_lossy().ends_with(UNFINISHED) && is_old() {
            remove(&path)?;
        }
    }
    Ok(())
}

pub fn list(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory).map_err(|error| explain("list", directory, &error))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The file's bytes, or None when it is not there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match read_regular(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(explain("read", path, &error)),
    }
}

/// A pipe would keep whoever opens it waiting, and a device has no end.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > LONGEST {
        return Err(io::Error::other("it is no regular file, or longer than any record"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write_unfinished(path: &Path, bytes: &[u8]) -> Result<PathBuf, String> {
    // Of this process and call alone: other servers may write the same file.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}{UNFINISHED}", uuid::Uuid::new_v4().simple()));
    let unfinished = PathBuf::from(name);
    let write = || -> io::Result<()> {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    match write() {
        Ok(()) => Ok(unfinished),
        Err(error) => {
            let _ = fs::remove_file(&unfinished);
            Err(explain("write", path, &error))
        }
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_two_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        assert_eq!(create_once(&path, b"first"), Ok(true));
        assert_eq!(create_once(&path, b"second"), Ok(false));
        assert_eq!(create_once(&path, b"first"), Ok(true));
        assert_eq!(make_once(&path, b"first"), Ok(Made::Same));
        assert_eq!(make_once(&path, b"second"), Ok(Made::Other));
        assert_eq!(read(&path), Ok(Some(b"first".to_vec())));
        replace(&path, b"third").unwrap();
        assert_eq!(read(&path), Ok(Some(b"third".to_vec())));
        assert_eq!(list(dir.path()).unwrap(), [path]);
    }

    #[test]
    fn errors_name_the_path() {
        let error = replace(Path::new("/nonexistent/a.json"), b"").unwrap_err();
        assert!(error.contains("/nonexistent/a.json"), "{error}");
    }
}
