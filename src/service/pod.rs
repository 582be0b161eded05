//! How this server is, what it could run, and its drain.

use super::{Refusal, Service};
use crate::api::{Drain, Profile, ProfilesAnswer, Readiness, ServerStatus, Status};
use crate::job;
use crate::pipeline::Runner;
use crate::store::Which;
use std::time::Duration;

/// How many waiting jobs are counted: as many as a list holds.
const COUNTED_MOST: usize = 1000;

impl Service {
    /// Always answers: that alone is news.
    pub fn status(&self) -> Status {
        Status {
            status: "ok".into(),
            service: "agenticore".into(),
            waiting_for: self
                .runner
                .store
                .waits_for()
                .or_else(|| self.runner.store.trouble())
                .or_else(|| self.waits_for_operator()),
            draining: self.pool.drain().progress().draining,
        }
    }

    /// All that is known of how this server is.
    pub fn server_status(&self) -> ServerStatus {
        let checks = self.runner.checks();
        let progress = self.pool.drain().progress();
        let queued = self.runner.store.list(COUNTED_MOST, Which::Of(job::Status::Queued)).ok();
        let runs_jobs = self.workers > 0 && !progress.draining && !checks.iter().any(Runner::stops_jobs);
        let word = match () {
            () if progress.draining => "draining",
            () if runs_jobs => "ok",
            () => "waiting",
        };
        ServerStatus {
            success: true,
            status: word.into(),
            service: "agenticore".into(),
            waiting_for: self.status().waiting_for,
            version: env!("CARGO_PKG_VERSION").into(),
            pod_name: self.config().pod_name.clone(),
            runs_jobs,
            draining: progress.draining,
            slots: self.workers,
            running: progress.running.len(),
            queued: queued.map(|queued| queued.it.len()),
            checks,
        }
    }

    /// Whether requests should be sent here. A draining server takes them, but others should come first.
    pub fn readiness(&self) -> Readiness {
        let waits_for = self.runner.store.waits_for();
        let draining = self.pool.drain().progress().draining;
        // With a second copy jobs are taken in, read and cancelled without Redis too.
        let can_do_without = self.runner.config.has_second_copy() && self.runner.store.was_reached();
        let trouble = self.runner.store.trouble();
        let is_of_no_use = (waits_for.is_some() && !can_do_without) || trouble.is_some();
        let waiting_for = waits_for.or(trouble).or_else(|| self.waits_for_operator());
        Readiness { ready: !draining && !is_of_no_use, draining, waiting_for }
    }

    /// Jobs are taken in all the same, and wait. Any profile but the self-test's stands for all.
    fn waits_for_operator(&self) -> Option<String> {
        self.runner.why_waiting(&self.runner.config.default_profile)
    }

    /// Whatever is missing for this server to take jobs and run them, a sentence's end each.
    pub fn missing(&self) -> Vec<String> {
        let no_store = self.runner.store.waits_for().filter(|_| self.runner.config.redis.is_none());
        [no_store, self.waits_for_operator()].into_iter().flatten().collect()
    }

    pub fn profiles(&self) -> ProfilesAnswer {
        let (profiles, broken) = self.runner.profiles.all();
        let profiles: Vec<Profile> = profiles.iter().map(Profile::from).collect();
        let errors = broken.iter().map(ToString::to_string).collect();
        let warnings = self.runner.profiles.warnings();
        ProfilesAnswer { success: true, count: profiles.len(), profiles, errors, warnings }
    }

    /// From now on nothing is begun here; what runs gets `limit`.
    pub fn begin_drain(&self, limit: Duration) -> Drain {
        self.pool.drain().begin(limit);
        self.drain()
    }

    pub fn take_back_drain(&self) -> Result<Drain, Refusal> {
        self.pool.drain().take_back().map_err(|_| Refusal::Closing)?;
        Ok(self.drain())
    }

    pub fn drain(&self) -> Drain {
        let progress = self.pool.drain().progress();
        let texts = |ids: Vec<crate::job::JobId>| ids.iter().map(ToString::to_string).collect();
        Drain {
            success: Some(true),
            draining: progress.draining,
            running: texts(progress.running),
            handed_back: texts(progress.handed_back),
            seconds_left: Some(progress.left.as_secs()),
        }
    }
}
