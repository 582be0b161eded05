//! What agentihooks installs: its command runs once at start, in a home of its own, and what it leaves in `~/.claude`
//! is the lowest layer of every profile. A checkout of it is installed first, so that the command is that checkout's.
//!
//! Never touches the home of the server's user. A failure is said, and stops nothing.

use super::Checkouts;
use crate::config::NETWORK;
use crate::process::limited::{self, Limits};
use crate::process::sys;
use crate::profile::materialize::copy_tree;
use crate::workspace::remove;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Installing a checkout fetches what it needs, from PyPI or from the index that PIP_INDEX_URL names.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);
/// What its command may take.
const INIT_LIMIT: Duration = Duration::from_secs(120);
/// The profile of agentihooks that is always there.
const ITS_DEFAULT: &str = "default";
/// What programs may know of the server's environment beside the network.
const PASSED_ON: [&str; 3] = ["PATH", "TMPDIR", "PIP_INDEX_URL"];

impl Checkouts<'_> {
    /// Clones what is missing, installs a checkout of agentihooks, and runs its command. Returns what went wrong, a
    /// sentence each.
    pub fn set_up(&self) -> Vec<String> {
        let mut wrong: Vec<String> = self.make_missing().into_iter().filter_map(|(_, done)| done.err()).collect();
        wrong.extend(self.install());
        wrong
    }

    /// The same for what is there already: after a sync.
    pub fn install(&self) -> Vec<String> {
        let settings = &self.config.checkouts;
        let mut wrong = Vec::new();
        if let Some(checkout) = settings.in_use().filter(|path| path.is_dir())
            && let Err(why) = self.install_editable(&checkout)
        {
            wrong.push(format!("agentihooks at {} cannot be installed: {why}", checkout.display()));
        }
        if settings.runs_command
            && let Err(why) = self.run_command()
        {
            wrong.push(format!("agentihooks was not set up, and agents run without it: {why}"));
        }
        wrong
    }

    fn run_command(&self) -> Result<(), String> {
        let settings = &self.config.checkouts;
        let Some(program) = self.config.program("agentihooks") else {
            return Err("the program `agentihooks` is not on PATH".into());
        };
        let home = settings.own.join("home");
        let failed = |error: io::Error| format!("cannot write {}: {error}", home.display());
        remove::tree(&home).and_then(|()| fs::create_dir_all(&home)).map_err(failed)?;
        let bundle = settings.bundle();
        let mut arguments = vec!["init", "--target", "claude", "--no-discover"];
        let bundle_path = bundle.to_string_lossy();
        if settings.bundle_url.is_some() && bundle.is_dir() {
            arguments.extend(["--bundle", &bundle_path]);
        }
        let wanted = self.config.default_profile.as_str();
        let run = |profile: &str| {
            let mut command = self.command_of(&program, &home);
            command.args(&arguments).args(["--profile", profile]);
            run(&mut command, INIT_LIMIT)
        };
        // It need not have a profile of the name that a job has.
        if let Err(why) = run(wanted) {
            run(ITS_DEFAULT).map_err(|_| why)?;
        }
        let layer = write_layer(&settings.own, &home).map_err(failed)?;
        crate::log::info(&format!("agentihooks is the lowest layer of all profiles: {}", layer.display()));
        Ok(())
    }

    /// Into a virtual environment of this server's own, whose `agentihooks` is the checkout's.
    fn install_editable(&self, checkout: &Path) -> Result<(), String> {
        let own = &self.config.checkouts.own;
        let venv = own.join("venv");
        fs::create_dir_all(own).map_err(|error| format!("cannot write {}: {error}", own.display()))?;
        if !venv.join("bin/python3").exists() {
            let python = self.config.program("python3").ok_or("python3 is not on PATH")?;
            run(self.command_of(&python, own).args(["-m", "venv"]).arg(&venv), INIT_LIMIT)?;
        }
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--editable"];
        run(self.command_of(&venv.join("bin/python3"), own).args(pip).arg(checkout), INSTALL_LIMIT)?;
        // Alone: agents keep the python3 that they have.
        let commands = self.config.checkouts.commands();
        let link = || {
            remove::tree(&commands)?;
            fs::create_dir_all(&commands)?;
            symlink(venv.join("bin/agentihooks"), commands.join("agentihooks"))
        };
        link().map_err(|error| format!("cannot write {}: {error}", commands.display()))
    }

    fn command_of(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", home).env("LC_ALL", "C.UTF-8").current_dir(home);
        command
            .envs(PASSED_ON.iter().chain(&NETWORK).filter_map(|name| Some((*name, self.config.variables.get(*name)?))));
        command
    }
}

/// The error is the last thing that it said.
fn run(command: &mut Command, limit: Duration) -> Result<(), String> {
    sys::die_with_parent(command);
    let limits = Limits { total: limit, silence: limit, heard: &mut |_| {} };
    let done = limited::run(command, Stdio::null(), limits, None).map_err(|error| match error {
        limited::Error::TimedOut(limit) | limited::Error::Silent(limit) => {
            format!("it did not end within {} s", limit.as_secs())
        }
        limited::Error::NotStarted(why) | limited::Error::Io(why) => why.to_string(),
        limited::Error::Stopped(_) => "it was stopped".into(),
    })?;
    if done.code == 0 {
        return Ok(());
    }
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    let line = said.lines().find(|line| line.to_lowercase().contains("error")).or(line).unwrap_or_default();
    Err(format!("{} (exit code {})", crate::job::cut(line.trim().to_owned(), 300), done.code))
}

/// Copies what was installed to a directory of its own, and points `layer` at it: a job that is copying from the one
/// before goes on with that.
fn write_layer(own: &Path, home: &Path) -> io::Result<PathBuf> {
    let (name, layer) = (format!("layer-{}", uuid::Uuid::new_v4().simple()), own.join("layer"));
    let made = own.join(&name);
    fs::create_dir_all(&made)?;
    copy_tree(&home.join(".claude"), &made.join(".claude"))?;
    let settings: Value = fs::read(home.join(".claude.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    if let Some(servers) = settings.get("mcpServers").filter(|servers| servers.is_object()) {
        let text = serde_json::to_vec_pretty(&json!({ "mcpServers": servers })).unwrap_or_default();
        fs::write(made.join(".mcp.json"), text)?;
    }
    let before = fs::read_link(&layer).ok();
    let link = own.join(format!("{name}.link"));
    symlink(&name, &link)?;
    fs::rename(&link, &layer)?;
    // The one before may be in use for a moment yet; those before that are not.
    for entry in fs::read_dir(own)?.flatten() {
        let found = entry.file_name();
        let is_layer = found.to_string_lossy().starts_with("layer-");
        if is_layer && found != name.as_str() && Some(Path::new(&found)) != before.as_deref() {
            remove::tree(&entry.path())?;
        }
    }
    Ok(layer)
}
