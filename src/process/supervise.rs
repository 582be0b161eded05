//! The role `supervise`: one process per job, subreaper of that job's processes alone.
//!
//! Starts one program, tells how it ended, and does not go before everything below it is gone:
//! sessions of their own, daemons and all. It sees the server's death as the end of its
//! standard input and ends the tree then too. It has no secrets of its own, no threads, and
//! knows nothing of what it runs.
//!
//! Standard input is a socket: the server says `end MILLISECONDS`, and `until MILLISECONDS` (since boot)
//! when the job's lease runs out; by then the tree is gone, whatever became of the server. The supervisor
//! says `started PID` or `refused REASON`, perhaps `overdue` (it ends the tree because the lease is over), then
//! `exited CODE` or `killed SIGNAL`, at last `gone`.

use super::proc_table;
use super::sys::{self, Exit, Reaped};
use fs2::FileExt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first argument that makes the binary a supervisor.
pub const ROLE: &str = "__supervise";
/// What a tree gets between SIGTERM and SIGKILL when the server died: Claude needs up to 1.7 s.
const ORPHANED_GRACE: Duration = Duration::from_secs(2);
/// How long before the lease's end SIGKILL is sent: what the kernel may need to carry it out.
const KILL_MARGIN: Duration = Duration::from_millis(200);

/// `__supervise SERVER LOCK INPUT UNTIL PROGRAM ARGUMENT…`: SERVER is for others to see ([`super::identity`]),
/// LOCK is held (shared) for as long as this process
/// lives, INPUT becomes the program's standard input, UNTIL is when the lease runs out as far as is
/// known (milliseconds since boot; `-`: there is none). It is known before the program starts: the
/// server may be stopped before it says anything.
pub fn main(arguments: &[std::ffi::OsString]) -> i32 {
    let [_server, lock, input, until, program, rest @ ..] = arguments else {
        eprintln!("agenticore: {ROLE} is a role of this binary that its server starts; it is no command");
        return 2;
    };
    let Some(socket) = sys::adopt(0) else { return 2 };
    let mut supervisor = Supervisor::new(UnixStream::from(socket));
    supervisor.until = until.to_str().and_then(|text| text.parse().ok()).map(Duration::from_millis);
    match supervisor.start(lock.as_ref(), input.as_ref(), program, rest) {
        Ok(()) => supervisor.run(),
        Err(why) => supervisor.tell(&format!("refused {}", why.replace('\n', " "))),
    }
    0
}

struct Supervisor {
    server: UnixStream,
    /// Bytes of a command that has not ended yet.
    heard: Vec<u8>,
    server_is_gone: bool,
    signals: Option<(UnixStream, UnixStream)>,
    program: i32,
    program_has_ended: bool,
    /// When SIGKILL follows the SIGTERM that was sent.
    kill_at: Option<Instant>,
    /// When the job's lease runs out, since boot.
    until: Option<Duration>,
    _lock: Option<File>,
}

impl Supervisor {
    fn new(server: UnixStream) -> Self {
        Self {
            server,
            heard: Vec::new(),
            server_is_gone: false,
            signals: None,
            program: 0,
            program_has_ended: false,
            kill_at: None,
            until: None,
            _lock: None,
        }
    }

    fn start(
        &mut self,
        lock: &std::path::Path,
        input: &std::path::Path,
        program: &std::ffi::OsStr,
        arguments: &[std::ffi::OsString],
    ) -> Result<(), String> {
        // Shared by the whole tree: who starts next on this jobs directory finds every process of it.
        let lock_file = OpenOptions::new().read(true).open(lock).map_err(|e| format!("{}: {e}", lock.display()))?;
        FileExt::try_lock_shared(&lock_file).map_err(|e| format!("{}: {e}", lock.display()))?;
        sys::become_subreaper().map_err(|e| format!("cannot become a subreaper: {e}"))?;
        self.listen_to_signals().map_err(|e| format!("cannot listen to signals: {e}"))?;
        let input = File::open(input).map_err(|e| format!("{}: {e}", input.display()))?;
        let name = std::path::Path::new(program).display();
        let mut command = Command::new(program);
        command.args(arguments).stdin(input).stdout(Stdio::inherit()).stderr(Stdio::inherit()).process_group(0);
        sys::pass_on(&mut command, lock_file.as_raw_fd());
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("`{name}` was not found"),
            io::ErrorKind::PermissionDenied => format!("`{name}` is not executable by this user"),
            _ => format!("`{name}` cannot be started: {error}"),
        })?;
        self.program = child.id() as i32;
        self._lock = Some(lock_file);
        self.tell(&format!("started {}", self.program));
        // From here on only the tree holds the outputs, so their end is the tree's end.
        close_outputs();
        Ok(())
    }

    fn listen_to_signals(&mut self) -> io::Result<()> {
        use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
        use signal_hook::low_level::pipe::register;
        let (children, child_sent) = UnixStream::pair()?;
        let (ends, end_sent) = UnixStream::pair()?;
        register(SIGCHLD, child_sent)?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            register(signal, end_sent.try_clone()?)?;
        }
        children.set_nonblocking(true)?;
        ends.set_nonblocking(true)?;
        self.signals = Some((children, ends));
        Ok(())
    }

    fn run(&mut self) {
        while !self.everything_is_gone() {
            self.wait();
        }
        self.tell("gone");
    }

    /// Reaps what has ended. Once the program has, or its grace is over, the rest is killed.
    fn everything_is_gone(&mut self) -> bool {
        loop {
            match sys::reap(-1) {
                Reaped::Child(pid, exit) if pid == self.program => {
                    self.program_has_ended = true;
                    match exit {
                        Exit::Code(code) => self.tell(&format!("exited {code}")),
                        Exit::Signal(signal) => self.tell(&format!("killed {signal}")),
                    }
                }
                Reaped::Child(..) => {}
                Reaped::NoChildren => return true,
                Reaped::NoneEnded => break,
            }
        }
        if self.program_has_ended || self.kill_at.is_some_and(|at| at <= Instant::now()) {
            for pid in proc_table::descendants(std::process::id() as i32) {
                sys::kill(pid, sys::SIGKILL);
            }
        }
        false
    }

    fn wait(&mut self) {
        let Some((children, ends)) = &self.signals else { return };
        let killing = self.program_has_ended || self.kill_at.is_some_and(|at| at <= Instant::now());
        let limit = match self.kill_at {
            // What was killed is looked at again soon: it may have started something meanwhile.
            _ if killing => Duration::from_millis(10),
            Some(at) => at.saturating_duration_since(Instant::now()),
            // The clock that a lease runs by goes on while the machine sleeps, that of a wait does not.
            None if self.until.is_some() => self.left_of_lease().min(Duration::from_secs(1)),
            None => Duration::from_secs(60),
        };
        let mut fds = vec![children.as_fd(), ends.as_fd()];
        if !self.server_is_gone {
            fds.push(self.server.as_fd());
        }
        let Ok(ready) = sys::wait_readable(&fds, limit) else { return };
        if ready[0] {
            drain(children);
        }
        if ready[1] {
            drain(ends);
            self.end(ORPHANED_GRACE);
        }
        if ready.get(2) == Some(&true) {
            self.listen();
        }
        if self.until.is_some() && self.left_of_lease().is_zero() {
            // What comes of the program now is not its own doing.
            if self.kill_at.is_none() && !self.program_has_ended {
                self.tell("overdue");
            }
            self.end(ORPHANED_GRACE);
        }
    }

    /// What is left until the tree must begin to end.
    fn left_of_lease(&self) -> Duration {
        let ending = ORPHANED_GRACE + KILL_MARGIN;
        self.until.map_or(Duration::MAX, |until| until.saturating_sub(sys::since_boot() + ending))
    }

    fn listen(&mut self) {
        let mut buffer = [0; 256];
        match self.server.read(&mut buffer) {
            Ok(count) if count > 0 => self.heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => {
                self.server_is_gone = true;
                self.end(ORPHANED_GRACE);
            }
        }
        while let Some(at) = self.heard.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=at).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim_end().split_once(' ').and_then(|(word, ms)| Some((word, ms.parse().ok()?))) {
                Some(("end", grace)) => self.end(Duration::from_millis(grace)),
                Some(("until", at)) => self.until = Some(Duration::from_millis(at)),
                _ => {}
            }
        }
    }

    /// Asks the program to end; SIGKILL for the whole tree follows after `grace`. Asked again, the
    /// sooner time counts.
    fn end(&mut self, grace: Duration) {
        let at = Instant::now() + grace;
        if self.kill_at.is_none() && !self.program_has_ended {
            sys::kill(self.program, sys::SIGTERM);
        }
        self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn tell(&mut self, line: &str) {
        // A server that is gone is noticed when reading.
        let _ = self.server.write_all(format!("{line}\n").as_bytes());
    }
}

fn drain(mut pipe: &UnixStream) {
    let mut buffer = [0; 256];
    while matches!(pipe.read(&mut buffer), Ok(count) if count > 0) {}
}

fn close_outputs() {
    for fd in [1, 2] {
        drop(sys::adopt(fd));
    }
    // The numbers are taken again, so that nothing else opened later becomes "standard output".
    for _ in [1, 2] {
        if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
            let _ = null.into_raw_fd();
        }
    }
}
