//! `run --local`: one job in this very process, with its progress as it happens.
//!
//! No server and no Redis; a store of its own below `~/.agenticore/local/`. It shares the clone cache
//! with servers, under its lock.

use super::show::{self, Colour, paint, plain};
use super::{Exit, Refusal, exit_of, pretty, print};
use crate::api::{self, JobRequest};
use crate::config::Config;
use crate::event::{Event, Kind};
use crate::fleet::submit;
use crate::job::JobId;
use crate::pipeline::Runner;
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use crate::store::{Claim, Error, Store, embedded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How soon an event is shown.
const TICK: Duration = Duration::from_millis(50);
const EVENTS_AT_ONCE: usize = 500;

pub fn run(config: Config, request: JobRequest, json: bool) -> Result<Exit, Refusal> {
    let failed = |why: String| Refusal::new(Exit::Failed, why);
    sys::become_subreaper().map_err(|error| failed(format!("cannot become a subreaper: {error}")))?;
    let home = config.own_dir.join("local");
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| failed(error.to_string()))?;
    sweep(&config, &home);
    if signals.pending().next().is_some() {
        return Err(Refusal::new(Exit::CancelledOrExpired, "cancelled before the job began"));
    }
    let place = home.join(uuid::Uuid::new_v4().to_string());
    let config = config.with_jobs_dir(place.clone());
    let store = embedded::open(&place, &config.pod_name).map_err(failed)?;
    let runner = Arc::new(Runner::new(config, store.clone(), store.agents_lock()).map_err(failed)?);
    let spec = submit::judge(request, &runner).map_err(|why| {
        let _ = std::fs::remove_dir_all(&place);
        Refusal::new(Exit::BadUsage, why)
    })?;
    if let Some(missing) = runner.lacks(&spec.profile) {
        let _ = std::fs::remove_dir_all(&place);
        return Err(failed(format!("the job needs {missing}")));
    }
    let unavailable = |error: Error| failed(error.to_string());
    let submitted = store.submit(spec, None).map_err(unavailable)?;
    let claimed = store.claim(Duration::ZERO, None).map_err(unavailable)?;
    let stop = claimed.as_ref().map(|claim| claim.stop.clone()).unwrap_or_default();
    cancel_on_signal(signals, &submitted.id, store.clone(), stop.clone()).map_err(|error| failed(error.to_string()))?;
    if let Some(Claim { record, .. }) = claimed {
        let worker = std::thread::Builder::new().name("worker-1".into());
        let (working, stopping) = (runner.clone(), stop.clone());
        // Runs the one job; ends with it.
        let worker =
            worker.spawn(move || working.attempt(record, &stopping)).map_err(|error| failed(error.to_string()))?;
        let mut shown = 0;
        while !worker.is_finished() {
            shown = show_events(store.as_ref(), &submitted.id, shown, json);
            std::thread::sleep(TICK);
        }
        if worker.join().is_err() {
            return Err(failed("the runner failed on this job; that is a fault of agenticore".into()));
        }
        show_events(store.as_ref(), &submitted.id, shown, json);
    }
    runner.clear_runtime();
    let record =
        store.get(&submitted.id).map_err(unavailable)?.it.ok_or_else(|| failed("the job's record is gone".into()))?;
    let shown = api::shown(&record);
    print(&if json { pretty(&shown) } else { format!("\n{}", show::job(&shown)) })?;
    Ok(exit_of(&shown))
}

/// Ctrl-C cancels the job; its tree is ended and tidied before this process goes.
fn cancel_on_signal(mut signals: Signals, id: &JobId, store: Arc<dyn Store>, stop: Stop) -> std::io::Result<()> {
    let id = id.clone();
    // Waits for a signal; ends with the process.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            let _ = store.cancel(&id);
            stop.request(Reason::Cancelled);
        }
    })?;
    Ok(())
}

/// Tidies after earlier local runs: those that were killed, and those whose time to live is over.
fn sweep(config: &Config, home: &Path) {
    for place in std::fs::read_dir(home).into_iter().flatten().flatten().map(|entry| entry.path()) {
        // One that runs holds its lock.
        let Ok(store) = embedded::open(&place, &config.pod_name) else { continue };
        let Ok(runner) = Runner::new(config.with_jobs_dir(place.clone()), store.clone(), store.agents_lock()) else {
            continue;
        };
        if store.recover(Duration::from_secs(5)).is_err() {
            continue;
        }
        runner.clear_runtime();
        while let Ok(Some(Claim { record, .. })) = store.claim(Duration::ZERO, None) {
            if store.cancel(&record.id).is_ok() {
                runner.clean_up(&record);
            }
        }
        store.leftovers().iter().for_each(|record| runner.clean_up(record));
        store.tend().unwrap_or_default().iter().for_each(|record| runner.forget(record));
        runner.clear_runtime();
        if store.list(1, None).is_ok_and(|left| left.it.is_empty()) {
            drop(store);
            let _ = std::fs::remove_dir_all(&place);
        }
    }
}

/// Shows what has happened since event number `after`; returns the last number.
fn show_events(store: &dyn Store, id: &JobId, after: u64, json: bool) -> u64 {
    let events = store.events(id, after, EVENTS_AT_ONCE).unwrap_or_default();
    for event in &events {
        // With --json standard output is the record alone.
        let line = line_of(event);
        let _ = if json { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    }
    events.last().map_or(after, |event| event.number)
}

fn line_of(event: &Event) -> String {
    let time = event.time.to_string();
    let time = paint(time.get(11..19).unwrap_or_default(), Colour::Dim);
    let text = plain(&event.text);
    let (mark, colour) = match event.kind {
        Kind::AgentText => ("says", Colour::Bold),
        Kind::AgentTool => ("does", Colour::Blue),
        Kind::AgentToolResult => ("sees", Colour::Dim),
        Kind::AgentNotice | Kind::PublishNotice | Kind::EventsCut | Kind::WorkerLost => ("note", Colour::Yellow),
        Kind::PrOpened | Kind::Pushed | Kind::Committed => ("work", Colour::Green),
        _ => ("job", Colour::Dim),
    };
    let name = serde_json::to_value(event.kind).map(|kind| show::word(&kind).replace('_', " ")).unwrap_or_default();
    let text = match (event.kind, &event.tool) {
        (Kind::AgentTool, Some(tool)) => format!("{}: {}", plain(tool), shorten(&text)),
        (Kind::AgentText, _) => text,
        (Kind::AgentToolResult | Kind::AgentNotice, _) => shorten(&text),
        (_, _) if text.is_empty() => name,
        (_, _) => format!("{name}: {}", shorten(&text)),
    };
    format!("{time} {} {text}", paint(&format!("{mark:4}"), colour))
}

/// On a terminal a line or two of it; elsewhere, where somebody searches, all on one line.
fn shorten(text: &str) -> String {
    let width = if std::io::stdout().is_terminal() { 160 } else { 1000 };
    let line = text.split('\n').map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ⏎ ");
    if line.chars().count() <= width { line } else { line.chars().take(width - 1).chain(['…']).collect() }
}
