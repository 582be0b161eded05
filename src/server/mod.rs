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
use crate::store::unconfigured::Unconfigured;
use crate::store::{embedded, redis};
use crate::volume;
use http::Server;
use routes::Routes;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt;
use std::fs::File;
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
    if sys::shares_by_group() {
        sys::let_group_write();
    }
    let address = format!("{}:{}", bracketed(&config.host), config.port);
    let listener = TcpListener::bind(&address).map_err(|error| {
        StartError(format!("cannot listen on {address} (AGENTICORE_HOST, AGENTICORE_PORT): {error}"))
    })?;
    let (runner, _alone) = open(config).map_err(config_error)?;
    let signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|error| StartError(format!("cannot listen to signals: {error}")))?;
    let is_configured = runner.config.redis.is_some() || !runner.config.wants_redis;
    let workers = if is_configured { runner.config.max_parallel_jobs } else { 0 };
    let (grace, ending) = (runner.config.shutdown_grace, runner.config.claude.kill_grace);
    let pool = Pool::start(runner.clone(), workers)
        .map_err(|error| StartError(format!("cannot start the workers: {error}")))?;
    let routes = Routes::new(runner.clone(), pool.canceller(), pool.drainer());
    let server = Server::start(listener, Arc::new(routes))
        .map_err(|error| StartError(format!("cannot start the server: {error}")))?;
    log::info(&format!(
        "listening on http://{} with {workers} workers as {}, jobs in {}, {}; version {}",
        server.address(),
        runner.config.pod_name,
        runner.config.jobs_dir.display(),
        runner.config.redis.as_ref().map_or("no Redis".to_owned(), |redis| {
            format!("Redis at {} with the prefix {}", redis.shown(), redis.prefix)
        }),
        env!("CARGO_PKG_VERSION")
    ));
    if !runner.config.unknown_keys.is_empty() {
        log::warn(&format!("config.yml: unknown keys are ignored: {}", runner.config.unknown_keys.join(", ")));
    }
    warn_of(&runner, &server.address().to_string());
    let asked = count_signals(signals).map_err(|error| StartError(format!("cannot start a thread: {error}")))?;
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::park();
    }
    log::info("shutting down");
    pool.shut_down(grace, ending, || asked.load(Ordering::SeqCst) > 1);
    server.stop();
    runner.store.shut_down();
    runner.clear_runtime();
    log::info("stopped");
    Ok(())
}

/// The store that the settings ask for, and a runner on it; a server without Redis also gets what
/// keeps the shared volume for it alone.
fn open(config: Config) -> Result<(Arc<Runner>, Option<File>), String> {
    if config.redis.is_none() && config.wants_redis {
        let why = format!(
            "a Redis to keep jobs in: {}, {}",
            config.where_to_set("redis-url", "REDIS_URL"),
            config.then_restart()
        );
        let store = Arc::new(Unconfigured { why });
        let config = config.beside_the_server();
        let no_agents = config.runtime_dir.with_extension("agents");
        return Ok((Arc::new(Runner::new(config, store, no_agents)?), None));
    }
    for lack in volume::prepare(&config)? {
        log::warn(&lack);
    }
    let Some(settings) = config.redis.clone() else {
        let alone = config.shared_root.as_deref().map(|root| redis::place::take_share(root, None)).transpose()?;
        let store = embedded::open(&config.jobs_dir, &config.pod_name)?;
        let agents_lock = store.agents_lock();
        return Ok((Arc::new(Runner::new(config, store, agents_lock)?), alone));
    };
    let config = config.for_fleet();
    if !config.has_second_copy() {
        log::warn(
            "the job files are no second copy, because AGENTICORE_JOBS_DIR does not lie below AGENTICORE_SHARED_FS_ROOT: jobs are as safe as Redis keeps them, and a cancel needs Redis",
        );
    }
    let store = redis::open(&config, &settings)?;
    Ok((Arc::new(Runner::in_fleet(config, store)?), None))
}

/// What an operator should know of a server that runs.
fn warn_of(runner: &Runner, address: &str) {
    let config = &runner.config;
    let no_store = runner.store.waits_for().filter(|_| config.redis.is_none());
    for missing in [no_store, runner.why_waiting(&config.default_profile)] {
        let _ = missing.map(|missing| log::warn(&format!("this server needs {missing}")));
    }
    let is_open = !["127.0.0.1", "::1", "[::1]", "localhost"].contains(&config.host.as_str());
    if is_open && config.api_keys.is_empty() {
        let token = config.github.token.is_some() || config.github.app.is_some();
        log::warn(&format!(
            "no API keys are set: anybody who reaches {address} can run code here{}; {}, {}",
            if token { " with this server's GitHub token" } else { "" },
            config.where_to_set("api-keys", "AGENTICORE_API_KEYS"),
            config.then_restart()
        ));
    }
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
