//! Runs a command to its end: with a deadline, with capped output, stoppable.
//!
//! Whatever happens, the command's process group is gone when [`run`] returns.

use super::stop::{Reason, Stop};
use super::warden::Watch;
use super::{children, proc_table, sys};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The most of each output that is kept; the rest is read and dropped. 256 MiB hold the listing of two million files.
pub const OUTPUT_LIMIT: usize = 256 << 20;
/// The same of what it says on standard error.
const ERROR_LIMIT: usize = 4 << 20;
/// Who computes for more than this part of the time is busy.
const BUSY_SHARE: u64 = 20;
/// How often a stop is looked for while a command is silent.
const TICK: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub struct Finished {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// There was more on its standard output than is kept.
    pub is_cut: bool,
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
    let mut clock = Clock { began: Instant::now(), heard: Instant::now(), limits, group: None };
    // A process that slept past its lease begins nothing.
    clock.remaining(stop)?;
    let mut child = children::spawn(command).map_err(Error::NotStarted)?;
    let (Some(mut out), Some(mut err)) = (child.child().stdout.take(), child.child().stderr.take()) else {
        return Err(Error::Io(io::Error::other("the command has no output pipes")));
    };
    sys::set_nonblocking(&out).and_then(|()| sys::set_nonblocking(&err)).map_err(Error::Io)?;
    let capture = |limit| Capture { bytes: Vec::new(), limit, is_cut: false, ended: false };
    let mut captured = (capture(OUTPUT_LIMIT), capture(ERROR_LIMIT));
    clock.group = Some((child.pid(), 0));
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
            let (out, err) = captured;
            return Ok(Finished { stdout: out.bytes, stderr: err.bytes, is_cut: out.is_cut, code });
        }
    }
}

struct Clock<'a> {
    began: Instant,
    /// When it wrote last.
    heard: Instant,
    limits: Limits<'a>,
    /// The command's process group, and how long it had computed when that was looked at last.
    group: Option<(i32, u64)>,
}

impl Clock<'_> {
    fn remaining(&mut self, stop: Option<&Stop>) -> Result<Duration, Error> {
        if let Some(reason) = stop.and_then(Stop::reason) {
            return Err(Error::Stopped(reason));
        }
        let (total, silence) = (self.limits.total, self.limits.silence);
        let left = total.saturating_sub(self.began.elapsed());
        let till_silent = silence.saturating_sub(self.heard.elapsed());
        match (left, till_silent) {
            (Duration::ZERO, _) => Err(Error::TimedOut(total)),
            (left, Duration::ZERO) if self.is_busy() => {
                self.heard = Instant::now();
                Ok(left.min(silence))
            }
            (_, Duration::ZERO) => Err(Error::Silent(silence)),
            (left, till_silent) => Ok(left.min(till_silent)),
        }
    }

    /// It wrote nothing, and computed meanwhile: git checks what it fetched without a word.
    fn is_busy(&mut self) -> bool {
        let Some((group, before)) = &mut self.group else { return false };
        let now = proc_table::group_ticks(*group);
        let spent = now.saturating_sub(std::mem::replace(before, now));
        // A tick is 10 ms; one that waits for a network computes next to nothing.
        spent * 10 * BUSY_SHARE > self.limits.silence.as_millis() as u64
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.heard = Instant::now();
        (self.limits.heard)(bytes);
    }
}

struct Capture {
    bytes: Vec<u8>,
    limit: usize,
    is_cut: bool,
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
                    let room = self.limit - self.bytes.len();
                    self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                    self.is_cut |= count > room;
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
        let done =
            sh("head -c 300000000 /dev/zero; head -c 9000000 /dev/zero >&2", Duration::from_secs(60), None).unwrap();
        assert_eq!((done.stdout.len(), done.is_cut, done.code), (OUTPUT_LIMIT, true, 0));
        assert_eq!(done.stderr.len(), ERROR_LIMIT);
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
        // One that computes is not silent.
        within("n=0; while [ $n -lt 3000000 ]; do n=$((n + 1)); done; echo begins", Duration::from_secs(1)).unwrap();
        within("for n in 1 2 3 4 5 6 7 8; do echo $n >&2; sleep 0.1; done", Duration::from_secs(20)).unwrap();
        assert_eq!(heard, b"begins\nbegins\n1\n2\n3\n4\n5\n6\n7\n8\n");
    }

    #[test]
    fn a_missing_program_is_told_apart() {
        let limits = Limits { total: Duration::MAX, silence: Duration::MAX, heard: &mut |_| {} };
        let error = run(&mut Command::new("/nonexistent"), Stdio::null(), limits, None).unwrap_err();
        assert!(matches!(error, Error::NotStarted(_)), "{error:?}");
    }
}
