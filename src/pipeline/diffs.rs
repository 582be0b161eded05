//! What each job changed, kept beside its record for whoever looks at it later: `diffs/ID.json` in the jobs directory.
//! Nothing depends on it: what cannot be written is missing, and the log says so.

use super::{Execution, Runner};
use crate::job::{JobId, Record};
use crate::log;
use crate::workspace::diff::Diff;
use crate::workspace::regular_file;
use crate::workspace::worktree::Worktree;
use std::fs;
use std::io;
use std::path::PathBuf;

/// The most of such a file that is read: its texts are bounded, but JSON's escapes may make them six times as long.
const FILE_LIMIT: u64 = 8 << 20;

impl Runner {
    fn diff_file(&self, id: &JobId) -> PathBuf {
        self.config.jobs_dir.join("diffs").join(format!("{id}.json"))
    }

    /// What a job changed. None: nothing, or that was not noted.
    pub fn diff_of(&self, id: &JobId) -> Option<Diff> {
        let bytes = regular_file::read(&self.diff_file(id), FILE_LIMIT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// In place of what was noted before.
    pub(super) fn note_diff(&self, record: &Record, diff: Diff) {
        let clean = |text: &str| self.redactor.clean(text);
        let (text, mut lacks) = (clean(&diff.text), diff.lacks.clone());
        if text != diff.text {
            lacks.push("secrets, which are masked".into());
        }
        let diff = Diff { summary: clean(&diff.summary), text, lacks, ..diff };
        let path = self.diff_file(&record.id);
        let write = || -> io::Result<()> {
            fs::create_dir_all(path.parent().unwrap_or(&self.config.jobs_dir))?;
            let beside = path.with_extension("new");
            regular_file::write(&beside, &serde_json::to_vec(&diff)?)?;
            fs::rename(&beside, &path)
        };
        if let Err(error) = write() {
            log::job(&record.id).warn(format!("what it changed cannot be noted in {}: {error}", path.display()));
        }
    }

    pub(super) fn forget_diff(&self, id: &JobId) {
        let path = self.diff_file(id);
        for path in [path.with_extension("new"), path] {
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::job(id).warn(format!("cannot remove {}: {error}", path.display()));
            }
        }
    }
}

impl Execution<'_> {
    /// Of what is about to be published.
    pub(super) fn note_diff(&self, worktree: &Worktree, base: &str, commit: &str) {
        match worktree.diff(base, commit, self.stop) {
            Ok(diff) => self.runner.note_diff(&self.record, diff),
            Err(error) => log::job(&self.record.id).warn(format!("what it changed cannot be shown: {error}")),
        }
    }
}
