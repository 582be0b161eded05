//! Reads files that an agent may have put there: regular ones only, and not without end.
//!
//! A link could lead anywhere, and a pipe would keep whoever opens it waiting for ever.

use super::remove;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no regular file", path.display())))
}

/// At most the first `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// At most the first `limit` bytes, as text.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&read(path, limit)?).into_owned())
}

/// Copies at most `limit` bytes to a new file,
/// with the same time of change: git tells by an index's time which files to look at twice.
pub fn copy(from: &Path, to: &Path, limit: u64) -> io::Result<()> {
    let source = open(from)?;
    let changed = source.metadata()?.modified()?;
    let _ = fs::remove_file(to);
    let mut target = File::create_new(to)?;
    io::copy(&mut source.take(limit), &mut target)?;
    target.set_modified(changed)
}

/// Puts a file with these bytes at `path`, whatever was there; never through a link or into a pipe.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    remove::tree(beside)?;
    File::create_new(beside)?.write_all(bytes)?;
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        remove::tree(path)?;
    }
    fs::rename(beside, path)
}

/// The same as [`read`] for a file that its owner may have put behind a link. More than `limit` bytes
/// are an error.
pub fn read_owned(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_pipes_and_endless_files_are_no_trap() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), "0123456789").unwrap();
        assert_eq!(read_text(&path("file"), 4).unwrap(), "0123");
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        for trap in ["link", "pipe", ".", "none"] {
            assert!(read(&path(trap), 4).is_err(), "{trap}");
        }
        assert!(read(Path::new("/dev/zero"), 4).is_err());
    }
}
