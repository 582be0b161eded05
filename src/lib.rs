//! Agenticore as a library: which role this process plays (init, supervisor, warden, askpass, or a command), and what
//! is opened for documentation tests, fuzzing and benchmarks. The program is `main.rs`; it is not meant for other
//! crates.

mod addresses;
mod agent;
mod api;
mod change;
mod checkouts;
mod cli;
mod config;
mod doctor;
mod event;
mod fleet;
mod forge;
#[cfg(test)]
mod golden;
mod job;
mod log;
mod metrics;
mod pipeline;
mod plain;
#[cfg(test)]
mod printed;
mod process;
mod profile;
mod redact;
mod server;
mod service;
mod spans;
mod store;
mod suggest;
mod tls;
mod trace_context;
mod volume;
mod web;
mod webhook;
mod workspace;

pub mod judges;

use agent::self_test;
use process::{init, supervise, sys, warden};
use workspace::askpass;

/// What is still to be logged when the process ends gets so long to be read.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

/// Plays this process's role, and ends the process with its exit code.
pub fn main() -> ! {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == supervise::ROLE) {
        std::process::exit(supervise::main(&arguments[1..]));
    }
    if arguments.first().is_some_and(|first| first == warden::ROLE) {
        std::process::exit(warden::main());
    }
    if arguments.first().is_some_and(|first| first == self_test::ROLE) {
        std::process::exit(self_test::main());
    }
    // All other roles may hold secrets: agents share their uid. Refused by no kernel we know, and
    // nothing to be done about it if so.
    let _ = sys::become_unreadable();
    if std::env::var_os(askpass::VARIABLE).is_some() {
        let question = arguments.first().map(|a| a.to_string_lossy().into_owned()).unwrap_or_default();
        std::process::exit(askpass::main(&question));
    }
    if init::is_needed() {
        let code = init::run().unwrap_or_else(|error| {
            log::error(&format!("cannot start the server below init: {error}"));
            1
        });
        leave(code);
    }
    leave(cli::main(arguments) as i32);
}

fn leave(code: i32) -> ! {
    log::finish(LAST_WORDS);
    std::process::exit(code)
}
