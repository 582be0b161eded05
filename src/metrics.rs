//! What is counted for `/metrics`: one table of names, and the places that count. Every label has few values.
//!
//! Counts this process alone; whoever scrapes adds pods up. Never holds up what it counts.

use crate::job::Record;
use crate::log;
use prometheus::core::Collector;
use prometheus::{Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, Opts, Registry};
use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Profiles beyond so many are counted as `other`.
const PROFILES_MOST: usize = 50;
const OTHER: &str = "other";

/// How jobs wait and run, in seconds: from at once to a day.
const JOB_SECONDS: [f64; 14] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 86_400.0];
/// How calls to Redis and git take, in seconds.
const CALL_SECONDS: [f64; 12] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// What the service knows when it is asked.
#[derive(Default)]
pub struct Now {
    pub queued: Option<usize>,
    /// Of the job that has waited longest, in seconds; 0 if none waits.
    pub oldest_seconds: Option<f64>,
    pub running: usize,
    pub slots: usize,
    pub draining: bool,
    pub runs_jobs: bool,
}

struct Metrics {
    registry: Registry,
    jobs: IntCounterVec,
    wait: Histogram,
    duration: Histogram,
    cost: prometheus::CounterVec,
    tokens: IntCounterVec,
    events: IntCounterVec,
    redis: Histogram,
    git: Histogram,
    http: IntCounterVec,
    queued: Gauge,
    oldest: Gauge,
    running: Gauge,
    slots: Gauge,
    draining: Gauge,
    runs_jobs: Gauge,
    process: GaugeVec,
    cpu: prometheus::Counter,
}

static METRICS: LazyLock<Option<Metrics>> =
    LazyLock::new(|| Metrics::new().map_err(|error| log::warn(&format!("there are no metrics: {error}"))).ok());

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let add = |collector: Box<dyn Collector>| registry.register(collector);
        let counters = |name: &str, help: &str, labels: &[&str]| -> prometheus::Result<IntCounterVec> {
            let made = IntCounterVec::new(Opts::new(name, help), labels)?;
            add(Box::new(made.clone()))?;
            Ok(made)
        };
        let gauge = |name: &str, help: &str| -> prometheus::Result<Gauge> {
            let made = Gauge::new(name, help)?;
            add(Box::new(made.clone()))?;
            Ok(made)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> prometheus::Result<Histogram> {
            let made = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            add(Box::new(made.clone()))?;
            Ok(made)
        };
        let cost = prometheus::CounterVec::new(
            Opts::new("agenticore_job_cost_usd_total", "What ended jobs cost, in US dollars, as Claude reports it"),
            &["profile"],
        )?;
        add(Box::new(cost.clone()))?;
        let process = GaugeVec::new(
            Opts::new("agenticore_process", "This process: resident_memory_bytes, open_fds, threads"),
            &["what"],
        )?;
        add(Box::new(process.clone()))?;
        let cpu = prometheus::Counter::new("process_cpu_seconds_total", "Processor time of this process, in seconds")?;
        add(Box::new(cpu.clone()))?;
        let build =
            GaugeVec::new(Opts::new("agenticore_build_info", "Always 1; the labels say what runs"), &["version"])?;
        add(Box::new(build.clone()))?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let metrics = Self {
            jobs: counters("agenticore_jobs_total", "Jobs that this pod ended", &["status", "profile"])?,
            wait: histogram(
                "agenticore_job_wait_seconds",
                "From a job's begin to its last attempt's, of ended jobs",
                &JOB_SECONDS,
            )?,
            duration: histogram(
                "agenticore_job_duration_seconds",
                "From its last attempt's begin to its end, of ended jobs",
                &JOB_SECONDS,
            )?,
            cost,
            tokens: counters("agenticore_job_tokens_total", "Tokens of ended jobs, as Claude reports them", &["kind"])?,
            events: counters(
                "agenticore_events_total",
                "What an operator may want to hear of: takeovers, lost leases, what others were not told",
                &["event"],
            )?,
            redis: histogram("agenticore_redis_call_seconds", "Calls to Redis", &CALL_SECONDS)?,
            git: histogram("agenticore_git_call_seconds", "Calls of git", &CALL_SECONDS)?,
            http: counters(
                "agenticore_http_requests_total",
                "Requests, by the route's template",
                &["route", "method", "code"],
            )?,
            queued: gauge(
                "agenticore_queue_jobs",
                "Jobs that wait, in the whole fleet; -1: the store cannot be asked",
            )?,
            oldest: gauge("agenticore_queue_oldest_seconds", "For how long the oldest of them has waited")?,
            running: gauge("agenticore_running_jobs", "Jobs that run in this pod")?,
            slots: gauge("agenticore_slots", "Jobs that this pod may run at once")?,
            draining: gauge("agenticore_draining", "1 while this pod drains")?,
            runs_jobs: gauge("agenticore_runs_jobs", "1 while nothing keeps jobs from running in this pod")?,
            process,
            cpu,
            registry: registry.clone(),
        };
        for event in ["takeover", "lost_lease", "handed_back", "webhook_told", "webhook_failed", "span_dropped"] {
            metrics.events.with_label_values(&[event]).inc_by(0);
        }
        Ok(metrics)
    }
}

fn with(count: impl FnOnce(&Metrics)) {
    if let Some(metrics) = &*METRICS {
        count(metrics);
    }
}

/// Told once of each job, by whoever ended it: the log's last line of its story, and what is counted of it.
pub fn job_ended(record: &Record) {
    log::ended(record);
    with(|metrics| {
        let profile = bounded(&record.profile);
        metrics.jobs.with_label_values(&[record.status().as_str(), &profile]).inc();
        let seconds = |from: i64, to: i64| Duration::from_millis((to - from).max(0).unsigned_abs()).as_secs_f64();
        let end = record.ended_at.unwrap_or(record.created_at).0;
        metrics.wait.observe(seconds(record.created_at.0, record.started_at.map_or(end, |time| time.0)));
        metrics.duration.observe(record.started_at.map_or(0.0, |start| seconds(start.0, end)));
        metrics.cost.with_label_values(&[&profile]).inc_by(record.spent.cost_usd.unwrap_or(0.0).max(0.0));
        for kind in ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"] {
            let count = record.spent.usage.as_ref().and_then(|usage| usage.get(kind)?.as_u64()).unwrap_or(0);
            metrics.tokens.with_label_values(&[kind]).inc_by(count);
        }
    });
}

/// A profile's name, if it is among the first so many.
fn bounded(profile: &str) -> String {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() < PROFILES_MOST || seen.contains(profile) {
        seen.insert(profile.to_owned());
        return profile.to_owned();
    }
    OTHER.to_owned()
}

/// `takeover`, `lost_lease`, `handed_back`.
pub fn event(name: &'static str) {
    with(|metrics| metrics.events.with_label_values(&[name]).inc());
}

pub fn redis_call(began: Instant) {
    with(|metrics| metrics.redis.observe(began.elapsed().as_secs_f64()));
}

pub fn git_call(began: Instant) {
    with(|metrics| metrics.git.observe(began.elapsed().as_secs_f64()));
}

/// `route`: a template of the table, never a path that somebody made up.
pub fn request(route: &'static str, method: &'static str, code: u16) {
    with(|metrics| metrics.http.with_label_values(&[route, method, &code.to_string()]).inc());
}

/// All of it, as Prometheus reads it.
pub fn text(now: &Now) -> Result<String, String> {
    let metrics = METRICS.as_ref().ok_or("there are no metrics: the log says why")?;
    metrics.queued.set(now.queued.map_or(-1.0, |count| count as f64));
    metrics.oldest.set(now.oldest_seconds.unwrap_or(0.0));
    metrics.running.set(now.running as f64);
    metrics.slots.set(now.slots as f64);
    metrics.draining.set(f64::from(u8::from(now.draining)));
    metrics.runs_jobs.set(f64::from(u8::from(now.runs_jobs)));
    look_at_process(metrics);
    let mut out = Vec::new();
    prometheus::TextEncoder::new().encode(&metrics.registry.gather(), &mut out).map_err(|error| error.to_string())?;
    String::from_utf8(out).map_err(|error| error.to_string())
}

/// What Linux says of this process; what it does not say stays as it was.
fn look_at_process(metrics: &Metrics) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let set = |what: &str, value: Option<f64>| {
        if let Some(value) = value {
            metrics.process.with_label_values(&[what]).set(value);
        }
    };
    set("resident_memory_bytes", field("VmRSS:").map(|kib| kib * 1024.0));
    set("threads", field("Threads:"));
    set("open_fds", std::fs::read_dir("/proc/self/fd").ok().map(|all| all.count() as f64));
    // Fields 14 and 15, behind the name, which may hold anything and ends with the last `)`; each a
    // hundredth of a second.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    if let (Some(user), Some(system)) = (ticks(11), ticks(12)) {
        metrics.cpu.inc_by(((user + system) / 100.0 - metrics.cpu.get()).max(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_bounded() {
        let names: BTreeSet<String> = (0..200).map(|number| bounded(&format!("p{number}"))).collect();
        assert!(names.len() <= PROFILES_MOST + 1 && names.contains(OTHER), "{}", names.len());
        assert_eq!(bounded("p0"), "p0");
    }
}
