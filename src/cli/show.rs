//! How answers look to people: colour on a terminal only, and never with NO_COLOR.

mod job;
mod jobs;
mod table;

pub use job::{Ran, TASK, text as job};
pub use table::{Cut, cut};

use crate::api::{Job, JobDiff, JobSummary, Plan, Profile, ServerStatus, WebhookState, WebhooksAnswer};
use crate::job::{Status, Time};
use crate::process::sys;
use jobs::Screen;
use serde_json::Value;
use std::io::IsTerminal;
use std::os::fd::AsFd;

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

/// A text from outside for a terminal.
pub use crate::plain::text as plain;

fn colour_of(status: Status, has_error: bool) -> Colour {
    match status {
        Status::Succeeded if has_error => Colour::Yellow,
        Status::Succeeded => Colour::Green,
        Status::Failed => Colour::Red,
        Status::Running => Colour::Blue,
        _ => Colour::Dim,
    }
}

fn status(status: Status, has_error: bool) -> String {
    paint(status.as_str(), colour_of(status, has_error))
}

fn first_line(text: &str, width: usize) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { " …" } else { "" };
    table::cut(&format!("{line}{more}"), width, table::Cut::End)
}

/// Standard output, as tables are fitted to it.
fn screen() -> Screen {
    let out = std::io::stdout();
    let is_terminal = out.is_terminal();
    let width = sys::terminal_width(out.as_fd()).filter(|_| is_terminal).map(usize::from);
    Screen { width, colourful: is_colourful(is_terminal), now: Time::now() }
}

/// Of the terminal behind standard output.
pub fn rows() -> Option<usize> {
    sys::terminal_size(std::io::stdout().as_fd()).map(|(_, rows)| usize::from(rows)).filter(|rows| *rows > 0)
}

pub fn jobs(list: &[JobSummary]) -> String {
    jobs::text(list, screen())
}

pub fn plans(list: &[Plan]) -> String {
    jobs::plans(list, screen())
}

/// How a server is, in one line that fits the terminal.
pub fn server_line(status: &ServerStatus, url: &str) -> String {
    let (state, colour) = match () {
        () if status.draining => ("draining", Colour::Yellow),
        () if status.runs_jobs => ("ok", Colour::Green),
        () => ("runs no jobs", Colour::Red),
    };
    let queued = status.queued.map_or("an unknown number".to_owned(), |count| count.to_string());
    let (pod, version) = (plain(&status.pod_name), plain(&status.version));
    let rest = format!(
        " at {url}: {pod}, version {version}, {} of {} slots in use, {queued} queued",
        status.running, status.slots
    );
    let room = screen().width.map_or(usize::MAX, |width| width.saturating_sub(state.len()));
    format!("{}{}", paint(state, colour), table::cut(&rest, room, table::Cut::End))
}

/// What a server needs, a line each, and what to do about what it lacks.
pub fn server_status(status: &ServerStatus, url: &str) -> String {
    let mut text = format!("{}\n", server_line(status, url));
    for check in &status.checks {
        let mark = if check.ok { paint("ok  ", Colour::Green) } else { paint("warn", Colour::Red) };
        let what = check.what_to_do.as_deref().map(|what| format!("; {}", plain(what))).unwrap_or_default();
        text.push_str(&format!("{mark} {:14} {}{what}\n", plain(&check.name), plain(&check.why)));
    }
    text.push_str(&pods(status));
    text
}

/// A pod that was last heard of so many seconds ago may be gone.
const SILENT: i64 = 10;

/// The pods of a fleet, a line each; nothing where there is one server alone.
fn pods(status: &ServerStatus) -> String {
    if status.pods.len() < 2 {
        return String::new();
    }
    let mut text = format!("\n{} pods:\n", status.pods.len());
    let now = status.pods.iter().map(|pod| pod.heard_at).max();
    for pod in &status.pods {
        let silent = now.map_or(0, |now| now.since(pod.heard_at) / 1000);
        let state = match () {
            () if silent >= SILENT => paint("silent  ", Colour::Red),
            () if pod.draining => paint("draining", Colour::Yellow),
            () if pod.unwell.is_empty() => paint("ok      ", Colour::Green),
            () => paint("unwell  ", Colour::Red),
        };
        let unwell: Vec<String> = pod.unwell.iter().map(|what| plain(what)).collect();
        let silent = if silent >= SILENT { format!(", heard of {silent} s ago") } else { String::new() };
        let unwell = if unwell.is_empty() { String::new() } else { format!(": {}", unwell.join("; ")) };
        let (name, version) = (plain(&pod.name), plain(&pod.version));
        let (running, slots) = (pod.running, pod.slots);
        text.push_str(&format!("{state} {name:20} {running} of {slots} slots, version {version}{silent}{unwell}\n"));
    }
    text
}

/// Webhooks that wait and that failed, a line each.
pub fn webhooks(answer: &WebhooksAnswer) -> String {
    if answer.webhooks.is_empty() {
        return "everybody is told\n".into();
    }
    let mut text = String::new();
    for one in &answer.webhooks {
        let colour = if one.state == WebhookState::Failed { Colour::Red } else { Colour::Yellow };
        let state = paint(&format!("{:8}", one.state.as_str()), colour);
        let next = one.next_at.map(|next| format!(", next at {next}")).unwrap_or_default();
        let last = one.last.as_deref().map(|last| format!(": {}", plain(last))).unwrap_or_default();
        let (id, url) = (one.job_id.short(), plain(&one.url));
        let tries = if one.tries == 1 { "try" } else { "tries" };
        text.push_str(&format!("{state} {id} {:8} {url}, {} {tries}{next}{last}\n", one.event, one.tries));
    }
    if answer.more {
        text.push_str("… and more\n");
    }
    text
}

/// A diff for a terminal.
pub fn diff(diff: &JobDiff) -> String {
    let line = |line: &str| {
        let shown = plain(line);
        let colour = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] | [b'd', b'i', b'f', b'f', ..] => Colour::Bold,
            [b'+', ..] => Colour::Green,
            [b'-', ..] => Colour::Red,
            [b'@', b'@', ..] => Colour::Blue,
            _ => return format!("{shown}\n"),
        };
        format!("{}\n", paint(&shown, colour))
    };
    format!("{}\n{}", plain(&diff.summary), diff.diff.lines().map(line).collect::<String>())
}

/// How a job ended, in a line.
pub fn outcome(job: &Job) -> String {
    let why = job.error.as_deref().map(|error| first_line(&plain(error), 200));
    // "cancelled while it was queued" says how it ended, too.
    let why = why.map(|why| match why.strip_prefix(job.status.as_str()) {
        Some(rest) if rest.starts_with(' ') => rest.to_owned(),
        _ => format!(": {why}"),
    });
    let why = why.unwrap_or_default();
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
