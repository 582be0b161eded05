//! `serve`: the doors, and the order in which a server starts and goes away.

mod doors;
mod guard;
mod http;
mod keyed_flow;
pub mod keys;
mod mcp;
mod page;
mod rest;

use crate::config::Config;
use crate::log;
use crate::process::sys;
use crate::service::Service;
use doors::Doors;
use guard::Guard;
use http::Server;
use keys::Keys;
use mcp::Mcp;
use rest::Rest;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub use crate::service::{Holder, holder};
pub use http::head;
pub use mcp::lines;
pub use rest::routes::shown as shown_routes;
#[cfg(test)]
pub use rest::routes::{Access, table as routes_table};

/// Why the server did not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn cannot(what: &str) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError(format!("cannot {what}: {error}"))
}

/// In place of a limit of a request.
const NO_LIMIT: Duration = Duration::from_secs(86_400);

/// Serves until SIGTERM, SIGINT or SIGHUP; returns when nothing is left behind.
pub fn serve(mut config: Config) -> Result<(), StartError> {
    prepare_process()?;
    log::catch_panics();
    let address = format!("{}:{}", bracketed(&config.host), config.port);
    let listening = format!("listen on {address} (AGENTICORE_HOST, AGENTICORE_PORT)");
    let listener = TcpListener::bind(&address).map_err(cannot(&listening))?;
    // What is wrong with the keys is said before anything begins.
    let keys = open_keys(&config).map_err(StartError)?;
    config.keys_in_clear = config.api_keys_file.as_deref().map(keys::in_clear).unwrap_or_default();
    let service = Arc::new(Service::start(config).map_err(StartError)?);
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot("listen to signals"))?;
    let config = service.config();
    let guard = Guard::new(config.allowed_hosts.clone(), config.allowed_origins.clone(), config.is_local());
    keys.follow_file().map_err(cannot("start a thread"))?;
    let rest = Rest::new(service.clone(), keys.clone());
    let doors = Doors { guard, keys: keys.clone(), rest, mcp: Arc::new(Mcp::new(service.clone(), keys.clone())) };
    let limits = http::Limits {
        jobs: service.workers(),
        per_address: config.limits.connections_per_address,
        request: Some(config.limits.request_timeout).filter(|limit| !limit.is_zero()).unwrap_or(NO_LIMIT),
    };
    let server = Server::start(listener, Arc::new(doors), limits).map_err(cannot("start the server"))?;
    let address = server.address();
    let host =
        if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { bracketed(&address.ip().to_string()) };
    service.say_where(&format!("http://{host}:{}", address.port()));
    say_what_runs(&service, Some(&address.to_string()));
    let asked = count_signals(signals).map_err(cannot("start a thread"))?;
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::park();
    }
    log::info("shutting down");
    service.finish_jobs(|| asked.load(Ordering::SeqCst) > 1);
    server.stop();
    keys.close();
    service.close();
    log::info("stopped");
    Ok(())
}

/// The keys of the settings and of their file, and one for the commands of this pod.
fn open_keys(config: &Config) -> Result<Arc<Keys>, String> {
    // Who has a key in the settings needs no other.
    let wants_own = config.api_keys_file.is_some() && config.api_keys.is_empty();
    let own = wants_own.then(|| keys::own::make(config)).transpose();
    let own = own.unwrap_or_else(|error| {
        log::warn(&format!("commands of this pod need a key, because none could be made for them: {error}"));
        None
    });
    Keys::new(&config.api_keys, config.api_keys_file.clone(), own)
}

/// Serves MCP on standard input and output, until the input ends or a signal comes; what runs then goes back into the
/// queue. Returns when nothing is left behind.
pub fn serve_stdio(config: Config) -> Result<(), StartError> {
    prepare_process()?;
    log::catch_panics();
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(cannot("listen to signals"))?;
    let service = Arc::new(Service::start(config).map_err(StartError)?);
    service.say_where("standard input");
    say_what_runs(&service, None);
    let asked = count_signals(signals).map_err(cannot("start a thread"))?;
    let no_keys = Keys::new(&[], None, None).map_err(StartError)?;
    let (mcp, ended, main) = (Mcp::new(service.clone(), no_keys), asked.clone(), std::thread::current());
    // Reads standard input; its end is as good as a signal.
    let reading = std::thread::Builder::new().name("stdin".into()).spawn(move || {
        mcp::stdio::serve(&mcp);
        ended.fetch_add(1, Ordering::SeqCst);
        main.unpark();
    });
    reading.map_err(cannot("start a thread"))?;
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::park();
    }
    // The client does not wait: what runs is handed back at once.
    service.finish_jobs(|| true);
    service.close();
    log::info("stopped");
    Ok(())
}

fn prepare_process() -> Result<(), StartError> {
    sys::become_subreaper().map_err(cannot("become a subreaper"))?;
    if sys::shares_by_group() {
        sys::let_group_write();
    }
    // A machine that does not allow it serves fewer connections.
    let _ = sys::raise_descriptor_limit();
    Ok(())
}

/// `address`: where it listens; None: on standard input.
fn say_what_runs(service: &Service, address: Option<&str>) {
    let (config, workers) = (service.config(), service.workers());
    let store = config
        .redis
        .as_ref()
        .map_or("no Redis".to_owned(), |redis| format!("Redis at {} with the prefix {}", redis.shown(), redis.prefix));
    let place = address.map_or("MCP on standard input".to_owned(), |address| format!("listening on http://{address}"));
    log::info(&format!(
        "{place} with {workers} workers as {}, jobs in {}, {store}; version {}",
        config.pod_name,
        config.jobs_dir.display(),
        env!("CARGO_PKG_VERSION")
    ));
    config.warnings.iter().chain(&service.profiles().warnings).for_each(|warning| log::warn(warning));
    if config.claude.otel.as_ref().is_some_and(|otel| !otel.has_own_traces()) {
        log::warn(
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, as it is without being set: Claude's telemetry is sent, this \
             server's own traces are not; for both set it to http/protobuf, and the endpoint to the collector's port \
             for HTTP (4318)",
        );
    }
    for missing in service.missing() {
        log::warn(&missing);
    }
    if let Some(address) = address.filter(|_| !config.is_local() && !config.wants_keys()) {
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
    // Counts the signals; ends with the process.
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
