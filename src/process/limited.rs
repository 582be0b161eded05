//! Runs a command to its end: with a deadline, with capped output, stoppable.
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
    /// It wrote nothing for this long.
    Silent(Duration),
    Stopped(Reason),
    Io(io::Error),
}

/// How long a command may take.
pub struct Limits<'a> {
    pub total: Duration,
    /// How long it may write nothing.
    pub silence: Duration,
    /// Hears what it writes, as it comes.
    pub heard: &'a mut dyn FnMut(&[u8]),
}

/// Runs `command` on `input` within its limits.
pub fn run(command: &mut Command, input: Stdio, limits: Limits, stop: Option<&Stop>) -> Result<Finished, Error> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut clock = Clock { began: Instant::now(), heard: Instant::now(), limits };
    // A process that slept past its lease begins nothing.
    clock.remaining(stop)?;
    let mut child = children::spawn(command).map_err(Error::NotStarted)?;
    let (Some(mut out), Some(mut err)) = (child.child().stdout.take(), child.child().stderr.take()) else {
        return Err(Error::Io(io::Error::other("the command has no output pipes")));
    };
    sys::set_nonblocking(&out).and_then(|()| sys::set_nonblocking(&err)).map_err(Error::Io)?;
    let mut captured = (Capture::default(), Capture::default());
    // Before the child in dropping order too: a group is watched no longer than it is ours.
    let mut watch = Watch::over(child.pid(), stop);
    while !(captured.0.ended && captured.1.ended) {
        let left = clock.remaining(stop)?;
        watch.tick();
        let open: Vec<_> =
            [(&captured.0, out.as_fd()), (&captured.1, err.as_fd())].into_iter().filter(|(c, _)| !c.ended).collect();
        let fds: Vec<_> = open.into_iter().map(|(_, fd)| fd).collect();
        sys::wait_readable(&fds, left.min(TICK)).map_err(Error::Io)?;
        captured.0.fill(&mut out, &mut clock).map_err(Error::Io)?;
        captured.1.fill(&mut err, &mut clock).map_err(Error::Io)?;
    }
    // Its outputs are closed; it ends now, or it is one that lingers and is held to its limit.
    loop {
        let left = clock.remaining(stop)?;
        watch.tick();
        if let Some(status) = child.wait(left.min(TICK)).map_err(Error::Io)? {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(Finished { stdout: captured.0.bytes, stderr: captured.1.bytes, code });
        }
    }
}

struct Clock<'a> {
    began: Instant,
    /// When it wrote last.
    heard: Instant,
    limits: Limits<'a>,
}

impl Clock<'_> {
    fn remaining(&self, stop: Option<&Stop>) -> Result<Duration, Error> {
        if let Some(reason) = stop.and_then(Stop::reason) {
            return Err(Error::Stopped(reason));
        }
        let (total, silence) = (self.limits.total, self.limits.silence);
        let left = total.saturating_sub(self.began.elapsed());
        let till_silent = silence.saturating_sub(self.heard.elapsed());
        match (left, till_silent) {
            (Duration::ZERO, _) => Err(Error::TimedOut(total)),
            (_, Duration::ZERO) => Err(Error::Silent(silence)),
            (left, till_silent) => Ok(left.min(till_silent)),
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard = Instant::now();
        (self.limits.heard)(bytes);
    }
}

#[derive(Default)]
struct Capture {
    bytes: Vec<u8>,
    ended: bool,
}

impl Capture {
    fn fill(&mut self, from: &mut impl Read, clock: &mut Clock) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while !self.ended {
            match from.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    clock.hear(&buffer[..count]);
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
        let limits = Limits { total: limit, silence: limit, heard: &mut |_| {} };
        run(Command::new("sh").args(["-c", script]), Stdio::null(), limits, stop)
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
    fn one_that_gets_on_may_take_its_time() {
        let mut heard = Vec::new();
        let mut within = |script: &str, silence| {
            let heard = &mut |bytes: &[u8]| heard.extend_from_slice(bytes);
            let limits = Limits { total: Duration::from_secs(60), silence, heard };
            run(Command::new("sh").args(["-c", script]), Stdio::null(), limits, None)
        };
        let error = within("echo begins; sleep 300", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, Error::Silent(_)), "{error:?}");
        within("for n in 1 2 3 4 5 6 7 8; do echo $n >&2; sleep 0.1; done", Duration::from_secs(20)).unwrap();
        assert_eq!(heard, b"begins\n1\n2\n3\n4\n5\n6\n7\n8\n");
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let limits = Limits { total: Duration::MAX, silence: Duration::MAX, heard: &mut |_| {} };
        let error = run(&mut Command::new("/nonexistent"), Stdio::null(), limits, None).unwrap_err();
        assert!(matches!(error, Error::NotStarted(_)), "{error:?}");
    }
}
