//! `run --local`: one job in this very process, with its progress as it happens.

use super::events::EventPrinter;
use super::{Exit, Refusal, exit_of, pretty, print};
use super::{commands, show};
use crate::api::JobRequest;
use crate::config::Config;
use crate::job::Time;
use crate::service;
use crate::service::local::{Canceller, LocalJob};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;

pub fn run(config: Config, request: JobRequest, json: bool) -> Result<Exit, Refusal> {
    let failed = |error: std::io::Error| Refusal::new(Exit::Failed, error.to_string());
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let job = LocalJob::submit(config, request, || signals.pending().next().is_some()).map_err(refused)?;
    cancel_on_signal(signals, job.canceller()).map_err(failed)?;
    let printer = match json {
        // With --json standard output is the record alone.
        true => EventPrinter::new(Time::now(), &std::io::stderr()),
        false => EventPrinter::new(Time::now(), &std::io::stdout()),
    };
    let job = job.run(|event| {
        let text = printer.text(event);
        let _ = match json {
            true => std::io::stderr().write_all(text.as_bytes()),
            false => std::io::stdout().write_all(text.as_bytes()),
        };
    });
    let job = job.map_err(refused)?;
    print(&if json { pretty(&job) } else { format!("\n{}", show::job(&job, show::Ran::Here)) })?;
    Ok(exit_of(&job))
}

fn refused(refusal: service::Refusal) -> Refusal {
    if let service::Refusal::Invalid { field, why } = &refusal
        && let Some(flag) = flag_of(field)
    {
        return Refusal::new(Exit::BadUsage, format!("--{flag}: {why}"));
    }
    let exit = match refusal {
        service::Refusal::Invalid { .. } => Exit::BadUsage,
        service::Refusal::Cancelled => Exit::CancelledOrExpired,
        _ => Exit::Failed,
    };
    Refusal::new(exit, refusal.to_string())
}

/// The flag by which a field of a request is given here.
fn flag_of(field: &str) -> Option<&'static str> {
    let name = if field == "repo_url" { "repo".to_owned() } else { field.replace('_', "-") };
    commands::find("run")?.flags.iter().map(|flag| flag.name).find(|flag| *flag == name)
}

/// Ctrl-C cancels the job; its tree is ended and tidied before this process goes.
fn cancel_on_signal(mut signals: Signals, canceller: Canceller) -> std::io::Result<()> {
    // Waits for a signal; ends with the process.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            canceller.cancel();
        }
    })?;
    Ok(())
}
