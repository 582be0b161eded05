//! After the agent: the contents of the files it made, from its store to the remote's LFS server.

use super::store::{digest_of, path_in, seal, store_of};
use super::{Pointer, endpoint, in_objects, transfer_settings};
use crate::process::stop::Stop;
use crate::workspace::cache::Error;
use crate::workspace::cause::Cause;
use crate::workspace::credentials::Login;
use crate::workspace::git::{self, Call};
use crate::workspace::new_objects::NewFile;
use crate::workspace::private_git_dir::{NOWHERE, PrivateGitDir};
use crate::workspace::regular_file;
use crate::workspace::remove;
use crate::workspace::worktree::Worktree;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most that one job uploads, in bytes.
const LIMIT: u64 = 16 << 30;
/// Names in one command.
const AT_A_TIME: usize = 100;

impl Worktree<'_> {
    /// Those of the files, which the cache has, that are LFS files and whose contents the remote may not have yet.
    pub fn lfs_to_upload(&self, new: &[NewFile]) -> Result<Vec<Pointer>, Error> {
        let git_dir = self.git_dir()?;
        let ours = PrivateGitDir::onto(&self.spaces.git, &git_dir, NOWHERE)?;
        let mut pointers = in_objects(&ours, new)?;
        // What is in there was fetched from the remote, or uploaded to it.
        pointers.retain(|pointer| {
            let found = fs::symlink_metadata(path_in(&store_of(&git_dir), &pointer.oid));
            !found.is_ok_and(|found| found.len() == pointer.size)
        });
        Ok(pointers)
    }

    /// Uploads the contents of `pointers`. When it returns the remote has all of them.
    pub fn upload_lfs(&self, pointers: &[Pointer], base: &str, login: Option<Login>, stop: &Stop) -> Result<(), Error> {
        if !self.spaces.moves_lfs() {
            let path = &pointers.first().map_or("", |pointer| pointer.path.as_str());
            return Err(Error::Final(format!(
                "`{path}` is a new Git LFS file, whose content this server cannot upload (git-lfs is not installed, or \
                 AGENTICORE_LFS is skip): nothing is published; upload it from the worktree with `git lfs push`, and \
                 push the branch by hand"
            )));
        }
        let store = self.upload_directory();
        let cannot = |error: io::Error| Error::Final(format!("cannot make {}: {error}", store.display()));
        remove::tree(&store).map_err(cannot)?;
        let endpoint = self.upload_endpoint(base)?;
        let done = self.upload_from(&store, &endpoint, pointers, login, stop);
        let _ = remove::tree(&store);
        done
    }

    fn upload_from(
        &self,
        store: &Path,
        endpoint: &str,
        pointers: &[Pointer],
        login: Option<Login>,
        stop: &Stop,
    ) -> Result<(), Error> {
        if pointers.iter().map(|pointer| pointer.size).sum::<u64>() > LIMIT {
            return Err(Error::Final(format!("its Git LFS files have more than {} GiB", LIMIT >> 30)));
        }
        for pointer in pointers {
            self.take_content(pointer, store)?;
        }
        let git_dir = self.git_dir()?;
        // Nothing of the agent's is configuration here.
        let ours = PrivateGitDir::onto(&self.spaces.git, &git_dir, NOWHERE)?
            .with_config(&transfer_settings(store, endpoint))?;
        for some in pointers.chunks(AT_A_TIME) {
            let mut arguments = vec!["lfs", "push", "--object-id", endpoint];
            arguments.extend(some.iter().map(|pointer| pointer.oid.as_str()));
            let call = Call { login: login.clone(), stop: Some(stop) };
            let pushed = ours.transfer(&arguments, call, &mut |_| {}).map_err(explain)?;
            let said = String::from_utf8_lossy(&pushed.stderr).into_owned();
            if !is_complete(&String::from_utf8_lossy(&pushed.stdout)) || said.to_ascii_lowercase().contains("failed") {
                return Err(Error::Final(format!(
                    "the server did not take the Git LFS files: {}",
                    crate::job::cut(said.trim().replace('\n', "; "), 500)
                )));
            }
        }
        // The next job need not fetch them.
        for pointer in pointers {
            let kept = path_in(&store_of(&git_dir), &pointer.oid);
            let _ = kept.parent().map(fs::create_dir_all);
            if fs::rename(path_in(store, &pointer.oid), &kept).is_ok() {
                seal(&kept);
            }
        }
        Ok(())
    }

    /// As the base says, whatever the agent has written since.
    fn upload_endpoint(&self, base: &str) -> Result<String, Error> {
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, base)?;
        endpoint(&ours, base, self.url)?
            .map_err(|why| Error::Final(format!("the Git LFS files cannot be uploaded: {why}")))
    }

    /// Copies the content of a pointer into `store`, if what lies under its name is that.
    fn take_content(&self, pointer: &Pointer, store: &Path) -> Result<(), Error> {
        let (oid, path) = (&pointer.oid, &pointer.path);
        let into = path_in(store, oid);
        let places = [self.lfs_store(), self.repository().join("lfs")];
        let Some(from) = places.iter().filter(|place| is_plain(place, oid)).map(|place| path_in(place, oid)).next()
        else {
            return Err(Error::Final(format!(
                "`{path}` is a Git LFS file whose content is not in the worktree's repository (sha256 {oid})"
            )));
        };
        let copied = into.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            regular_file::copy(&from, &into, pointer.size)?;
            digest_of(&into)
        });
        match copied {
            Ok(found) if found == *oid => Ok(()),
            Ok(_) => {
                Err(Error::Final(format!("what lies under the name of `{path}`'s Git LFS content is another one")))
            }
            Err(error) => Err(Error::Final(format!("the Git LFS content of `{path}` cannot be read: {error}"))),
        }
    }

    /// Contents of files that the agent did not commit.
    pub(in crate::workspace) fn lfs_store(&self) -> PathBuf {
        self.registration().join("lfs")
    }

    fn upload_directory(&self) -> PathBuf {
        self.registration().join("lfs-upload")
    }
}

fn explain(error: git::Error) -> Error {
    let cause = error.cause();
    match error {
        git::Error::Stopped(reason) => Error::Stopped(reason),
        error if cause == Cause::Unreachable => {
            Error::Passing(format!("the Git LFS files cannot be uploaded: {error}"))
        }
        error => Error::Final(format!("the Git LFS files cannot be uploaded: {error}")),
    }
}

/// No directory on the way to the content is a link: those of an agent's store could lead anywhere.
fn is_plain(store: &Path, oid: &str) -> bool {
    let file = path_in(store, oid);
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let directories = file.ancestors().skip(1).take_while(|path| path.starts_with(store));
    directories.into_iter().all(is_directory) && fs::symlink_metadata(&file).is_ok_and(|found| found.is_file())
}

/// The last line of progress, `Uploading LFS objects: 100% (2/2), …`, says that all of them are there. Git-lfs ends
/// well also when a server refused some.
fn is_complete(said: &str) -> bool {
    let last = said.rsplit(['\r', '\n']).find(|line| line.contains("Uploading LFS objects:"));
    let count = last.and_then(|line| line.split_once('(')?.1.split_once(')')).map(|(count, _)| count);
    count.and_then(|count| count.split_once('/')).is_none_or(|(done, all)| done == all)
}

#[cfg(test)]
mod tests {
    use super::is_complete;

    #[test]
    fn an_upload_is_complete_when_all_are_there() {
        assert!(is_complete("Uploading LFS objects:   0% (0/2), 0 B\rUploading LFS objects: 100% (2/2), 9 B, done.\n"));
        assert!(!is_complete("Uploading LFS objects:   0% (0/1), 0 B | 0 B/s\rUploading LFS objects:   0% (0/1), 5 B"));
        assert!(is_complete(""), "none was needed");
    }
}
