//! `init`: a first configuration and a profile of one's own, from flags and from answers. Never changes a file that is
//! there.

use super::{Exit, Refusal, print};
use crate::config::Config;
use crate::profile;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[derive(Debug, Default, PartialEq)]
pub struct Init {
    pub profile: Option<String>,
    pub model: Option<String>,
    pub jobs: Option<String>,
    pub port: Option<u16>,
    pub no_pull_requests: bool,
    pub yes: bool,
}

fn wrong(why: impl Into<String>) -> Refusal {
    Refusal::new(Exit::BadUsage, why)
}

pub fn run(config: &Config, wanted: &Init) -> Result<Exit, Refusal> {
    let settings = config.own_dir.join("config.yml");
    // Before anything is asked.
    if fs::symlink_metadata(&settings).is_ok() {
        let why = format!(
            "{} is there already, and stays as it is: change it with an editor; `agenticore config` shows what counts",
            settings.display()
        );
        return Err(wrong(why));
    }
    let asks = !wanted.yes && io::stdin().is_terminal() && io::stdout().is_terminal();
    let answer = |given: &Option<String>, question: &str, usual: &str| match given {
        Some(given) => Ok(given.clone()),
        None if asks => ask(question, usual),
        None => Ok(usual.to_owned()),
    };
    let name = answer(&wanted.profile, "What is your profile called?", "own")?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) && !name.starts_with('-');
    if name.is_empty() || name.len() > 64 || !is_name {
        return Err(wrong("the profile's name must be 1 to 64 letters, digits, dashes and underscores"));
    }
    if profile::is_built_in(&name) {
        return Err(wrong(format!("`{name}` is built in: give your own profile another name")));
    }
    let model = answer(&wanted.model, "Which model does it use?", "sonnet")?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:/@[]".contains(&b);
    if model.is_empty() || model.starts_with('-') || !model.bytes().all(fits) {
        return Err(wrong("the model must be a name, such as sonnet or claude-opus-4-5"));
    }
    let jobs = answer(&wanted.jobs, "How many jobs may run at once? Each takes about 320 MiB.", "3")?;
    let jobs = jobs.parse::<u32>().ok().filter(|jobs| (1..=256).contains(jobs));
    let jobs = jobs.ok_or_else(|| wrong("the number of jobs must be a whole number from 1 to 256"))?;
    let port = answer(&wanted.port.map(|port| port.to_string()), "On which port does the server listen?", "8200")?;
    let port = port.parse::<u16>().map_err(|_| wrong("the port must be a number from 0 to 65535"))?;
    let publishes = match wanted.no_pull_requests {
        true => false,
        false if asks => {
            ask("Is what an agent did pushed, and a pull request opened? (yes, no)", "yes")?.starts_with('y')
        }
        false => true,
    };
    let profile = config.own_dir.join("profiles").join(&name).join("profile.yml");
    let mut told = Vec::new();
    let has_written = write_once(&profile, &profile_text(&model, publishes), 0o644)?;
    told.push(match has_written {
        true => format!("wrote {}: how jobs run", profile.display()),
        false => format!("{} is there already, and stays as it is", profile.display()),
    });
    if !write_once(&settings, &settings_text(&name, jobs, port), 0o600)? {
        return Err(wrong(format!("{} came into being meanwhile, and stays as it is", settings.display())));
    }
    told.push(format!("wrote {}: what the server does", settings.display()));
    let port = if port == 8200 { String::new() } else { format!(", at port {port}") };
    told.push(format!("next: `agenticore serve` starts it{port}; `agenticore status` says what it still needs"));
    print(&format!("{}\n", told.join("\n")))
}

fn ask(question: &str, usual: &str) -> Result<String, Refusal> {
    let failed = |error: io::Error| Refusal::new(Exit::Failed, format!("the answer cannot be read: {error}"));
    let mut out = io::stdout();
    write!(out, "{question} [{usual}] ").and_then(|()| out.flush()).map_err(failed)?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).map_err(failed)? == 0 {
        return Err(wrong("the answers ended too early: nothing was written"));
    }
    let line = line.trim();
    Ok(if line.is_empty() { usual.to_owned() } else { line.to_owned() })
}

fn profile_text(model: &str, publishes: bool) -> String {
    format!(
        "# How jobs run. docs/profiles.md names all that may stand here.\n\
         description: My own\n\
         extends: coding\n\
         auto_pr: {publishes}\n\
         claude:\n\
         \x20 model: \"{model}\"\n"
    )
}

fn settings_text(profile: &str, jobs: u32, port: u16) -> String {
    format!(
        "# `agenticore config` shows all settings. Variables of the environment win over what stands here.\n\
         # Tokens are better there, or in a file that the service manager reads: GITHUB_TOKEN, ANTHROPIC_API_KEY.\n\
         server:\n\
         \x20 port: {port}\n\
         claude:\n\
         \x20 default_profile: \"{profile}\"\n\
         repos:\n\
         \x20 max_parallel_jobs: {jobs}\n"
    )
}

/// False: it is there already.
fn write_once(path: &Path, text: &str, mode: u32) -> Result<bool, Refusal> {
    let written = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    match written() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Refusal::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))),
    }
}
