//! What is removed after an attempt, and what stays because removing it would lose work.

use super::{Execution, Halt, Runner, plan};
use crate::job::{JobId, Mark, Note, Purpose, Record};
use crate::log;
use crate::process::stop::Stop;
use crate::store::{self, Back, Seen};
use crate::workspace::cache;
use crate::workspace::remove;
use crate::workspace::url;
use crate::workspace::worktree::Worktree;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// How often it is looked into a worktree that was kept for the work in it.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// What lies in a directory; nothing, if that cannot be said.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(directory).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

impl Execution<'_> {
    /// Removes the worktree when its work is pushed or there is none; else it stays, and the record
    /// says where.
    pub fn tidy_worktree(&mut self) -> Result<(), Halt> {
        if let Some(id) = self.record.worktree_id.clone() {
            return self.leave_prepared(&id);
        }
        self.looked.tidied = true;
        let Some(path) = self.record.worktree_path.clone() else {
            // It may have been begun and not finished: no agent was ever in it.
            if self.record.verdict.is_none() {
                self.runner.discard(&self.record, Some(self.stop));
            }
            return Ok(());
        };
        let was_there = self.runner.has_worktree(&self.record);
        match self.runner.settle(&self.record, self.worktree_is_clean, Some(self.stop)) {
            Ok(true) => {
                if was_there || self.record.pushed {
                    self.runner.drop_kept(&self.record.id);
                }
                self.mark(Mark::WorktreeRemoved, None)
            }
            Err(cache::Error::Stopped(reason)) => Err(Halt::Stopped(reason)),
            Ok(false) => {
                let _ = self.runner.save_work(&self.record, self.stop);
                self.say_where_work_stays(&path)
            }
            Err(error) => {
                log::job(&self.record.id).warn(format!("{error}; it stays at {path}"));
                Ok(())
            }
        }
    }

    /// In a note, where nothing else says why the worktree is there.
    fn say_where_work_stays(&mut self, path: &str) -> Result<(), Halt> {
        if self.record.note.is_some() || self.record.error.is_some() || self.looked.publishes {
            return Ok(());
        }
        let text = match self.record.purpose {
            Purpose::Plan => plan::has_changes(path),
            _ => format!("its profile publishes nothing: the work is in {path}"),
        };
        self.mark(Mark::Note(text), None)
    }

    /// The job goes back to the queue. Its files go, unless the agent's work waits in them.
    pub fn hand_back(&mut self, back: Back) {
        let lost = self.discard_work();
        let back = back.with(lost);
        let why = back.why().to_owned();
        match self.attempt.hand_back(back) {
            Ok(()) => {
                crate::metrics::event("handed_back");
                log::step(&self.record, log::Level::Info, "handed back", &why, None);
            }
            // It was cancelled, or taken over, meanwhile.
            Err(store::Error::Lost) => self.clean_up_lost(),
            // The record names us for what we do not run: it is given back when the store can be asked.
            Err(error) => log::job(&self.record.id).warn(format!("it could not be handed back yet: {error}")),
        }
    }

    /// Removes the files of an agent that was not judged yet, once they are saved. Returns what is lost all the same.
    pub fn discard_work(&mut self) -> Option<String> {
        // It may be another pod's by now, also when it was to be handed back first and this pod slept since:
        // then nothing that is shared is touched, and the next round tidies this disk.
        let is_ours = !self.stop.is_lost() && self.attempt.prove().is_ok();
        if !is_ours {
            return None;
        }
        // What an earlier attempt left, and this one did not come to: it stays as it is.
        if !self.is_in_place && self.runner.is_marked(&self.record) {
            return None;
        }
        let mut lost = None;
        let has_worked = self.record.pid.is_some() || self.record.verdict.is_some();
        if has_worked || self.is_in_place {
            // Its disk may go with this server. What ends the attempt does not end this.
            lost = match self.record.repo_url {
                Some(_) => self.runner.save_work(&self.record, &Stop::default()),
                None => self.runner.save_conversation(&self.record),
            };
        }
        if self.record.verdict.is_some() {
            return lost;
        }
        match &lost {
            None => {
                self.runner.unmark(&self.record);
                self.runner.discard(&self.record, Some(self.stop));
                if self.record.worktree_path.is_some() && !self.runner.has_worktree(&self.record) {
                    // What is read of the job until another attempt begins.
                    if self.attempt.mark(Mark::WorktreeRemoved, None).is_err() {
                        self.runner.remember_removed(&self.record.id);
                    }
                }
            }
            // What is nowhere else stays where it is.
            Some(why) => {
                if let Some(stays) = self.runner.leave_unsaved(&self.record) {
                    return Some(format!("{why}; the worktree stays: {stays}"));
                }
            }
        }
        lost
    }

    /// The job is not ours any more: it has ended without this attempt, or is another pod's.
    pub fn clean_up_lost(&mut self) {
        if let Some(id) = self.record.worktree_id.clone().filter(|_| self.record.pushed) {
            // The next job in it must not publish the same again.
            let _ = self.leave_prepared(&id);
        }
        let now = self.runner.store.get(&self.record.id).ok().and_then(|seen| seen.it);
        if let Some(record) = now.filter(|record| record.status().has_ended() && self.runner.is_on_our_disk(record)) {
            self.runner.clean_up(&record);
        }
        if let Err(error) = self.attempt.release() {
            log::job(&self.record.id).warn(&error);
        }
    }
}

impl Runner {
    /// Tidies what the attempt of a job left that ended without it.
    pub fn clean_up(&self, record: &Record) {
        let was_there = self.has_worktree(record);
        match self.settle(record, false, None) {
            Ok(true) => {
                if was_there || record.pushed {
                    self.drop_kept(&record.id);
                }
                self.note_removed(record);
            }
            Ok(false) if self.is_on_our_disk(record) => drop(self.save_work(record, &Stop::default())),
            Ok(false) => {}
            Err(error) => log::job(&record.id).warn(&error),
        }
        if let Err(error) = self.store.release(record) {
            log::job(&record.id).warn(&error);
        }
    }

    /// The record of a job that was cancelled names no worktree that is gone.
    fn note_removed(&self, record: &Record) {
        let names_it = record.worktree_path.is_some() && record.worktree_id.is_none() && self.is_on_our_disk(record);
        if names_it && let Err(error) = self.store.note(&record.id, Note::WorktreeRemoved) {
            log::job(&record.id).warn(format!("its record names a worktree that is gone: {error}"));
        }
    }

    fn has_worktree(&self, record: &Record) -> bool {
        let url = self.url_of(record);
        url.is_some_and(|url| Worktree::of(&self.spaces, &url, &record.id, None).path().is_dir())
    }

    fn is_on_our_disk(&self, record: &Record) -> bool {
        record.worktree_on.is_none() || record.worktree_on == self.pod
    }

    /// In a fleet: removes the worktrees of jobs that this pod no longer has. What is shared is left to
    /// whoever has the job. `runs`: here, just now.
    pub fn sweep_worktrees(&self, runs: impl Fn(&JobId) -> bool) {
        if self.pod.is_none() {
            return;
        }
        self.say_removed();
        let kept = self.kept_worktrees.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in self.spaces.own_worktrees().into_iter().filter(|id| !runs(id)) {
            let is_kept = kept.get(&id).is_some_and(|looked| looked.elapsed() < LOOK_AGAIN);
            if is_kept {
                continue;
            }
            match self.store.get(&id) {
                Ok(Seen { stale: true, .. }) | Err(_) => return,
                Ok(Seen { it: Some(record), .. }) => self.tidy_left(&record),
                Ok(Seen { it: None, .. }) => {
                    if let Err(error) = self.spaces.remove_unsaved(&id) {
                        log::job(&id).warn(&error);
                    }
                    self.remove_own_worktree(&id);
                }
            }
        }
    }

    /// A worktree on this disk of a job that does not run here.
    fn tidy_left(&self, record: &Record) {
        let is_its = record.worktree_on == self.pod;
        if self.spaces.has_unsaved(&record.id) && (!is_its || !record.status().has_ended()) {
            self.note_kept(&record.id);
        } else if record.status().has_ended() {
            if !is_its || record.worktree_path.is_none() {
                self.remove_own_worktree(&record.id);
            } else if record.kept_because.is_some() {
                self.note_kept(&record.id);
            } else {
                match self.settle(record, false, None) {
                    Ok(true) => {
                        self.remove_own_worktree(&record.id);
                        self.note_removed(record);
                    }
                    // It holds work, or cannot be looked into now: it stays as long as the record, and its work is
                    // saved, because this disk may go with its pod.
                    Ok(false) => {
                        let _ = self.save_work(record, &Stop::default());
                        self.note_kept(&record.id);
                    }
                    Err(error) => log::job(&record.id).warn(&error),
                }
            }
        } else if !is_its || record.verdict.is_none() {
            // Another attempt makes its own; the work of one whose agent had ended waits here for it.
            self.remove_own_worktree(&record.id);
            if is_its {
                self.remember_removed(&record.id);
            }
        }
    }

    /// A worktree on this disk is gone, and the record of its job, which lives, still names it. If the job ends before
    /// another attempt has made its own, that is to be said.
    fn remember_removed(&self, id: &JobId) {
        self.removed_unsaid.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    fn say_removed(&self) {
        let all = self.removed_unsaid.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for id in all {
            let Ok(Seen { it, stale: false }) = self.store.get(&id) else { return };
            if let Some(record) = it.filter(|record| self.is_on_our_disk(record)) {
                if !record.status().has_ended() {
                    continue;
                }
                if !self.has_worktree(&record) {
                    self.note_removed(&record);
                }
            }
            self.removed_unsaid.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }

    fn note_kept(&self, id: &JobId) {
        let mut kept = self.kept_worktrees.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, looked| looked.elapsed() < LOOK_AGAIN);
        kept.insert(id.clone(), Instant::now());
    }

    fn remove_own_worktree(&self, id: &JobId) {
        if let Err(error) = self.spaces.remove_own_worktree(id) {
            log::job(id).warn(format!("cannot remove its worktree from this disk: {error}"));
        }
    }

    /// Removes the worktree unless work would be lost. True: it is gone.
    fn settle(&self, record: &Record, is_clean: bool, stop: Option<&Stop>) -> Result<bool, cache::Error> {
        let Some(url) = self.url_of(record) else { return Ok(true) };
        let worktree = Worktree::of(&self.spaces, &url, &record.id, record.branch.clone());
        if record.kept_because.is_some() {
            return Ok(false);
        }
        if !self.is_on_our_disk(record) && !record.pushed {
            // Its files are another pod's, and so is what they hold.
            return Ok(false);
        }
        if worktree.is_there()
            && !record.pushed
            && !is_clean
            && let Some(base) = &record.base_commit
            && worktree.inspect(base, &[])?.has_work()
        {
            return Ok(false);
        }
        worktree.remove(stop)?;
        Ok(true)
    }

    /// Removes the worktree and whatever is in it. `lease`: only while that holds.
    fn discard(&self, record: &Record, lease: Option<&Stop>) {
        if let Some(url) = self.url_of(record) {
            let worktree = Worktree::of(&self.spaces, &url, &record.id, None);
            if let Err(error) = worktree.discard(lease) {
                log::job(&record.id).warn(&error);
            }
        }
    }

    fn is_marked(&self, record: &Record) -> bool {
        self.url_of(record).is_some_and(|url| Worktree::of(&self.spaces, &url, &record.id, None).is_marked())
    }

    fn unmark(&self, record: &Record) {
        if let Some(url) = self.url_of(record) {
            Worktree::of(&self.spaces, &url, &record.id, None).unmark();
        }
    }

    /// The work in it is nowhere else, and could not be saved whole: its worktree stays. Returns where it is.
    fn leave_unsaved(&self, record: &Record) -> Option<String> {
        let url = self.url_of(record)?;
        let worktree = Worktree::of(&self.spaces, &url, &record.id, None);
        if !worktree.is_there() {
            return None;
        }
        if let Err(error) = worktree.note_unsaved() {
            // Whoever finds it without the mark takes it for one of an attempt that was cut off.
            log::job(&record.id).warn(format!("its worktree cannot be marked: {error}"));
        }
        Some(worktree.path().display().to_string())
    }

    /// Removes what an earlier server that died left among the things that live no longer than a server. The directory
    /// itself stays: it is this user's already, and whoever looks at its disk just now finds it.
    pub fn clear_runtime(&self) {
        for left in &self.left_in_runtime {
            if let Err(error) = remove::tree(left) {
                log::warn(&format!("cannot remove {}: {error}", left.display()));
            }
        }
        self.spaces.finish_removals();
    }

    /// The last call: nothing of this server lives any more.
    pub fn remove_runtime(&self) {
        if let Err(error) = remove::tree(&self.config.runtime_dir) {
            log::warn(&format!("cannot remove {}: {error}", self.config.runtime_dir.display()));
        }
        self.spaces.finish_removals();
    }

    /// A job whose time to live is over leaves with all that belongs to it.
    pub fn forget(&self, record: &Record) {
        if let Some(url) = self.url_of(record) {
            let worktree = Worktree::of(&self.spaces, &url, &record.id, None);
            if let Err(error) = worktree.forget() {
                log::job(&record.id).warn(&error);
            }
        }
        self.forget_kept(&record.id);
        self.forget_diff(&record.id);
        let directory = self.config.job_dirs_root.join(record.id.as_str());
        if let Err(error) = remove::tree(&directory) {
            log::warn(&format!("cannot remove {}: {error}", directory.display()));
        }
        if let Err(error) = self.store.remove(&record.id) {
            log::job(&record.id).warn(&error);
        }
    }

    pub(super) fn url_of(&self, record: &Record) -> Option<url::RepoUrl> {
        // It was accepted once: a policy that became stricter since must not keep files for ever.
        let policy = url::Policy { allow_local: true, allow_http: true };
        url::judge(record.repo_url.as_deref()?, policy).ok()
    }
}
