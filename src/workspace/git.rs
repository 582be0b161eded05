//! The one way git is called: a clean environment, a deadline, and failures sorted by their cause.

use super::cause::{Cause, cause_of, gist, without_progress};
use super::credentials::{self, Login};
use crate::config;
use crate::process::limited::{self, Finished, Limits};
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// What git may know of the server's environment beside the network: how to find programs and keys.
const PASSED_ON: [&str; 6] = ["PATH", "TMPDIR", "GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSH_VARIANT", "SSH_AUTH_SOCK"];

/// For every call: nothing of the repository's is run, nothing is cleaned up behind our back, and a
/// dead connection is noticed.
const ALWAYS: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "credential.helper=",
    "protocol.version=2",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=120",
    "advice.detachedHead=false",
    "submodule.recurse=false",
    // Looking for changes inside a nested repository runs git there, with a configuration of the agent's.
    "diff.ignoreSubmodules=dirty",
    "commit.gpgSign=false",
    "core.quotePath=false",
    "core.logAllRefUpdates=false",
    // Of the system's configuration: without a remote and a login it would fail, and what it makes would be lost. Where
    // it is wanted `lfs::filters` sets it.
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
];

/// A transfer that writes nothing for this long is ended. Git tells of its progress every second.
const SILENCE: Duration = Duration::from_secs(120);
/// However well it gets on, a transfer takes no longer than this, or AGENTICORE_GIT_TIMEOUT if that is longer.
const TRANSFER_LIMIT: Duration = Duration::from_secs(3600);

pub struct Git {
    environment: Vec<(String, String)>,
    pub timeout: Duration,
    /// Where private git directories are made.
    pub(super) runtime_dir: PathBuf,
    /// This binary, as git can start it.
    askpass: File,
    has_lfs: OnceLock<bool>,
}

#[derive(Debug)]
pub enum Error {
    Failed {
        what: String,
        cause: Cause,
        /// All that it wrote, but for its progress.
        said: String,
        code: i32,
    },
    TimedOut {
        what: String,
        limit: Duration,
    },
    /// A transfer that did not get on for so long.
    Silent {
        what: String,
        silence: Duration,
    },
    /// It told more than is kept: nobody knows the rest.
    TooMuch {
        what: String,
    },
    Stopped(Reason),
    NotStarted(String),
}

impl Error {
    pub fn cause(&self) -> Cause {
        match self {
            Error::Failed { cause, .. } => *cause,
            // What takes longer than a transfer may take would do so again.
            Error::TimedOut { limit, .. } if *limit >= TRANSFER_LIMIT => Cause::TooLarge,
            Error::TimedOut { .. } | Error::Silent { .. } => Cause::Unreachable,
            _ => Cause::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Failed { what, said, code, .. } => write!(f, "git {what} failed: {}", gist(said, *code)),
            Error::TimedOut { what, limit } => write!(f, "git {what} did not end within {} s", limit.as_secs_f32()),
            Error::Silent { what, silence } => write!(f, "git {what} said nothing for {} s", silence.as_secs_f32()),
            Error::TooMuch { what } => write!(f, "git {what} told more than can be looked through"),
            Error::Stopped(_) => f.write_str("stopped"),
            Error::NotStarted(why) => write!(f, "git cannot be started: {why}"),
        }
    }
}

/// What one call may do beside its arguments.
#[derive(Default)]
pub struct Call<'a> {
    pub login: Option<Login>,
    pub stop: Option<&'a Stop>,
}

impl Git {
    pub fn new(variables: &BTreeMap<String, String>, runtime_dir: PathBuf, timeout: Duration) -> std::io::Result<Self> {
        let environment = PASSED_ON
            .iter()
            .chain(&config::NETWORK)
            .filter_map(|name| Some((name.to_string(), variables.get(*name)?.clone())))
            .collect();
        // What runs now, whatever lies in its place by then: an agent may be able to write there. Held open, because
        // another process may not look up `/proc/PID/exe` of one that hides its memory, but for root.
        let askpass = File::open("/proc/self/exe").or_else(|_| File::open(std::env::current_exe()?))?;
        Ok(Self { environment, timeout, runtime_dir, askpass, has_lfs: OnceLock::new() })
    }

    /// A git that reads no configuration but the system's. The caller adds GIT_DIR and arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=20")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_DEFAULT_REF_FORMAT", "files")
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_ALLOW_PROTOCOL", "https:http:ssh:file");
        for setting in ALWAYS {
            command.args(["-c", setting]);
        }
        sys::die_with_parent(&mut command);
        command
    }

    /// git-lfs is installed. Looked for once.
    pub fn has_lfs(&self) -> bool {
        if let Some(found) = self.has_lfs.get() {
            return *found;
        }
        let mut command = self.command();
        command.args(["lfs", "version"]).env("GIT_DIR", "/nonexistent").current_dir("/");
        match self.run(command, "lfs", Call::default()) {
            Ok(_) => *self.has_lfs.get_or_init(|| true),
            Err(Error::Failed { .. }) => *self.has_lfs.get_or_init(|| false),
            // It may be found the next time.
            Err(_) => false,
        }
    }

    /// Runs `command` to its end; `what` names it in errors.
    pub fn run(&self, command: Command, what: &str, call: Call) -> Result<Finished, Error> {
        self.run_on(Stdio::null(), self.timeout, command, what, call)
    }

    /// The same with a limit of its own.
    pub fn run_within(&self, limit: Duration, command: Command, what: &str, call: Call) -> Result<Finished, Error> {
        self.run_on(Stdio::null(), limit, command, what, call)
    }

    /// The same with an input too.
    pub fn run_on(
        &self,
        input: Stdio,
        limit: Duration,
        command: Command,
        what: &str,
        call: Call,
    ) -> Result<Finished, Error> {
        self.finish(input, Limits { total: limit, silence: limit, heard: &mut |_| {} }, command, what, call)
    }

    /// Runs what moves much between a remote and here: it may take as long as it gets on. `heard`: all that it writes.
    pub fn transfer(
        &self,
        command: Command,
        what: &str,
        call: Call,
        heard: &mut dyn FnMut(&[u8]),
    ) -> Result<Finished, Error> {
        let (total, silence) = (self.timeout.max(TRANSFER_LIMIT), self.timeout.min(SILENCE));
        self.finish(Stdio::null(), Limits { total, silence, heard }, command, what, call)
    }

    fn finish(
        &self,
        input: Stdio,
        limits: Limits,
        mut command: Command,
        what: &str,
        call: Call,
    ) -> Result<Finished, Error> {
        let answering = call
            .login
            .map(|login| credentials::answer(&mut command, &self.askpass, login))
            .transpose()
            .map_err(|error| Error::NotStarted(error.to_string()))?;
        let began = std::time::Instant::now();
        let finished = limited::run(&mut command, input, limits, call.stop);
        crate::metrics::git_call(began);
        let finished = finished.map_err(|error| match error {
            limited::Error::NotStarted(why) if why.kind() == std::io::ErrorKind::NotFound => {
                Error::NotStarted("git is not installed, or not on PATH".into())
            }
            limited::Error::NotStarted(why) | limited::Error::Io(why) => Error::NotStarted(why.to_string()),
            limited::Error::TimedOut(limit) => Error::TimedOut { what: what.to_owned(), limit },
            limited::Error::Silent(silence) => Error::Silent { what: what.to_owned(), silence },
            limited::Error::Stopped(reason) => Error::Stopped(reason),
        })?;
        drop(answering);
        if finished.code == 0 && finished.is_cut {
            return Err(Error::TooMuch { what: what.to_owned() });
        }
        if finished.code == 0 {
            return Ok(finished);
        }
        let mut said = String::from_utf8_lossy(&finished.stderr).into_owned();
        // `push --porcelain` says on its output which reference was refused, and why.
        said.push_str(&String::from_utf8_lossy(&finished.stdout));
        let said = without_progress(&said);
        Err(Error::Failed { what: what.to_owned(), cause: cause_of(&said), said, code: finished.code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_lfs_in_the_systems_configuration_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let system = dir.path().join("system");
        let filters = "[filter \"lfs\"]\n\tclean = false\n\tsmudge = false\n\tprocess = false\n\trequired = true\n";
        std::fs::write(&system, filters).unwrap();
        std::fs::write(dir.path().join(".gitattributes"), "*.bin filter=lfs\n").unwrap();
        std::fs::write(dir.path().join("a.bin"), "pointer").unwrap();
        let path = BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]);
        let git = Git::new(&path, dir.path().into(), Duration::from_secs(60)).unwrap();
        for arguments in [&["init", "-q"][..], &["add", "--all"], &["checkout-index", "--force", "--all"]] {
            let mut command = git.command();
            command.env("GIT_CONFIG_SYSTEM", &system).current_dir(dir.path()).args(arguments);
            git.run(command, arguments[0], Call::default()).unwrap();
        }
    }
}
