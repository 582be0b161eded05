//! The role `warden`: one process beside a fleet's server, which ends the server's short commands (git)
//! when the lease they run under is over, also when the server is stopped and cannot.
//!
//! Standard input is a pipe: `watch GROUP MILLISECONDS` (since boot) and `done GROUP`. At its end
//! everything that is still watched is killed, and the warden goes. It knows nothing of what it watches.

use super::children::{self, Registered};
use super::stop::Stop;
use super::sys;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The first argument that makes the binary a warden.
pub const ROLE: &str = "__warden";
/// How long before the lease's end a group is killed: what the kernel may need to carry it out.
const MARGIN: Duration = Duration::from_millis(200);
/// How often the clock is looked at while something is watched.
const TICK: Duration = Duration::from_millis(100);

pub fn main() -> i32 {
    let mut input = std::io::stdin();
    let (mut heard, mut watched, mut buffer) = (Vec::new(), HashMap::new(), [0; 4096]);
    loop {
        let wait = if watched.is_empty() { Duration::from_secs(60) } else { TICK };
        let ready = sys::wait_readable(&[input.as_fd()], wait);
        if ready.is_ok_and(|ready| ready[0]) {
            match input.read(&mut buffer) {
                Ok(count) if count > 0 => heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        while let Some(at) = heard.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = heard.drain(..=at).collect();
            heed(&String::from_utf8_lossy(&line), &mut watched);
        }
        let now = sys::since_boot() + MARGIN;
        watched.retain(|group, until| {
            let lives = now < *until;
            if !lives {
                sys::kill_group(*group, sys::SIGKILL);
            }
            lives
        });
    }
    watched.keys().for_each(|group| sys::kill_group(*group, sys::SIGKILL));
    0
}

fn heed(line: &str, watched: &mut HashMap<i32, Duration>) {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["watch", group, until] => {
            if let (Ok(group), Ok(until)) = (group.parse(), until.parse()) {
                watched.insert(group, Duration::from_millis(until));
            }
        }
        ["done", group] => drop(group.parse().map(|group: i32| watched.remove(&group))),
        _ => {}
    }
}

/// The server's warden, started when it is first needed.
static WARDEN: Mutex<Option<Warden>> = Mutex::new(None);

struct Warden {
    input: ChildStdin,
    _process: Registered,
}

impl Warden {
    fn start() -> std::io::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg(ROLE)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = children::spawn(command.process_group(0))?;
        let input = process.child().stdin.take().ok_or_else(|| std::io::Error::other("the warden has no input"))?;
        Ok(Self { input, _process: process })
    }
}

/// Says a line to the warden. One that was ended is started again, and forgets what it watched: each
/// command is told again with its next tick.
fn tell(line: &str) {
    let mut warden = WARDEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..2 {
        if warden.is_none() {
            *warden = Warden::start().ok();
        }
        match warden.as_mut().map(|warden| warden.input.write_all(line.as_bytes())) {
            Some(Ok(())) => return,
            _ => *warden = None,
        }
    }
    crate::log::warn("git is not watched over while this server is stopped: the warden cannot be started");
}

/// One command under a lease, for as long as this lives.
pub struct Watch<'a> {
    group: i32,
    stop: Option<&'a Stop>,
    told: Option<Duration>,
}

impl<'a> Watch<'a> {
    /// Watches the process group, if `stop` hangs on a lease.
    pub fn over(group: i32, stop: Option<&'a Stop>) -> Self {
        let mut watch = Self { group, stop, told: None };
        watch.tick();
        watch
    }

    /// Passes on that the lease was renewed.
    pub fn tick(&mut self) {
        let until = self.stop.and_then(Stop::until);
        if until != self.told {
            self.told = until;
            if let Some(until) = until {
                tell(&format!("watch {} {}\n", self.group, until.as_millis()));
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.told.is_some() {
            tell(&format!("done {}\n", self.group));
        }
    }
}
