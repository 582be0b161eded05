//! `serve`: the doors, and the order in which a server starts and goes away.

mod connections;
mod head;
mod http;
mod keys;
mod routes;

use crate::config::Config;
use crate::fleet::pool::Pool;
use crate::log;
use crate::pipeline::Runner;
use crate::process::sys;
use crate::store::embedded;
use http::Server;
use routes::Routes;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why the server did not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Serves until SIGTERM or SIGINT; returns when nothing is left behind.
pub fn serve(config: Config) -> Result<(), StartError> {
    let config_error = |why: String| StartError(why);
    sys::become_subreaper().map_err(|error| StartError(format!("cannot become a subreaper: {error}")))?;
    if config.effective().iter().any(|e| e.variable == "REDIS_URL" && e.value.is_some()) {
        return Err(StartError(
            "REDIS_URL is set, but this version has the embedded store only: unset it to run on one machine".into(),
        ));
    }
    let address = format!("{}:{}", bracketed(&config.host), config.port);
    let listener = TcpListener::bind(&address).map_err(|error| {
        StartError(format!("cannot listen on {address} (AGENTICORE_HOST, AGENTICORE_PORT): {error}"))
    })?;
    let store = embedded::open(&config.jobs_dir, &config.pod_name).map_err(config_error)?;
    let agents_lock = store.agents_lock();
    let signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| StartError(format!("cannot listen to signals: {error}")))?;
    let workers = config.max_parallel_jobs;
    let grace = config.shutdown_grace;
    let runner = Arc::new(Runner::new(config, store, agents_lock).map_err(config_error)?);
    let pool = Pool::start(runner.clone(), workers)
        .map_err(|error| StartError(format!("cannot start the workers: {error}")))?;
    let routes = Routes::new(runner.clone(), pool.canceller());
    let server = Server::start(listener, Arc::new(routes))
        .map_err(|error| StartError(format!("cannot start the server: {error}")))?;
    log::info(&format!(
        "listening on http://{} with {workers} workers, jobs in {}",
        server.address(),
        runner.config.jobs_dir.display()
    ));
    if !runner.config.unknown_keys.is_empty() {
        log::warn(&format!("config.yml: unknown keys are ignored: {}", runner.config.unknown_keys.join(", ")));
    }
    let asked = count_signals(signals).map_err(|error| StartError(format!("cannot start a thread: {error}")))?;
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::park();
    }
    log::info("shutting down");
    pool.shut_down(grace, || asked.load(Ordering::SeqCst) > 1);
    server.stop();
    runner.clear_runtime();
    log::info("stopped");
    Ok(())
}

/// How often the server was asked to go: the second time it hurries.
fn count_signals(mut signals: Signals) -> std::io::Result<Arc<AtomicUsize>> {
    let asked = Arc::new(AtomicUsize::new(0));
    let (counter, main) = (asked.clone(), std::thread::current());
    // Counts SIGTERM and SIGINT; ends with the process.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            counter.fetch_add(1, Ordering::SeqCst);
            main.unpark();
        }
    })?;
    Ok(asked)
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
