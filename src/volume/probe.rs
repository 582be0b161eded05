//! What a volume can do, tried: everything that the queue, git and the agents need of it.
//!
//! Writes only files of its own, and removes them. Cannot see what happens between two machines; what a mount
//! says of itself (NFS with locks of its own machine alone) is read instead.

use crate::process::sys;
use fs2::FileExt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Below this a clone of an ordinary repository may not fit any more.
const LITTLE_SPACE: u64 = 1 << 30;
/// What is said of every volume that lacks something: the classes that have it.
const CLASSES: &str = "a class with NFS has it (nfs-client, efs-sc, azurefile-csi-nfs: Azure Files with \
                       `protocol: nfs`), and so has ceph-filesystem";

/// Something that the volume cannot do.
#[derive(Debug, PartialEq)]
pub struct Lack {
    pub sentence: String,
    /// No server can run on it.
    pub is_fatal: bool,
}

pub struct Found {
    pub lacks: Vec<Lack>,
    /// What was tried and went well.
    pub good: Vec<&'static str>,
    /// How far the volume's clock is off this machine's. None: it could not be written.
    pub skew: Option<Duration>,
}

/// Tries it all in `directory`.
pub fn look(directory: &Path) -> Found {
    let probe = Probe { directory, mark: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned() };
    let mut found = Found { lacks: Vec::new(), good: Vec::new(), skew: None };
    match probe.write() {
        Ok(skew) => found.skew = Some(skew),
        Err(error) => {
            let sentence = format!("{} cannot be written: {error}", directory.display());
            found.lacks.push(Lack { sentence, is_fatal: true });
            probe.remove();
            return found;
        }
    }
    found.good.push("write");
    let mut tried = |what: &'static str, is_fatal: bool, outcome: io::Result<()>, without: &str| match outcome {
        Ok(()) => found.good.push(what),
        Err(error) => {
            let sentence = format!("{}: {without} ({what}: {error}); {CLASSES}", directory.display());
            found.lacks.push(Lack { sentence, is_fatal });
        }
    };
    tried("see", true, probe.see(), "what was just written there is not seen");
    tried("rename", true, probe.rename_over(), "a file cannot replace another one, so no record can be kept");
    tried("create once", true, probe.create_once(), "two can make the same file, so two pods could take one job");
    tried("lock", true, probe.lock(), "files cannot be locked, so two servers could use it against each other");
    let linked = probe.link();
    if linked.is_err() {
        let neither =
            "it has neither hard links nor renames that replace nothing, by one of which a job's end is decided";
        tried("rename once", true, probe.rename_once(), neither);
    }
    tried("link", false, linked, "it has no hard links: a job's end is decided by a rename that replaces nothing");
    tried(
        "symlink",
        false,
        probe.symlink(),
        "it has no symbolic links: repositories that hold some are checked out wrong",
    );
    tried("chmod", false, probe.chmod(), "modes cannot be changed there: what is executable cannot be told");
    tried(
        "case",
        false,
        probe.case(),
        "it does not tell `A` from `a`: branches and files that differ in case alone collide",
    );
    tried("unlink", false, probe.unlink_open(), "an open file cannot be removed");
    tried("shared locks", false, shared_locks(directory), "its locks are this machine's alone");
    if let Ok(sys::Space { free, .. }) = sys::space(directory)
        && free < LITTLE_SPACE
    {
        let sentence = format!("{} has only {} MiB of free space: make it larger", directory.display(), free >> 20);
        found.lacks.push(Lack { sentence, is_fatal: false });
    }
    probe.remove();
    found
}

struct Probe<'a> {
    directory: &'a Path,
    /// In the name of each of its files: several pods may probe at once.
    mark: String,
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

impl Probe<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!(".probe-{}-{name}", self.mark))
    }

    fn remove(&self) {
        for name in ["a", "b", "c", "d", "e", "Case", "link", "run", "open"] {
            let _ = fs::remove_file(self.path(name));
        }
    }

    fn write(&self) -> io::Result<Duration> {
        let mut file = File::create(self.path("a"))?;
        file.write_all(b"first")?;
        file.sync_all()?;
        let changed = file.metadata()?.modified()?;
        let now = SystemTime::now();
        Ok(now.duration_since(changed).or_else(|_| changed.duration_since(now)).unwrap_or_default())
    }

    fn see(&self) -> io::Result<()> {
        let is_listed = fs::read_dir(self.directory)?.flatten().any(|entry| entry.path() == self.path("a"));
        if is_listed && fs::read(self.path("a"))? == b"first" { Ok(()) } else { Err(wrong("it is not there")) }
    }

    fn rename_over(&self) -> io::Result<()> {
        fs::write(self.path("b"), "second")?;
        fs::rename(self.path("b"), self.path("a"))?;
        let replaced = fs::read(self.path("a"))? == b"second" && !self.path("b").exists();
        if replaced { Ok(()) } else { Err(wrong("the old file is still there")) }
    }

    fn create_once(&self) -> io::Result<()> {
        File::create_new(self.path("c"))?;
        match File::create_new(self.path("c")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(wrong("the same file was made twice")),
        }
    }

    fn lock(&self) -> io::Result<()> {
        let open = || OpenOptions::new().create(true).truncate(false).write(true).open(self.path("c"));
        let (first, second) = (open()?, open()?);
        first.try_lock_exclusive()?;
        match second.try_lock_exclusive() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(wrong("the same lock was taken twice")),
        }
        FileExt::unlock(&first)?;
        second.try_lock_exclusive()
    }

    fn link(&self) -> io::Result<()> {
        fs::hard_link(self.path("a"), self.path("d"))?;
        match fs::hard_link(self.path("a"), self.path("d")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => Err(wrong("the same link was made twice")),
        }
    }

    fn rename_once(&self) -> io::Result<()> {
        fs::write(self.path("b"), "third")?;
        match sys::rename_no_replace(&self.path("b"), &self.path("a")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(wrong("a file was replaced")),
        }
        sys::rename_no_replace(&self.path("b"), &self.path("e"))
    }

    fn symlink(&self) -> io::Result<()> {
        std::os::unix::fs::symlink("target", self.path("link"))?;
        if fs::read_link(self.path("link"))? == Path::new("target") { Ok(()) } else { Err(wrong("it is no link")) }
    }

    fn chmod(&self) -> io::Result<()> {
        fs::write(self.path("run"), "")?;
        for mode in [0o755, 0o644] {
            fs::set_permissions(self.path("run"), fs::Permissions::from_mode(mode))?;
            if fs::metadata(self.path("run"))?.permissions().mode() & 0o100 != mode & 0o100 {
                return Err(wrong("it had no effect"));
            }
        }
        Ok(())
    }

    fn case(&self) -> io::Result<()> {
        fs::write(self.path("Case"), "")?;
        if self.path("case").exists() { Err(wrong("they are one file")) } else { Ok(()) }
    }

    fn unlink_open(&self) -> io::Result<()> {
        fs::write(self.path("open"), "still here")?;
        let mut file = File::open(self.path("open"))?;
        fs::remove_file(self.path("open"))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text == "still here" { Ok(()) } else { Err(wrong("its content is gone")) }
    }
}

/// NFS may be mounted so that each machine locks for itself.
fn shared_locks(directory: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match local_locks(&mounts, &fs::canonicalize(directory)?) {
        Some(option) => Err(io::Error::other(format!("it is mounted with {option}"))),
        None => Ok(()),
    }
}

/// The option of the mount that holds `directory` which keeps its locks on this machine.
fn local_locks(mounts: &str, directory: &Path) -> Option<String> {
    let of = |line: &str| {
        let (mount, options) = line.split_once(" - ")?;
        let place = PathBuf::from(mount.split(' ').nth(4)?);
        directory.starts_with(&place).then(|| (place.as_os_str().len(), options.to_owned()))
    };
    let (_, options) = mounts.lines().filter_map(of).max_by_key(|(length, _)| *length)?;
    if !options.starts_with("nfs") {
        return None;
    }
    let mut all = options.split([' ', ',']);
    all.find(|option| ["local_lock=all", "local_lock=flock"].contains(option)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_directory_lacks_nothing_and_nothing_is_left_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let found = look(dir.path());
        let lacks: Vec<_> = found.lacks.iter().filter(|lack| !lack.sentence.contains("free space")).collect();
        assert!(lacks.is_empty(), "{lacks:?}");
        assert!(found.good.contains(&"link") && found.skew.is_some());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_that_cannot_be_written_says_so() {
        let found = look(Path::new("/proc"));
        assert!(found.lacks.len() == 1 && found.lacks[0].is_fatal, "{:?}", found.lacks);
        assert!(found.lacks[0].sentence.contains("/proc cannot be written"));
    }

    #[test]
    fn locks_of_one_machine_are_seen_in_its_mounts() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /shared rw - nfs4 h:/x rw,vers=4.1,local_lock=none\n\
                      3 1 0:6 / /old rw - nfs h:/y rw,nolock,local_lock=all\n";
        assert_eq!(local_locks(mounts, Path::new("/shared/jobs")), None);
        assert_eq!(local_locks(mounts, Path::new("/old/jobs")).as_deref(), Some("local_lock=all"));
        assert_eq!(local_locks(mounts, Path::new("/home")), None);
    }
}
