//! Which role this process plays. Everything else is below.

mod agent;
mod api;
mod config;
mod event;
mod fleet;
mod forge;
mod job;
mod log;
mod pipeline;
mod process;
mod profile;
mod redact;
mod store;
mod workspace;

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(process::supervise::ROLE) = arguments.first().and_then(|a| a.to_str()) {
        std::process::exit(process::supervise::main(&arguments[1..]));
    }
}
