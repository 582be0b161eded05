//! After the agent: what it left becomes a commit, and the record says what of it does not, and why.

use super::publish::title;
use super::retry::Failure;
use super::{Execution, Halt};
use crate::event::{Draft, Kind};
use crate::job::Mark;
use crate::log;
use crate::store::crash;
use crate::workspace::cache;
use crate::workspace::commit_push::Made;
use crate::workspace::inspect::Inspection;
use crate::workspace::new_objects::NewFile;
use crate::workspace::worktree::Worktree;

impl Execution<'_> {
    /// Commits what the agent did. Where there is nothing to commit, or it cannot be, the record says so.
    pub fn commit(&mut self) -> Result<(), Halt> {
        let (url, _) = self.published()?;
        let id = self.record.worktree_name().clone();
        let worktree = Worktree::of(&self.runner.spaces, &url, &id, Some(id.branch()));
        let base = self.record.base_commit.clone().unwrap_or_default();
        let message = format!("{}\n\nagenticore job {}\n", title(&self.record.task), self.record.id);
        let of_remote = self.tips_of_remotes(&worktree);
        let found = match worktree.inspect(&base, &of_remote) {
            Ok(found) => found,
            Err(error) => return self.not_committed(error),
        };
        let made = match found.is_publishable() {
            true => worktree.commit(&found, &base, &message, self.stop),
            false => Ok(None),
        };
        match made {
            Ok(Some(made)) => self.committed(&worktree, &base, found, made),
            Ok(None) if found.has_work() => self.nothing_to_publish(&worktree, &base, found),
            Ok(None) => {
                self.worktree_is_clean = true;
                self.note("the agent changed nothing: no branch, no pull request")
            }
            Err(error) => self.not_committed(error),
        }
    }

    fn not_committed(&mut self, error: cache::Error) -> Result<(), Halt> {
        match error {
            cache::Error::Stopped(reason) => Err(Halt::Stopped(reason)),
            error => self.unpublished(format!("the work could not be committed: {error}")),
        }
    }

    /// There is a commit: what it lacks keeps the worktree, and what is odd about it is said.
    fn committed(&mut self, worktree: &Worktree, base: &str, found: Inspection, made: Made) -> Result<(), Halt> {
        let Made { commit, new_files } = made;
        crash::point(Kind::Committed, "before-record");
        let conflicts = worktree.conflicts(base, &commit);
        let caution = joined([found.unfinished.clone(), conflicts.as_ref().ok().cloned().flatten()]);
        let profile = self.runner.profiles.find(&self.record.profile);
        if let Some(why) = &caution
            && profile.is_ok_and(|profile| !profile.publish_conflicts)
        {
            let told = format!("{why}: the profile does not publish that (publish_conflicts), and it stays");
            return self.unpublished(told);
        }
        if let Err(why) = self.upload_lfs(worktree, base, &new_files)? {
            return self.unpublished(why);
        }
        let hidden = joined([found.hidden.clone(), found.staged.lost(&new_files)]);
        let hidden =
            joined([hidden, worktree.links_left(&found.staged, &commit).unwrap_or_else(|e| Some(e.to_string()))]);
        let left = hidden.map_or_else(|| worktree.remainder(base, &commit), |why| Ok(Some(why)));
        let reason = |why: Result<Option<String>, cache::Error>| {
            why.unwrap_or_else(|error| Some(format!("it could not be looked into again: {error}")))
        };
        if let Some(why) = joined([reason(conflicts), reason(left)]) {
            self.keep(why)?;
        }
        if let Some(what) = caution {
            self.mark(Mark::Caution(what), None)?;
        }
        let event = Draft::new(Kind::Committed, commit.as_str());
        self.mark(Mark::Committed(commit.clone()), Some(event))?;
        self.note_diff(worktree, base, &commit);
        if let Err(error) = worktree.show(&commit, &found) {
            log::job(&self.record.id).warn(format!("its worktree does not show the commit: {error}"));
        }
        Ok(())
    }

    fn nothing_to_publish(&mut self, worktree: &Worktree, base: &str, found: Inspection) -> Result<(), Halt> {
        let links = worktree.links_left(&found.staged, &found.head).unwrap_or_else(|error| Some(error.to_string()));
        let why = match joined([joined([found.hidden, links]), found.staged.lost(&[])]) {
            Some(why) => Some(why),
            None => worktree.remainder(base, &found.head).unwrap_or_else(|error| Some(error.to_string())),
        };
        self.keep(why.unwrap_or_else(|| "what the agent left cannot be committed".into()))?;
        self.note("what the agent left cannot be published: no branch, no pull request")
    }

    /// What the remotes have by now, of those that the agent fetched something from.
    fn tips_of_remotes(&self, worktree: &Worktree) -> Vec<String> {
        let mut tips = Vec::new();
        if worktree.has_fetched()
            && let Ok(login) = self.runner.github.login(worktree.url)
        {
            tips = worktree.tips_of_remote(login, self.stop);
            // What the agent made is its work, also if it has pushed it already.
            tips.retain(|tip| !worktree.agent_made(tip));
        }
        for submodule in worktree.submodules() {
            if let Some(url) = submodule.url() {
                tips.extend(self.tips_of_remotes(&worktree.submodule(&submodule, &url)));
            }
        }
        tips
    }

    /// Before the record names the commit: whoever pushes it may have the contents of its files no more.
    fn upload_lfs(&self, worktree: &Worktree, base: &str, new: &[NewFile]) -> Result<Result<(), String>, Halt> {
        let pointers = match worktree.lfs_to_upload(new) {
            Ok(pointers) if pointers.is_empty() => return Ok(Ok(())),
            Ok(pointers) => pointers,
            Err(error) => return Ok(Err(format!("the commit could not be looked through for Git LFS files: {error}"))),
        };
        self.try_again("uploading Git LFS files", || {
            self.prove()?;
            let login = self.runner.github.login(worktree.url)?;
            worktree.upload_lfs(&pointers, base, login, self.stop).map_err(Failure::from)
        })
    }

    fn keep(&mut self, why: String) -> Result<(), Halt> {
        let told = format!("the worktree stays: {why}");
        self.mark(Mark::Keep(why), Some(Draft::new(Kind::PublishNotice, told)))
    }
}

/// Those that there are, as one sentence.
pub(super) fn joined(reasons: [Option<String>; 2]) -> Option<String> {
    let said: Vec<String> = reasons.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}
