//! PID 1 of a container: starts the server below itself, passes signals on, reaps what dies.
//!
//! The server stays an ordinary process with ordinary children; init never looks at a job.

use super::sys::{self, Exit, Reaped};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use std::io;
use std::process::Command;

/// Set for the child, so that it does not become an init in turn.
const BELOW_INIT: &str = "AGENTICORE_BELOW_INIT";

pub fn is_needed() -> bool {
    std::process::id() == 1 && std::env::var_os(BELOW_INIT).is_none()
}

/// Runs the same command line as a child until it ends; returns its exit code.
pub fn run() -> io::Result<i32> {
    let mut signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2])?;
    let server = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).env(BELOW_INIT, "1").spawn()?;
    let server = server.id() as i32;
    for signal in signals.forever() {
        if signal != SIGCHLD {
            sys::kill(server, signal);
            continue;
        }
        loop {
            match sys::reap(-1) {
                Reaped::Child(pid, exit) if pid == server => {
                    return Ok(match exit {
                        Exit::Code(code) => code,
                        Exit::Signal(signal) => 128 + signal,
                    });
                }
                Reaped::Child(..) => {}
                Reaped::NoneEnded | Reaped::NoChildren => break,
            }
        }
    }
    Ok(1)
}
