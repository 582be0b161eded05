//! What the agent's own index says beyond the files. It is not believed: it may be cut, altered, or lie. But a file
//! that a sparse checkout leaves out was not deleted by anybody.

use super::cache::Error;
use super::git::{self, Call};
use super::inspect::INDEX_LIMIT;
use super::private_git_dir::PrivateGitDir;
use super::regular_file;
use super::worktree::Worktree;
use crate::process::limited::OUTPUT_LIMIT;
use std::collections::HashSet;
use std::fs;
use std::io;

impl Worktree<'_> {
    /// Files that the agent's index leaves out of the worktree (sparse checkout, skip-worktree, assume-unchanged), and
    /// that are not there, are none that are missing in `ours`. One that is there is looked at, whatever its flags.
    pub(super) fn leave_out(&self, ours: &PrivateGitDir, head: &str) -> Result<(), Error> {
        let theirs = ours.path("agent-index");
        if regular_file::copy(&self.repository().join("index"), &theirs, INDEX_LIMIT).is_err() {
            return Ok(());
        }
        let view = self.view(head)?.with_work_tree(&self.path(), &theirs);
        // One that cannot be read says nothing; of one that is too long nothing is left out.
        let Some(listed) = listed(view.run(&["ls-files", "-v", "-z"], Call::default()))? else { return Ok(()) };
        let absent: HashSet<&[u8]> = listed.split(|byte| *byte == 0).filter_map(|entry| self.left_out(entry)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let Some(known) = self::listed(ours.run(&["ls-files", "-z"], Call::default()))? else { return Ok(()) };
        let mut paths: Vec<u8> = Vec::new();
        for path in known.split(|byte| *byte == 0).filter(|path| absent.contains(path)) {
            paths.extend(path.iter().chain([&0]));
        }
        let list = ours.path("left-out");
        fs::write(&list, paths).map_err(|error| Error::Final(format!("{}: {error}", list.display())))?;
        ours.run_on(&list, &["update-index", "-z", "--skip-worktree", "--stdin"], Call::default())?;
        Ok(())
    }

    /// The path of an entry `TAG PATH`, if its tag leaves it out and it is not there.
    fn left_out<'a>(&self, entry: &'a [u8]) -> Option<&'a [u8]> {
        use std::os::unix::ffi::OsStrExt;
        let (tag, path) = (entry.first()?, entry.get(2..)?);
        let is_flagged = *tag == b'S' || tag.is_ascii_lowercase();
        let on_disk = is_flagged.then(|| fs::symlink_metadata(self.path().join(std::ffi::OsStr::from_bytes(path))))?;
        on_disk.is_err_and(|error| error.kind() == io::ErrorKind::NotFound).then_some(path)
    }
}

fn listed(told: Result<crate::process::limited::Finished, git::Error>) -> Result<Option<Vec<u8>>, Error> {
    match told {
        Ok(finished) => Ok(Some(finished.stdout).filter(|listed| listed.len() < OUTPUT_LIMIT)),
        Err(git::Error::Failed { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
