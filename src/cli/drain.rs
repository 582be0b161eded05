//! `drain`: asks this pod's server to begin nothing more, shows what it waits for, and says how it went.

use super::client::Client;
use super::{Exit, Refusal, print, show};
use crate::config::Config;
use crate::store::redis::bystander::Bystander;
use serde_json::{Value, json};
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
        let was_draining = door.progress()?["draining"] == true;
        let progress = door.take_back()?;
        let said = if was_draining { "the drain was taken back\n" } else { "the pod was not draining\n" };
        return print(&if json { format!("{progress:#}\n") } else { said.to_owned() });
    }
    let mut progress = door.begin(limit)?;
    let began = Instant::now();
    let mut said_at: Option<Instant> = None;
    while count(&progress["running"]) > 0 {
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
        if progress["draining"] == false {
            clear();
            return Err(Refusal::new(Exit::Failed, "the drain was taken back: the pod begins jobs again"));
        }
    }
    clear();
    let handed_back = count(&progress["handed_back"]);
    print(&match (json, handed_back) {
        (true, _) => format!("{progress:#}\n"),
        (false, 0) => "drained: nothing runs here any more\n".to_owned(),
        (false, 1) => "drained: one job went back to the head of the queue\n".to_owned(),
        (false, count) => format!("drained: {count} jobs went back to the head of the queue\n"),
    })?;
    Ok(if handed_back == 0 { Exit::Done } else { Exit::HandedBack })
}

fn count(list: &Value) -> usize {
    list.as_array().map_or(0, Vec::len)
}

fn say(progress: &Value, left: Duration) {
    let ids: Vec<String> = progress["running"].as_array().into_iter().flatten().map(show::word).collect();
    let short: Vec<&str> = ids.iter().map(|id| &id[..id.len().min(8)]).collect();
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
    Redis(Box<Bystander>, String),
}

impl Door {
    fn open(config: &Config) -> Result<Self, Refusal> {
        let client = Client::new(config);
        let unreachable = match client.get("/health") {
            Ok(_) => return Ok(Door::Server(client)),
            Err(refusal) if refusal.exit == Exit::Unreachable => refusal,
            Err(refusal) => return Err(refusal),
        };
        let Some(settings) = &config.redis else { return Err(unreachable) };
        let failed =
            |why: String| Refusal::new(Exit::Unreachable, format!("{}; nor through Redis: {why}", unreachable.why));
        let redis = Bystander::new(settings, &config.pod_name).map_err(failed)?;
        match redis.state().map_err(failed)? {
            Some(state) => Ok(Door::Redis(Box::new(redis), state.incarnation)),
            None => Err(failed(format!("it knows no server of pod {} (AGENTICORE_POD_NAME)", config.pod_name))),
        }
    }

    fn begin(&self, limit: Duration) -> Result<Value, Refusal> {
        match self {
            Door::Server(client) => client.post(&format!("/admin/drain?timeout={}", limit.as_secs()), &Value::Null),
            Door::Redis(redis, incarnation) => {
                redis.ask_to_drain(incarnation, Some(limit)).map_err(away)?;
                self.wait_until(true)
            }
        }
    }

    fn take_back(&self) -> Result<Value, Refusal> {
        match self {
            Door::Server(client) => client.delete("/admin/drain"),
            Door::Redis(redis, incarnation) => {
                redis.ask_to_drain(incarnation, None).map_err(away)?;
                self.wait_until(false)
            }
        }
    }

    /// The server heeds what Redis says within a second or two.
    fn wait_until(&self, draining: bool) -> Result<Value, Refusal> {
        let until = Instant::now() + ENDING;
        loop {
            let progress = self.progress()?;
            if progress["draining"] == draining {
                return Ok(progress);
            }
            if Instant::now() > until {
                return Err(away("the pod does not heed what Redis tells it".into()));
            }
            std::thread::sleep(POLL);
        }
    }

    fn progress(&self) -> Result<Value, Refusal> {
        match self {
            Door::Server(client) => client.get("/admin/drain"),
            Door::Redis(redis, incarnation) => match redis.state().map_err(away)? {
                Some(state) if state.incarnation == *incarnation => Ok(json!({
                    "draining": state.draining, "running": state.running, "handed_back": state.handed_back,
                })),
                _ => Err(away("the pod went away, or was restarted, meanwhile".into())),
            },
        }
    }
}

fn away(why: String) -> Refusal {
    Refusal::new(Exit::Unreachable, why)
}
