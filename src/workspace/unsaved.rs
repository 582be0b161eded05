//! A worktree whose work is nowhere else and could not be saved whole: it outlives its attempt.
//!
//! It is marked, on its disk and beside the repository. A later attempt on that disk goes on in it; one that makes a
//! worktree of its own moves it aside first. Only a job that is forgotten takes all of that with it.

use super::cache::Workspaces;
use super::worktree::{Worktree, gitdir};
use super::{regular_file, remove};
use crate::job::JobId;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const MARK: &str = "unsaved";

impl Workspaces {
    fn mark_on_disk(&self, id: &JobId) -> PathBuf {
        self.settings.worktree_root.join(format!(".{MARK}-{id}"))
    }

    /// Something of a job was moved aside on this disk.
    pub(super) fn has_set_aside(&self, id: &JobId) -> bool {
        !earlier(&self.settings.worktree_root, id).is_empty()
    }

    /// The worktree that a job has on this disk must not go before the job does.
    pub fn has_unsaved(&self, id: &JobId) -> bool {
        self.mark_on_disk(id).exists()
    }

    /// Removes from this disk what was moved aside of a job, and the mark. For one that is forgotten.
    pub fn remove_unsaved(&self, id: &JobId) -> io::Result<()> {
        remove_earlier(&self.settings.worktree_root, id)?;
        match fs::remove_file(self.mark_on_disk(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Worktree<'_> {
    fn mark(&self) -> PathBuf {
        self.registration().join(MARK)
    }

    /// Its work could not be saved whole.
    pub fn note_unsaved(&self) -> io::Result<()> {
        File::create(self.spaces.mark_on_disk(self.id))?;
        File::create(self.mark()).map(drop)
    }

    /// All of it is saved: it goes as any other from now on.
    pub fn unmark(&self) {
        let _ = fs::remove_file(self.mark());
        let _ = fs::remove_file(self.spaces.mark_on_disk(self.id));
    }

    /// An attempt left it so: here, or what is shared of it.
    pub fn is_marked(&self) -> bool {
        self.mark().exists() || self.spaces.has_unsaved(self.id)
    }

    /// An earlier attempt's, whole, on this disk.
    pub fn is_unsaved(&self) -> bool {
        self.spaces.has_unsaved(self.id)
            && self.mark().exists()
            && self.path().is_dir()
            && fs::symlink_metadata(self.repository()).is_ok_and(|found| found.is_dir())
    }

    /// Moves what must not go out of the way of another attempt: the files on this disk, and the repository with the
    /// commits, which may be another disk's.
    pub(super) fn set_unsaved_aside(&self) -> io::Result<()> {
        if self.within.is_some() {
            return Ok(());
        }
        let jobs = self.registration().parent().map(Path::to_owned).unwrap_or_default();
        let mut repository = None;
        if self.mark().exists() {
            let aside = next_free(&jobs, self.id);
            fs::rename(self.registration(), &aside)?;
            repository = Some(aside.join("git"));
        }
        if self.spaces.has_unsaved(self.id) && self.path().is_dir() {
            let aside = next_free(&self.spaces.settings.worktree_root, self.id);
            fs::rename(self.path(), &aside)?;
            if let Some(repository) = repository {
                regular_file::write(&aside.join(".git"), format!("{}\n", gitdir(&repository)).as_bytes())?;
            }
            let _ = fs::remove_file(self.spaces.mark_on_disk(self.id));
            crate::log::job(self.id).warn(format!("work that could not be saved stays in {}", aside.display()));
        }
        Ok(())
    }

    /// Removes what was moved aside. For a job that is forgotten.
    pub(super) fn remove_unsaved(&self) -> io::Result<()> {
        self.registration().parent().map_or(Ok(()), |jobs| remove_earlier(jobs, self.id))?;
        self.spaces.remove_unsaved(self.id)
    }
}

/// The places of what was moved aside there.
fn earlier(directory: &Path, id: &JobId) -> Vec<PathBuf> {
    let begin = format!("{id}.earlier-");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&begin)).map(|entry| entry.path()).collect()
}

/// A name that is not taken, for what goes aside.
pub fn next_free(directory: &Path, id: &JobId) -> PathBuf {
    let names = (1..).map(|number: u32| directory.join(format!("{id}.earlier-{number}")));
    let mut free = names.filter(|path| fs::symlink_metadata(path).is_err());
    free.next().unwrap_or_else(|| directory.join(format!("{id}.earlier")))
}

/// The newest that was moved aside there.
pub fn newest_earlier(directory: &Path, id: &JobId) -> Option<PathBuf> {
    let number = |path: &PathBuf| path.extension()?.to_str()?.strip_prefix("earlier-")?.parse::<u32>().ok();
    earlier(directory, id).into_iter().max_by_key(number)
}

/// Removes all that was moved aside there.
pub fn remove_earlier(directory: &Path, id: &JobId) -> io::Result<()> {
    earlier(directory, id).iter().try_for_each(|path| remove::tree(path))
}
