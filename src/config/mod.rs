//! The settings: environment over `config.yml` over default, one table, read once, handed down.
//!
//! Never global, never read again later. Prints no secret.

mod checkouts;
mod file;
mod handed_on;
mod login;
mod otel;
mod providers;
mod proxy;
mod redis;
mod settings;
mod trust;
mod unknown;
mod values;
mod webhooks;

pub use checkouts::Checkouts;
pub use file::not_yaml;
pub use handed_on::{NETWORK, of_the_model};
pub use otel::Otel;
pub use redis::Redis;
pub use settings::parse_duration;
pub use webhooks::Webhooks;

use crate::log::Level;
use settings::{Kind, OLDER_NAMES, Row, TABLE, is_service_link};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use values::Values;

#[derive(Clone)]
pub struct Config {
    pub host: String,
    pub port: u16,
    /// An MCP server on standard input and output, and nothing else.
    pub is_stdio: bool,
    pub api_keys: Vec<String>,
    /// More of them, in a file that is read again when it changes.
    pub api_keys_file: Option<PathBuf>,
    /// Those of the file that stand there in clear, as whoever reads it found them; no settings.
    pub keys_in_clear: Vec<String>,
    pub limits: Limits,
    pub allowed_hosts: Vec<String>,
    pub allowed_origins: Vec<String>,
    pub client: Client,
    pub claude: Claude,
    pub default_profile: String,
    pub repos: Repos,
    pub jobs_dir: PathBuf,
    /// The shared volume.
    pub shared_root: Option<PathBuf>,
    /// None: the embedded store, unless `wants_redis`.
    pub redis: Option<Redis>,
    /// Jobs are to be kept in Redis: without one nothing is taken.
    pub wants_redis: bool,
    /// The Kubernetes Secret that the settings come from, if they do.
    pub secret_name: Option<String>,
    pub max_parallel_jobs: usize,
    pub job_ttl_seconds: u64,
    pub webhooks: Webhooks,
    pub pod_name: String,
    pub shutdown_grace: Duration,
    /// None: as suits what runs.
    pub log_level: Option<Level>,
    /// `text` or `json`; None: as suits where standard error goes.
    pub log_format: Option<String>,
    pub github: GitHub,
    /// Where profiles are looked for, after the built-in ones; later ones win.
    pub profile_dirs: Vec<PathBuf>,
    pub checkouts: Checkouts,
    /// What runs below one job's id: merged profile, working directory without a repository.
    pub job_dirs_root: PathBuf,
    /// What lives no longer than one server: agents' homes, private git directories. Short, because
    /// Claude makes sockets below it. See [`Config::with_jobs_dir`].
    pub runtime_dir: PathBuf,
    temporary: PathBuf,
    /// `~/.agenticore`: what `run --local` keeps for itself lies there.
    pub own_dir: PathBuf,
    pub variables: BTreeMap<String, String>,
    effective: Vec<Effective>,
    /// What was given and means nothing here, a sentence each.
    pub warnings: Vec<String>,
}

/// What one caller, or all of them, may have of a server at once; 0: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Submissions of one key in a minute.
    pub submissions_per_minute: u64,
    /// Jobs of one key that wait, where the key itself has no limit.
    pub queued_per_key: usize,
    /// Jobs that wait, whosever they are.
    pub queued: usize,
    pub connections_per_address: usize,
    /// For a request to come in, and for its answer to be taken.
    pub request_timeout: Duration,
}

impl Limits {
    /// Those that are set.
    pub fn named(&self) -> BTreeMap<String, u64> {
        let all = [
            ("submissions_per_minute", self.submissions_per_minute),
            ("queued_per_key", self.queued_per_key as u64),
            ("queued", self.queued as u64),
            ("connections_per_address", self.connections_per_address as u64),
            ("request_seconds", self.request_timeout.as_secs()),
        ];
        all.into_iter().filter(|(_, most)| *most > 0).map(|(name, most)| (name.to_owned(), most)).collect()
    }
}

/// How commands reach a server.
#[derive(Clone)]
pub struct Client {
    /// None: at the host and port that a server would listen on.
    pub url: Option<String>,
    pub key: Option<String>,
    /// AGENTICORE_CA_FILE, where it is not among what everything trusts.
    pub ca_file: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Claude {
    pub binary: String,
    pub timeout: Duration,
    /// The directory that holds this machine's login, if any is known.
    pub login_dir: Option<PathBuf>,
    pub max_retries: u64,
    pub default_mcp_file: Option<PathBuf>,
    pub extra_env: Vec<String>,
    pub stall_timeout: Duration,
    pub result_grace: Duration,
    pub kill_grace: Duration,
    pub otel: Option<Otel>,
}

#[derive(Clone, Debug)]
pub struct Repos {
    pub root: PathBuf,
    pub worktree_root: PathBuf,
    pub allow_local: bool,
    pub allow_http: bool,
    pub git_timeout: Duration,
    pub lock_timeout: Duration,
    /// Contents of Git LFS files are fetched and uploaded, where git-lfs is installed.
    pub lfs: bool,
    pub author_name: String,
    pub author_email: String,
    pub publish_tries: u32,
    /// For how long a prepared worktree that nobody uses stays.
    pub worktree_max_age: Duration,
    /// Hosts that repositories may be on; none: any but this machine's own.
    pub hosts: Vec<String>,
    /// Where a job's `file_path` may lie.
    pub mcp_file_dirs: Vec<PathBuf>,
    /// What a job may take on this disk, in bytes; 0: no limit.
    pub job_disk_limit: u64,
    /// Of a job's unpublished work that is saved, in bytes.
    pub kept_limit: u64,
    pub publish_backoff: Duration,
}

#[derive(Clone)]
pub struct GitHub {
    pub server_url: String,
    pub api_url: String,
    pub token: Option<String>,
    pub app: Option<GitHubApp>,
}

#[derive(Clone)]
pub struct GitHubApp {
    pub id: String,
    pub installation: String,
    pub private_key: PrivateKey,
}

#[derive(Clone)]
pub enum PrivateKey {
    Pem(String),
    Base64(String),
    File(PathBuf),
}

/// One setting as it came out, for `agenticore config`.
#[derive(Clone, Debug)]
pub struct Effective {
    pub variable: &'static str,
    pub key: &'static str,
    pub value: Option<String>,
    pub source: String,
    pub is_secret: bool,
    pub help: &'static str,
}

impl Effective {
    /// The value for people's eyes: secrets are only said to be there.
    pub fn shown(&self) -> String {
        match &self.value {
            Some(_) if self.is_secret => "********".into(),
            Some(value) => without_userinfo(value),
            None => "(none)".into(),
        }
    }
}

#[derive(Debug)]
pub enum Error {
    Value { variable: &'static str, shown: String, source: String, allowed: String },
    NoHome(&'static str),
    File(PathBuf, String),
    Inconsistent(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Value { variable, shown, source, allowed } => {
                write!(f, "{variable} is {shown} (from {source}), but must be {allowed}")
            }
            Error::NoHome(variable) => {
                write!(
                    f,
                    "{variable} defaults to a place below the home directory, but HOME is not set: set one of them"
                )
            }
            Error::File(path, why) => write!(f, "{}: {why}", path.display()),
            Error::Inconsistent(why) => f.write_str(why),
        }
    }
}

/// Every setting there is, for the documentation.
#[cfg(test)]
pub fn settings_table() -> &'static [Row] {
    TABLE
}

impl fmt::Debug for Config {
    /// Holds secrets: never printed by accident.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Config(…)")
    }
}

impl Config {
    /// Reads the process's environment and `~/.agenticore/config.yml`.
    /// `needs_home`: keeps files there. Who only asks a server may have none, as in a timer.
    pub fn load(needs_home: bool) -> Result<Self, Error> {
        // A variable that is not UTF-8 cannot be one of ours, whose values are all text.
        let mut variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        if needs_home {
            return Self::from(variables);
        }
        variables.entry("HOME".into()).or_insert_with(|| "/nonexistent".into());
        // Nothing is started that would need the authority in a file beside the public ones.
        let ca_file = variables.remove("AGENTICORE_CA_FILE").filter(|path| !path.trim().is_empty());
        let mut config = Self::from(variables)?;
        config.client.ca_file = ca_file;
        Ok(config)
    }

    pub fn from(variables: BTreeMap<String, String>) -> Result<Self, Error> {
        let home = variables.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let file = match &home {
            Some(home) => file::read(&home.join(".agenticore/config.yml"))?,
            None => BTreeMap::new(),
        };
        let warnings = unknown::warnings(&variables, &file);
        let effective =
            TABLE.iter().map(|row| resolve(row, &variables, &file, home.as_deref())).collect::<Result<Vec<_>, _>>()?;
        let values = Values(&effective);
        values.check()?;
        let own_dir = home.clone().unwrap_or_else(std::env::temp_dir).join(".agenticore");
        let shared_root = values.path("AGENTICORE_SHARED_FS_ROOT");
        let temporary = variables.get("TMPDIR").filter(|t| !t.is_empty()).map_or("/tmp".into(), PathBuf::from);
        let job_dirs_root =
            shared_root.as_ref().map_or_else(|| temporary.join("agenticore-jobs"), |root| root.join("jobs"));
        let checkouts = Checkouts::read(&values, shared_root.as_deref(), &own_dir);
        let shared_profiles = shared_root.as_ref().map(|root| root.join("profiles"));
        let own_profiles = own_dir.join("profiles");
        let profile_dirs = checkouts.profile_dirs().into_iter().chain(shared_profiles).chain([own_profiles]).collect();
        let jobs_dir = values.path("AGENTICORE_JOBS_DIR").unwrap_or_default();
        let mut repos = values.repos();
        if repos.mcp_file_dirs.is_empty() {
            repos.mcp_file_dirs = shared_root.iter().cloned().chain([own_dir.clone()]).collect();
        }
        let proxy = values.get("AGENTICORE_PROXY");
        if proxy.is_some_and(|proxy| !proxy.starts_with("http://") && !proxy.starts_with("https://")) {
            return Err(Error::Inconsistent("AGENTICORE_PROXY must be http://HOST:PORT, or https://HOST:PORT".into()));
        }
        let variables = proxy::normalized(variables, proxy);
        let (variables, authority) = match values.path("AGENTICORE_CA_FILE") {
            Some(file) => trust::with_authority(variables, &file, home.as_ref().map(|_| own_dir.as_path()))?,
            None => (variables, PathBuf::new()),
        };
        let claude = values.claude(home.as_deref());
        let store = values.text("AGENTICORE_STORE");
        let redis = if store == "embedded" { None } else { redis::read(&values, claude.kill_grace, &authority)? };
        let variables = providers::with_header_lines(checkouts.with_its_command(variables));
        let variables = login::with_credential(variables, values.get("AGENTICORE_ANTHROPIC_CREDENTIAL"));
        Ok(Self {
            host: values.text("AGENTICORE_HOST"),
            port: values.number("AGENTICORE_PORT") as u16,
            api_keys: values.list("AGENTICORE_API_KEYS"),
            api_keys_file: values.path("AGENTICORE_API_KEYS_FILE"),
            keys_in_clear: Vec::new(),
            limits: Limits {
                submissions_per_minute: values.number("AGENTICORE_SUBMISSIONS_PER_MINUTE"),
                queued_per_key: values.number("AGENTICORE_QUEUED_PER_KEY") as usize,
                queued: values.number("AGENTICORE_QUEUED_MOST") as usize,
                connections_per_address: values.number("AGENTICORE_CONNECTIONS_PER_ADDRESS") as usize,
                request_timeout: values.duration("AGENTICORE_REQUEST_TIMEOUT"),
            },
            allowed_hosts: values.list("AGENTICORE_ALLOWED_HOSTS"),
            allowed_origins: values.list("AGENTICORE_ALLOWED_ORIGINS"),
            client: Client {
                url: values.owned("AGENTICORE_URL"),
                key: values.owned("AGENTICORE_API_KEY"),
                ca_file: None,
            },
            redis,
            is_stdio: values.text("AGENTICORE_TRANSPORT") == "stdio",
            wants_redis: store == "redis",
            secret_name: values.owned("AGENTICORE_SECRET_NAME"),
            claude,
            default_profile: values.text("AGENTICORE_DEFAULT_PROFILE"),
            repos,
            runtime_dir: runtime_dir(&temporary, &jobs_dir),
            jobs_dir,
            shared_root,
            temporary,
            max_parallel_jobs: values.number("AGENTICORE_MAX_PARALLEL_JOBS") as usize,
            job_ttl_seconds: values.number("AGENTICORE_JOB_TTL"),
            webhooks: webhooks::read(&values)?,
            pod_name: values.get("AGENTICORE_POD_NAME").map_or_else(host_name, str::to_owned),
            shutdown_grace: values.duration("AGENTICORE_SHUTDOWN_GRACE"),
            log_level: values.get("AGENTICORE_LOG").and_then(Level::parse),
            log_format: values.owned("AGENTICORE_LOG_FORMAT"),
            github: values.github()?,
            profile_dirs,
            checkouts,
            job_dirs_root,
            own_dir,
            warnings,
            effective,
            variables,
        })
    }

    /// The job files are a second copy of what Redis holds: they lie on the shared volume.
    pub fn has_second_copy(&self) -> bool {
        self.shared_root.as_ref().is_some_and(|root| self.jobs_dir.starts_with(root))
    }

    /// The same for a pod of a fleet, whose jobs directory other pods use too.
    pub fn for_fleet(&self) -> Self {
        let of_pod = self.jobs_dir.join(&self.pod_name);
        Self { runtime_dir: runtime_dir(&self.temporary, &of_pod), ..self.clone() }
    }

    /// The same with a runtime directory of this process alone.
    pub fn beside_the_server(&self) -> Self {
        let own = self.jobs_dir.join(format!(".beside-{}", std::process::id()));
        Self { runtime_dir: runtime_dir(&self.temporary, &own), ..self.clone() }
    }

    /// The same for another jobs directory. Whoever holds that directory's lock owns the runtime
    /// directory too, because its name is made from it.
    pub fn with_jobs_dir(&self, jobs_dir: PathBuf) -> Self {
        Self { runtime_dir: runtime_dir(&self.temporary, &jobs_dir), jobs_dir, ..self.clone() }
    }

    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// Where a setting has to be made that is missing: `variable`, or `key` of the Secret that the settings come from.
    pub fn where_to_set(&self, key: &str, variable: &str) -> String {
        match &self.secret_name {
            Some(name) => format!("create the key `{key}` in the Secret `{name}` (it is missing or empty)"),
            None => format!("set {variable}"),
        }
    }

    /// Settings are read once, at the start.
    pub fn then_restart(&self) -> &'static str {
        if self.secret_name.is_some() { "then restart the pods" } else { "then restart the server" }
    }

    /// The program that is started by this name with the settings' PATH.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.variables.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        match name.contains('/') {
            true => Some(PathBuf::from(name)).filter(|path| path.is_file()),
            false => std::env::split_paths(path).map(|directory| directory.join(name)).find(|path| path.is_file()),
        }
    }

    /// Requests have to carry a key.
    pub fn wants_keys(&self) -> bool {
        !self.api_keys.is_empty() || self.api_keys_file.is_some()
    }

    /// Bound to this machine alone.
    pub fn is_local(&self) -> bool {
        ["127.0.0.1", "::1", "[::1]", "localhost"].contains(&self.host.as_str())
    }

    /// Where clients find the server.
    pub fn server_url(&self) -> String {
        if let Some(url) = &self.client.url {
            return url.clone();
        }
        let host = match self.host.as_str() {
            "0.0.0.0" | "" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            "[::]" => "[::1]".to_owned(),
            host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
            host => host.to_owned(),
        };
        format!("http://{host}:{}", self.port)
    }
}

fn resolve(
    row: &Row,
    variables: &BTreeMap<String, String>,
    file: &BTreeMap<String, String>,
    home: Option<&Path>,
) -> Result<Effective, Error> {
    let older = OLDER_NAMES.iter().filter(|(name, _)| *name == row.variable).map(|(_, older)| *older);
    let set = [row.variable].into_iter().chain(older).find_map(|name| {
        let value = variables.get(name).filter(|value| !value.trim().is_empty())?;
        let is_link = matches!(row.kind, Kind::Port) && is_service_link(value.trim());
        if is_link {
            return None;
        }
        Some((value.as_str(), format!("environment ({name})")))
    });
    let found = set.or_else(|| Some((file.get(row.key)?.as_str(), format!("config.yml ({})", row.key))));
    let (raw, source) = found.unwrap_or((row.default, "default".into()));
    let value = match raw {
        "" => None,
        raw => Some(row.kind.normalize(raw, home).ok_or_else(|| {
            if matches!(row.kind, Kind::Path) && raw.starts_with('~') && home.is_none() {
                return Error::NoHome(row.variable);
            }
            let shown = if row.kind.is_secret() { "a secret".into() } else { format!("`{}`", without_userinfo(raw)) };
            Error::Value { variable: row.variable, shown, source: source.clone(), allowed: row.kind.allowed() }
        })?),
    };
    Ok(Effective {
        variable: row.variable,
        key: row.key,
        value,
        source,
        is_secret: row.kind.is_secret(),
        help: row.help,
    })
}

/// The text, with what stands before an `@` in an address masked: it may be a password.
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://********@{host}{path}"),
        None => text.to_owned(),
    }
}

fn runtime_dir(temporary: &Path, jobs_dir: &Path) -> PathBuf {
    let digest = ring::digest::digest(&ring::digest::SHA256, jobs_dir.as_os_str().as_encoded_bytes());
    let name: String = digest.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    temporary.join(format!("agenticore-{name}"))
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests;
