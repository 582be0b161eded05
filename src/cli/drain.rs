//! `drain`: asks this pod's server to begin nothing more, shows what it waits for, and says how it went.

use super::client::Client;
use super::show::plain;
use super::{Exit, Refusal, pretty, print};
use crate::api::{Drain, Status};
use crate::config::Config;
use crate::service::remote_drain::RemoteDrain;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often it is looked how far the drain has come.
const POLL: Duration = Duration::from_millis(300);
/// How often that is said where no terminal shows it in place.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// What ending agents and handing jobs back may take beyond the limit.
const ENDING: Duration = Duration::from_secs(60);

pub fn run(config: &Config, limit: Duration, cancel: bool, json: bool) -> Result<Exit, Refusal> {
    let door = Door::open(config)?;
    if cancel {
        let was_draining = door.progress()?.draining;
        let progress = door.take_back()?;
        let said = if was_draining { "the drain was taken back\n" } else { "the pod was not draining\n" };
        return print(&if json { pretty(&progress) } else { said.to_owned() });
    }
    let mut progress = door.begin(limit)?;
    let began = Instant::now();
    let mut said_at: Option<Instant> = None;
    while !progress.running.is_empty() {
        if said_at.is_none_or(|at| at.elapsed() >= SAY_EVERY) || std::io::stderr().is_terminal() {
            say(&progress, limit.saturating_sub(began.elapsed()));
            said_at = Some(Instant::now());
        }
        if began.elapsed() > limit + ENDING {
            return Err(Refusal::new(
                Exit::Failed,
                "the pod still runs jobs although the time is up: its log says why",
            ));
        }
        std::thread::sleep(POLL);
        progress = door.progress()?;
        if !progress.draining {
            clear();
            return Err(Refusal::new(Exit::Failed, "the drain was taken back: the pod begins jobs again"));
        }
    }
    clear();
    let handed_back = progress.handed_back.len();
    print(&match (json, handed_back) {
        (true, _) => pretty(&progress),
        (false, 0) => "drained: nothing runs here any more\n".to_owned(),
        (false, 1) => "drained: one job went back to the head of the queue\n".to_owned(),
        (false, count) => format!("drained: {count} jobs went back to the head of the queue\n"),
    })?;
    Ok(if handed_back == 0 { Exit::Done } else { Exit::HandedBack })
}

fn say(progress: &Drain, left: Duration) {
    let short: Vec<String> = progress.running.iter().map(|id| plain(id).chars().take(8).collect()).collect();
    let jobs = if short.len() == 1 { "job" } else { "jobs" };
    let line = format!("waiting for {} {jobs}, {} s left: {}", short.len(), left.as_secs(), short.join(" "));
    let mut out = std::io::stderr();
    let _ = if out.is_terminal() { write!(out, "\r\x1b[K{line}") } else { writeln!(out, "{line}") };
}

fn clear() {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

/// The server itself; or Redis, when the server cannot be reached.
enum Door {
    Server(Client),
    Redis(RemoteDrain),
}

impl Door {
    fn open(config: &Config) -> Result<Self, Refusal> {
        let client = Client::new(config)?;
        let unreachable = match client.get::<Status>("/health") {
            Ok(_) => return Ok(Door::Server(client)),
            Err(refusal) if refusal.exit == Exit::Unreachable => refusal,
            Err(refusal) => return Err(refusal),
        };
        match RemoteDrain::open(config) {
            None => Err(unreachable),
            Some(Ok(redis)) => Ok(Door::Redis(redis)),
            Some(Err(why)) => Err(away(format!("{}; nor through Redis: {why}", unreachable.why))),
        }
    }

    fn begin(&self, limit: Duration) -> Result<Drain, Refusal> {
        match self {
            Door::Server(client) => client.post(&format!("/admin/drain?timeout={}", limit.as_secs()), &Value::Null),
            Door::Redis(redis) => redis.begin(limit).map_err(away),
        }
    }

    fn take_back(&self) -> Result<Drain, Refusal> {
        match self {
            Door::Server(client) => client.delete("/admin/drain"),
            Door::Redis(redis) => redis.take_back().map_err(away),
        }
    }

    fn progress(&self) -> Result<Drain, Refusal> {
        match self {
            Door::Server(client) => client.get("/admin/drain"),
            Door::Redis(redis) => redis.progress().map_err(away),
        }
    }
}

fn away(why: String) -> Refusal {
    Refusal::new(Exit::Unreachable, why)
}
