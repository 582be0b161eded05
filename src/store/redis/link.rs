//! Connections to Redis: made with limits, kept, given up at the first sign of trouble, made again.
//!
//! Never gives up for good: after a failure nobody asks again before a pause is over, which grows and
//! is jittered, so that a fleet does not come back all at once. Knows nothing of jobs.

use crate::config;
use ::redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};
use ::redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How Redis says that a key is of another type than the command wants; begins what [`Link::with`] says then.
pub const WRONG_TYPE: &str = "WRONGTYPE";
/// Connections that are kept although nobody uses them.
const IDLE_MOST: usize = 16;

/// Where Redis is, as all links of one server know it.
pub struct Address {
    settings: config::Redis,
    certificates: Option<Vec<u8>>,
    /// A Cluster said that our keys are there (MOVED).
    moved: Mutex<Option<(String, u16)>>,
}

impl Address {
    pub fn new(settings: config::Redis) -> Result<Arc<Self>, String> {
        let certificates = match &settings.ca_file {
            Some(path) => Some(
                std::fs::read(path)
                    .map_err(|error| format!("REDIS_CA_FILE: cannot read {}: {error}", path.display()))?,
            ),
            None => None,
        };
        Ok(Arc::new(Self { settings, certificates, moved: Mutex::default() }))
    }

    /// A new connection, within the settings' limit. On a thread of its own, because looking up a name,
    /// and a TLS or Sentinel peer that keeps silent, have no limit that could be set.
    fn connect(self: &Arc<Self>) -> Result<Connection, String> {
        let limit = self.settings.timeout;
        let (send, receive) = mpsc::sync_channel(1);
        let address = self.clone();
        // Connects once; ends when it has, or has failed to. Nobody waits for one that hangs.
        let thread = std::thread::Builder::new().name("redis-connect".into());
        let spawned = thread.spawn(move || drop(send.send(address.connect_now())));
        spawned.map_err(|error| format!("cannot start a thread: {error}"))?;
        match receive.recv_timeout(limit + Duration::from_millis(100)) {
            Ok(made) => made,
            Err(_) => {
                Err(format!("Redis at {} did not answer within {} s", self.settings.shown(), limit.as_secs_f32()))
            }
        }
    }

    fn connect_now(self: &Arc<Self>) -> Result<Connection, String> {
        let settings = &self.settings;
        let moved = lock(&self.moved).clone();
        let (host, port) = match moved {
            Some(place) => place,
            None if settings.sentinels.is_empty() => (settings.host.clone(), settings.port),
            None => self.ask_sentinels()?,
        };
        let login = (settings.username.as_deref(), settings.password.as_deref());
        let made = self.open(&host, port, login, settings.database);
        if made.is_err() {
            // A node that is gone is not asked again: the one that was configured knows more.
            *lock(&self.moved) = None;
        }
        made.map_err(|error| format!("Redis at {host}:{port}: {}", explain(&error)))
    }

    fn open(
        &self,
        host: &str,
        port: u16,
        login: (Option<&str>, Option<&str>),
        database: i64,
    ) -> RedisResult<Connection> {
        let settings = &self.settings;
        let host = host.to_owned();
        let addr = match settings.tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        let mut redis = RedisConnectionInfo::default().set_db(database);
        if let Some(username) = login.0 {
            redis = redis.set_username(username);
        }
        if let Some(password) = login.1 {
            redis = redis.set_password(password);
        }
        let info: ConnectionInfo = addr.into_connection_info()?.set_redis_settings(redis);
        let client = match (&self.certificates, settings.tls) {
            (Some(pem), true) => {
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) })?
            }
            _ => Client::open(info)?,
        };
        let connection = client.get_connection_with_timeout(settings.timeout)?;
        connection.set_read_timeout(Some(settings.timeout))?;
        connection.set_write_timeout(Some(settings.timeout))?;
        Ok(connection)
    }

    /// The master's address, from the first Sentinel that answers. All are asked at once: one that accepts
    /// and keeps silent must not use up the time of the others.
    fn ask_sentinels(self: &Arc<Self>) -> Result<(String, u16), String> {
        let (send, receive) = mpsc::channel();
        for (host, port) in self.settings.sentinels.clone() {
            let (send, address) = (send.clone(), self.clone());
            // Asks one Sentinel, and ends.
            let thread = std::thread::Builder::new().name("redis-sentinel".into());
            let asked = thread.spawn(move || drop(send.send(address.ask_sentinel(&host, port))));
            asked.map_err(|error| format!("cannot start a thread: {error}"))?;
        }
        drop(send);
        let mut said = Vec::new();
        for answer in receive {
            match answer {
                Ok(address) => return Ok(address),
                Err(why) => said.push(why),
            }
        }
        Err(format!("no Sentinel names the master: {}", said.join("; ")))
    }

    fn ask_sentinel(&self, host: &str, port: u16) -> Result<(String, u16), String> {
        let settings = &self.settings;
        let login = (settings.sentinel_login.0.as_deref(), settings.sentinel_login.1.as_deref());
        let asked = self.open(host, port, login, 0).and_then(|mut sentinel| {
            let mut ask = ::redis::cmd("SENTINEL");
            ask.arg("get-master-addr-by-name").arg(&settings.sentinel_master);
            ask.query::<Option<(String, u16)>>(&mut sentinel)
        });
        match asked {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(format!("{host}:{port} knows no {}", settings.sentinel_master)),
            Err(error) => Err(format!("{host}:{port}: {}", explain(&error))),
        }
    }
}

/// What went wrong, in words for people and without the crate's decoration.
pub fn explain(error: &RedisError) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::AuthenticationFailed, _) => {
            "it refuses the user or password in REDIS_URL, REDIS_USERNAME or REDIS_PASSWORD".into()
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), Some(detail)) | (ErrorKind::Extension, Some(detail)) => {
            format!("{} {detail}", error.code().unwrap_or_default()).trim().to_owned()
        }
        (ErrorKind::Server(ServerErrorKind::CrossSlot), _) => {
            "it is a Cluster: REDIS_KEY_PREFIX needs a {tag}, such as {agenticore}, so that all keys share a slot"
                .into()
        }
        _ if error.is_timeout() => "it does not answer in time".into(),
        _ => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Several connections for one purpose, with a common memory of what went wrong last.
pub struct Link {
    address: Arc<Address>,
    /// Longer than the settings' limit, for a call that blocks.
    read_limit: Option<Duration>,
    idle: Mutex<Vec<Connection>>,
    trouble: Mutex<Trouble>,
}

#[derive(Default)]
struct Trouble {
    /// What it waits for; None: all is well.
    why: Option<String>,
    pause: Duration,
    not_before: Option<Instant>,
}

impl Link {
    pub fn new(address: &Arc<Address>, read_limit: Option<Duration>) -> Self {
        Self { address: address.clone(), read_limit, idle: Mutex::default(), trouble: Mutex::default() }
    }

    /// What went wrong last, if nothing went well since.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.trouble).why.clone()
    }

    /// Runs `call`. It may be run twice: every step of ours answers the same when it is repeated.
    pub fn with<T>(&self, call: impl Fn(&mut Connection) -> RedisResult<T>) -> Result<T, String> {
        {
            let trouble = lock(&self.trouble);
            if let (Some(why), Some(at)) = (&trouble.why, trouble.not_before)
                && Instant::now() < at
            {
                return Err(why.clone());
            }
        }
        let began = Instant::now();
        let kept = lock(&self.idle).pop();
        let was_kept = kept.is_some();
        let mut connection = kept.map_or_else(|| self.connect(), Ok)?;
        let mut done = call(&mut connection);
        if let Err(error) = &done
            && (was_kept || self.heed_redirect(error))
            && self.is_worth_another(error)
        {
            lock(&self.idle).clear();
            connection = self.connect()?;
            done = call(&mut connection);
        }
        crate::metrics::redis_call(began);
        match done {
            Ok(value) => {
                self.is_well();
                let mut idle = lock(&self.idle);
                if idle.len() < IDLE_MOST {
                    idle.push(connection);
                }
                Ok(value)
            }
            // One key holds something else than it should: that is well told, and no trouble of Redis.
            Err(error) if error.code() == Some(WRONG_TYPE) => {
                self.is_well();
                lock(&self.idle).push(connection);
                Err(format!("{WRONG_TYPE}: {}", error.detail().unwrap_or_default()))
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn connect(&self) -> Result<Connection, String> {
        let made = self.address.connect().and_then(|connection| match self.read_limit {
            Some(limit) => connection.set_read_timeout(Some(limit)).map(|()| connection).map_err(|e| explain(&e)),
            None => Ok(connection),
        });
        made.inspect_err(|why| self.is_troubled(why.clone()))
    }

    /// A connection from before Redis restarted, failed over or moved the keys says nothing about now.
    /// One that does not answer does: there is no second wait.
    fn is_worth_another(&self, error: &RedisError) -> bool {
        let server = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::Moved | ServerErrorKind::MasterDown)
        );
        server || (error.is_io_error() && !error.is_timeout())
    }

    /// True: a Cluster told where our keys are, and that is where the next connection goes.
    fn heed_redirect(&self, error: &RedisError) -> bool {
        if error.kind() != ErrorKind::Server(ServerErrorKind::Moved) {
            return false;
        }
        let node = error.redirect_node().and_then(|(address, _)| address.rsplit_once(':'));
        let Some((host, port)) = node.and_then(|(host, port)| Some((host, port.parse().ok()?))) else { return false };
        let host = if host.is_empty() { self.address.settings.host.clone() } else { host.to_owned() };
        *lock(&self.address.moved) = Some((host, port));
        true
    }

    fn failed(&self, error: &RedisError) -> String {
        let is_moved = self.heed_redirect(error);
        let why = format!("Redis at {}: {}", self.address.settings.shown(), explain(error));
        lock(&self.idle).clear();
        if !is_moved {
            self.is_troubled(why.clone());
        }
        why
    }

    fn is_well(&self) {
        let mut trouble = lock(&self.trouble);
        if trouble.why.is_some() {
            *trouble = Trouble::default();
        }
    }

    fn is_troubled(&self, why: String) {
        let mut trouble = lock(&self.trouble);
        trouble.pause = if trouble.why.is_none() { FIRST_PAUSE } else { (trouble.pause * 2).min(LONGEST_PAUSE) };
        trouble.why = Some(why);
        // Between half of it and all of it.
        let jitter = f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
        trouble.not_before = Some(Instant::now() + trouble.pause.mul_f64(0.5 + jitter / 2.0));
    }
}
