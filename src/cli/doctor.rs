//! `doctor`: the findings, as they come.

use super::client::Client;
use super::show::{Colour, paint, plain};
use super::{Exit, Refusal, pretty, print};
use crate::api::ServerStatus;
use crate::config::Config;
use crate::doctor::{self, Doctor, Finding};
use crate::job::JobId;
use std::io::Write;

/// `cluster`: the fleet, instead of this pod.
pub fn run(config: Config, fix: bool, cluster: bool, json: bool) -> Result<Exit, Refusal> {
    let show = |finding: &Finding| {
        if !json {
            let _ = std::io::stdout().write_all(text(finding).as_bytes());
        }
    };
    if fix && cluster {
        let why = "--cluster repairs nothing: run `agenticore doctor --fix` in the pod that it names";
        return Err(Refusal::new(Exit::BadUsage, why));
    }
    let mut findings = if cluster { Vec::new() } else { vec![subject(&config)] };
    findings.iter().for_each(show);
    let doctor = Doctor::new(config, fix).map_err(|why| Refusal::new(Exit::BadUsage, why))?;
    findings.extend(if cluster { doctor.examine_cluster(show) } else { doctor.examine(show) });
    if json {
        print(&pretty(&findings))?;
    }
    let unknown = findings.iter().filter(|finding| finding.unknown && !finding.ok).count();
    let wrong = findings.iter().filter(|finding| !finding.ok).count() - unknown;
    if !json {
        print(&match (wrong, unknown) {
            (0, 0) => "everything is as it should be\n".to_owned(),
            (1, 0) => "one thing is wrong\n".to_owned(),
            (count, 0) => format!("{count} things are wrong\n"),
            (count, unknown) => format!("wrong: {count}, could not be looked at: {unknown}\n"),
        })?;
    }
    Ok(if wrong + unknown == 0 { Exit::Done } else { Exit::Failed })
}

/// Removes one worktree, whatever is in it, and says first what that is.
pub fn discard(config: Config, id: &str) -> Result<Exit, Refusal> {
    let id = JobId::parse(id).ok_or_else(|| {
        Refusal::new(Exit::BadUsage, format!("--discard takes a job's whole id, and `{}` is none", plain(id)))
    })?;
    let doctor = Doctor::new(config, false).map_err(|why| Refusal::new(Exit::BadUsage, why))?;
    let tell = |text: &str| {
        let _ = print(&format!("{}\n", plain(text)));
    };
    doctor.discard(&id, tell).map_err(|why| Refusal::new(Exit::Failed, why))?;
    print(&format!("removed the worktree of {id}\n"))?;
    Ok(Exit::Done)
}

/// What is being looked at: this command's settings decide, not the server's.
fn subject(config: &Config) -> Finding {
    let server = Client::new(config).and_then(|client| client.get::<ServerStatus>("/status")).ok();
    let answers = if server.is_some() { "answers" } else { "does not answer" };
    // What only the server can know; the rest is looked at from here.
    let of_server = ["account", "machine", "redis", "clock"];
    let checks = server.iter().flat_map(|server| &server.checks);
    let problems = checks.filter(|check| of_server.contains(&check.name.as_str())).filter_map(doctor::as_problem);
    let store = config
        .redis
        .as_ref()
        .map_or("no Redis".to_owned(), |redis| format!("Redis at {} with the prefix {}", redis.shown(), redis.prefix));
    let (pod, jobs) = (&config.pod_name, config.jobs_dir.display());
    Finding::new(
        "looked at",
        format!("pod {pod}, jobs in {jobs}, {store}; its server at {} {answers}", config.server_url()),
        problems.collect(),
    )
}

fn text(finding: &Finding) -> String {
    let (word, colour) = match (finding.ok, finding.unknown) {
        (true, _) => ("ok   ", Colour::Green),
        (false, true) => ("?    ", Colour::Yellow),
        (false, false) => ("WRONG", Colour::Red),
    };
    let subject = finding.subject.as_ref().map(|subject| format!(" {}", plain(subject))).unwrap_or_default();
    let mut text = format!("{} {}{subject}: {}\n", paint(word, colour), finding.check, plain(&finding.evidence));
    for problem in &finding.problems {
        text.push_str(&format!("      {}\n", plain(problem)));
    }
    for warning in &finding.warnings {
        text.push_str(&format!("      {} {}\n", paint("warn ", Colour::Yellow), plain(warning)));
    }
    for repaired in &finding.repaired {
        text.push_str(&format!("      {} {}\n", paint("fixed", Colour::Green), plain(repaired)));
    }
    text
}
