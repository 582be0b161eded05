//! `jobs --watch` and `watch`: the table of jobs, drawn again when a job changes. Asks no job how it is: it waits for
//! what the server tells of all of them.

use super::client::Client;
use super::{Exit, Refusal, STOPPED, say_if_stale, show};
use crate::api::{ChangePage, JobSummary, JobsAnswer, ServerStatus};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Ages go on by themselves: so often, in seconds, all is drawn again though nothing changed.
const DRAW_AGAIN: u64 = 5;
/// How soon a server that is away is asked again.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// Beyond the table: the line of the server, and the one below.
const OTHER_LINES: usize = 3;

/// Until Ctrl-C. `path`: of the list, with what is wanted of it.
pub fn run(client: &Client, path: &str, with_server: bool) -> Result<Exit, Refusal> {
    if !std::io::stdout().is_terminal() {
        let why = "watching needs a terminal: use `agenticore jobs`, or GET /events for a program";
        return Err(Refusal::new(Exit::BadUsage, why));
    }
    end_at_ctrl_c()?;
    let mut after = newest_change(client)?;
    loop {
        let drawn = draw(client, path, with_server);
        let text = match &drawn {
            Ok(text) => text.clone(),
            Err(refusal) if refusal.exit == Exit::BadUsage => {
                return Err(Refusal::new(refusal.exit, refusal.why.clone()));
            }
            Err(refusal) => format!("{refusal}; trying again\n"),
        };
        // In place of what was there, without a flicker: each line to its end, then all below.
        let text = text.replace('\n', "\x1b[K\n");
        let mut out = std::io::stdout();
        if write!(out, "\x1b[H{text}\x1b[J").and_then(|()| out.flush()).is_err() {
            return Ok(Exit::Done);
        }
        match drawn.and_then(|_| next_change(client, &after)) {
            Ok(next) => after = next,
            Err(_) => std::thread::sleep(AWAY_PAUSE),
        }
    }
}

/// The shell goes on below the table, on a line of its own.
fn end_at_ctrl_c() -> Result<(), Refusal> {
    let failed = |error: std::io::Error| Refusal::new(Exit::Failed, error.to_string());
    let mut signals = Signals::new([SIGINT]).map_err(failed)?;
    // Waits for Ctrl-C; ends with the process.
    let waits = move || {
        if signals.forever().next().is_some() {
            let _ = std::io::stdout().write_all(b"\r\x1b[K\n");
            std::process::exit(STOPPED);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(waits).map(drop).map_err(failed)
}

fn draw(client: &Client, path: &str, with_server: bool) -> Result<String, Refusal> {
    let answer: JobsAnswer<JobSummary> = client.get(path)?;
    say_if_stale(answer.stale);
    let rows = show::rows().unwrap_or(usize::MAX).saturating_sub(OTHER_LINES);
    let table = show::jobs(&answer.jobs);
    let mut text = String::new();
    if with_server {
        let status: ServerStatus = client.get("/status")?;
        text.push_str(&show::server_line(&status, client.url()));
        text.push_str("\n\n");
    }
    table.lines().take(rows).for_each(|line| text.push_str(&format!("{line}\n")));
    Ok(text)
}

/// Where to begin to listen.
fn newest_change(client: &Client) -> Result<String, Refusal> {
    let mut after = String::new();
    loop {
        let page: ChangePage = client.get_json(&format!("/events?limit=1000&after={after}"))?;
        match page.next {
            Some(next) if !page.events.is_empty() => after = next,
            _ => return Ok(after),
        }
    }
}

/// Returns when something changed, or it is time to draw again.
fn next_change(client: &Client, after: &str) -> Result<String, Refusal> {
    let page: ChangePage = client.get_json(&format!("/events?limit=1000&wait={DRAW_AGAIN}&after={after}"))?;
    Ok(page.next.unwrap_or_else(|| after.to_owned()))
}
