//! What is removed after an attempt, and what stays because removing it would lose work.

use super::{Attempt, Halt, Runner};
use crate::job::{Mark, Record};
use crate::log;
use crate::process::stop::Stop;
use crate::workspace::cache;
use crate::workspace::remove;
use crate::workspace::url;
use crate::workspace::worktree::Worktree;

impl Attempt<'_> {
    /// Removes the worktree when its work is pushed or there is none; else it stays, and the record
    /// says where.
    pub fn tidy_worktree(&mut self) -> Result<(), Halt> {
        let Some(path) = self.record.worktree_path.clone() else {
            // It may have been begun and not finished: no agent was ever in it.
            if self.record.verdict.is_none() {
                self.runner.discard(&self.record);
            }
            return Ok(());
        };
        match self.runner.settle(&self.record, self.worktree_is_clean, Some(self.stop)) {
            Ok(true) => self.mark(Mark::WorktreeRemoved, None),
            Err(cache::Error::Stopped(reason)) => Err(Halt::Stopped(reason)),
            Ok(false) if self.record.note.is_none() && self.record.error.is_none() && !self.wants_publishing() => {
                self.mark(Mark::Note(format!("its profile publishes nothing: the work is in {path}")), None)
            }
            Ok(false) => Ok(()),
            Err(error) => {
                log::warn(&format!("job {}: {error}; it stays at {path}", self.record.id));
                Ok(())
            }
        }
    }

    /// The job goes back to the queue. Its files go, unless the agent's work waits in them.
    pub fn hand_back(&mut self) {
        if self.record.verdict.is_none() {
            self.runner.discard(&self.record);
        }
        let why = "the server shuts down; another attempt goes on";
        if let Err(error) = self.runner.store.hand_back(&self.lease, why) {
            // The next start finds it running, and takes it over.
            log::warn(&format!("job {} could not be handed back: {error}", self.lease.id));
        }
    }

    /// The job has ended without this attempt, by a cancel: nothing more is written for it.
    pub fn let_go(&mut self) {
        self.runner.clean_up(&self.record);
    }
}

impl Runner {
    /// Tidies what the attempt of a job left that ended without it.
    pub fn clean_up(&self, record: &Record) {
        if let Err(error) = self.settle(record, false, None) {
            log::warn(&format!("job {}: {error}", record.id));
        }
        if let Err(error) = self.store.release(&record.id) {
            log::warn(&format!("job {}: {error}", record.id));
        }
    }

    /// Removes the worktree unless work would be lost. True: it is gone.
    fn settle(&self, record: &Record, is_clean: bool, stop: Option<&Stop>) -> Result<bool, cache::Error> {
        let Some(url) = self.url_of(record) else { return Ok(true) };
        let worktree = Worktree { spaces: &self.spaces, url: &url, id: &record.id, branch: record.branch.clone() };
        if record.kept_because.is_some() {
            return Ok(false);
        }
        if worktree.is_there()
            && !record.pushed
            && !is_clean
            && let Some(base) = &record.base_commit
            && worktree.inspect(base)?.has_work()
        {
            return Ok(false);
        }
        worktree.remove(stop)?;
        Ok(true)
    }

    /// Removes the worktree and whatever is in it.
    fn discard(&self, record: &Record) {
        if let Some(url) = self.url_of(record) {
            let worktree = Worktree { spaces: &self.spaces, url: &url, id: &record.id, branch: None };
            if let Err(error) = worktree.remove(None) {
                log::warn(&format!("job {}: {error}", record.id));
            }
        }
    }

    /// What an earlier server that died left among the things that live no longer than a server.
    pub fn clear_runtime(&self) {
        if let Err(error) = remove::tree(&self.config.runtime_dir) {
            log::warn(&format!("cannot remove {}: {error}", self.config.runtime_dir.display()));
        }
    }

    /// A job whose time to live is over leaves with all that belongs to it.
    pub fn forget(&self, record: &Record) {
        self.discard(record);
        let directory = self.config.job_dirs_root.join(record.id.as_str());
        if let Err(error) = remove::tree(&directory) {
            log::warn(&format!("cannot remove {}: {error}", directory.display()));
        }
        if let Err(error) = self.store.remove(&record.id) {
            log::warn(&format!("job {}: {error}", record.id));
        }
    }

    fn url_of(&self, record: &Record) -> Option<url::RepoUrl> {
        // It was accepted once: a policy that became stricter since must not keep files for ever.
        let policy = url::Policy { allow_local: true, allow_http: true };
        url::judge(record.repo_url.as_deref()?, policy).ok()
    }
}
