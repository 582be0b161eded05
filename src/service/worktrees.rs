//! Prepared worktrees: made before they are needed, listed with the pod that has them, worked in by jobs that name
//! them, and removed.

use super::submit::{SentKey, judge};
use super::{Caller, Refusal, Service};
use crate::api::{
    CleanupAnswer, CleanupRequest, Job, JobRequest, KeptWorktree, Worktree, WorktreeRequest, WorktreeStatus,
};
use crate::job::{JobId, Note, Purpose, Record, Removal, Spec, Status, Time};
use crate::log;
use crate::pipeline::prepared::MOST;
use crate::store::{Seen, Which};
use crate::workspace::lock::Guard;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the remote is asked before a worktree is prepared.
const REMOTE_LIMIT: Duration = Duration::from_secs(30);
/// How long the pod that has a worktree gets to remove it.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// The task of a job that makes one, for those who read lists.
const TASK: &str = "prepare a worktree";

impl Service {
    /// Takes in a job that makes a worktree, after the remote was asked.
    pub fn prepare_worktree(
        &self,
        request: WorktreeRequest,
        key: Option<SentKey>,
        by: &Caller,
    ) -> Result<Job, Refusal> {
        let wanted = serde_json::to_string(&request).unwrap_or_default();
        let key = key.map(|key| key.judge_for(&format!("worktree {wanted}"))).transpose()?;
        let job = JobRequest {
            task: TASK.into(),
            repo_url: Some(request.repo_url.clone()),
            base_ref: request.base_ref.clone(),
            wait: true,
            ..JobRequest::default()
        };
        if let Some(earlier) = self.earlier(key.as_ref())? {
            return Ok(self.shown(&earlier));
        }
        let spec = Spec { purpose: Purpose::Worktree, ..judge(job, &self.runner)? };
        self.ask_remote(&request)?;
        let record = self.accept(spec, key.as_ref(), by)?;
        Ok(self.shown(&record))
    }

    fn ask_remote(&self, request: &WorktreeRequest) -> Result<(), Refusal> {
        let invalid = |why: String| Refusal::invalid("repo_url", why);
        let url = self.runner.judge_url(&request.repo_url).map_err(invalid)?;
        self.runner.judge_addresses(&url).map_err(invalid)?;
        let login = self.runner.github.login(&url).map_err(|error| invalid(error.to_string()))?;
        let asked = self.runner.spaces.ask_remote(&url, request.base_ref.as_deref(), login, REMOTE_LIMIT);
        asked.map_err(|error| invalid(error.to_string()))
    }

    /// The worktree of this id, or the only job whose id begins so.
    pub fn find_worktree(&self, id: &str) -> Result<Worktree, Refusal> {
        self.worktree_of(&self.find_worktree_record(id)?)
    }

    fn worktree_of(&self, record: &Record) -> Result<Worktree, Refusal> {
        let (job_in, is_gone) = match record.is_prepared_worktree() {
            true => (self.runner.job_in(record), self.runner.is_of_the_gone(record)),
            false => (None, false),
        };
        let is_other = || Refusal::NotFound(format!("{} is a job, and no worktree", record.id));
        let mut shown = Worktree::of(&self.shown(record), job_in, is_gone).ok_or_else(is_other)?;
        let is_missing = record.is_prepared_worktree()
            && self.runner.has_prepared(record)
            && record.worktree_path.as_deref().is_some_and(|path| !Path::new(path).is_dir());
        if record.is_being_removed() {
            shown.status = WorktreeStatus::Removing;
        }
        if is_missing {
            (shown.status, shown.error) = (WorktreeStatus::Failed, Some("its directory is gone".into()));
        }
        Ok(shown)
    }

    fn find_worktree_record(&self, id: &str) -> Result<Record, Refusal> {
        let found = self.find_record(id).map_err(|refusal| match refusal {
            Refusal::Unknown(id) => Refusal::NotFound(format!("no such worktree: {id}")),
            other => other,
        })?;
        let is_other = || Refusal::NotFound(format!("{} is a job, and no worktree", found.it.id));
        // One whose making was cancelled was removed, as far as anybody outside is concerned.
        if found.it.purpose == Purpose::Worktree && found.it.status() == Status::Cancelled {
            return Err(Refusal::NotFound(format!("no such worktree: {}", found.it.id)));
        }
        Some(found.it.clone()).filter(|record| record.purpose == Purpose::Worktree).ok_or_else(is_other)
    }

    /// Those that are there, or are being made; newest first.
    pub fn list_worktrees(&self) -> Result<Vec<Worktree>, Refusal> {
        let found = self.runner.store.list(MOST, Which::For(Purpose::Worktree))?.it;
        let there = found.iter().filter(|record| !record.status().has_ended() || record.is_prepared_worktree());
        there.map(|record| self.worktree_of(record)).collect()
    }

    /// Removes one, wherever it is. Not while a job works in it; and one that holds work which is nowhere else only if
    /// `discards`.
    pub fn remove_worktree(&self, id: &str, discards: bool, by: &Caller) -> Result<Worktree, Refusal> {
        let record = self.find_worktree_record(id)?;
        let mut shown = self.worktree_of(&record)?;
        match record.status() {
            Status::Queued | Status::Running => {
                drop(self.cancel(record.id.as_str(), by)?);
            }
            Status::Succeeded => {
                let until = Instant::now() + REMOVAL_LIMIT;
                let asked = self.ask_to_remove(&record, discards);
                asked
                    .and_then(|()| self.wait_for_removal(&record, until))
                    .map_err(|why| Refusal::Conflict(format!("worktree {} stays: {why}", record.id)))?;
            }
            _ => self.runner.forget(&record),
        }
        // As it was, but for where: it is nowhere any more.
        shown.path = None;
        Ok(shown)
    }

    /// Removes it, or asks the pod that has it to.
    fn ask_to_remove(&self, record: &Record, discards: bool) -> Result<(), String> {
        let runner = &self.runner;
        if runner.has_prepared(record) || runner.is_of_the_gone(record) {
            return runner.remove_prepared(record, discards);
        }
        // No need to ask its pod.
        if let Some(job) = runner.job_in(record) {
            return Err(format!("job {job} works in it, or is to: wait for that one, or cancel it first"));
        }
        let wish = Removal { asked_at: Time::now(), discards, begun: false, refused: None };
        runner.store.note(&record.id, Note::Removal(wish)).map_err(|error| error.to_string())
    }

    fn wait_for_removal(&self, record: &Record, until: Instant) -> Result<(), String> {
        loop {
            match self.runner.store.get(&record.id) {
                Ok(Seen { it: None, .. }) => return Ok(()),
                Ok(Seen { it: Some(now), .. }) => {
                    let is_begun = now.is_being_removed();
                    if let Some(why) = now.removal.and_then(|removal| removal.refused) {
                        return Err(why);
                    }
                    if is_begun && Instant::now() >= until {
                        return Err("its removal takes long, and goes on".into());
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
            if Instant::now() >= until {
                let pod = record.worktree_on.as_deref().unwrap_or("this server");
                return Err(format!("{pod}, which has it, was asked and has not answered: nothing was removed"));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Removes what a request names, or else all that nobody has used for long enough.
    pub fn clean_up_worktrees(&self, request: &CleanupRequest) -> Result<CleanupAnswer, Refusal> {
        let found = self.runner.store.list(MOST, Which::For(Purpose::Worktree))?.it;
        let found: Vec<&Record> = found.iter().filter(|record| record.is_prepared_worktree()).collect();
        let names = |record: &Record, name: &str| {
            record.id.as_str() == name || record.worktree_path.as_deref() == Some(name.trim_end_matches('/'))
        };
        if let Some(unknown) = request.paths.iter().find(|path| !found.iter().any(|record| names(record, path))) {
            let why = format!("`paths`: {unknown} is no prepared worktree; give ids or paths of those that are listed");
            return Err(Refusal::invalid("paths", why));
        }
        let age = match (&request.max_age, request.paths.is_empty()) {
            (Some(age), _) => *age,
            (None, true) => self.runner.config.repos.worktree_max_age,
            (None, false) => Duration::ZERO,
        };
        let is_old = |record: &Record| self.runner.unused_since(record) + age.as_millis() as i64 <= Time::now().0;
        let is_named = |record: &Record| request.paths.is_empty() || request.paths.iter().any(|p| names(record, p));
        let chosen: Vec<&Record> = found.into_iter().filter(|record| is_named(record) && is_old(record)).collect();
        let mut answer = CleanupAnswer { success: true, count: 0, removed: Vec::new(), kept: Vec::new() };
        let asked: Vec<_> = chosen.iter().map(|record| (record, self.ask_to_remove(record, false))).collect();
        let until = Instant::now() + REMOVAL_LIMIT;
        for (record, asked) in asked {
            match asked.and_then(|()| self.wait_for_removal(record, until)) {
                Ok(()) => answer.removed.extend(Worktree::of(&self.shown(record), None, false)),
                Err(why) => {
                    answer.kept.push(KeptWorktree { id: record.id.clone(), path: record.worktree_path.clone(), why })
                }
            }
        }
        answer.count = answer.removed.len();
        Ok(answer)
    }

    /// While it is held, nobody else submits a job for this worktree, on any pod. None: there is no such worktree, or
    /// none is named.
    pub(super) fn alone_with(&self, worktree: Option<&str>) -> Result<Option<Guard>, Refusal> {
        let Some(Ok(record)) = worktree.map(|id| self.find_worktree_record(id)) else { return Ok(None) };
        let directory = self.runner.config.job_dirs_root.join(record.id.as_str());
        self.runner.spaces.lock_directory(&directory).map(Some).map_err(Refusal::Unavailable)
    }

    /// A job that names a worktree works on its repository, on the pod that has it.
    pub(super) fn judge_in_worktree(&self, request: JobRequest, id: &str) -> Result<Spec, Refusal> {
        let invalid = |why: String| Refusal::invalid("worktree_id", why);
        let record = self.find_worktree_record(id).map_err(|refusal| match refusal {
            Refusal::NotFound(why) => invalid(format!(
                "`worktree_id`: {why}; give the id of a prepared worktree, or none for a fresh checkout"
            )),
            other => other,
        })?;
        let shown = self.worktree_of(&record)?;
        let pod = shown.pod.as_deref().unwrap_or("this server");
        match shown.status {
            WorktreeStatus::Ready => {}
            WorktreeStatus::InUse => {
                let job = shown.job_id.map(|id| id.to_string()).unwrap_or_default();
                let why =
                    format!("worktree {} is in use by job {job}: wait for that one, or prepare another", shown.id);
                return Err(Refusal::Conflict(why));
            }
            WorktreeStatus::PodGone => {
                let why = format!("the pod {pod}, which has worktree {}, is gone: prepare another one", shown.id);
                return Err(Refusal::Conflict(why));
            }
            WorktreeStatus::Removing => {
                return Err(Refusal::Conflict(format!("worktree {} is being removed: prepare another one", shown.id)));
            }
            WorktreeStatus::Preparing => {
                return Err(Refusal::Conflict(format!("worktree {} is not made yet: wait for it", shown.id)));
            }
            WorktreeStatus::Failed => {
                let why = shown.error.as_deref().unwrap_or("it could not be made");
                let why = format!("worktree {} cannot be used: {why}; prepare another one", shown.id);
                return Err(Refusal::Conflict(why));
            }
        }
        let differs = |asked: &Option<String>, is: &Option<String>| asked.is_some() && asked != is;
        if differs(&request.repo_url, &record.repo_url) {
            let is = record.repo_url.as_deref().unwrap_or_default();
            let why = format!("worktree {} is one of {is}: leave `repo_url` out, or give that one", record.id);
            return Err(Refusal::invalid("repo_url", why));
        }
        if differs(&request.base_ref, &record.base_ref) {
            let is = record.base_ref.as_deref().unwrap_or_default();
            let why = format!("worktree {} began at {is}: leave `base_ref` out, or give that one", record.id);
            return Err(Refusal::invalid("base_ref", why));
        }
        let request = JobRequest { repo_url: record.repo_url.clone(), base_ref: record.base_ref.clone(), ..request };
        Ok(Spec {
            worktree_id: Some(record.id.clone()),
            runs_on: record.worktree_on.clone(),
            ..judge(request, &self.runner)?
        })
    }

    /// Whoever else names the worktree is refused until this job has ended.
    pub(super) fn note_used(&self, worktree: &JobId, job: &JobId) {
        if let Err(error) = self.runner.store.note(worktree, Note::UsedBy(job.clone())) {
            log::job(job).warn(format!("the worktree {worktree} does not say that it is to work in it: {error}"));
        }
    }
}
