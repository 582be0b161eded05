//! What an agent's commits say beyond the files in its worktree: a mode that was set in the index alone, a file that is
//! tracked no more and stays. Adding all files would undo both.

use super::cache::Error;
use super::git::Call;
use super::private_git_dir::PrivateGitDir;
use super::staging::changes;
use super::worktree::Worktree;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

#[derive(Default)]
pub(super) struct Committed {
    /// Files whose mode is another than the commit's, and whether each is executable there.
    pub modes: Vec<(PathBuf, bool)>,
    /// Paths, each ended by a NUL, of files that a commit removed and that nobody has touched.
    pub untracked: Vec<u8>,
}

impl Committed {
    /// Has git overlook the files that are tracked no more, which are nowhere else but in the base.
    pub fn exclude_from(&self, ours: &PrivateGitDir) -> Result<(), Error> {
        if self.untracked.is_empty() {
            return Ok(());
        }
        let mut patterns: Vec<u8> = Vec::new();
        for path in self.untracked.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            patterns.push(b'/');
            for byte in path {
                patterns.extend(b"\\*?[]! #".contains(byte).then_some(b'\\'));
                patterns.push(*byte);
            }
            patterns.push(b'\n');
        }
        let file = ours.path("info/exclude");
        let written = fs::create_dir_all(ours.path("info")).and_then(|()| fs::write(&file, patterns));
        written.map_err(|error| Error::Final(format!("{}: {error}", file.display())))
    }
}

impl Worktree<'_> {
    pub(super) fn committed_on_purpose(
        &self,
        ours: &PrivateGitDir,
        base: &str,
        head: &str,
    ) -> Result<Committed, Error> {
        let mut committed = Committed::default();
        if base == head {
            return Ok(committed);
        }
        let arguments = ["diff-tree", "-r", "--raw", "-z", "--no-renames", "--ignore-submodules=dirty", base, head];
        let told = ours.run(&arguments, Call::default())?.stdout;
        let (mut removed, mut first) = (Vec::new(), None);
        for change in changes(&told) {
            let on_disk = self.on_disk(change.path);
            let Ok(found) = fs::symlink_metadata(&on_disk) else { continue };
            if !found.is_file() {
                continue;
            }
            let is_executable = change.new_mode == b"100755";
            if change.status == b"D" {
                removed.push((change.path.to_vec(), found));
            } else if change.new_mode.starts_with(b"100")
                && change.old_mode != change.new_mode
                && is_executable != (found.permissions().mode() & 0o100 != 0)
            {
                committed.modes.push((on_disk, is_executable));
            }
        }
        // Only on top of the base: another branch, or an older commit, never had it.
        let on_top = || ours.run(&["merge-base", "--is-ancestor", base, head], Call::default()).is_ok();
        if removed.is_empty() || !on_top() {
            return Ok(committed);
        }
        for (path, file) in removed {
            if first.is_none() {
                first = Some(self.first_entries(ours)?);
            }
            let is_first = first.as_ref().and_then(|first| first.get(&path)).is_some_and(|entry| entry.is_of(&file));
            if is_first {
                committed.untracked.extend(path.into_iter().chain([0]));
            }
        }
        Ok(committed)
    }
}
