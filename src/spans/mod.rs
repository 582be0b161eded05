//! One trace a job, for whoever follows requests through many programs: what it did when, sent to an OpenTelemetry
//! collector over HTTP.
//!
//! Of this whole process, like the log and the metrics. Ids follow from the job's, so pods that share a job write one
//! trace without speaking of it. A collector that is away costs nothing but its spans: they wait in a bounded queue,
//! and are dropped. Never holds up a job.

mod export;
mod ids;
mod otlp;

use crate::config::Config;
use crate::job::{Record, Status, Time};
use crate::trace_context::TraceParent;
use export::Exporter;
use ids::{SAMPLED, of_job, span_id};
use std::sync::OnceLock;

/// How a job's parts are called in its trace.
pub const QUEUED: &str = "queued";
pub const CLONE: &str = "clone";
pub const WORKTREE: &str = "worktree";
pub const AGENT: &str = "agent";
pub const PUBLISH: &str = "publish";
const JOB: &str = "job";

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
    Amount(f64),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub context: TraceParent,
    pub parent: Option<[u8; 8]>,
    pub name: &'static str,
    pub begin: Time,
    pub end: Time,
    pub attributes: Vec<(String, Value)>,
    /// Why it went wrong.
    pub error: Option<String>,
}

/// Sends spans from now on, if the settings ask for that. The error is a sentence.
pub fn start(config: &Config) -> Result<(), String> {
    let Some(settings) = config.claude.otel.as_ref().filter(|otel| otel.has_own_traces()) else { return Ok(()) };
    let exporter = Exporter::start(config, settings)?;
    let _ = EXPORTER.set(exporter);
    Ok(())
}

/// Sends what is left, if that can be done soon.
pub fn finish() {
    if let Some(exporter) = EXPORTER.get() {
        exporter.finish();
    }
}

/// Whether anybody hears of this job.
fn exporter_of(record: &Record) -> Option<(&'static Exporter, TraceParent, Option<[u8; 8]>)> {
    let exporter = EXPORTER.get()?;
    let (context, parent) = of_job(record);
    // Who called us, and follows nothing of it, is heeded.
    (context.flags & SAMPLED != 0).then_some((exporter, context, parent))
}

/// What the agent's own spans stand below, if anything: our span of it, or what the caller named where we send none.
pub fn parent_of_agent(record: &Record) -> Option<TraceParent> {
    ids::parent_of_agent(record, EXPORTER.get().is_some())
}

/// A part of an attempt, which is over.
pub fn part(record: &Record, name: &'static str, begin: Time, end: Time, error: Option<String>) {
    let Some((exporter, context, _)) = exporter_of(record) else { return };
    let mut attributes = vec![("agenticore.attempt".to_owned(), Value::Number(record.attempt.into()))];
    attributes.extend(record.pod_name.clone().map(|pod| ("agenticore.pod".to_owned(), Value::Text(pod))));
    let own = TraceParent { span_id: span_id(record, name), ..context };
    exporter.send(Span { context: own, parent: Some(context.span_id), name, begin, end, attributes, error });
}

/// The job has ended, by this very process.
pub fn job_ended(record: &Record) {
    let Some((exporter, context, parent)) = exporter_of(record) else { return };
    let end = record.ended_at.unwrap_or_else(Time::now);
    if record.attempt == 0 {
        part(record, QUEUED, record.created_at, end, None);
    }
    let error = matches!(record.status(), Status::Failed | Status::Expired)
        .then(|| crate::job::cut(record.error.clone().unwrap_or_else(|| record.status().as_str().to_owned()), 1_000));
    let attributes = attributes(record);
    exporter.send(Span { context, parent, name: JOB, begin: record.created_at, end, attributes, error });
}

/// An attempt begins: what it waited for is over.
pub fn attempt_began(record: &Record) {
    // An earlier attempt had its time in the line; a later one waited since that was given up.
    let waited_since = match record.attempt {
        1 => Some(record.created_at),
        _ => record.handovers.last().map(|handover| handover.time),
    };
    if let (Some(since), Some(until)) = (waited_since, record.started_at) {
        part(record, QUEUED, since, until, None);
    }
}

fn attributes(record: &Record) -> Vec<(String, Value)> {
    let text = |name: &str, value: &str| (name.to_owned(), Value::Text(value.to_owned()));
    let mut all = vec![
        text("agenticore.job.id", record.id.as_str()),
        text("agenticore.job.status", record.status().as_str()),
        text("agenticore.profile", &record.profile),
        ("agenticore.attempts".to_owned(), Value::Number(record.attempt.into())),
    ];
    for (name, value) in [
        ("agenticore.repo_url", &record.repo_url),
        ("agenticore.branch", &record.branch),
        ("agenticore.pr_url", &record.pr_url),
        ("agenticore.submitted_by", &record.submitted_by),
        ("agenticore.session_id", &record.session_id),
        ("agenticore.pod", &record.pod_name),
        ("http.request.id", &record.request_id),
    ] {
        all.extend(value.as_deref().map(|value| text(name, value)));
    }
    all.extend(record.spent.cost_usd.map(|cost| ("agenticore.cost_usd".to_owned(), Value::Amount(cost))));
    let turns = record.spent.turns.and_then(|turns| i64::try_from(turns).ok());
    all.extend(turns.map(|turns| ("agenticore.turns".to_owned(), Value::Number(turns))));
    all.extend(record.labels.iter().map(|(name, value)| text(&format!("agenticore.label.{name}"), value)));
    all
}
