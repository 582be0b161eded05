//! Takes what is to be published out of a job's own repository into the clone cache, after checking it.
//!
//! The agent may have written anything there: each object has to hash to its name and to be well-formed, and all that
//! the commit needs has to be there. Nothing of it is looked up by the agent's configuration.

use super::cache::{Error, Locked};
use super::git::{self, Call};
use super::private_git_dir::{NOWHERE, PrivateGitDir};
use super::worktree::Worktree;
use super::{refs, remove};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Fewer objects than this are kept one by one, as git itself does: a pack for each job makes a cache slow.
const PACK_FROM: u32 = 100;
/// So many files of a repository may be faulty before a job began.
const FAULTS_MOST: usize = 20;

impl Worktree<'_> {
    /// `commit`, made on top of `base_commit`, is in the cache when it returns.
    pub(super) fn take_over(&self, commit: &str, base_commit: &str, locked: &Locked) -> Result<(), Error> {
        // They come from the agent's repository, and are words of a command here.
        if !refs::is_hash(commit) || !refs::is_hash(base_commit) {
            return Err(Error::Final(format!("`{commit}` on `{base_commit}` are no commits")));
        }
        let quarantine = self.import_directory(locked);
        let clear = || remove::tree(&quarantine);
        let taken = clear().map_err(io_error(&quarantine)).and_then(|()| {
            self.take_through(&quarantine, commit, base_commit, locked).map_err(|error| match error {
                Error::Stopped(reason) => Error::Stopped(reason),
                other => Error::Final(format!("what the agent committed cannot be taken over: {other}")),
            })
        });
        // What is left of it is removed by the next one.
        let _ = clear();
        taken
    }

    fn take_through(&self, quarantine: &Path, commit: &str, base: &str, locked: &Locked) -> Result<(), Error> {
        let call = || Call { login: None, stop: Some(&locked.stop) };
        let objects = quarantine.join("objects");
        fs::create_dir_all(objects.join("pack")).map_err(io_error(&objects))?;
        let wanted = quarantine.join("wanted");
        fs::write(&wanted, format!("{commit}\n^{base}\n")).map_err(io_error(&wanted))?;
        let pack = quarantine.join("pack").display().to_string();
        let view = self.view(commit)?.writing_to(&objects);
        view.run_on(&wanted, &["pack-objects", "--revs", "--non-empty", "--quiet", &pack], call())?;
        let ours = PrivateGitDir::onto(&self.spaces.git, &locked.git_dir, commit)?.writing_to(&objects);
        for pack in packs_in(quarantine).map_err(io_error(quarantine))? {
            if objects_in(&pack).map_err(io_error(&pack))? < PACK_FROM {
                self.check(quarantine, locked, |strict| {
                    ours.run_on(&pack, &["unpack-objects", strict, "-q"], call()).map(drop)
                })?;
            } else {
                let kept = objects.join("pack").join(pack.file_name().unwrap_or_default());
                fs::rename(&pack, &kept).map_err(io_error(&pack))?;
                let kept = kept.display().to_string();
                self.check(quarantine, locked, |strict| ours.run(&["index-pack", strict, &kept], call()).map(drop))?;
            }
        }
        // Nothing that it needs is missing.
        ours.run(&["rev-list", "--objects", "--quiet", commit, "--not", base], call())?;
        move_objects(&objects, &locked.git_dir.join("objects")).map_err(io_error(&objects))
    }
}

impl Worktree<'_> {
    /// Has git check objects, but for those that it finds fault with and that the remote has already (a `.gitmodules`
    /// with an odd URL, say): they are none of the agent's.
    fn check(
        &self,
        quarantine: &Path,
        locked: &Locked,
        run: impl Fn(&str) -> Result<(), git::Error>,
    ) -> Result<(), Error> {
        let known = PrivateGitDir::onto(&self.spaces.git, &locked.git_dir, NOWHERE)?;
        let list = quarantine.join("not-checked");
        let mut not_checked = String::new();
        for _ in 0..FAULTS_MOST {
            fs::write(&list, &not_checked).map_err(io_error(&list))?;
            let error = match run(&format!("--strict=skiplist={}", list.display())) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let git::Error::Failed { said, .. } = &error else { return Err(error.into()) };
            let blamed = said.lines().find_map(|line| line.strip_prefix("error: object ")?.split_once(':'));
            let blamed = blamed.map(|(hash, _)| hash).filter(|hash| refs::is_hash(hash) && !not_checked.contains(hash));
            let Some(hash) = blamed else { return Err(error.into()) };
            if known.run(&["cat-file", "-e", hash], Call::default()).is_err() {
                return Err(error.into());
            }
            not_checked += &format!("{hash}\n");
        }
        Err(Error::Final("git finds fault with too many of the repository's files".into()))
    }
}

/// Moves every object that was checked into the cache. What is there already stays.
fn move_objects(from: &Path, to: &Path) -> io::Result<()> {
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        let into = to.join(directory.file_name());
        fs::create_dir_all(&into)?;
        let mut files = fs::read_dir(directory.path())?.collect::<io::Result<Vec<_>>>()?;
        // A pack before its index: without one it is no pack yet.
        files.sort_by_key(|file| file.path().extension().is_some_and(|end| end == "idx"));
        for file in files {
            let there = into.join(file.file_name());
            if !there.exists() {
                fs::rename(file.path(), there)?;
            }
        }
    }
    Ok(())
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |error| Error::from(git::Error::NotStarted(format!("{}: {error}", path.display())))
}

fn packs_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let paths = paths.collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "pack")).collect())
}

/// How many objects a pack says that it has: gitformat-pack(5).
fn objects_in(pack: &Path) -> io::Result<u32> {
    let mut head = [0; 12];
    File::open(pack)?.read_exact(&mut head)?;
    Ok(u32::from_be_bytes([head[8], head[9], head[10], head[11]]))
}
