//! Takes what is to be published out of a job's own repository into the clone cache, after checking it.
//!
//! The agent may have written anything there: each object has to hash to its name and to be well-formed, and all that
//! the commit needs has to be there. Nothing of it is looked up by the agent's configuration.

use super::cache::{Error, Locked};
use super::git::{self, Call};
use super::private_git_dir::PrivateGitDir;
use super::worktree::Worktree;
use super::{refs, remove};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Fewer objects than this are kept one by one, as git itself does: a pack for each job makes a cache slow.
const PACK_FROM: u32 = 100;

impl Worktree<'_> {
    /// `commit`, made on top of `base_commit`, is in the cache when it returns.
    pub(super) fn take_over(&self, commit: &str, base_commit: &str, locked: &Locked) -> Result<(), Error> {
        // They come from the agent's repository, and are words of a command here.
        if !refs::is_hash(commit) || !refs::is_hash(base_commit) {
            return Err(Error::Final(format!("`{commit}` on `{base_commit}` are no commits")));
        }
        let quarantine = locked.directory.join(format!("import-{}", self.id));
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
        fs::create_dir_all(quarantine).map_err(io_error(quarantine))?;
        let wanted = quarantine.join("wanted");
        fs::write(&wanted, format!("{commit}\n^{base}\n")).map_err(io_error(&wanted))?;
        let pack = quarantine.join("pack").display().to_string();
        let view = self.view(commit)?;
        view.run_on(&wanted, &["pack-objects", "--revs", "--non-empty", "--quiet", &pack], call())?;
        let cache = PrivateGitDir::onto(&self.spaces.git, &locked.git_dir, commit)?;
        for pack in packs_in(quarantine).map_err(io_error(quarantine))? {
            if objects_in(&pack).map_err(io_error(&pack))? < PACK_FROM {
                cache.run_on(&pack, &["unpack-objects", "--strict", "-q"], call())?;
            } else {
                self.keep(&pack, &cache, &locked.git_dir, call())?;
            }
        }
        // Nothing that it needs is missing.
        cache.run(&["rev-list", "--objects", "--quiet", commit, "--not", base], call())?;
        Ok(())
    }

    /// Reads each object of the pack again, and moves it into the cache.
    fn keep(&self, pack: &Path, cache: &PrivateGitDir, git_dir: &Path, call: Call) -> Result<(), Error> {
        let index = pack.with_extension("idx");
        fs::remove_file(&index).map_err(io_error(&index))?;
        cache.run(&["index-pack", "--strict", &pack.display().to_string()], call)?;
        // The pack before its index: without one it is no pack yet.
        for file in [pack, &index] {
            let name = file.file_name().unwrap_or_default();
            fs::rename(file, git_dir.join("objects/pack").join(name)).map_err(io_error(file))?;
        }
        Ok(())
    }
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
