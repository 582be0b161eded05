//! Prepared worktrees: made by a job without an agent, worked in by later jobs, removed by the pod that has them.
//!
//! One job at a time works in one. Nothing removes one that a job works in, or, unless it is told to, one that holds
//! work which is nowhere else.

use super::{Execution, Halt, Runner, tidy};
use crate::event::Kind;
use crate::job::{JobId, Mark, Note, Purpose, Record, Removal, Spent, Time, Verdict};
use crate::log;
use crate::store::{Seen, Which};
use crate::workspace::cache;
use crate::workspace::remove;
use crate::workspace::url::RepoUrl;
use crate::workspace::worktree::Worktree;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long a pod heeds that it was asked to remove a worktree. Less than whoever asks waits for it.
const HONOURED: Duration = Duration::from_secs(15);
/// How soon a job looks again whether the worktree is free.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The most prepared worktrees that are looked after.
pub const MOST: usize = 10_000;

/// The prepared worktrees of this server that somebody works in, or removes.
#[derive(Clone, Default)]
pub struct InUse(Arc<Mutex<HashSet<JobId>>>);

/// While it is held, nobody else works in the worktree, and nobody removes it.
pub struct WorktreeLease {
    all: InUse,
    id: JobId,
}

impl InUse {
    /// None: somebody has it.
    fn take(&self, id: &JobId) -> Option<WorktreeLease> {
        let is_free = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        is_free.then(|| WorktreeLease { all: self.clone(), id: id.clone() })
    }
}

impl Drop for WorktreeLease {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Execution<'_> {
    /// Makes the worktree that this job is there for.
    pub fn make_prepared(&mut self) -> Result<(), Halt> {
        let missing = || Halt::Failed("the job's record names no repository to make a worktree of".into());
        let url = self.url()?.ok_or_else(missing)?;
        let profile = self.runner.profiles.find(&self.record.profile);
        self.make_worktree(&url, true, profile.map(|profile| profile.submodules).unwrap_or_default())?;
        self.looked.for_work = true;
        self.mark(Mark::Keep("it is prepared for later jobs".into()), None)?;
        let verdict = Verdict { succeeded: true, exit_code: None, output: None, error: None };
        self.mark(Mark::AgentEnded { verdict, spent: Spent::default() }, None)
    }

    /// Goes into the worktree that the job names, once nobody else works in it.
    pub fn enter_prepared(&mut self, url: &RepoUrl, id: &JobId, with_branch: bool) -> Result<PathBuf, Halt> {
        let runner = self.runner;
        let mut has_said = false;
        self.lease = Some(loop {
            if let Some(lease) = runner.in_use.take(id) {
                break lease;
            }
            if !std::mem::replace(&mut has_said, true) {
                self.say(Kind::Cloning, format!("waits for the worktree {id}, which somebody else has"))?;
            }
            if let Some(reason) = self.stop.pause(LOOK_AGAIN) {
                return Err(Halt::Stopped(reason));
            }
        });
        let gone = || Halt::Failed(format!("the prepared worktree {id} is gone: prepare another one"));
        let made = self.persistently(|_| runner.store.get(id))?.it.filter(Record::is_prepared_worktree);
        let made = made.filter(|made| made.worktree_on == runner.pod && !made.is_being_removed()).ok_or_else(gone)?;
        let worktree = Worktree::of(&runner.spaces, url, id, None);
        if !worktree.path().is_dir() || runner.spaces.git_dir_of(url).is_none() {
            return Err(gone());
        }
        let base_commit = begin_of(&made).ok_or_else(gone)?;
        let cannot = |error| Halt::Failed(format!("the worktree {id} cannot be locked: {error}"));
        runner.spaces.hold(id).map_err(cannot)?;
        let mark = Mark::Worktree {
            path: worktree.path().display().to_string(),
            on: runner.pod.clone(),
            branch: with_branch.then(|| self.record.id.branch()),
            base_ref: made.base_ref.unwrap_or_default(),
            base_commit,
            pr_base: made.pr_base.unwrap_or_default(),
        };
        self.mark(mark, None)?;
        Ok(worktree.path())
    }

    /// Leaves a prepared worktree as it is. What was published from it is no work that could get lost any more.
    pub fn leave_prepared(&mut self, id: &JobId) -> Result<(), Halt> {
        self.looked.tidied = true;
        // What stays because it is not published is work, and so is what it hangs on.
        let is_all_published = self.record.pushed && self.record.kept_because.is_none();
        let (Some(commit), Some(url)) = (self.record.commit.clone().filter(|_| is_all_published), self.url()?) else {
            return Ok(());
        };
        let worktree = Worktree::of(&self.runner.spaces, &url, id, None);
        if !worktree.path().is_dir() {
            return Ok(());
        }
        let noted = worktree
            .begin_at(&commit)
            .map_err(|error| error.to_string())
            .and_then(|()| self.runner.store.note(id, Note::Published(commit)).map_err(|error| error.to_string()));
        if let Err(why) = noted {
            // Then it counts as work, and the worktree stays until somebody says that it may go.
            log::warn(&format!("worktree {id}: that its work is published could not be noted: {why}"));
        }
        Ok(())
    }
}

/// The commit up to which everything in a prepared worktree is somewhere else too.
fn begin_of(made: &Record) -> Option<String> {
    made.commit.clone().or_else(|| made.base_commit.clone())
}

impl Runner {
    /// The job that works in a prepared worktree, or is to.
    pub fn job_in(&self, made: &Record) -> Option<JobId> {
        let lives = |job: &&JobId| match self.store.get(job) {
            Ok(Seen { it: Some(record), .. }) => !record.status().has_ended(),
            Ok(Seen { it: None, .. }) => false,
            // Nobody knows.
            Err(_) => true,
        };
        let noted = made.used_by.as_ref().filter(lives).cloned();
        // A server that died before it had noted that.
        noted.or_else(|| self.store.waiting_in(made).ok().flatten())
    }

    /// The pod that alone may take a job, if that is not there.
    pub fn waits_for_pod(&self, job: &Record) -> Option<String> {
        let pod = job.runs_on.as_deref()?;
        let is_gone = matches!(self.store.lives(pod), Ok(false));
        is_gone.then(|| format!("the pod {pod}, which has its worktree and is not there; without it the job ends soon"))
    }

    /// Its files are on this server's disk.
    pub fn has_prepared(&self, made: &Record) -> bool {
        made.worktree_on == self.pod
    }

    /// Removes a prepared worktree that this pod has, or whose pod is gone; the error says why it stays, and what to
    /// do. `discards`: also if work is lost with it.
    pub fn remove_prepared(&self, made: &Record, discards: bool) -> Result<(), String> {
        let id = &made.id;
        let busy = |job: Option<JobId>| match job {
            Some(job) => format!("job {job} works in it, or is to: wait for that one, or cancel it first"),
            None => "a job works in it: wait for that one, or cancel it first".into(),
        };
        let directory = self.config.job_dirs_root.join(id.as_str());
        // Nobody submits a job for it meanwhile.
        let alone = self.spaces.lock_directory(&directory)?;
        // What was read may be older than that.
        let made = self.store.get(id).map_err(|error| error.to_string())?.it;
        let Some(made) = made.filter(Record::is_prepared_worktree) else { return Ok(()) };
        if let Some(job) = self.job_in(&made) {
            return Err(busy(Some(job)));
        }
        if !self.has_prepared(&made) && !discards {
            let pod = made.worktree_on.as_deref().unwrap_or("another server");
            return Err(format!(
                "its files are on the disk of {pod}, which is not there: start that, or give the files up with DELETE \
                 /worktrees/{id}?discard=true"
            ));
        }
        let _lease = self.in_use.take(id).ok_or_else(|| busy(made.used_by.clone()))?;
        let url = self.url_of(&made).ok_or("its record names no repository")?;
        let worktree = Worktree::of(&self.spaces, &url, id, None);
        let is_checked = discards || made.is_being_removed();
        if !is_checked && let Some(why) = unsaved(&worktree, &made).map_err(|error| error.to_string())? {
            return Err(format!("{why}; let a job go on in it, or remove it with DELETE /worktrees/{id}?discard=true"));
        }
        // From here on it is no worktree any more, also if this server dies half-way.
        let begun = Removal { asked_at: Time::now(), discards: true, begun: true, refused: None };
        self.store.note(id, Note::Removal(begun)).map_err(|error| error.to_string())?;
        let going_on = |why: String| format!("{why}; its removal goes on");
        worktree.remove(None).map_err(|error| going_on(error.to_string()))?;
        self.store.remove(id).map_err(|error| going_on(error.to_string()))?;
        drop(alone);
        remove::tree(&directory).map_err(|error| format!("{}: {error}", directory.display()))
    }

    /// Removes what it was asked to remove by another pod, and what is past its age.
    pub fn tend_prepared(&self) {
        let Ok(Seen { it: made, stale: false }) = self.store.list(MOST, Which::For(Purpose::Worktree)) else {
            return;
        };
        for made in made.iter().filter(|made| made.is_prepared_worktree()) {
            if self.has_prepared(made) {
                self.heed_removal(made);
            }
            // What can be told from the record comes first.
            let may_be_aged = made.ended_at.is_some_and(|ended| self.age_is_over(ended.0));
            if may_be_aged && self.has_prepared(made) && self.age_is_over(self.unused_since(made)) {
                self.remove_aged(made);
            }
        }
    }

    /// One that stays is looked into again after a while.
    fn remove_aged(&self, made: &Record) {
        let mut kept = self.kept_prepared.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, looked| looked.elapsed() < tidy::LOOK_AGAIN);
        if kept.contains_key(&made.id) {
            return;
        }
        match self.remove_prepared(made, false) {
            Ok(()) => log::info(&format!("worktree {} was past its age, and was removed", made.id)),
            Err(_) => drop(kept.insert(made.id.clone(), Instant::now())),
        }
    }

    fn heed_removal(&self, made: &Record) {
        let Some(wish) = made.removal.as_ref().filter(|wish| wish.refused.is_none()) else { return };
        let is_late = !wish.begun && Time::now().since(wish.asked_at) > HONOURED.as_millis() as i64;
        let heeded = match is_late {
            // Whoever asked was told that it stays.
            true => Err("its pod was away when it was asked".into()),
            false => self.remove_prepared(made, wish.discards),
        };
        if let Err(why) = heeded
            && !wish.begun
        {
            let refused = Removal { refused: Some(why), ..wish.clone() };
            if let Err(error) = self.store.note(&made.id, Note::Removal(refused)) {
                log::warn(&format!("worktree {}: {error}", made.id));
            }
        }
    }

    /// That was as long ago as the settings allow. `since`: in milliseconds since 1970.
    fn age_is_over(&self, since: i64) -> bool {
        since + self.config.repos.worktree_max_age.as_millis() as i64 <= Time::now().0
    }

    /// When it was made or used last, in milliseconds since 1970.
    pub fn unused_since(&self, made: &Record) -> i64 {
        let used = made.used_by.as_ref().and_then(|job| self.store.get(job).ok()?.it);
        let used = used.and_then(|job| job.ended_at.or(Some(job.created_at)));
        made.ended_at.max(used).unwrap_or(made.created_at).0
    }

    /// Its pod does not live. Not known: it does.
    pub fn is_of_the_gone(&self, made: &Record) -> bool {
        let Some(pod) = made.worktree_on.as_deref() else { return false };
        matches!(self.store.lives(pod), Ok(false))
    }
}

/// What would be lost with a prepared worktree, in a sentence. Of one whose pod is gone the commits alone are seen.
fn unsaved(worktree: &Worktree, made: &Record) -> Result<Option<String>, cache::Error> {
    let Some(begin) = begin_of(made).filter(|_| worktree.is_there()) else { return Ok(None) };
    let found = worktree.inspect(&begin, &[])?;
    Ok(match found.hidden {
        _ if found.is_dirty => Some("it holds changes that are in no commit".into()),
        _ if found.has_commits => Some(format!("its commit {} is published nowhere", found.head)),
        None => found.staged.lost(&[]),
        hidden => hidden,
    })
}
