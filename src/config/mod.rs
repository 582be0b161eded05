//! The settings: environment over `config.yml` over default, one table, read once, handed down.
//!
//! Never global, never read again later. Prints no secret.

mod login;
mod redis;
mod settings;
mod unknown;

pub use redis::Redis;
pub use settings::parse_duration;

use settings::{Kind, NEVER_FOR_AGENTS, OLDER_NAMES, Row, TABLE, is_service_link};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Clone)]
pub struct Config {
    pub host: String,
    pub port: u16,
    pub api_keys: Vec<String>,
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
    pub pod_name: String,
    pub shutdown_grace: Duration,
    pub github: GitHub,
    /// Where profiles are looked for, after the built-in ones; later ones win.
    pub profile_dirs: Vec<PathBuf>,
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
pub struct Otel {
    pub endpoint: String,
    pub protocol: String,
    pub log_prompts: bool,
    pub log_tool_details: bool,
}

#[derive(Clone, Debug)]
pub struct Repos {
    pub root: PathBuf,
    pub worktree_root: PathBuf,
    pub allow_local: bool,
    pub allow_http: bool,
    pub git_timeout: Duration,
    pub lock_timeout: Duration,
    pub author_name: String,
    pub author_email: String,
    pub publish_tries: u32,
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
            Some(value) => value.clone(),
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

impl fmt::Debug for Config {
    /// Holds secrets: never printed by accident.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Config(…)")
    }
}

impl Config {
    /// Reads the process's environment and `~/.agenticore/config.yml`.
    pub fn load() -> Result<Self, Error> {
        // A variable that is not UTF-8 cannot be one of ours, whose values are all text.
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self::from(variables)
    }

    pub fn from(variables: BTreeMap<String, String>) -> Result<Self, Error> {
        let home = variables.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let file = match &home {
            Some(home) => read_file(&home.join(".agenticore/config.yml"))?,
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
        let agentihooks = values.path("AGENTICORE_AGENTIHOOKS_PATH").map(|path| path.join("profiles"));
        let shared_profiles = shared_root.as_ref().map(|root| root.join("profiles"));
        let profile_dirs = agentihooks.into_iter().chain(shared_profiles).chain([own_dir.join("profiles")]).collect();
        let jobs_dir = values.path("AGENTICORE_JOBS_DIR").unwrap_or_default();
        let claude = values.claude(home.as_deref());
        let store = values.text("AGENTICORE_STORE");
        let redis = if store == "embedded" { None } else { redis::read(&values, claude.kill_grace)? };
        let variables = login::with_credential(variables, values.get("AGENTICORE_ANTHROPIC_CREDENTIAL"));
        Ok(Self {
            host: values.text("AGENTICORE_HOST"),
            port: values.number("AGENTICORE_PORT") as u16,
            api_keys: values.list("AGENTICORE_API_KEYS"),
            redis,
            wants_redis: store == "redis",
            secret_name: values.owned("AGENTICORE_SECRET_NAME"),
            claude,
            default_profile: values.text("AGENTICORE_DEFAULT_PROFILE"),
            repos: values.repos(),
            runtime_dir: runtime_dir(&temporary, &jobs_dir),
            jobs_dir,
            shared_root,
            temporary,
            max_parallel_jobs: values.number("AGENTICORE_MAX_PARALLEL_JOBS") as usize,
            job_ttl_seconds: values.number("AGENTICORE_JOB_TTL"),
            pod_name: values.get("AGENTICORE_POD_NAME").map_or_else(host_name, str::to_owned),
            shutdown_grace: values.duration("AGENTICORE_SHUTDOWN_GRACE"),
            github: values.github()?,
            profile_dirs,
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

    /// Every secret among the settings and among what Claude is given, to be kept out of texts.
    pub fn secrets(&self) -> Vec<String> {
        let ours = self.effective.iter().filter(|e| e.is_secret).filter_map(|e| e.value.clone());
        let claudes = login::CREDENTIALS.iter().filter_map(|name| self.variables.get(*name).cloned());
        let redis = self.redis.iter().filter_map(|redis| redis.password.clone());
        ours.chain(claudes).chain(self.api_keys.clone()).chain(redis).collect()
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

    /// Whether a program of this name can be started with the settings' PATH.
    pub fn has_program(&self, name: &str) -> bool {
        let path = self.variables.get("PATH").map_or("/usr/local/bin:/usr/bin:/bin", String::as_str);
        match name.contains('/') {
            true => Path::new(name).is_file(),
            false => std::env::split_paths(path).any(|directory| directory.join(name).is_file()),
        }
    }

    /// Where clients find the server.
    pub fn server_url(&self) -> String {
        let host = match self.host.as_str() {
            "0.0.0.0" | "" => "127.0.0.1".to_owned(),
            "::" => "[::1]".to_owned(),
            host if host.contains(':') => format!("[{host}]"),
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
            let shown = if row.kind.is_secret() { "a secret".into() } else { format!("`{raw}`") };
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

/// The resolved table, read by name.
struct Values<'a>(&'a [Effective]);

impl Values<'_> {
    fn get(&self, variable: &str) -> Option<&str> {
        self.0.iter().find(|e| e.variable == variable)?.value.as_deref()
    }

    fn text(&self, variable: &str) -> String {
        self.get(variable).unwrap_or_default().to_owned()
    }

    fn owned(&self, variable: &str) -> Option<String> {
        self.get(variable).map(str::to_owned)
    }

    fn path(&self, variable: &str) -> Option<PathBuf> {
        self.get(variable).map(PathBuf::from)
    }

    fn number(&self, variable: &str) -> u64 {
        self.get(variable).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    fn duration(&self, variable: &str) -> Duration {
        self.get(variable).and_then(parse_duration).unwrap_or_default()
    }

    fn is_true(&self, variable: &str) -> bool {
        self.get(variable) == Some("true")
    }

    fn list(&self, variable: &str) -> Vec<String> {
        self.get(variable).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
    }

    /// What no single row can tell.
    fn check(&self) -> Result<(), Error> {
        for name in self.list("AGENTICORE_AGENT_ENV") {
            if NEVER_FOR_AGENTS.contains(&name.as_str()) || name.starts_with("GITHUB_") || name == "GH_TOKEN" {
                let why = format!("AGENTICORE_AGENT_ENV names {name}, which no agent may have");
                return Err(Error::Inconsistent(why));
            }
        }
        let pod = self.text("AGENTICORE_POD_NAME");
        let has_name = pod.is_empty() || pod.bytes().any(|b| b.is_ascii_alphanumeric());
        if !has_name || pod.len() > 253 || pod.bytes().any(|b| !(b.is_ascii_alphanumeric() || b"._-".contains(&b))) {
            let why =
                format!("AGENTICORE_POD_NAME is `{pod}`, but must be letters, digits, dots, dashes and underscores");
            return Err(Error::Inconsistent(why));
        }
        let host = self.text("AGENTICORE_HOST");
        if host.contains(['/', ' ', '@']) {
            let why =
                format!("AGENTICORE_HOST is `{host}`, but must be a host name or an address, without scheme or port");
            return Err(Error::Inconsistent(why));
        }
        Ok(())
    }

    fn claude(&self, home: Option<&Path>) -> Claude {
        let otel = self.is_true("AGENTICORE_OTEL_ENABLED").then(|| Otel {
            endpoint: self.text("OTEL_EXPORTER_OTLP_ENDPOINT"),
            protocol: self.text("OTEL_EXPORTER_OTLP_PROTOCOL"),
            log_prompts: self.is_true("AGENTICORE_OTEL_LOG_PROMPTS"),
            log_tool_details: self.is_true("AGENTICORE_OTEL_LOG_TOOL_DETAILS"),
        });
        Claude {
            binary: self.text("AGENTICORE_CLAUDE_BINARY"),
            timeout: self.duration("AGENTICORE_CLAUDE_TIMEOUT"),
            login_dir: self.path("AGENTICORE_CLAUDE_CONFIG_DIR").or_else(|| Some(home?.join(".claude"))),
            max_retries: self.number("AGENTICORE_CLAUDE_MAX_RETRIES"),
            default_mcp_file: self.path("AGENTICORE_DEFAULT_MCP_FILE"),
            extra_env: self.list("AGENTICORE_AGENT_ENV"),
            stall_timeout: self.duration("AGENTICORE_STALL_TIMEOUT"),
            result_grace: self.duration("AGENTICORE_RESULT_GRACE"),
            kill_grace: self.duration("AGENTICORE_KILL_GRACE"),
            otel,
        }
    }

    fn repos(&self) -> Repos {
        Repos {
            root: self.path("AGENTICORE_REPOS_ROOT").unwrap_or_default(),
            worktree_root: self.path("AGENTICORE_WORKTREE_ROOT").unwrap_or_default(),
            allow_local: self.is_true("AGENTICORE_ALLOW_LOCAL_REPOS"),
            allow_http: self.is_true("AGENTICORE_ALLOW_HTTP_REPOS"),
            git_timeout: self.duration("AGENTICORE_GIT_TIMEOUT"),
            lock_timeout: self.duration("AGENTICORE_LOCK_TIMEOUT"),
            author_name: self.text("AGENTICORE_GIT_AUTHOR_NAME"),
            author_email: self.text("AGENTICORE_GIT_AUTHOR_EMAIL"),
            publish_tries: self.number("AGENTICORE_PUBLISH_TRIES") as u32,
            publish_backoff: self.duration("AGENTICORE_PUBLISH_BACKOFF"),
        }
    }

    fn github(&self) -> Result<GitHub, Error> {
        let key = self
            .owned("GITHUB_APP_PRIVATE_KEY")
            .map(PrivateKey::Pem)
            .or_else(|| self.path("GITHUB_APP_PRIVATE_KEY_PATH").map(PrivateKey::File))
            .or_else(|| self.owned("GITHUB_APP_PRIVATE_KEY_BASE64").map(PrivateKey::Base64));
        let app = match (self.owned("GITHUB_APP_ID"), self.owned("GITHUB_APP_INSTALLATION_ID"), key) {
            (Some(id), Some(installation), Some(private_key)) => Some(GitHubApp { id, installation, private_key }),
            (None, None, None) => None,
            _ => {
                let why = "a GitHub App needs GITHUB_APP_ID, GITHUB_APP_INSTALLATION_ID and one of \
                           GITHUB_APP_PRIVATE_KEY, _PATH, _BASE64: not all of them are set";
                return Err(Error::Inconsistent(why.into()));
            }
        };
        Ok(GitHub {
            server_url: self.text("GITHUB_SERVER_URL"),
            api_url: self.text("GITHUB_API_URL"),
            token: self.owned("GITHUB_TOKEN"),
            app,
        })
    }
}

/// One sentence of an error that shows several lines.
pub fn not_yaml(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    format!("is not valid YAML: {}", text.lines().next().unwrap_or_default())
}

/// `config.yml` as `a.b` → text. A file that is not there is empty.
fn read_file(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::File(path.to_owned(), error.to_string())),
    };
    let mut found = BTreeMap::new();
    if text.trim().is_empty() {
        return Ok(found);
    }
    let tree: serde_json::Value =
        serde_saphyr::from_str(&text).map_err(|e| Error::File(path.to_owned(), not_yaml(&e)))?;
    match tree {
        serde_json::Value::Null => {}
        serde_json::Value::Object(_) => flatten("", &tree, &mut found),
        _ => return Err(Error::File(path.to_owned(), "must hold keys and values".into())),
    }
    Ok(found)
}

fn flatten(prefix: &str, value: &serde_json::Value, into: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    let text = match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, into);
            }
            return;
        }
        Value::Null => return,
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    };
    into.insert(prefix.to_owned(), text);
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
