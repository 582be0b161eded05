//! How this server is, what it could run, and its drain.

use super::{Caller, Refusal, Service};
use crate::api::{Drain, Pod, Profile, ProfilesAnswer, Readiness, ServerStatus, Status, Stops};
use crate::job::Time;
use crate::metrics;
use crate::store::{self, Store};
use std::sync::mpsc;
use std::time::Duration;

/// What the store may take to answer somebody who wants to know how all is just now: a scrape of Prometheus is given
/// up after ten seconds by default, and a silent Redis is what it should tell of.
const ASK_LIMIT: Duration = Duration::from_secs(3);

impl Service {
    /// Always answers: that alone is news.
    pub fn status(&self) -> Status {
        Status {
            status: "ok".into(),
            service: "agenticore".into(),
            waiting_for: self.waiting_for(),
            draining: self.pool.drain().progress().draining,
        }
    }

    /// All that is known of how this server is.
    pub fn server_status(&self, by: &Caller) -> ServerStatus {
        let checks = self.runner.checks();
        let progress = self.pool.drain().progress();
        let told = self.ask_store(|store| Ok((store.waiting()?, store.pods()?)));
        let (queued, pods) = told.map_or((None, Vec::new()), |((queued, _), pods)| (Some(queued), pods));
        let is_well = checks.iter().all(|check| check.stops < Stops::Agents);
        let runs_jobs = self.workers > 0 && !progress.draining && is_well;
        let word = match () {
            () if progress.draining => "draining",
            () if runs_jobs => "ok",
            () => "waiting",
        };
        ServerStatus {
            success: true,
            status: word.into(),
            service: "agenticore".into(),
            waiting_for: self.waiting_for(),
            version: env!("CARGO_PKG_VERSION").into(),
            pod_name: self.config().pod_name.clone(),
            runs_jobs,
            draining: progress.draining,
            slots: self.workers,
            running: progress.running.len(),
            queued,
            scope: Some(by.scope.as_str().into()),
            limits: self.config().limits.named(),
            pods: self.with_own(pods, progress.running.len(), progress.draining),
            checks,
        }
    }

    /// All of the fleet; what this server says of itself is as old as nothing.
    fn with_own(&self, mut pods: Vec<Pod>, running: usize, draining: bool) -> Vec<Pod> {
        let own = Pod {
            name: self.config().pod_name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            slots: self.workers,
            running,
            draining,
            heard_at: Time::now(),
            unwell: self.runner.unwell(),
        };
        pods.retain(|pod| pod.name != own.name);
        pods.push(own);
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods
    }

    /// What is known just now, for the metrics.
    pub fn numbers(&self) -> metrics::Now {
        let progress = self.pool.drain().progress();
        let waiting = self.ask_store(|store| store.waiting());
        let age = |since: Time| Time::now().since(since).max(0) as f64 / 1000.0;
        metrics::Now {
            queued: waiting.map(|(count, _)| count),
            oldest_seconds: waiting.and_then(|(_, oldest)| oldest).map(age),
            running: progress.running.len(),
            slots: self.workers,
            draining: progress.draining,
            runs_jobs: self.workers > 0 && !progress.draining && self.runner.stopped() < Stops::Agents,
        }
    }

    /// None: the store cannot be asked just now, which is said elsewhere.
    fn ask_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Option<T> {
        let (told, hears) = mpsc::channel();
        let store = self.runner.store.clone();
        // Asks once, and ends within the limits of the store's own calls; nobody waits for it for longer than this.
        let asks = std::thread::Builder::new().name("ask-store".into());
        asks.spawn(move || drop(told.send(ask(&*store).ok()))).ok()?;
        hears.recv_timeout(ASK_LIMIT).ok().flatten()
    }

    /// Whether requests should be sent here. A draining server takes them, but others should come first.
    pub fn readiness(&self) -> Readiness {
        let draining = self.pool.drain().progress().draining;
        let is_of_use = self.runner.hindrance(Stops::Requests).is_none();
        Readiness { ready: !draining && is_of_use, draining, waiting_for: self.waiting_for() }
    }

    fn waiting_for(&self) -> Option<String> {
        let store = &self.runner.store;
        let of_store = store.waits_for().or_else(|| store.trouble());
        of_store.or_else(|| self.runner.why_unwell(Stops::Requests)).or_else(|| self.waits_for_operator())
    }

    /// Jobs are taken in all the same, and wait. Any profile but the self-test's stands for all.
    fn waits_for_operator(&self) -> Option<String> {
        self.runner.why_waiting(&self.runner.config.default_profile)
    }

    /// Whatever is missing for this server to take jobs and run them, as far as it is known at the start: a line each.
    pub fn missing(&self) -> Vec<String> {
        let config = self.config();
        let no_store = self.runner.store.waits_for().filter(|_| config.redis.is_none());
        let no_workers = self.waits_for_operator().filter(|_| config.max_parallel_jobs == 0);
        let needs = [no_store, no_workers].into_iter().flatten().map(|what| format!("this server needs {what}"));
        let checks = self.runner.checks();
        // The others are said where they are found.
        let wanted =
            checks.iter().filter(|check| ["claude", "login", "git", "profiles"].contains(&check.name.as_str()));
        let unwell = wanted.filter(|check| !check.ok && config.max_parallel_jobs > 0).map(|check| {
            let what_to_do = check.what_to_do.as_deref().unwrap_or_default();
            format!("{}; {what_to_do}", check.shown())
        });
        needs.chain(unwell).collect()
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
