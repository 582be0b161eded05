//! The server's side of a supervisor: start a program under one, hear how it goes, end it.

use super::children::{self, Registered};
use super::identity::ServerIdentity;
use super::supervise::ROLE;
use super::sys::{self, Exit};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a supervisor that reported `gone`, or lost its connection, may take to exit.
const EXIT_LIMIT: Duration = Duration::from_secs(2);
/// How long strays of a dead supervisor are hunted.
const STRAYS_LIMIT: Duration = Duration::from_secs(5);

pub struct Spec<'a> {
    pub program: &'a str,
    pub arguments: &'a [String],
    /// The whole environment; nothing is inherited.
    pub environment: &'a [(String, String)],
    pub directory: &'a Path,
    /// The file that becomes standard input.
    pub input: &'a Path,
    /// Held shared by the supervisor while it lives.
    pub lock: &'a Path,
    /// When the job's lease runs out, since boot.
    pub until: Option<Duration>,
}

#[derive(Debug, PartialEq)]
pub enum Message {
    Started(u32),
    /// The program could not be started, and why.
    Refused(String),
    Exited(Exit),
    /// The lease is over: the tree is being ended.
    Overdue,
    /// Nothing of the tree is left.
    Gone,
    /// The supervisor died without saying so; it may have been killed by what it watched.
    Lost,
}

pub struct Supervised {
    supervisor: Registered,
    control: UnixStream,
    listener: Option<JoinHandle<()>>,
}

pub struct Outputs {
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

/// Starts `spec` under a supervisor. `hear` gets every message, in order, on a thread of its own
/// that ends after [`Message::Gone`] or [`Message::Lost`].
pub fn start(spec: &Spec, mut hear: impl FnMut(Message) + Send + 'static) -> io::Result<(Supervised, Outputs)> {
    let (control, theirs) = UnixStream::pair()?;
    // The supervisor is this very binary, also when the file has been replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("agenticore")
        .arg(ROLE)
        .arg(ServerIdentity::own().to_string())
        .args([spec.lock, spec.input])
        .arg(spec.until.map_or("-".to_owned(), |until| until.as_millis().to_string()))
        .arg(spec.program)
        .args(spec.arguments)
        .env_clear()
        .envs(spec.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(spec.directory)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut supervisor = children::spawn(&mut command)?;
    drop(command); // It holds the supervisor's end of the socket, whose closing must be seen.
    let (Some(stdout), Some(stderr)) = (supervisor.child().stdout.take(), supervisor.child().stderr.take()) else {
        return Err(io::Error::other("the supervisor has no output pipes"));
    };
    let lines = BufReader::new(control.try_clone()?);
    // Reads what the supervisor of one job says; ends with the supervisor.
    let listener = std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            if let Some(message) = parse(&line) {
                let last = message == Message::Gone;
                hear(message);
                if last {
                    return;
                }
            }
        }
        hear(Message::Lost);
    })?;
    Ok((Supervised { supervisor, control, listener: Some(listener) }, Outputs { stdout, stderr }))
}

fn parse(line: &str) -> Option<Message> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match word {
        "started" => Message::Started(rest.parse().ok()?),
        "refused" => Message::Refused(rest.to_owned()),
        "exited" => Message::Exited(Exit::Code(rest.parse().ok()?)),
        "killed" => Message::Exited(Exit::Signal(rest.parse().ok()?)),
        "overdue" => Message::Overdue,
        "gone" => Message::Gone,
        _ => return None,
    })
}

/// Asks a supervisor to end its tree; may be used from any thread.
pub struct Ender(UnixStream);

impl Ender {
    /// SIGTERM now, SIGKILL for all that is left after `grace`.
    pub fn end(&mut self, grace: Duration) {
        self.say("end", grace);
    }

    /// The tree has to be gone at this time since boot, unless another one is told before.
    pub fn end_by(&mut self, until: Duration) {
        self.say("until", until);
    }

    fn say(&mut self, word: &str, time: Duration) {
        // A supervisor that is gone has nothing left to end.
        let _ = self.0.write_all(format!("{word} {}\n", time.as_millis()).as_bytes());
    }
}

impl Supervised {
    pub fn ender(&self) -> io::Result<Ender> {
        Ok(Ender(self.control.try_clone()?))
    }

    /// To be called after [`Message::Gone`], [`Message::Lost`], or when neither came in time.
    /// Afterwards the supervisor is gone, and so is whatever it left to us. True if it had to be
    /// ended, or died, before its work was done.
    pub fn finish(mut self) -> bool {
        let in_order = matches!(self.supervisor.wait(EXIT_LIMIT), Ok(Some(status)) if status.success());
        if !in_order {
            sys::kill(self.supervisor.pid(), sys::SIGKILL);
            let _ = self.supervisor.wait(EXIT_LIMIT);
            children::end_strays(STRAYS_LIMIT);
        }
        let _ = self.control.shutdown(std::net::Shutdown::Both);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        !in_order
    }
}
