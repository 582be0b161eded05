//! Runs a short command to its end: with a deadline, with capped output, stoppable.
//!
//! Whatever happens, the command's process group is gone when [`run`] returns.

use super::stop::{Reason, Stop};
use super::warden::Watch;
use super::{children, sys};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The most of each output that is kept; the rest is read and dropped. 4 MiB holds the
/// listing of some 40 000 branches.
pub const OUTPUT_LIMIT: usize = 4 << 20;
/// How often a stop is looked for while a command is silent.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Finished {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The exit code; 128 + signal for a command that a signal ended.
    pub code: i32,
}

#[derive(Debug)]
pub enum Error {
    NotStarted(io::Error),
    TimedOut(Duration),
    Stopped(Reason),
    Io(io::Error),
}

/// Runs `command` on `input`, for at most `limit`.
pub fn run(command: &mut Command, input: Stdio, limit: Duration, stop: Option<&Stop>) -> Result<Finished, Error> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let until = Instant::now() + limit;
    // A process that slept past its lease begins nothing.
    remaining(until, limit, stop)?;
    let mut child = children::spawn(command).map_err(Error::NotStarted)?;
    let (Some(mut out), Some(mut err)) = (child.child().stdout.take(), child.child().stderr.take()) else {
        return Err(Error::Io(io::Error::other("the command has no output pipes")));
    };
    sys::set_nonblocking(&out).and_then(|()| sys::set_nonblocking(&err)).map_err(Error::Io)?;
    let mut captured = (Capture::default(), Capture::default());
    // Before the child in dropping order too: a group is watched no longer than it is ours.
    let mut watch = Watch::over(child.pid(), stop);
    while !(captured.0.ended && captured.1.ended) {
        let left = remaining(until, limit, stop)?;
        watch.tick();
        let open: Vec<_> =
            [(&captured.0, out.as_fd()), (&captured.1, err.as_fd())].into_iter().filter(|(c, _)| !c.ended).collect();
        let fds: Vec<_> = open.into_iter().map(|(_, fd)| fd).collect();
        sys::wait_readable(&fds, left.min(TICK)).map_err(Error::Io)?;
        captured.0.fill(&mut out).map_err(Error::Io)?;
        captured.1.fill(&mut err).map_err(Error::Io)?;
    }
    // Its outputs are closed; it ends now, or it is one that lingers and is held to its limit.
    loop {
        let left = remaining(until, limit, stop)?;
        watch.tick();
        if let Some(status) = child.wait(left.min(TICK)).map_err(Error::Io)? {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(Finished { stdout: captured.0.bytes, stderr: captured.1.bytes, code });
        }
    }
}

fn remaining(until: Instant, limit: Duration, stop: Option<&Stop>) -> Result<Duration, Error> {
    if let Some(reason) = stop.and_then(Stop::reason) {
        return Err(Error::Stopped(reason));
    }
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(Error::TimedOut(limit)),
        left => Ok(left),
    }
}

#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while !self.ended {
            match from.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    let room = OUTPUT_LIMIT - self.bytes.len();
                    self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration, stop: Option<&Stop>) -> Result<Finished, Error> {
        run(Command::new("sh").args(["-c", script]), Stdio::null(), limit, stop)
    }

    #[test]
    fn tells_outputs_and_code() {
        let done = sh("echo out; echo err >&2; exit 3", Duration::from_secs(60), None).unwrap();
        assert_eq!((done.stdout, done.stderr, done.code), (b"out\n".into(), b"err\n".into(), 3));
        let killed = sh("kill -9 $$", Duration::from_secs(60), None).unwrap();
        assert_eq!(killed.code, 137);
    }

    #[test]
    fn caps_what_it_keeps_and_reads_the_rest() {
        let done = sh("head -c 9000000 /dev/zero; echo end >&2", Duration::from_secs(60), None).unwrap();
        assert_eq!((done.stdout.len(), done.code), (OUTPUT_LIMIT, 0));
    }

    #[test]
    fn ends_the_group_at_the_limit_and_at_a_stop() {
        let error = sh("sleep 300 & sleep 300", Duration::from_millis(100), None).unwrap_err();
        assert!(matches!(error, Error::TimedOut(_)), "{error:?}");
        let stop = Stop::default();
        stop.request(Reason::Cancelled);
        let error = sh("sleep 300", Duration::from_secs(300), Some(&stop)).unwrap_err();
        assert!(matches!(error, Error::Stopped(Reason::Cancelled)), "{error:?}");
        let lingering = sh("exec >&- 2>&-; sleep 300", Duration::from_millis(100), None).unwrap_err();
        assert!(matches!(lingering, Error::TimedOut(_)), "{lingering:?}");
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let error = run(&mut Command::new("/nonexistent"), Stdio::null(), Duration::from_secs(1), None).unwrap_err();
        assert!(matches!(error, Error::NotStarted(_)), "{error:?}");
    }
}
