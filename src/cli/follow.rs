//! Following a job: `logs`, and `run --wait`. What was cut is taken up again at its cursor, so nothing is missed and
//! nothing is shown twice.

use super::client::Client;
use super::events::EventPrinter;
use super::{Exit, Refusal, STOPPED, path_part, show};
use crate::api::{Event, EventPage, Job, JobAnswer};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use std::io::{BufRead, Write};
use std::time::{Duration, Instant};

/// How soon, and at most how seldom, a server that is away is tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(3);
/// Events in one page.
const AT_ONCE: usize = 500;

/// One job that is followed from a cursor on.
pub struct Follow<'a> {
    pub client: &'a Client,
    pub id: String,
    pub after: String,
    /// How long a server may be away; None: for as long as it takes.
    pub patience: Option<Duration>,
}

impl Follow<'_> {
    /// Tells each event, and returns the job once it has ended. `notice`: what is no event.
    pub fn until_end(
        &mut self,
        mut tell: impl FnMut(&Event) -> std::io::Result<()>,
        mut notice: impl FnMut(&str),
    ) -> Result<Option<Job>, Refusal> {
        let (mut away_since, mut pause): (Option<Instant>, _) = (None, FIRST_PAUSE);
        loop {
            let refusal = match self.read(&mut tell) {
                Ok(Read::Ended(job)) => return Ok(Some(*job)),
                Ok(Read::Cut) => {
                    (away_since, pause) = (None, FIRST_PAUSE);
                    continue;
                }
                Ok(Read::NobodyReads) => return Ok(None),
                // The server, or what it stands on, may come back. What is wrong with the question stays so.
                Err(refusal) if matches!(refusal.exit, Exit::Unreachable | Exit::Failed) => refusal,
                Err(refusal) => return Err(refusal),
            };
            let since = *away_since.get_or_insert_with(|| {
                notice(&format!("{refusal}; trying again"));
                Instant::now()
            });
            if self.patience.is_some_and(|patience| since.elapsed() > patience) {
                return Err(refusal);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Reads one stream until it ends, of itself or because it was cut.
    fn read(&mut self, tell: &mut impl FnMut(&Event) -> std::io::Result<()>) -> Result<Read, Refusal> {
        let stream = self.client.stream(&format!("/jobs/{}/events", path_part(&self.id)?), &self.after)?;
        let mut name = String::new();
        for line in stream.lines() {
            let Ok(line) = line else { return Ok(Read::Cut) };
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let strange = |_| Refusal::new(Exit::Failed, "the server sent an event that cannot be read");
                if name == "end" {
                    return serde_json::from_str(data).map(|job| Read::Ended(Box::new(job))).map_err(strange);
                }
                let event: Event = serde_json::from_str(data).map_err(strange)?;
                if tell(&event).is_err() {
                    return Ok(Read::NobodyReads);
                }
                self.after = event.cursor;
            }
        }
        Ok(Read::Cut)
    }
}

enum Read {
    Ended(Box<Job>),
    Cut,
    /// Whoever was told does not read any more.
    NobodyReads,
}

#[derive(Debug, PartialEq)]
pub struct Logs {
    pub id: String,
    pub follow: bool,
    pub since: String,
    pub json: bool,
}

/// `logs ID`: what happened; with `-f` also what happens, to the end.
pub fn logs(client: &Client, logs: &Logs) -> Result<Exit, Refusal> {
    let answer: JobAnswer = client.get(&format!("/jobs/{}", path_part(&logs.id)?))?;
    let (job, out) = (answer.job, std::io::stdout());
    let printer = EventPrinter::new(job.created_at, &out);
    let print = |event: &Event| {
        let text = match logs.json {
            true => format!("{}\n", serde_json::to_string(event).unwrap_or_default()),
            false => printer.text(event),
        };
        let mut out = std::io::stdout();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    };
    let id = job.id.to_string();
    if logs.follow {
        let mut follow = Follow { client, id, after: logs.since.clone(), patience: None };
        follow.until_end(print, say)?;
        return Ok(Exit::Done);
    }
    let mut after = logs.since.clone();
    loop {
        let page: EventPage = client.get_json(&format!("/jobs/{id}/events?limit={AT_ONCE}&after={after}"))?;
        if page.events.iter().try_for_each(print).is_err() || page.ended || page.events.is_empty() {
            return Ok(Exit::Done);
        }
        after = page.next.unwrap_or_default();
    }
}

/// `--wait`: says how to go on after Ctrl-C, shows what happens on standard error; the job, once it has ended.
pub fn to_the_end(client: &Client, job: Job, patience: Duration) -> Result<Job, Refusal> {
    let (id, status) = (&job.id, job.status.as_str());
    if !job.status.has_ended() {
        let _ = writeln!(std::io::stderr(), "job {id} is {status}; it goes on when you stop waiting");
    }
    if let Some(why) = &job.waiting_for {
        let _ = writeln!(std::io::stderr(), "the job waits for {}", show::plain(why));
    }
    say_how_to_go_on(id.short())?;
    wait(client, job, patience)
}

/// Ctrl-C ends the waiting, not the job.
fn say_how_to_go_on(id: &str) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| Refusal::new(Exit::Failed, error.to_string());
    let mut signals = Signals::new([SIGINT]).map_err(failed)?;
    let text =
        format!("\nthe job goes on; follow it with: agenticore logs {id} -f\ncancel it with: agenticore cancel {id}\n");
    // Waits for Ctrl-C; ends with the process.
    let waits = move || {
        if signals.forever().next().is_some() {
            let _ = std::io::stderr().write_all(text.as_bytes());
            std::process::exit(STOPPED);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(waits).map(drop).map_err(failed)
}

fn wait(client: &Client, job: Job, patience: Duration) -> Result<Job, Refusal> {
    let printer = EventPrinter::new(job.created_at, &std::io::stderr());
    let mut follow = Follow { client, id: job.id.to_string(), after: String::new(), patience: Some(patience) };
    let ended = follow.until_end(
        |event| {
            // Nobody to read it is no reason to stop waiting.
            let _ = std::io::stderr().write_all(printer.text(event).as_bytes());
            Ok(())
        },
        say,
    )?;
    ended.ok_or_else(|| Refusal::new(Exit::Failed, "the job was not followed to its end"))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "agenticore: {text}");
}
