//! How answers look to people: colour on a terminal only, and never with NO_COLOR.

use crate::api::{Job, JobSummary, Plan, PlanStatus, Profile, ServerStatus};
use crate::job::{Status, Time};
use serde_json::Value;
use std::io::IsTerminal;

#[derive(Clone, Copy)]
pub enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
}

/// Whether colours may be shown there.
pub fn is_colourful(terminal: bool) -> bool {
    let plain = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !plain("NO_COLOR") && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// For standard output.
pub fn paint(text: &str, colour: Colour) -> String {
    paint_if(is_colourful(std::io::stdout().is_terminal()), text, colour)
}

pub fn paint_if(is_colourful: bool, text: &str, colour: Colour) -> String {
    if is_colourful { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
}

/// A text from outside for a terminal: without control characters, which could do anything there.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn status(status: Status, has_error: bool) -> String {
    let colour = match status {
        Status::Succeeded if has_error => Colour::Yellow,
        Status::Succeeded => Colour::Green,
        Status::Failed => Colour::Red,
        Status::Running => Colour::Blue,
        _ => Colour::Dim,
    };
    paint(&format!("{:9}", status.as_str()), colour)
}

fn first_line(text: &str, width: usize) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.chars().count() <= width { line.to_owned() } else { line.chars().take(width - 1).chain(['…']).collect() }
}

/// A time for a table: to the second, without the zone.
fn when(time: Time) -> String {
    time.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

pub fn jobs(list: &[JobSummary]) -> String {
    if list.is_empty() {
        return "no jobs\n".into();
    }
    let pod = |job: &JobSummary| job.pod_name.as_deref().map_or("-".to_owned(), plain);
    let width = list.iter().map(|job| pod(job).chars().count()).max().unwrap_or(0).clamp(3, 24);
    let head = format!("ID        STATUS     CREATED              PROFILE     {:width$}  TASK\n", "POD");
    let mut text = paint(&head, Colour::Bold);
    for job in list {
        let (id, created, state) = (job.id.short(), when(job.created_at), status(job.status, job.error.is_some()));
        let task = first_line(&plain(&job.task), 60);
        let (profile, pod) = (plain(&job.profile), first_line(&pod(job), 24));
        text.push_str(&format!("{id}  {state}  {created}  {profile:10}  {pod:width$}  {task}\n"));
    }
    text
}

pub fn plans(list: &[Plan]) -> String {
    if list.is_empty() {
        return "no plans\n".into();
    }
    let mut text = paint("ID        STATUS   CREATED              JOB       TASK\n", Colour::Bold);
    for plan in list {
        let colour = match plan.status {
            PlanStatus::Ready => Colour::Green,
            PlanStatus::Failed => Colour::Red,
            PlanStatus::Running => Colour::Blue,
            PlanStatus::Queued => Colour::Dim,
        };
        let state = paint(&format!("{:7}", plan.status.as_str()), colour);
        let job = plan.job_id.as_ref().map_or("-", |id| id.short());
        let (id, created, task) = (plan.id.short(), when(plan.created_at), first_line(&plain(&plan.task), 60));
        text.push_str(&format!("{id}  {state}  {created}  {job:8}  {task}\n"));
    }
    text
}

/// What a server needs, a line each, and what to do about what it lacks.
pub fn server_status(status: &ServerStatus, url: &str) -> String {
    let state = match () {
        () if status.draining => paint("draining", Colour::Yellow),
        () if status.runs_jobs => paint("ok", Colour::Green),
        () => paint("runs no jobs", Colour::Red),
    };
    let queued = status.queued.map_or("an unknown number".to_owned(), |count| count.to_string());
    let (pod, version) = (plain(&status.pod_name), plain(&status.version));
    let mut text = format!(
        "{state} at {url}: {pod}, version {version}, {} of {} slots in use, {queued} queued\n",
        status.running, status.slots
    );
    for check in &status.checks {
        let mark = if check.ok { paint("ok  ", Colour::Green) } else { paint("warn", Colour::Red) };
        let what = check.what_to_do.as_deref().map(|what| format!("; {}", plain(what))).unwrap_or_default();
        text.push_str(&format!("{mark} {:14} {}{what}\n", plain(&check.name), plain(&check.why)));
    }
    text
}

/// One job with everything that has a value.
pub fn job(job: &Job) -> String {
    let mut text = String::new();
    let mut line =
        |name: &str, value: String| text.push_str(&format!("{} {value}\n", paint(&format!("{name:14}"), Colour::Dim)));
    let kept = job.kept.as_ref();
    let lacks = kept.and_then(|kept| kept.lacks.as_ref()).map(|what| format!("what was saved does not hold {what}"));
    let fetch = kept.and_then(|kept| kept.fetch.clone());
    line("job", job.id.to_string());
    line("status", status(job.status, job.error.is_some()).trim_end().to_owned());
    line("task", first_line(&plain(&job.task), 100));
    let told = [
        ("waiting_for", &job.waiting_for),
        ("profile", &Some(job.profile.clone())),
        ("repo_url", &job.repo_url),
        ("base_ref", &job.base_ref),
        ("branch", &job.branch),
        ("pr_url", &job.pr_url),
        ("commit", &job.commit),
        ("note", &job.note),
        ("kept_because", &job.kept_because),
        ("caution", &job.caution),
        ("session_id", &job.session_id),
        ("job_config_dir", &job.job_config_dir),
        ("worktree_path", &job.worktree_path),
        ("worktree_on", &job.worktree_on),
        ("kept", &fetch),
        ("kept", &lacks),
        ("pod_name", &job.pod_name),
        ("retry_of", &job.retry_of.as_ref().map(|id| id.to_string())),
        ("retried_as", &job.retried_as.as_ref().map(|id| id.to_string())),
        ("plan_id", &job.plan_id.as_ref().map(|id| id.to_string())),
        ("executed_as", &job.executed_as.as_ref().map(|id| id.to_string())),
        ("worktree_id", &job.worktree_id.as_ref().map(|id| id.to_string())),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            line(name, plain(value));
        }
    }
    line(
        "attempt",
        match job.deaths {
            0 => job.attempt.to_string(),
            1 => format!("{} (one worker lost)", job.attempt),
            count => format!("{} ({count} workers lost)", job.attempt),
        },
    );
    let times = [("created_at", Some(job.created_at)), ("started_at", job.started_at), ("ended_at", job.ended_at)];
    for (name, time) in times {
        if let Some(time) = time {
            line(name, time.to_string());
        }
    }
    if let Some(cost) = job.cost_usd {
        let turns = job.turns.map_or("-".to_owned(), |turns| turns.to_string());
        line("cost", format!("${cost:.4} in {turns} turns"));
    }
    if !job.denied_tools.is_empty() {
        line("denied tools", job.denied_tools.iter().map(|tool| plain(tool)).collect::<Vec<_>>().join(", "));
    }
    if let Some(error) = &job.error {
        line("error", plain(error));
    }
    if let Some(output) = &job.output {
        text.push_str(&format!("\n{}\n", plain(output).trim_end()));
    }
    text
}

/// How a job ended, in a line.
pub fn outcome(job: &Job) -> String {
    let why = job.error.as_deref().map(|error| format!(": {}", first_line(&plain(error), 200))).unwrap_or_default();
    format!("job {} {}{why}", job.id, status(job.status, job.error.is_some()).trim_end())
}

pub fn profiles(list: &[Profile]) -> String {
    let word = |value: &Option<Value>| match value {
        None => "-".to_owned(),
        Some(Value::String(text)) => plain(text),
        Some(other) => other.to_string(),
    };
    let mut text = String::new();
    for profile in list {
        let name = paint(&format!("{:14}", plain(&profile.name)), Colour::Bold);
        text.push_str(&format!("{name} {}\n", plain(&profile.description)));
        let details = format!(
            "model {}, max turns {}, permissions {}, pull request {}",
            word(&profile.model),
            word(&profile.max_turns),
            word(&profile.permission_mode),
            if profile.auto_pr { "yes" } else { "no" }
        );
        text.push_str(&format!("{:14} {}\n", "", paint(&details, Colour::Dim)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Record;
    use crate::job::tests::queued;

    #[test]
    fn lists_and_records_are_readable_and_harmless() {
        let record: Record = queued().claim("pod", Time(1_767_323_045_678)).fail("because".into(), Time(0)).into();
        let mut one = Job::new(&record, None);
        one.task = "\nfix \u{1b}[2J it\nmore".into();
        (one.created_at, one.deaths, one.cost_usd, one.turns) = (Time(1_767_323_045_678), 1, Some(0.5), Some(3));
        let list = jobs(&[JobSummary::from(&one)]);
        assert!(
            list.contains("  failed") && list.contains("2026-01-02 03:04:05") && !list.contains('\u{1b}'),
            "{list}"
        );
        let one = job(&one);
        assert!(one.contains("because") && one.contains("$0.5000 in 3 turns") && !one.contains('\u{1b}'), "{one}");
        assert_eq!(jobs(&[]), "no jobs\n");
    }
}
