//! The states of a job, each a type of its own, and what an attempt may note in its record. Pure.
//!
//! A transition consumes one state and returns the next: one that is not allowed has no method.

use super::record::{FOREIGN_STAYS, FORMAT, HANDOVERS_LIMIT, PLAIN_FORMAT, PURPOSE_FORMAT};
use super::{
    DEATHS_LIMIT, ERROR_LIMIT, Handover, JobId, Note, OUTPUT_LIMIT, Record, Spec, Spent, Status, Time, Verdict, cut,
};
use std::ops::Deref;

/// A job as it is stored or listed, in whichever state.
#[derive(Clone, Debug)]
pub enum Job {
    Queued(Queued),
    Running(Running),
    Ended(Ended),
}

#[derive(Clone, Debug)]
pub struct Queued(Record);
#[derive(Clone, Debug)]
pub struct Running(Record);
#[derive(Clone, Debug)]
pub struct Ended(Record);

impl From<Record> for Job {
    fn from(record: Record) -> Self {
        match record.status {
            Status::Queued => Job::Queued(Queued(record)),
            Status::Running => Job::Running(Running(record)),
            _ => Job::Ended(Ended(record)),
        }
    }
}

impl Deref for Job {
    type Target = Record;
    fn deref(&self) -> &Record {
        match self {
            Job::Queued(job) => job,
            Job::Running(job) => job,
            Job::Ended(job) => job,
        }
    }
}

macro_rules! reads_as_record {
    ($($state:ident)*) => {$(
        impl Deref for $state {
            type Target = Record;
            fn deref(&self) -> &Record {
                &self.0
            }
        }
        impl From<$state> for Record {
            fn from(job: $state) -> Record {
                job.0
            }
        }
    )*};
}
reads_as_record!(Queued Running Ended);

/// Something an attempt achieved. It is in the record before the next step begins.
#[derive(Clone, Debug)]
pub enum Mark {
    /// The job's own directory stands: configuration, profile, working directory without a repository.
    Directory(String),
    Worktree {
        path: String,
        on: Option<String>,
        branch: Option<String>,
        base_ref: String,
        base_commit: String,
        pr_base: String,
    },
    AgentStarted {
        pid: u32,
    },
    Session(String),
    /// The job that had the conversation before, which this one resumes.
    ResumesFrom(JobId),
    /// The agent reported a result. It may report another; its end is its exit.
    Reported {
        output: Option<String>,
        spent: Spent,
    },
    AgentEnded {
        verdict: Verdict,
        spent: Spent,
    },
    Committed(String),
    Pushed,
    PrOpened(String),
    /// The worktree is gone: its work is pushed, or there was none.
    WorktreeRemoved,
    Note(String),
    /// Something in the worktree is not published: it stays.
    Keep(String),
    Caution(String),
    /// The agent succeeded, but its work could not be published.
    Unpublished(String),
    /// What the agent did is on the disk of a pod that is gone: it has to begin again.
    WorkLost,
    /// An earlier attempt, whose marks may be lost, had pushed this commit; where its pull request goes.
    Adopted {
        commit: String,
        pr_base: Option<String>,
    },
}

impl Mark {
    /// Says nothing that an attempt that takes over would need: it may be written with the next mark
    /// that does.
    pub fn may_wait(&self) -> bool {
        use Mark::*;
        matches!(
            self,
            Directory(_) | AgentStarted { .. } | Session(_) | ResumesFrom(_) | Reported { .. } | WorktreeRemoved
        )
    }
}

impl Queued {
    pub fn new(id: JobId, spec: Spec, now: Time) -> Self {
        // A server of an earlier version must leave alone what it would carry out otherwise than it is meant.
        let is_plain = spec.purpose.is_task() && spec.at_commit.is_none() && spec.worktree_id.is_none();
        let format = match (spec.overrides.is_empty(), is_plain) {
            (false, _) => FORMAT,
            (true, false) => PURPOSE_FORMAT,
            (true, true) => PLAIN_FORMAT,
        };
        Self(Record {
            id,
            repo_url: spec.repo_url,
            base_ref: spec.base_ref,
            task: spec.task,
            profile: spec.profile,
            status: Status::Queued,
            mode: spec.mode,
            exit_code: None,
            session_id: spec.session_id.clone(),
            pr_url: None,
            output: None,
            error: None,
            created_at: now,
            started_at: None,
            ended_at: None,
            ttl_seconds: spec.ttl_seconds,
            pid: None,
            pod_name: None,
            worktree_path: None,
            branch: None,
            job_config_dir: None,
            file_path: spec.file_path,
            format,
            create_repo: spec.create_repo,
            private: spec.private,
            resume_session: spec.session_id,
            resumed_from: None,
            attempt: 0,
            deaths: 0,
            runs_alone: false,
            waits_because: None,
            refusals: 0,
            key: spec.key,
            submitted_by: spec.submitted_by,
            request_id: spec.request_id,
            cancelled_by: None,
            traceparent: spec.traceparent,
            labels: spec.labels,
            overrides: spec.overrides,
            webhook_url: spec.webhook_url,
            retry_of: spec.retry_of,
            retried_as: None,
            purpose: spec.purpose,
            plan_id: spec.plan_id,
            executed_as: None,
            at_commit: spec.at_commit,
            worktree_id: spec.worktree_id,
            runs_on: spec.runs_on,
            used_by: None,
            removal: None,
            worktree_on: None,
            base_commit: None,
            pr_base: None,
            commit: None,
            pushed: false,
            kept_because: None,
            caution: None,
            note: None,
            verdict: None,
            handovers: Vec::new(),
            events: 0,
            spent: Spent::default(),
        })
    }

    /// No server could run it within its TTL: nobody waits for it any more.
    pub fn is_overdue(&self, now: Time) -> bool {
        self.due().is_some_and(|due| now > due)
    }

    /// The same job, as the further of this record and `other` tells it; attempts and deaths are the
    /// higher of both.
    pub fn or_further(self, other: Record) -> Self {
        let achieved = |record: &Record| {
            let steps = [record.verdict.is_some(), record.commit.is_some(), record.pushed, record.pr_url.is_some()];
            (record.attempt, steps.into_iter().filter(|step| *step).count())
        };
        let (attempt, deaths) = (self.attempt.max(other.attempt), self.deaths.max(other.deaths));
        let mut record = if achieved(&other) > achieved(&self) { other } else { self.0 };
        record.status = Status::Queued;
        (record.attempt, record.deaths, record.pid) = (attempt, deaths, None);
        Self(record)
    }

    pub fn claim(mut self, pod: &str, now: Time) -> Running {
        self.0.attempt += 1;
        self.0.status = Status::Running;
        self.0.started_at = Some(now);
        self.0.pod_name = Some(pod.to_owned());
        self.0.pid = None;
        self.0.waits_because = None;
        if self.0.verdict.is_none() {
            // The agent begins again: what it reported in an attempt that was cut off is void.
            self.0.output = None;
            self.0.spent = Spent::default();
        }
        Running(self.0)
    }

    /// `by`: the name of the key that it is cancelled with.
    pub fn cancel(mut self, by: Option<&str>, now: Time) -> Ended {
        self.0.cancelled_by = by.map(str::to_owned);
        end(self.0, Status::Cancelled, Some("cancelled while it was queued".into()), now)
    }

    /// Nobody will ever be able to run it.
    pub fn give_up(self, why: String, now: Time) -> Ended {
        end(self.0, Status::Failed, Some(why), now)
    }

    /// `lacks`: why the server that finds it overdue could not run it.
    pub fn expire(self, lacks: Option<String>, now: Time) -> Ended {
        let ttl = self.ttl_seconds;
        let error = match (&self.waits_because, lacks) {
            (Some(why), _) => {
                format!("no server could run it within its time to live of {ttl} s; the last one said: {why}")
            }
            (None, Some(lacks)) => {
                format!("no server could run it within its time to live of {ttl} s; this one waits for {lacks}")
            }
            (None, None) => format!("no worker claimed it within its time to live of {ttl} s"),
        };
        end(self.0, Status::Expired, Some(error), now)
    }
}

impl Running {
    pub fn mark(&mut self, mark: Mark) {
        let record = &mut self.0;
        match mark {
            Mark::Directory(path) => record.job_config_dir = Some(path),
            Mark::Worktree { path, on, branch, base_ref, base_commit, pr_base } => {
                record.worktree_path = Some(path);
                record.worktree_on = on;
                record.branch = branch;
                record.base_ref = Some(base_ref);
                record.base_commit = Some(base_commit);
                record.pr_base = Some(pr_base);
            }
            Mark::AgentStarted { pid } => record.pid = Some(pid),
            Mark::Session(id) => record.session_id = Some(id),
            Mark::ResumesFrom(id) => record.resumed_from = Some(id),
            Mark::Reported { output, spent } => {
                record.output = output.map(|text| cut(text, OUTPUT_LIMIT));
                record.spent = spent;
            }
            Mark::AgentEnded { verdict, spent } => {
                record.pid = None;
                record.exit_code = verdict.exit_code;
                record.output = verdict.output.clone();
                record.error = verdict.error.clone();
                // The texts stand in the record already: once is enough.
                record.verdict = Some(Verdict { output: None, error: None, ..verdict });
                record.spent = spent;
            }
            Mark::Committed(commit) => record.commit = Some(commit),
            Mark::Pushed => record.pushed = true,
            Mark::PrOpened(url) => record.pr_url = Some(url),
            Mark::WorktreeRemoved => record.worktree_path = None,
            Mark::Note(text) => record.note = Some(text),
            Mark::Keep(why) => record.kept_because = Some(why),
            Mark::Caution(what) => record.caution = Some(what),
            Mark::Unpublished(why) => record.error = Some(cut(why, ERROR_LIMIT)),
            Mark::WorkLost => {
                record.verdict = None;
                record.exit_code = None;
                record.output = None;
                record.spent = Spent::default();
                record.commit = None;
                record.worktree_path = None;
                record.kept_because = None;
                record.caution = None;
            }
            Mark::Adopted { commit, pr_base } => {
                record.pr_base = record.pr_base.take().or(pr_base);
                let output = "an earlier attempt of this job had pushed its work; it was adopted".to_owned();
                record.output = Some(output);
                record.verdict = Some(Verdict { succeeded: true, exit_code: None, output: None, error: None });
                record.branch = Some(record.id.branch());
                record.commit = Some(commit);
                record.pushed = true;
            }
        }
    }

    /// The end that the verdict on the agent's run decides.
    pub fn finish(self, now: Time) -> Ended {
        let succeeded = self.verdict.as_ref().is_some_and(|v| v.succeeded);
        let status = if succeeded { Status::Succeeded } else { Status::Failed };
        let error = self.error.clone();
        end(self.0, status, error, now)
    }

    /// The end of an attempt that could not be carried out.
    pub fn fail(self, why: String, now: Time) -> Ended {
        end(self.0, Status::Failed, Some(why), now)
    }

    /// `by`: the name of the key that it is cancelled with.
    pub fn cancel(mut self, by: Option<&str>, now: Time) -> Ended {
        let error = format!("cancelled while attempt {} ran on {}", self.attempt, self.pod());
        self.0.cancelled_by = by.map(str::to_owned);
        end(self.0, Status::Cancelled, Some(error), now)
    }

    /// Notes how many events the job has so far.
    pub fn count_events(&mut self, events: u32) {
        self.0.events = events;
    }

    /// Taken from its holder by somebody else, because that one went away in order: no death.
    pub fn take_back(mut self, why: impl Into<String>, now: Time) -> Queued {
        self.note_handover(false, why.into(), now);
        self.hand_back()
    }

    fn note_handover(&mut self, lost: bool, why: String, now: Time) {
        let attempt = self.attempt;
        let handovers = &mut self.0.handovers;
        handovers.push(Handover { attempt, time: now, lost, why });
        let surplus = handovers.len().saturating_sub(HANDOVERS_LIMIT);
        handovers.drain(..surplus);
    }

    /// Back to the queue, on purpose: no death.
    pub fn hand_back(mut self) -> Queued {
        self.0.status = Status::Queued;
        self.0.pid = None;
        Queued(self.0)
    }

    /// Back to the queue, because this server cannot run it: no death. It expires if none can. `is_too_large`: this
    /// server can run others.
    pub fn set_aside(mut self, why: &str, is_too_large: bool) -> Queued {
        self.0.waits_because = Some(cut(why.to_owned(), ERROR_LIMIT));
        self.0.refusals += u32::from(is_too_large);
        self.hand_back()
    }

    /// Its worker is gone. The third such loss ends the job as poison. `was_alone`: that worker's server ran nothing
    /// else. Where it did, nobody knows which of them it died of: each runs alone next, and none has a death.
    pub fn lose_worker(mut self, why: impl Into<String>, was_alone: bool, now: Time) -> Job {
        self.note_handover(true, why.into(), now);
        self.0.deaths += u32::from(was_alone);
        self.0.runs_alone = true;
        if self.deaths < DEATHS_LIMIT {
            return Job::Queued(self.hand_back());
        }
        let lost = self.handovers.iter().filter(|handover| handover.lost);
        let told: Vec<&str> = lost.map(|handover| handover.why.as_str()).collect();
        let why = format!(
            "poison: {} workers were lost while they ran this job alone, the last on {} in attempt {} ({})",
            self.deaths,
            self.pod(),
            self.attempt,
            told.join("; ")
        );
        Job::Ended(end(self.0, Status::Failed, Some(why), now))
    }

    fn pod(&self) -> &str {
        self.pod_name.as_deref().unwrap_or("an unnamed pod")
    }
}

impl Ended {
    /// The same, with a note. Nothing else changes after the end.
    pub fn with_note(mut self, note: Note) -> Self {
        let record = &mut self.0;
        match note {
            Note::RetriedAs(job) => record.retried_as = Some(job),
            Note::ExecutedAs(job) => record.executed_as = Some(job),
            Note::UsedBy(job) => record.used_by = Some(job),
            Note::Published(commit) => record.commit = Some(commit),
            Note::Removal(removal) => record.removal = Some(removal),
            Note::WorktreeRemoved => record.worktree_path = None,
        }
        self
    }

    /// When the record and what belongs to it leave. A prepared worktree's pod decides when that goes.
    pub fn leaves_at(&self) -> Time {
        let ended = self.ended_at.unwrap_or(self.created_at);
        let stays = self.is_foreign() || self.is_prepared_worktree();
        ended.plus_seconds(if stays { FOREIGN_STAYS } else { self.ttl_seconds })
    }
}

fn end(mut record: Record, status: Status, error: Option<String>, now: Time) -> Ended {
    record.status = status;
    record.error = error.map(|text| cut(text, ERROR_LIMIT));
    record.output = record.output.map(|text| cut(text, OUTPUT_LIMIT));
    record.ended_at = Some(now);
    record.pid = None;
    Ended(record)
}
