//! How answers look to people: colour on a terminal only, and never with NO_COLOR.

use serde_json::Value;
use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::Instant;

#[derive(Clone, Copy)]
pub enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
}

fn is_colourful(terminal: bool) -> bool {
    let plain = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !plain("NO_COLOR") && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

pub fn paint(text: &str, colour: Colour) -> String {
    if is_colourful(std::io::stdout().is_terminal()) {
        format!("\x1b[{}m{text}\x1b[0m", colour as u8)
    } else {
        text.to_owned()
    }
}

/// A text from outside for a terminal: without control characters, which could do anything there.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

pub fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

fn status(job: &Value) -> String {
    let name = word(&job["status"]);
    let colour = match name.as_str() {
        "succeeded" if job["error"].is_string() => Colour::Yellow,
        "succeeded" => Colour::Green,
        "failed" => Colour::Red,
        "running" => Colour::Blue,
        _ => Colour::Dim,
    };
    paint(&format!("{name:9}"), colour)
}

fn first_line(text: &str, width: usize) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    if line.chars().count() <= width { line.to_owned() } else { line.chars().take(width - 1).chain(['…']).collect() }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub fn jobs(list: &Value) -> String {
    if rows(list).is_empty() {
        return "no jobs\n".into();
    }
    let pod = |job: &Value| job["pod_name"].as_str().map_or("-".to_owned(), plain);
    let width = rows(list).iter().map(|job| pod(job).chars().count()).max().unwrap_or(0).clamp(3, 24);
    let head = format!("ID        STATUS     CREATED              PROFILE     {:width$}  TASK\n", "POD");
    let mut text = paint(&head, Colour::Bold);
    for job in rows(list) {
        let (id, created) = (word(&job["id"]), word(&job["created_at"]));
        let created = created.get(..19).unwrap_or(&created).replace('T', " ");
        let id = id.get(..8).unwrap_or(&id);
        let task = first_line(&word(&job["task"]), 60);
        let (profile, pod) = (word(&job["profile"]), first_line(&pod(job), 24));
        text.push_str(&format!("{id}  {}  {created}  {profile:10}  {pod:width$}  {task}\n", status(job)));
    }
    text
}

/// One job with everything that has a value.
pub fn job(job: &Value) -> String {
    let mut text = String::new();
    let mut line =
        |name: &str, value: String| text.push_str(&format!("{} {value}\n", paint(&format!("{name:14}"), Colour::Dim)));
    line("job", word(&job["id"]));
    line("status", status(job).trim_end().to_owned());
    line("task", first_line(&word(&job["task"]), 100));
    let told = [
        "waiting_for",
        "profile",
        "repo_url",
        "base_ref",
        "branch",
        "pr_url",
        "commit",
        "note",
        "kept_because",
        "session_id",
        "job_config_dir",
        "worktree_path",
        "pod_name",
    ];
    for name in told {
        if job[name].is_string() {
            line(name, word(&job[name]));
        }
    }
    line(
        "attempt",
        match job["deaths"].as_u64() {
            Some(0) | None => word(&job["attempt"]),
            Some(1) => format!("{} (one worker lost)", word(&job["attempt"])),
            Some(count) => format!("{} ({count} workers lost)", word(&job["attempt"])),
        },
    );
    for name in ["created_at", "started_at", "ended_at"] {
        if job[name].is_string() {
            line(name, word(&job[name]));
        }
    }
    if let Some(cost) = job["cost_usd"].as_f64() {
        line("cost", format!("${cost:.4} in {} turns", word(&job["turns"])));
    }
    let denied: Vec<String> = rows(&job["denied_tools"]).iter().map(word).collect();
    if !denied.is_empty() {
        line("denied tools", denied.join(", "));
    }
    if job["error"].is_string() {
        line("error", word(&job["error"]));
    }
    if let Some(output) = job["output"].as_str() {
        text.push_str(&format!("\n{}\n", plain(output).trim_end()));
    }
    text
}

/// How a job ended, in a line.
pub fn outcome(job: &Value) -> String {
    let why = job["error"].as_str().map(|error| format!(": {}", first_line(&plain(error), 200))).unwrap_or_default();
    format!("job {} {}{why}", word(&job["id"]), status(job).trim_end())
}

pub fn profiles(list: &Value) -> String {
    let mut text = String::new();
    for profile in rows(list) {
        let name = paint(&format!("{:14}", word(&profile["name"])), Colour::Bold);
        text.push_str(&format!("{name} {}\n", word(&profile["description"])));
        let details = format!(
            "model {}, max turns {}, permissions {}, pull request {}",
            word(&profile["model"]),
            word(&profile["max_turns"]),
            word(&profile["permission_mode"]),
            if profile["auto_pr"] == true { "yes" } else { "no" }
        );
        text.push_str(&format!("{:14} {}\n", "", paint(&details, Colour::Dim)));
    }
    text
}

/// One line on a terminal's standard error that is written over again while something is waited for.
pub struct Progress {
    began: Instant,
    shows: bool,
    last: RefCell<String>,
}

impl Progress {
    pub fn new(json: bool) -> Self {
        Self { began: Instant::now(), shows: !json && std::io::stderr().is_terminal(), last: RefCell::default() }
    }

    pub fn show(&self, job: &Value) {
        let text = format!("{} for {} s", word(&job["status"]), self.began.elapsed().as_secs());
        if self.shows && *self.last.borrow() != text {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
            *self.last.borrow_mut() = text;
        }
    }

    pub fn clear(&self) {
        if self.shows {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_records_are_readable_and_harmless() {
        let record = json!({"id": "0123456789ab", "status": "failed", "task": "\nfix \u{1b}[2J it\nmore", "profile": "coding",
            "created_at": "2026-01-02T03:04:05.678Z", "error": "because", "attempt": 2, "deaths": 1, "cost_usd": 0.5, "turns": 3});
        let list = jobs(&json!([record]));
        assert!(
            list.contains("01234567  failed") && list.contains("2026-01-02 03:04:05") && !list.contains('\u{1b}'),
            "{list}"
        );
        let one = job(&record);
        assert!(one.contains("because") && one.contains("$0.5000 in 3 turns") && !one.contains('\u{1b}'), "{one}");
        assert_eq!(jobs(&json!([])), "no jobs\n");
    }
}
