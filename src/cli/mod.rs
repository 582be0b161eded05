//! The command line: what a command does, and how it ends.

mod args;
mod client;
mod commands;
mod completions;
mod config;
mod doctor;
mod drain;
mod events;
mod follow;
mod help;
mod hooks;
mod init;
mod init_shared_fs;
mod key;
mod local;
mod man;
mod mcp;
mod plans;
mod show;
mod submit;
mod watch;
mod webhooks;

use crate::api::{
    Job, JobAnswer, JobDiff, JobSummary, JobsAnswer, ProfilesAnswer, Readiness, ServerStatus, Status as Health,
};
use crate::config::Config;
use crate::job::Status;
use crate::log;
use crate::redact::Redactor;
use crate::server;
use args::{Command, List, Parsed};
use client::Client;
use serde::Serialize;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::Stdio;
use std::time::Duration;
use submit::{request_of, task_of};

#[cfg(test)]
pub use help::of_all as help_of_all;
pub use show::{Cut, cut};

/// How a command ended. `docs/jobs.md` has them in a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    BadUsage = 2,
    /// A drain had to put jobs back into the queue.
    HandedBack = 3,
    CancelledOrExpired = 4,
    NotPublished = 5,
    Unreachable = 6,
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub struct Refusal {
    pub exit: Exit,
    pub why: String,
}

impl Refusal {
    pub fn new(exit: Exit, why: impl Into<String>) -> Self {
        Self { exit, why: why.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// How soon `status --wait` asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// The exit code of a command that Ctrl-C ended, as shells have it.
const STOPPED: i32 = 130;
/// How long `run --wait` bears a server that restarts: its jobs go on then.
const AWAY_LIMIT: Duration = Duration::from_secs(120);

pub fn main(arguments: Vec<std::ffi::OsString>) -> Exit {
    let result = args::parse(arguments).map_err(|why| Refusal::new(Exit::BadUsage, why)).and_then(run);
    match result {
        Ok(exit) => exit,
        Err(refusal) => {
            log::refusal(&refusal.to_string());
            refusal.exit
        }
    }
}

/// A server tells what it does, in a form that what collects its lines can read; a command tells what is wrong.
fn set_up_log(config: Option<&Config>, is_server: bool) {
    let usual = if is_server { log::Level::Info } else { log::Level::Warn };
    let level = config.and_then(|config| config.log_level).unwrap_or(usual);
    let asked = match config {
        Some(config) => config.log_format.clone(),
        // Also why the settings cannot be read is said in it.
        None => std::env::var("AGENTICORE_LOG_FORMAT").ok(),
    };
    let format = if is_server { log::format_of(asked.as_deref()) } else { log::Format::Text };
    log::configure(level, format, config.map(|config| Redactor::new(config.secrets())).unwrap_or_default());
}

fn run(Parsed { command, server }: Parsed) -> Result<Exit, Refusal> {
    match &command {
        Command::Help(about) => return print(&help::text(*about)),
        Command::KeyNew(wanted) => return key::new(wanted),
        Command::Completions(shell) => return print(&completions::text(*shell)),
        Command::Man => return print(&man::text()),
        Command::Version => return print(concat!("agenticore ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => {}
    }
    let is_server = matches!(command, Command::Serve { .. });
    set_up_log(None, is_server);
    let mut config =
        Config::load(command.needs_home()).map_err(|error| Refusal::new(Exit::BadUsage, error.to_string()))?;
    config.client.url = server.or(config.client.url);
    set_up_log(Some(&config), is_server);
    // A health check would repeat them for ever.
    if !is_server && !matches!(command, Command::Status { alive: true, .. }) {
        for warning in &config.warnings {
            log::warning(warning);
        }
    }
    match command {
        Command::Help(_) | Command::Version | Command::KeyNew(_) | Command::Completions(_) | Command::Man => {
            Ok(Exit::Done)
        }
        Command::Serve { host, port } => {
            config.host = host.unwrap_or(config.host);
            config.port = port.unwrap_or(config.port);
            if config.is_stdio
                && let Some(holder) = server::holder(&config)
            {
                return mcp::run(bridge_to(&holder, config)?);
            }
            let served = if config.is_stdio { server::serve_stdio(config) } else { server::serve(config) };
            served
                .map(|()| Exit::Done)
                .map_err(|error| Refusal::new(Exit::Failed, format!("the server did not start: {error}")))
        }
        Command::Webhooks { retry, json } => webhooks::run(&Client::new(&config)?, retry, json),
        Command::Init(wanted) => init::run(&config, &wanted),
        Command::Config { json } => print(&config::text(&config, json)),
        Command::Run(run) if run.local => local::run(config, request_of(&run)?, run.json),
        Command::Run(run) => submit::submit(&Client::new(&config)?, &run),
        Command::Jobs(wanted) if wanted.watch => {
            watch::run(&Client::new(&config)?, &format!("{}&view=summary", path_of(&wanted)), false)
        }
        Command::Jobs(wanted) => list(&Client::new(&config)?, &wanted),
        Command::Watch(wanted) => {
            watch::run(&Client::new(&config)?, &format!("{}&view=summary", path_of(&wanted)), true)
        }
        Command::Open { id } => open(&Client::new(&config)?, &id),
        Command::Job { id, json } => {
            let mut answer: JobAnswer = Client::new(&config)?.get(&format!("/jobs/{}", path_part(&id)?))?;
            say_if_stale(answer.stale);
            answer.job.stale = answer.stale;
            print(&if json { pretty(&answer.job) } else { show::job(&answer.job, show::Ran::OnServer) })
        }
        Command::Diff { id, json } => diff(&Client::new(&config)?, &id, json),
        Command::Mcp => mcp::run(Client::new(&config)?),
        Command::Logs(logs) => follow::logs(&Client::new(&config)?, &logs),
        Command::Retry { ids, wait, idempotency_key, json } => {
            let client = Client::new(&config)?;
            let retry = |id: &str| -> Result<Job, Refusal> {
                let path = format!("/jobs/{}/retry", path_part(id)?);
                let key = idempotency_key.as_deref();
                client.post_with_key(&path, &serde_json::json!({}), key).map(|answer: JobAnswer| answer.job)
            };
            match &ids[..] {
                [id] => tell(&client, retry(id)?, wait, json),
                _ => each(&ids, json, retry, |job| {
                    let of = job.retry_of.as_ref().map(|of| of.short()).unwrap_or_default();
                    format!("{} {}, a retry of {of}\n", job.status.as_str(), job.id)
                }),
            }
        }
        Command::Resume { id, task, wait, idempotency_key, json } => {
            let (client, path) = (Client::new(&config)?, format!("/jobs/{}/resume", path_part(&id)?));
            let body = serde_json::json!({"task": task_of(&task)?});
            let answer: JobAnswer = client.post_with_key(&path, &body, idempotency_key.as_deref())?;
            tell(&client, answer.job, wait, json)
        }
        Command::Cancel { ids, json } => {
            let client = Client::new(&config)?;
            let cancel = |id: &str| -> Result<Job, Refusal> {
                client.delete(&format!("/jobs/{}", path_part(id)?)).map(|answer: JobAnswer| answer.job)
            };
            each(&ids, json, cancel, |job| format!("{}\n", show::outcome(job)))
        }
        Command::Plan(plan) => plans::submit(&Client::new(&config)?, &plan),
        Command::Plans { limit, json } => plans::list(&Client::new(&config)?, limit, json),
        Command::ExecutePlan(execute) => plans::execute(&Client::new(&config)?, &execute),
        Command::Profiles { json } => {
            let answer: ProfilesAnswer = Client::new(&config)?.get("/profiles")?;
            for warning in answer.errors.iter().chain(&answer.warnings) {
                log::warning(warning);
            }
            print(&if json { pretty(&answer.profiles) } else { show::profiles(&answer.profiles) })
        }
        Command::Doctor { fix, cluster, discard: None, json } => doctor::run(config, fix, cluster, json),
        Command::Doctor { discard: Some(id), .. } => doctor::discard(config, &id),
        Command::Drain { limit, cancel, json } => drain::run(&config, limit, cancel, json),
        Command::HooksSync { target, url, json } => hooks::sync(config, &target, url.as_deref(), json),
        Command::InitSharedFs { root, json } => init_shared_fs::run(&config, root, json),
        Command::Status { alive: true, .. } => {
            Client::new(&config)?.get::<Health>("/health")?;
            Ok(Exit::Done)
        }
        Command::Status { json, wait, .. } => {
            let client = Client::new(&config)?;
            if let Some(limit) = wait {
                wait_until_ready(&client, limit)?;
            }
            let answer: ServerStatus = client.get("/status")?;
            print(&if json { pretty(&answer) } else { show::server_status(&answer, client.url()) })?;
            // Who waited, did so until jobs are taken in; whether an agent can log in is another question.
            Ok(if answer.runs_jobs || wait.is_some() { Exit::Done } else { Exit::Failed })
        }
    }
}

/// Where a server has the jobs directory already, that one is used; its jobs go on when the input ends.
fn bridge_to(holder: &server::Holder, mut config: Config) -> Result<Client, Refusal> {
    config.client.url = config.client.url.or_else(|| holder.url.clone());
    if config.client.url.is_some() {
        return Client::new(&config);
    }
    let (who, directory) = (&holder.process, config.jobs_dir.display());
    let why = format!(
        "an MCP server on standard input (process {who}) has the jobs directory {directory} already: give this one its \
         own AGENTICORE_JOBS_DIR, or run `agenticore serve` once without AGENTICORE_TRANSPORT=stdio for all clients"
    );
    Err(Refusal::new(Exit::Failed, why))
}

/// An answer from the second copy says so: to people, and in each job to machines.
fn say_if_stale(is_stale: bool) {
    if is_stale {
        let _ = writeln!(std::io::stderr(), "agenticore: Redis is away: this is what the job files say");
    }
}

/// Of the list that is wanted.
fn path_of(wanted: &List) -> String {
    let mut query = form_urlencoded::Serializer::new(format!("limit={}", wanted.limit));
    query.extend_pairs(wanted.status.map(|status| ("status", status.as_str())));
    query.extend_pairs(&wanted.asked);
    format!("/jobs?{}", query.finish())
}

fn list(client: &Client, wanted: &List) -> Result<Exit, Refusal> {
    let path = path_of(wanted);
    if wanted.json {
        let mut answer: JobsAnswer<Job> = client.get(&path)?;
        say_if_stale(answer.stale);
        answer.jobs.iter_mut().for_each(|job| job.stale = answer.stale);
        return print(&pretty(&answer.jobs));
    }
    let answer: JobsAnswer<JobSummary> = client.get(&format!("{path}&view=summary"))?;
    say_if_stale(answer.stale);
    print(&show::jobs(&answer.jobs))?;
    if let Some(next) = answer.next.filter(|_| std::io::stdout().is_terminal()) {
        print(&format!("older ones: the same with --after {next}\n"))?;
    }
    Ok(Exit::Done)
}

/// Shows a job's pull request in a browser, or the job on the server's page, and says its address in any case.
fn open(client: &Client, id: &str) -> Result<Exit, Refusal> {
    let answer: JobAnswer = client.get(&format!("/jobs/{}", path_part(id)?))?;
    let url = answer.job.pr_url.unwrap_or_else(|| format!("{}/?job={}", client.url(), answer.job.id));
    let url = show::plain(&url);
    // Whoever wrote the address was the forge; a browser is shown nothing but the web.
    let is_web = url.starts_with("https://") || url.starts_with("http://");
    let own = std::env::var_os("BROWSER").filter(|program| !program.is_empty());
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    if is_web && (own.is_some() || has_screen) && std::io::stdout().is_terminal() {
        let mut browser = std::process::Command::new(own.unwrap_or_else(|| "xdg-open".into()));
        let quiet = browser.arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Without one the address is enough.
        drop(quiet.spawn());
    }
    print(&format!("{url}\n"))
}

/// What a job changed, as `git apply` takes it.
fn diff(client: &Client, id: &str, json: bool) -> Result<Exit, Refusal> {
    let answer: JobDiff = client.get(&format!("/jobs/{}/diff", path_part(id)?))?;
    if json {
        return print(&pretty(&answer));
    }
    let is_terminal = std::io::stdout().is_terminal();
    // To a file or a program it goes as it is.
    print(&if is_terminal { show::diff(&answer) } else { answer.diff })?;
    if answer.cut {
        log::warning("the diff is longer than what is kept of it: the job's branch, or its kept work, has all");
    }
    if !answer.lacks.is_empty() && !is_terminal {
        let lacks = answer.lacks.join(", ");
        log::warning(&format!("the diff lacks {lacks}: the job's branch, or its kept work, has all as it is"));
    }
    Ok(Exit::Done)
}

/// Each in turn, whatever becomes of the others; the exit code is the first that is not good.
fn each(
    ids: &[String],
    json: bool,
    ask: impl Fn(&str) -> Result<Job, Refusal>,
    line: impl Fn(&Job) -> String,
) -> Result<Exit, Refusal> {
    let (mut answers, mut exit) = (Vec::new(), Exit::Done);
    for id in ids {
        match ask(id) {
            Ok(job) if json => answers.push(job),
            Ok(job) => print(&line(&job)).map(drop)?,
            // Of one alone it is the answer.
            Err(refusal) if ids.len() == 1 => return Err(refusal),
            Err(refusal) => {
                let names_it = refusal.why.contains(id);
                log::refusal(&if names_it { refusal.why } else { format!("{id}: {refusal}") });
                exit = if exit == Exit::Done { refusal.exit } else { exit };
            }
        }
    }
    match (json, &answers[..]) {
        (false, _) => {}
        (true, [one]) if ids.len() == 1 => drop(print(&pretty(one))?),
        (true, all) => drop(print(&pretty(&all))?),
    }
    Ok(exit)
}

/// Says that a job was taken; with `wait` follows it to its end and says how that was.
fn tell(client: &Client, mut job: Job, wait: bool, json: bool) -> Result<Exit, Refusal> {
    if wait {
        job = follow::to_the_end(client, job, AWAY_LIMIT)?;
        // With what was kept of its work. A server that goes just now has told the end already.
        if let Ok(answer) = client.get::<JobAnswer>(&format!("/jobs/{}", job.id)) {
            job = answer.job;
        }
    }
    if json {
        print(&pretty(&job))?;
    } else if wait {
        print(&show::job(&job, show::Ran::OnServer))?;
    } else if job.status.has_ended() {
        // It was submitted before: by the same key, or for the same plan.
        let again = format!("submit it again with: agenticore retry {}\n", job.id.short());
        let again = if job.status == Status::Succeeded { "" } else { &again };
        print(&format!("{}\n{again}", show::outcome(&job)))?;
    } else {
        let (id, status) = (&job.id, job.status.as_str());
        print(&format!("{status} {id}\nfollow it with: agenticore logs {} -f\n", id.short()))?;
    }
    Ok(if wait { exit_of(&job) } else { Exit::Done })
}

/// A server that has just been started, or is not told enough yet, may become ready.
fn wait_until_ready(client: &Client, limit: Duration) -> Result<(), Refusal> {
    let until = std::time::Instant::now() + limit;
    loop {
        let refusal = match client.get::<Readiness>("/ready") {
            Ok(_) => return Ok(()),
            Err(refusal) => refusal,
        };
        if std::time::Instant::now() >= until {
            let why = format!("not ready within {} s: {}", limit.as_secs(), refusal.why);
            return Err(Refusal::new(refusal.exit, why));
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

pub fn exit_of(job: &Job) -> Exit {
    match job.status {
        Status::Succeeded if job.error.is_some() => Exit::NotPublished,
        Status::Succeeded => Exit::Done,
        Status::Cancelled | Status::Expired => Exit::CancelledOrExpired,
        _ => Exit::Failed,
    }
}

/// An id as a part of a path: whatever else it may be, it is not two parts.
fn path_part(id: &str) -> Result<&str, Refusal> {
    if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(id);
    }
    Err(Refusal::new(
        Exit::BadUsage,
        format!("`{id}` is no job id: it is a UUID, or at least the first 4 characters of one"),
    ))
}

fn pretty(value: &impl Serialize) -> String {
    // Text, numbers and names: there is nothing in an answer that JSON cannot hold.
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<Exit, Refusal> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Refusal::new(Exit::Failed, format!("cannot write the answer: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}
