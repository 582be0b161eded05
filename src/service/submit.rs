//! From a request to a job that is accepted: everything that can be known to be wrong is said now.

use super::{Caller, Refusal, Service};
use crate::api::{Job, JobRequest, ResumeRequest, RetryRequest};
use crate::config::Config;
use crate::job::{JobId, Mode, Note, Purpose, Record, Spec, Status};
use crate::log;
use crate::pipeline::Runner;
use crate::profile::materialize;
use crate::store::{Key, Which};
use crate::workspace::refname;
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::Instant;

/// Who asks, and the Idempotency-Key that came with it.
pub struct SentKey<'a> {
    /// What tells one caller from another, such as an API key. It is kept as a hash alone.
    pub caller: &'a str,
    pub key: &'a str,
}

/// The most queued jobs that are looked through for those of one key.
const COUNTED_MOST: usize = 10_000;
/// When a key that has too many jobs waiting may try again, in seconds.
const TRY_AGAIN: u64 = 30;

/// The longest Idempotency-Key, in characters.
const KEY_LIMIT: usize = 255;

impl SentKey<'_> {
    /// One caller's key is nobody else's, and what is kept of it tells neither.
    /// `retry_of`: the request is that job's, again.
    fn judge(&self, request: &JobRequest, retry_of: Option<&JobId>) -> Result<Key, Refusal> {
        // Whether the answer waits is not part of what is to be done.
        let wanted = JobRequest { wait: false, ..request.clone() };
        let mut wanted = serde_json::to_string(&wanted).unwrap_or_default();
        wanted.extend(retry_of.map(JobId::as_str));
        self.judge_for(&wanted)
    }

    /// `wanted`: what is asked for, as a text that another request does not have.
    pub(super) fn judge_for(&self, wanted: &str) -> Result<Key, Refusal> {
        let key = self.key;
        if key.is_empty() || key.len() > KEY_LIMIT || key.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            let why = format!("Idempotency-Key must be 1 to {KEY_LIMIT} printable ASCII characters");
            return Err(Refusal::invalid("Idempotency-Key", why));
        }
        Ok(Key { name: hash(&[self.caller, key].join("\n")), request: hash(wanted) })
    }
}

pub(super) fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Service {
    /// Takes a job in: once this returns, it will reach an end.
    pub fn submit(&self, request: JobRequest, key: Option<SentKey>, by: &Caller) -> Result<Job, Refusal> {
        let key = key.map(|key| key.judge(&request, None)).transpose()?;
        let _alone = self.alone_with(request.worktree_id.as_deref())?;
        let record = match self.earlier(key.as_ref())? {
            Some(earlier) => earlier,
            None => self.accept(self.judge(request)?, key.as_ref(), by)?,
        };
        Ok(self.shown(&record))
    }

    /// What was submitted with this key before: whatever has become of what it names since, it is that job.
    pub(super) fn earlier(&self, key: Option<&Key>) -> Result<Option<Record>, Refusal> {
        Ok(key.map(|key| self.runner.store.submitted(key)).transpose()?.flatten())
    }

    /// Takes in what was judged. A prepared worktree that it names is its own from here on.
    pub(super) fn accept(&self, spec: Spec, key: Option<&Key>, by: &Caller) -> Result<Record, Refusal> {
        let worktree = spec.worktree_id.clone();
        let _place = self.check_limits(by)?;
        let record = self.runner.store.submit(asked_by(spec, by), key)?;
        self.tell_taken_in(&record);
        if let Some(worktree) = &worktree {
            self.note_used(worktree, &record.id);
        }
        Ok(record)
    }

    pub(super) fn tell_taken_in(&self, record: &Record) {
        // Sent again with the same key, it is the job that it was.
        if record.attempt == 0 {
            let by = record.submitted_by.as_ref().map(|name| format!(", by {name}")).unwrap_or_default();
            log::step(record, log::Level::Info, "queued", &format!("profile {}{by}", record.profile), None);
        }
    }

    /// What this key, and all of them, may have at once. Held until the job is handed in, so that two on this server do
    /// not both find the last place free; on another server somebody may.
    pub(super) fn check_limits(&self, by: &Caller) -> Result<Option<MutexGuard<'_, ()>>, Refusal> {
        let limits = &self.config().limits;
        let name = by.name.as_deref().unwrap_or_default();
        let is_counted = limits.queued > 0 || limits.queued_per_key > 0 || by.max_queued.is_some();
        let place = is_counted.then(|| self.last_place.lock().unwrap_or_else(PoisonError::into_inner));
        if limits.queued > 0 && self.runner.store.waiting()?.0 >= limits.queued {
            let why = format!("{} jobs wait already, and no more may: try again once some have begun", limits.queued);
            return Err(Refusal::Full { why, retry_after: TRY_AGAIN });
        }
        let most = by.max_queued.or(Some(limits.queued_per_key).filter(|most| *most > 0));
        if let Some(most) = most.filter(|_| by.name.is_some()) {
            let queued = self.runner.store.list(COUNTED_MOST, Which::Of(Status::Queued))?.it;
            let waiting = queued.iter().filter(|record| record.submitted_by.as_deref() == Some(name)).count();
            if waiting >= most {
                let (jobs, wait) = if waiting == 1 { ("job", "waits") } else { ("jobs", "wait") };
                let why = format!(
                    "{waiting} {jobs} of the key `{name}` {wait} already, and it may have {most}: wait for some \
                     to begin"
                );
                return Err(Refusal::Busy { why, retry_after: TRY_AGAIN });
            }
        }
        let rate = limits.submissions_per_minute;
        self.rates.take(name, rate, Instant::now()).map_err(|retry_after| {
            let who = if name.is_empty() { "all together".to_owned() } else { format!("the key `{name}`") };
            let why = format!("{who} may hand in {rate} jobs in a minute here: try again in {retry_after} s");
            Refusal::Busy { why, retry_after }
        })?;
        Ok(place)
    }

    fn judge(&self, request: JobRequest) -> Result<Spec, Refusal> {
        self.judge_webhook(request.webhook_url.as_deref())?;
        match request.worktree_id.clone() {
            Some(id) => self.judge_in_worktree(request, &id),
            None => judge(request, &self.runner),
        }
    }

    /// Takes the request of a job that has ended in again, as a new job; each then names the other.
    pub fn retry(&self, id: &str, retry: RetryRequest, key: Option<SentKey>, by: &Caller) -> Result<Job, Refusal> {
        let earlier = self.find_record(id)?.it;
        if !earlier.status().has_ended() {
            return Err(Refusal::TooEarly(Box::new(self.shown(&earlier))));
        }
        let request = JobRequest { webhook_url: self.still_told(&earlier), ..request_of(&earlier, retry) };
        let key = key.map(|key| key.judge(&request, Some(&earlier.id))).transpose()?;
        if earlier.purpose == Purpose::Worktree {
            let why = format!("{} made a worktree, and is no job to be retried: prepare another one", earlier.id);
            return Err(Refusal::Conflict(why));
        }
        let _alone = self.alone_with(request.worktree_id.as_deref())?;
        if let Some(again) = self.earlier(key.as_ref())? {
            return Ok(self.shown(&again));
        }
        // What its request does not say stays as it is: a plan is made again as a plan, or carried out again.
        let again = Record::clone(&earlier);
        let spec = Spec {
            retry_of: Some(again.id),
            purpose: again.purpose,
            plan_id: again.plan_id,
            at_commit: again.at_commit,
            ..self.judge(request)?
        };
        let store = &self.runner.store;
        let record = self.accept(spec, key.as_ref(), by)?;
        // The new job is accepted, and names the earlier one, whatever becomes of the note.
        if let Err(error) = store.note(&earlier.id, Note::RetriedAs(record.id.clone())) {
            log::job(&earlier.id).warn(format!("it does not say that it was retried as {}: {error}", record.id));
        }
        Ok(self.shown(&record))
    }
}

impl Service {
    /// Takes in a job that goes on with the conversation of one that has ended, and with what that did.
    pub fn resume(&self, id: &str, resume: ResumeRequest, key: Option<SentKey>, by: &Caller) -> Result<Job, Refusal> {
        let earlier = self.find_record(id)?.it;
        if !earlier.status().has_ended() {
            return Err(Refusal::TooEarly(Box::new(self.shown(&earlier))));
        }
        let session = earlier.had_session().filter(|_| earlier.purpose == Purpose::Task).map(str::to_owned);
        let session = session.ok_or_else(|| {
            let why = format!("job {} has no conversation to go on with: retry it instead", earlier.id);
            Refusal::Conflict(why)
        })?;
        // Where the conversation went on since, so did the files: it is the same one, as it is now.
        let latest = self.runner.store.with_session(&session)?;
        let earlier = match latest.filter(|latest| latest.repo_url == earlier.repo_url) {
            Some(latest) => latest,
            None => earlier,
        };
        // What it pushed it goes on from; what was kept of it is found by the conversation.
        let branch = earlier.branch.clone().filter(|_| earlier.pushed);
        let base_ref = branch.or(earlier.base_ref.clone()).filter(|_| earlier.repo_url.is_some());
        let request = JobRequest {
            task: resume.task,
            session_id: Some(session),
            base_ref,
            create_repo: false,
            webhook_url: self.still_told(&earlier),
            ..request_of(&earlier, RetryRequest { wait: resume.wait })
        };
        self.submit(request, key, by)
    }
}

/// The same, with what is known of who asks.
pub(super) fn asked_by(spec: Spec, by: &Caller) -> Spec {
    let (submitted_by, request_id) = (by.name.clone(), by.request_id.clone());
    Spec { submitted_by, request_id, traceparent: by.traceparent.clone(), ..spec }
}

/// What was asked for when this job was submitted.
fn request_of(record: &Record, retry: RetryRequest) -> JobRequest {
    let record = record.clone();
    JobRequest {
        task: record.task,
        repo_url: record.repo_url,
        profile: Some(record.profile),
        base_ref: record.base_ref,
        session_id: record.resume_session,
        file_path: record.file_path,
        worktree_id: record.worktree_id.map(|id| id.to_string()),
        create_repo: record.create_repo,
        private: Some(record.private),
        labels: record.labels,
        overrides: record.overrides,
        webhook_url: record.webhook_url,
        wait: retry.wait,
    }
}

/// Checks `request` against the settings and the profiles. Changes nothing.
pub fn judge(request: JobRequest, runner: &Runner) -> Result<Spec, Refusal> {
    let config: &Config = &runner.config;
    let profile = request.profile.unwrap_or_else(|| config.default_profile.clone());
    runner.profiles.find(&profile).map_err(|error| Refusal::invalid("profile", error.to_string()))?;
    let of_url = |why: String| Refusal::invalid("repo_url", why);
    let url = request.repo_url.as_deref().map(|text| runner.judge_url(text)).transpose().map_err(of_url)?;
    if let Some(name) = &request.base_ref {
        if url.is_none() {
            return Err(Refusal::invalid("base_ref", "`base_ref` needs a `repo_url`"));
        }
        refname::judge(name).map_err(|why| Refusal::invalid("base_ref", why))?;
    }
    if request.create_repo {
        match &url {
            None => return Err(Refusal::invalid("create_repo", "`create_repo` needs a `repo_url`")),
            Some(url) if runner.github.slug(url).is_none() => {
                let why = format!("`create_repo` works on GitHub alone, and {url} is not on it");
                return Err(Refusal::invalid("create_repo", why));
            }
            Some(_) => {}
        }
    }
    if let Some(session) = &request.session_id
        && !uuid::Uuid::try_parse(session).is_ok_and(|uuid| uuid.to_string() == *session)
    {
        let shown = crate::job::cut(session.clone(), 80);
        let why = format!("`session_id` must be a UUID in lower case, as a job's record shows it, not `{shown}`");
        return Err(Refusal::invalid("session_id", why));
    }
    if let Some(file) = &request.file_path {
        let path = Path::new(file);
        if !path.is_absolute() {
            let why = "`file_path` must be the absolute path of a .mcp.json on the server";
            return Err(Refusal::invalid("file_path", why));
        }
        if !runner.may_use_file(path) {
            let why = "`file_path` must name a .mcp.json below one of the directories in AGENTICORE_MCP_FILE_DIRS (the \
                       shared volume and ~/.agenticore, if that is not set)";
            return Err(Refusal::invalid("file_path", why));
        }
        let of_file = |why: String| Refusal::invalid("file_path", format!("`file_path`: {why}"));
        materialize::read_servers(path).map_err(of_file)?;
    }
    Ok(Spec {
        task: request.task,
        profile,
        repo_url: request.repo_url,
        base_ref: request.base_ref,
        session_id: request.session_id,
        file_path: request.file_path,
        create_repo: request.create_repo,
        private: request.private.unwrap_or(true),
        mode: if request.wait { Mode::Sync } else { Mode::FireAndForget },
        ttl_seconds: config.job_ttl_seconds,
        key: None,
        submitted_by: None,
        request_id: None,
        traceparent: None,
        labels: request.labels,
        overrides: request.overrides,
        webhook_url: request.webhook_url,
        retry_of: None,
        purpose: Purpose::Task,
        plan_id: None,
        at_commit: None,
        worktree_id: None,
        runs_on: None,
    })
}
