//! The one way git is called: a clean environment, a deadline, and failures sorted by their cause.

use super::credentials::{self, Login};
use crate::process::limited::{self, Finished};
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What git may know of the server's environment: how to find programs, the network and keys.
const PASSED_ON: &[&str] = &[
    "PATH",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "GIT_SSL_CAINFO",
    "GIT_SSH_COMMAND",
    "GIT_SSH",
    "GIT_SSH_VARIANT",
    "SSH_AUTH_SOCK",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];

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
    "http.lowSpeedTime=60",
    "advice.detachedHead=false",
    "submodule.recurse=false",
    // Looking for changes inside a nested repository runs git there, with a configuration of the agent's.
    "diff.ignoreSubmodules=dirty",
    "commit.gpgSign=false",
    "core.quotePath=false",
    "core.logAllRefUpdates=false",
    // Of the system's configuration: without a remote and a login it would fail, and what it makes would be lost.
    "filter.lfs.smudge=",
    "filter.lfs.clean=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
];

pub struct Git {
    environment: Vec<(String, String)>,
    pub timeout: Duration,
    /// Where private git directories are made.
    pub(super) runtime_dir: PathBuf,
    /// This binary, as git can start it.
    askpass: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The remote wants other credentials, or any.
    Login,
    /// ssh refuses to work for a uid that has no name.
    NamelessUser,
    /// No such repository, as far as the remote tells us.
    NoRepository,
    Unreachable,
    NoSuchRef,
    /// The push was refused, because the branch is there already.
    BranchExists,
    /// What lies in the cache is damaged.
    Damaged,
    /// Another git holds, or left behind, a lock file.
    LockFile,
    Other,
}

#[derive(Debug)]
pub enum Error {
    Failed { what: String, cause: Cause, said: String },
    TimedOut { what: String, limit: Duration },
    Stopped(Reason),
    NotStarted(String),
}

impl Error {
    pub fn cause(&self) -> Cause {
        match self {
            Error::Failed { cause, .. } => *cause,
            Error::TimedOut { .. } => Cause::Unreachable,
            _ => Cause::Other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Failed { what, said, .. } => write!(f, "git {what} failed: {said}"),
            Error::TimedOut { what, limit } => write!(f, "git {what} did not end within {} s", limit.as_secs_f32()),
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
        let environment =
            PASSED_ON.iter().filter_map(|name| Some((name.to_string(), variables.get(*name)?.clone()))).collect();
        Ok(Self { environment, timeout, runtime_dir, askpass: std::env::current_exe()? })
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
        mut command: Command,
        what: &str,
        call: Call,
    ) -> Result<Finished, Error> {
        let answering = call
            .login
            .map(|login| credentials::answer(&mut command, &self.askpass, login))
            .transpose()
            .map_err(|error| Error::NotStarted(error.to_string()))?;
        let finished = limited::run(&mut command, input, limit, call.stop).map_err(|error| match error {
            limited::Error::NotStarted(why) if why.kind() == std::io::ErrorKind::NotFound => {
                Error::NotStarted("git is not installed, or not on PATH".into())
            }
            limited::Error::NotStarted(why) | limited::Error::Io(why) => Error::NotStarted(why.to_string()),
            limited::Error::TimedOut(limit) => Error::TimedOut { what: what.to_owned(), limit },
            limited::Error::Stopped(reason) => Error::Stopped(reason),
        })?;
        drop(answering);
        if finished.code == 0 {
            return Ok(finished);
        }
        let mut said = String::from_utf8_lossy(&finished.stderr).into_owned();
        // `push --porcelain` says on its output which reference was refused, and why.
        said.push_str(&String::from_utf8_lossy(&finished.stdout));
        Err(Error::Failed { what: what.to_owned(), cause: cause_of(&said), said: gist(&said, finished.code) })
    }
}

/// What the remote said, which git passes on with this before each line. It may be anything.
const REMOTE: &str = "remote:";

/// Why git failed, from what it said itself (in English: LC_ALL=C).
fn cause_of(said: &str) -> Cause {
    let own: Vec<String> = said.lines().filter(|line| !line.starts_with(REMOTE)).map(str::to_ascii_lowercase).collect();
    let said = own.join("\n");
    let table: &[(Cause, &[&str])] = &[
        (Cause::NamelessUser, &["no user exists for uid"]),
        (Cause::BranchExists, &["stale info", "already exists"]),
        (Cause::LockFile, &[".lock': file exists"]),
        (
            Cause::Login,
            &[
                "authentication failed",
                "could not read username",
                "could not read password",
                "permission denied (",
                "the requested url returned error: 401",
                "the requested url returned error: 403",
                "host key verification failed",
                "access denied",
            ],
        ),
        (Cause::NoSuchRef, &["couldn't find remote ref", "not our ref", "unadvertised object"]),
        (
            Cause::Damaged,
            &[
                "corrupt",
                "bad object",
                "unable to read",
                "missing blob",
                "missing tree",
                "missing commit",
                "is empty",
                "invalid sha1 pointer",
                "bad pack",
                "failed to read object",
                "inflate:",
                "cannot be accessed",
                "bad tree",
                "did not send all necessary objects",
                "packfile",
                "unable to parse",
                "bad index file",
                "missing necessary objects",
            ],
        ),
        (
            Cause::NoRepository,
            &[
                "repository not found",
                "does not appear to be a git repository",
                "does not exist",
                "the requested url returned error: 404",
                "not found",
            ],
        ),
        (
            Cause::Unreachable,
            &[
                "could not resolve",
                "couldn't connect",
                "failed to connect",
                "connection refused",
                "connection timed out",
                "operation timed out",
                "connection reset",
                "no route to host",
                "network is unreachable",
                "the remote end hung up",
                "the requested url returned error: 5",
                "early eof",
                "operation too slow",
                "ssl",
                "empty reply",
                "rpc failed",
            ],
        ),
    ];
    table
        .iter()
        .find(|(_, words)| words.iter().any(|word| said.contains(word)))
        .map_or(Cause::Other, |(cause, _)| *cause)
}

/// The most of it that is shown, in bytes: a remote's reason has some ten lines.
const GIST_LIMIT: usize = 1_500;

/// The lines that tell, without progress and advice: what the remote gives as its reason, then git's own words.
fn gist(said: &str, code: i32) -> String {
    let telling = |line: &&str| ["fatal:", "error:", "!"].iter().any(|start| line.starts_with(start));
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let own: Vec<String> = lines.iter().copied().filter(telling).take(4).map(str::to_owned).collect();
    let mut chosen = reason_of_remote(&lines);
    chosen.extend(own);
    if chosen.is_empty() {
        chosen = lines.iter().take(3).map(|line| line.to_string()).collect();
    }
    match chosen.join("; ") {
        text if text.is_empty() => format!("exit code {code}, and no word why"),
        text => crate::job::cut(text, GIST_LIMIT),
    }
}

/// The remote's lines that say something, from its first error on; all of them if there is none.
fn reason_of_remote(lines: &[&str]) -> Vec<String> {
    let said = lines.iter().filter_map(|line| line.strip_prefix(REMOTE)).map(str::trim);
    // Rules and frames around a banner are none.
    let said: Vec<&str> = said.filter(|line| line.chars().any(char::is_alphanumeric)).collect();
    let is_error = |line: &&str| {
        ["error", "fatal", "denied", "rejected", "declined"]
            .iter()
            .any(|word| line.to_ascii_lowercase().split(|c: char| !c.is_alphanumeric()).any(|part| part == *word))
    };
    let from = said.iter().position(is_error).unwrap_or(0);
    said[from..].iter().map(|line| format!("{REMOTE} {line}")).collect()
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

    #[test]
    fn causes_are_told_apart() {
        let cases = [
            ("No user exists for uid 1000690000\nfatal: Could not read from remote repository.", Cause::NamelessUser),
            ("fatal: Authentication failed for 'https://h/r/'", Cause::Login),
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", Cause::Login),
            ("remote: Repository not found.\nfatal: repository 'https://h/r/' not found", Cause::NoRepository),
            ("fatal: '/x' does not appear to be a git repository", Cause::NoRepository),
            ("fatal: unable to access 'https://h/': Could not resolve host: h", Cause::Unreachable),
            (
                "fatal: unable to access 'x': Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect to \
                 server",
                Cause::Unreachable,
            ),
            ("fatal: couldn't find remote ref refs/tags/x", Cause::NoSuchRef),
            ("!\tx:refs/heads/b\t[rejected] (stale info)", Cause::BranchExists),
            ("error: object file x is empty\nfatal: loose object x is corrupt", Cause::Damaged),
            ("fatal: Unable to create '/x/packed-refs.lock': File exists.", Cause::LockFile),
            ("something new", Cause::Other),
            // A remote's words are not git's own, whatever they are about.
            ("remote: fatal: could not resolve host: x\nremote: error: 500\n ! [remote rejected]", Cause::Other),
        ];
        for (said, cause) in cases {
            assert_eq!(cause_of(said), cause, "{said}");
        }
    }

    #[test]
    fn the_gist_leaves_out_progress() {
        let said = "Cloning into 'x'...\nremote: nope\nfatal: it broke\nhint: try\n";
        assert_eq!(gist(said, 128), "remote: nope; fatal: it broke");
        assert_eq!(gist("", 7), "exit code 7, and no word why");
        // The reason stands behind a banner, and the path behind the reason.
        let banner: String =
            (0..10).map(|n| format!("remote: * Welcome to our forge, line {n}\nremote: ******\n")).collect();
        let said = format!(
            "{banner}remote: error: GH013: Repository rule violations found\nremote: \nremote: - Push cannot contain \
             secrets\nremote:   path: config.py:3\n ! [remote rejected] a -> a (declined)\n\
             error: failed to push some refs to 'https://h/r'\n"
        );
        let shown = gist(&said, 1);
        assert!(shown.starts_with("remote: error: GH013") && !shown.contains("Welcome"), "{shown}");
        assert!(shown.contains("path: config.py:3") && shown.contains("[remote rejected]"), "{shown}");
    }
}
