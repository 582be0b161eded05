//! The directories that a server keeps its things in: made, and looked at before anything depends on them.
//!
//! Never changes an owner or the mode of a directory that is there already, and never compares owners: a
//! volume may show every file as somebody else's. Only what cannot be written is asked whose it is.

pub mod probe;

use crate::config::Config;
use crate::process::sys;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What lies in the root of a shared volume (the interface's names).
pub const LAYOUT: [&str; 4] = ["profiles", "repos", "jobs", "job-state"];

/// Group 0 may write, and what is made inside belongs to it too: so the volume works for any uid.
const SHARED_MODE: u32 = 0o2775;
/// How many entries of a directory are asked whether they can be written: a start must not take longer
/// because there are many.
const LOOKED_INTO: usize = 100;

/// Makes what is missing of the layout. Any number of pods may do so at once.
pub fn make_layout(root: &Path) -> Result<(), String> {
    if !root.is_dir() {
        return Err(format!("there is no directory {}: mount the shared volume there, or make it", root.display()));
    }
    for below in LAYOUT {
        let path = root.join(below);
        // Profiles may be mounted for reading only.
        match make(&path) {
            Err(why) if below != "profiles" || fs::symlink_metadata(&path).is_ok() => return Err(why),
            _ => {}
        }
    }
    Ok(())
}

fn make(path: &Path) -> Result<(), String> {
    match fs::create_dir(path) {
        // By its maker alone, and at once: what the umask took away.
        Ok(()) => drop(fs::set_permissions(path, fs::Permissions::from_mode(SHARED_MODE))),
        Err(_) if path.is_dir() => {}
        Err(error) => return Err(cannot("make", path, &error)),
    }
    Ok(())
}

/// Makes and checks everything that a server with these settings writes to. `Err`: it cannot run so, and why.
/// `Ok`: what it can do without, a sentence each.
pub fn prepare(config: &Config) -> Result<Vec<String>, String> {
    let mut lacks = Vec::new();
    if let Some(root) = &config.shared_root {
        make_layout(root)?;
    }
    for directory in places(config) {
        make_and_look(&directory)?;
    }
    if config.max_parallel_jobs > 0 {
        // What lies in it are jobs' own places, which nobody else has to write.
        if config.shared_root.is_none() {
            own(&config.job_dirs_root)?;
        }
        make_all(&config.job_dirs_root)?;
        may_write(&config.job_dirs_root)?;
        own(&config.runtime_dir)?;
    }
    // Where jobs end: the one place that has to be able to do more than keep files.
    for lack in probe::look(&config.jobs_dir).lacks {
        if lack.is_fatal {
            return Err(lack.sentence);
        }
        lacks.push(lack.sentence);
    }
    Ok(lacks)
}

/// A directory of known name where everybody may write: made for this user alone, or this user's already. Somebody else
/// may have made it, to read or to plant what lies there.
fn own(path: &Path) -> Result<(), String> {
    match fs::DirBuilder::new().recursive(false).mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // Where it would lie is looked at, and explained, elsewhere.
        Err(_) => return Ok(()),
    }
    let found = fs::symlink_metadata(path).map_err(|error| cannot("look at", path, &error))?;
    let (mine, mode) = (sys::effective_uid(), found.permissions().mode() & 0o777);
    let what = match () {
        () if !found.is_dir() => "is no directory".to_owned(),
        () if found.uid() != mine => format!("belongs to the uid {}, and this server is {mine}", found.uid()),
        // An earlier version made it as its umask had it.
        () if mode & 0o077 != 0 => {
            let narrowed = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
            return narrowed.map_err(|error| cannot("narrow the mode of", path, &error));
        }
        () => return Ok(()),
    };
    Err(format!("{} {what}: remove it, or set TMPDIR to a directory of this server's own", path.display()))
}

fn places(config: &Config) -> Vec<PathBuf> {
    let mut places = vec![config.jobs_dir.clone()];
    if config.max_parallel_jobs > 0 {
        places.extend([config.repos.root.clone(), config.repos.worktree_root.clone()]);
    }
    places
}

fn make_and_look(directory: &Path) -> Result<(), String> {
    make_all(directory)?;
    let entries = fs::read_dir(directory).map_err(|error| cannot("read", directory, &error))?;
    let below = entries.flatten().take(LOOKED_INTO).map(|entry| entry.path());
    let below = below.filter(|path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()));
    for path in [directory.to_owned()].into_iter().chain(below) {
        may_write(&path)?;
    }
    Ok(())
}

fn make_all(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))
}

fn may_write(directory: &Path) -> Result<(), String> {
    sys::may_write(directory).map_err(|error| cannot("write to", directory, &error))
}

/// Why `path` cannot be written, whose it is, and what to do about that.
fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    let there = path.ancestors().find_map(|path| Some((path, fs::metadata(path).ok()?)));
    let refused = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    match there {
        Some((there, meta)) if refused && meta.uid() == 0 => format!(
            "cannot {what} {}: {} belongs to root, mode {:04o}, and this is uid {}, gid {}; once, as root, give it \
             to this \
             one: chown {}:0 {} && chmod 2775 {} (Kubernetes: in a pod that runs as root, or \
             podSecurityContext.fsGroup=1000 where the volume heeds that)",
            path.display(),
            there.display(),
            meta.permissions().mode() & 0o7777,
            sys::effective_uid(),
            sys::effective_gid(),
            sys::effective_uid(),
            there.display(),
            there.display()
        ),
        Some((there, meta)) if refused => {
            let (uid, gid, mode) = (meta.uid(), meta.gid(), meta.permissions().mode() & 0o7777);
            format!(
                "cannot {what} {}: {} belongs to uid {uid}, gid {gid}, mode {mode:04o}, and this is uid {}, gid {}; \
                 run it as \
                 that uid (Kubernetes: podSecurityContext.runAsUser={uid}; Compose: user: \"{uid}:0\"), or give the \
                 directory to this one (chown -R {}:0 {})",
                path.display(),
                there.display(),
                sys::effective_uid(),
                sys::effective_gid(),
                sys::effective_uid(),
                there.display()
            )
        }
        _ if error.raw_os_error() == Some(libc::EROFS) => format!(
            "cannot {what} {}: Read-only file system; mount a volume there that can be written, or name another place",
            path.display()
        ),
        _ => format!("cannot {what} {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_made_once_and_left_alone_then() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| make_layout(dir.path()).unwrap());
            }
        });
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(LAYOUT.map(mode), [SHARED_MODE; 4]);
        let repos = dir.path().join("repos");
        fs::write(repos.join("x"), "").unwrap();
        fs::set_permissions(&repos, fs::Permissions::from_mode(0o700)).unwrap();
        make_layout(dir.path()).unwrap();
        assert_eq!((mode("repos"), repos.join("x").exists()), (0o700, true));
        let why = make_layout(&dir.path().join("none")).unwrap_err();
        assert!(why.contains("there is no directory"), "{why}");
    }
}
