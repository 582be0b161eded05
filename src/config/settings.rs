//! The one table of settings: names, defaults, what a value must look like. Pure.

use crate::log::{Format, Level};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a setting's value must look like.
#[derive(Clone, Copy)]
pub enum Kind {
    Text,
    Secret,
    Path,
    Port,
    /// A whole number within these bounds.
    Count(u64, u64),
    /// Seconds, or milliseconds with `ms`.
    Duration,
    Bool,
    Choice(&'static [&'static str]),
    /// `http://…` or `https://…` without a trailing slash.
    Url,
    /// Words separated by commas.
    List,
    SecretList,
}

impl Kind {
    pub fn allowed(self) -> String {
        match self {
            Kind::Text | Kind::Secret => "any text".into(),
            Kind::Path => "an absolute path, or one below ~/".into(),
            Kind::Port => "a port from 0 to 65535".into(),
            Kind::Count(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Duration => "seconds, such as 90, or milliseconds, such as 500ms".into(),
            Kind::Bool => "true or false".into(),
            Kind::Choice(words) => format!("one of: {}", words.join(", ")),
            Kind::Url => "a URL that begins with https:// or http://".into(),
            Kind::List | Kind::SecretList => "words separated by commas".into(),
        }
    }

    pub fn is_secret(self) -> bool {
        matches!(self, Kind::Secret | Kind::SecretList)
    }

    /// The value in its normal form, or None when it does not parse.
    pub fn normalize(self, text: &str, home: Option<&Path>) -> Option<String> {
        let text = text.trim();
        match self {
            Kind::Text | Kind::Secret => Some(text.to_owned()),
            Kind::Path => expand(text, home).map(|path| path.to_string_lossy().into_owned()),
            Kind::Port => text.parse::<u16>().ok().map(|port| port.to_string()),
            Kind::Count(least, most) => {
                text.parse::<u64>().ok().filter(|n| (least..=most).contains(n)).map(|n| n.to_string())
            }
            Kind::Duration => parse_duration(text).map(|_| text.to_owned()),
            Kind::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some("true".into()),
                "false" | "0" | "no" | "off" => Some("false".into()),
                _ => None,
            },
            Kind::Choice(words) => words.contains(&text).then(|| text.to_owned()),
            Kind::Url => {
                let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
                let good = !rest.is_empty() && !rest.contains(['@', ' ', '?', '#']);
                good.then(|| text.trim_end_matches('/').to_owned())
            }
            Kind::List | Kind::SecretList => {
                Some(text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(","))
            }
        }
    }
}

pub struct Row {
    pub variable: &'static str,
    pub key: &'static str,
    /// Empty: none.
    pub default: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

const fn row(variable: &'static str, key: &'static str, default: &'static str, kind: Kind, help: &'static str) -> Row {
    Row { variable, key, default, kind, help }
}

/// Every setting there is.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row("AGENTICORE_HOST", "server.host", "127.0.0.1", Kind::Text,
        "address the server listens on, and where clients look for it"),
    row("AGENTICORE_PORT", "server.port", "8200", Kind::Port,
        "its port"),
    row("AGENTICORE_TRANSPORT", "server.transport", "sse", Kind::Choice(&["sse", "http", "streamable-http", "stdio"]),
        "how `serve` is reached: stdio, as an MCP server alone; all others mean HTTP, with everything there is"),
    row("AGENTICORE_API_KEYS", "server.api_keys", "", Kind::SecretList,
        "keys that requests must carry one of; none: no authentication"),
    row("AGENTICORE_API_KEYS_FILE", "server.api_keys_file", "", Kind::Path,
        "a list of {name, key or sha256, scopes, expires, max_queued} (YAML), read again when it changes"),
    row("AGENTICORE_SUBMISSIONS_PER_MINUTE", "limits.submissions_per_minute", "0", Kind::Count(0, 1_000_000),
        "jobs that one key may hand in in a minute, at each server; 0: no limit"),
    row("AGENTICORE_QUEUED_PER_KEY", "limits.queued_per_key", "0", Kind::Count(0, 1_000_000),
        "jobs of one key that may wait, unless the key's own max_queued says otherwise; 0: no limit"),
    row("AGENTICORE_QUEUED_MOST", "limits.queued", "0", Kind::Count(0, 10_000_000),
        "jobs that may wait in all; 0: no limit"),
    row("AGENTICORE_CONNECTIONS_PER_ADDRESS", "limits.connections_per_address", "0", Kind::Count(0, 4_096),
        "connections that one address may have open; behind a load balancer all share one; 0: no limit"),
    row("AGENTICORE_REQUEST_TIMEOUT", "limits.request_timeout", "300", Kind::Duration,
        "how long a request may take to come in, and its answer to be taken, unless it waits for a job; 0: no limit"),
    row("AGENTICORE_ALLOWED_HOSTS", "server.allowed_hosts", "", Kind::List,
        "names that requests may be sent to, beside IP addresses and localhost; none: any, unless bound to loopback"),
    row("AGENTICORE_ALLOWED_ORIGINS", "server.allowed_origins", "", Kind::List,
        "origins of web pages that may use the server, such as https://tools.example"),
    row("AGENTICORE_LOG", "log.level", "", Kind::Choice(Level::NAMES),
        "what is told on standard error: this and what matters more; none: info for a server, warn for a command"),
    row("AGENTICORE_LOG_FORMAT", "log.format", "", Kind::Choice(Format::NAMES),
        "how a server tells it; none: text on a terminal, else JSON, a line each"),
    row("AGENTICORE_PROXY", "network.proxy", "", Kind::Secret,
        "http://[USER:PASSWORD@]HOST:PORT: how the internet is reached, for git, Claude, GitHub and commands alike; \
         HTTPS_PROXY, HTTP_PROXY and NO_PROXY win over it"),
    row("AGENTICORE_CA_FILE", "network.ca_file", "", Kind::Path,
        "certificates (PEM) of a private authority, trusted by all of them and by rediss://, beside the public ones"),
    row("AGENTICORE_URL", "client.url", "", Kind::Url,
        "where commands find the server, if not at AGENTICORE_HOST and AGENTICORE_PORT"),
    row("AGENTICORE_API_KEY", "client.api_key", "", Kind::Secret,
        "the key that commands send; none: the first of AGENTICORE_API_KEYS"),
    row("AGENTICORE_CLAUDE_BINARY", "claude.binary", "claude", Kind::Text,
        "the Claude Code program"),
    row("AGENTICORE_CLAUDE_TIMEOUT", "claude.timeout", "3600", Kind::Duration,
        "how long an agent may run, unless its profile says otherwise"),
    row("AGENTICORE_CLAUDE_CONFIG_DIR", "claude.config_dir", "", Kind::Path,
        "where Claude's login (.credentials.json) lies; none: ~/.claude"),
    row("AGENTICORE_ANTHROPIC_CREDENTIAL", "claude.credential", "", Kind::Secret,
        "an API key (sk-ant-api…), an OAuth token (sk-ant-oat…), or else a bearer token for Claude; told by \
         its beginning"),
    row("AGENTICORE_SECRET_NAME", "server.secret_name", "", Kind::Text,
        "the Kubernetes Secret that the settings come from; errors name it"),
    row("AGENTICORE_CLAUDE_MAX_RETRIES", "claude.max_retries", "10", Kind::Count(0, 15),
        "how often Claude retries a failed API request"),
    row("AGENTICORE_DEFAULT_PROFILE", "claude.default_profile", "coding", Kind::Text,
        "profile of a job that names none (AGENTIHOOKS_PROFILE is its older name)"),
    row("AGENTICORE_DEFAULT_MCP_FILE", "claude.default_mcp_file", "", Kind::Path,
        "a .mcp.json whose servers every job gets"),
    row("AGENTICORE_AGENT_ENV", "claude.env", "", Kind::List,
        "names of further variables that are passed on to Claude"),
    row("AGENTICORE_STALL_TIMEOUT", "claude.stall_timeout", "900", Kind::Duration,
        "an agent that says nothing for this long is ended"),
    row("AGENTICORE_RESULT_GRACE", "claude.result_grace", "60", Kind::Duration,
        "how long Claude may linger after its last result"),
    row("AGENTICORE_KILL_GRACE", "claude.kill_grace", "5", Kind::Duration,
        "what Claude gets between SIGTERM and SIGKILL"),
    row("AGENTICORE_REPOS_ROOT", "repos.root", "~/agenticore-repos", Kind::Path,
        "the clone cache"),
    row("AGENTICORE_WORKTREE_ROOT", "repos.worktree_root", "~/.agenticore/worktrees", Kind::Path,
        "one worktree a job; a local disk"),
    row("AGENTICORE_SHARED_FS_ROOT", "repos.shared_fs_root", "", Kind::Path,
        "the shared volume, if there is one"),
    row("AGENTICORE_JOBS_DIR", "repos.jobs_dir", "~/.agenticore/jobs", Kind::Path,
        "queue, records and events"),
    row("AGENTICORE_MAX_PARALLEL_JOBS", "repos.max_parallel_jobs", "3", Kind::Count(0, 256),
        "jobs that run at once, the others wait; 0: this server takes requests and runs nothing"),
    row("AGENTICORE_REPO_HOSTS", "repos.hosts", "", Kind::List,
        "hosts that repositories may be on, such as github.com or *.example.com; none: any but this machine's own"),
    row("AGENTICORE_MCP_FILE_DIRS", "repos.mcp_file_dirs", "", Kind::List,
        "directories that a job's file_path may lie in; none: the shared volume, and ~/.agenticore"),
    row("AGENTICORE_JOB_TTL", "repos.job_ttl_seconds", "86400", Kind::Count(1, 315_360_000),
        "seconds a queued job waits at most, and an ended one is kept"),
    row("AGENTICORE_JOB_DISK_LIMIT", "repos.job_disk_limit", "0", Kind::Count(0, 1_073_741_824),
        "MiB that a job's worktree and its own directories may take on this disk, or its agent is ended; 0: no limit"),
    row("AGENTICORE_KEPT_LIMIT", "repos.kept_limit", "256", Kind::Count(0, 1_048_576),
        "MiB of a job's unpublished work that are saved in the jobs directory and outlive its disk; 0: nothing is"),
    row("AGENTICORE_WORKTREE_MAX_AGE", "repos.worktree_max_age", "86400", Kind::Duration,
        "a prepared worktree that nobody uses for this long is removed, unless it holds work"),
    row("AGENTICORE_POD_NAME", "repos.pod_name", "", Kind::Text,
        "this server's name in the records; none: the host's name"),
    row("AGENTICORE_ALLOW_LOCAL_REPOS", "repos.allow_local", "false", Kind::Bool,
        "accept paths on this machine as repo_url"),
    row("AGENTICORE_ALLOW_HTTP_REPOS", "repos.allow_http", "false", Kind::Bool,
        "accept http:// to other hosts than this one"),
    row("AGENTICORE_GIT_TIMEOUT", "repos.git_timeout", "600", Kind::Duration,
        "how long one git command may take; a clone or fetch may as long as it gets on"),
    row("AGENTICORE_LOCK_TIMEOUT", "repos.lock_timeout", "900", Kind::Duration,
        "how long a job waits for its repository's lock while its holder does not get on"),
    row("AGENTICORE_LFS", "repos.lfs", "auto", Kind::Choice(&["auto", "skip"]),
        "contents of Git LFS files: auto: moved by git-lfs, if that is installed; skip: pointers"),
    row("AGENTICORE_GIT_AUTHOR_NAME", "repos.author_name", "agenticore", Kind::Text,
        "author of the commits that the runner makes"),
    row("AGENTICORE_GIT_AUTHOR_EMAIL", "repos.author_email", "agenticore@localhost", Kind::Text,
        "and the address"),
    row("AGENTICORE_PUBLISH_TRIES", "repos.publish_tries", "5", Kind::Count(1, 20),
        "how often a push or a pull request is tried"),
    row("AGENTICORE_PUBLISH_BACKOFF", "repos.publish_backoff", "2", Kind::Duration,
        "the pause after the first try; doubles each time"),
    row("AGENTICORE_SHUTDOWN_GRACE", "server.shutdown_grace", "25", Kind::Duration,
        "what running jobs get at SIGTERM before they go back to the queue"),
    row("AGENTICORE_STORE", "server.store", "auto", Kind::Choice(&["auto", "redis", "embedded"]),
        "where jobs are kept; auto: in Redis if REDIS_URL is set, else embedded; redis: nothing is taken \
         until REDIS_URL is set"),
    row("REDIS_URL", "redis.url", "", Kind::Secret,
        "redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], or rediss:// for TLS; none: the embedded store"),
    row("REDIS_USERNAME", "redis.username", "", Kind::Text,
        "user at Redis, as it is; wins over the one in REDIS_URL"),
    row("REDIS_PASSWORD", "redis.password", "", Kind::Secret,
        "password at Redis, as it is, nothing encoded; wins over the one in REDIS_URL"),
    row("REDIS_KEY_PREFIX", "redis.key_prefix", "agenticore", Kind::Text,
        "begins the name of every key; on a Cluster it needs a {tag}"),
    row("REDIS_CA_FILE", "redis.ca_file", "", Kind::Path,
        "certificates (PEM) that rediss:// trusts; none: the machine's"),
    row("REDIS_TIMEOUT", "redis.timeout", "3", Kind::Duration,
        "how long one call to Redis, or connecting to it, may take"),
    row("REDIS_SENTINELS", "redis.sentinels", "", Kind::List,
        "HOST:PORT,… of Sentinels, which then name the host instead of REDIS_URL"),
    row("REDIS_SENTINEL_MASTER", "redis.sentinel_master", "mymaster", Kind::Text,
        "the name they know it by"),
    row("REDIS_SENTINEL_USERNAME", "redis.sentinel_username", "", Kind::Text,
        "user for the Sentinels themselves"),
    row("REDIS_SENTINEL_PASSWORD", "redis.sentinel_password", "", Kind::Secret,
        "and the password"),
    row("AGENTICORE_LEASE", "redis.lease", "20", Kind::Duration,
        "a pod that is silent for this long has lost its jobs"),
    row("AGENTICORE_LEASE_RENEW", "redis.lease_renew", "5", Kind::Duration,
        "how often a pod renews"),
    row("AGENTICORE_REAP_PERIOD", "redis.reap_period", "2", Kind::Duration,
        "how often jobs without a lease are looked for"),
    row("AGENTICORE_REAP_GRACE", "redis.reap_grace", "10", Kind::Duration,
        "how long a job is seen without one before it is taken over"),
    row("AGENTICORE_SWEEP_PERIOD", "redis.sweep_period", "5", Kind::Duration,
        "how often the job files are compared with Redis"),
    row("AGENTICORE_AGENTIHOOKS", "agentihooks", "false", Kind::Bool,
        "run the command `agentihooks` at start; what it installs is below every profile"),
    row("AGENTICORE_AGENTIHOOKS_URL", "agentihooks_url", "", Kind::Text,
        "a repository to install agentihooks from instead; cloned once (see `hooks sync`)"),
    row("AGENTICORE_AGENTIHOOKS_BRANCH", "agentihooks_branch", "", Kind::Text,
        "its branch, if not the default one"),
    row("AGENTICORE_AGENTIHOOKS_PATH", "agentihooks_path", "", Kind::Path,
        "or a checkout that is there already; wins over the URL"),
    row("AGENTICORE_AGENTIHOOKS_BUNDLE_URL", "agentihooks_bundle_url", "", Kind::Text,
        "a repository with profiles/ of your own, cloned once"),
    row("AGENTICORE_AGENTIHOOKS_BUNDLE_BRANCH", "agentihooks_bundle_branch", "", Kind::Text,
        "its branch, if not the default one"),
    row("GITHUB_TOKEN", "github.token", "", Kind::Secret,
        "pushes and opens pull requests"),
    row("GITHUB_APP_ID", "github.app_id", "", Kind::Text,
        "a GitHub App instead of a token; it wins"),
    row("GITHUB_APP_INSTALLATION_ID", "github.app_installation_id", "", Kind::Text,
        "its installation"),
    row("GITHUB_APP_PRIVATE_KEY", "github.app_private_key", "", Kind::Secret,
        "its private key (PEM)"),
    row("GITHUB_APP_PRIVATE_KEY_PATH", "github.app_private_key_path", "", Kind::Path,
        "or a file with it"),
    row("GITHUB_APP_PRIVATE_KEY_BASE64", "github.app_private_key_base64", "", Kind::Secret,
        "or the same in base64"),
    row("GITHUB_SERVER_URL", "github.server_url", "https://github.com", Kind::Url,
        "GitHub, or GitHub Enterprise"),
    row("GITHUB_API_URL", "github.api_url", "https://api.github.com", Kind::Url,
        "its REST API"),
    row("AGENTICORE_WEBHOOK_URLS", "webhooks.urls", "", Kind::SecretList,
        "where the end of every job is told; may be on a private network"),
    row("AGENTICORE_WEBHOOK_SECRET", "webhooks.secret", "", Kind::SecretList,
        "signs what is told: whsec_ and 24 to 64 bytes in base64; with several it is signed by each"),
    row("AGENTICORE_WEBHOOK_EVENTS", "webhooks.events", "ended", Kind::Choice(&["ended", "started,ended"]),
        "what of a job is told"),
    row("AGENTICORE_WEBHOOK_ALLOW_PRIVATE", "webhooks.allow_private", "false", Kind::Bool,
        "a job's webhook_url may be on a private network too"),
    row("AGENTICORE_WEBHOOK_BACKOFF", "webhooks.backoff", "5", Kind::Duration,
        "the pause after the first try; those after it grow, with 5 seconds to a day in all"),
    row("AGENTICORE_OTEL_ENABLED", "otel.enabled", "false", Kind::Bool,
        "have Claude send its telemetry, and this server a trace of each job"),
    row("OTEL_EXPORTER_OTLP_ENDPOINT", "otel.endpoint", "http://otel-collector:4317", Kind::Url,
        "where to"),
    row("OTEL_EXPORTER_OTLP_PROTOCOL", "otel.protocol", "grpc", Kind::Choice(&["grpc", "http/protobuf", "http/json"]),
        "and how"),
    row("OTEL_EXPORTER_OTLP_HEADERS", "otel.headers", "", Kind::Secret,
        "NAME=VALUE,… of headers that the collector wants, such as a login"),
    row("AGENTICORE_OTEL_LOG_PROMPTS", "otel.log_prompts", "false", Kind::Bool,
        "prompts included"),
    row("AGENTICORE_OTEL_LOG_TOOL_DETAILS", "otel.log_tool_details", "true", Kind::Bool,
        "tool inputs included"),
];

/// Older names of a variable, asked when the present one is not set.
pub const OLDER_NAMES: &[(&str, &str)] = &[("AGENTICORE_DEFAULT_PROFILE", "AGENTIHOOKS_PROFILE")];

/// What may not be handed to an agent, whatever `AGENTICORE_AGENT_ENV` says.
pub const NEVER_FOR_AGENTS: &[&str] = &[
    "REDIS_URL",
    "REDIS_PASSWORD",
    "AGENTICORE_ANTHROPIC_CREDENTIAL",
    "REDIS_SENTINEL_PASSWORD",
    "AGENTICORE_API_KEYS",
    "AGENTICORE_API_KEY",
    "AGENTICORE_WEBHOOK_SECRET",
    "AGENTICORE_WEBHOOK_URLS",
    "GIT_ASKPASS",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
];

/// A value that Kubernetes (or Docker's links) sets for a Service: of a Service named `agenticore` it makes
/// `AGENTICORE_PORT=tcp://10.96.12.7:8200`. Nobody meant it as a setting.
pub fn is_service_link(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}

fn expand(text: &str, home: Option<&Path>) -> Option<PathBuf> {
    let path = match text.strip_prefix('~') {
        Some("") => home?.to_owned(),
        Some(rest) => home?.join(rest.strip_prefix('/')?),
        None => PathBuf::from(text),
    };
    path.is_absolute().then_some(path)
}

/// Seconds, or milliseconds with `ms`; at most ten years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const MOST: Duration = Duration::from_secs(315_360_000);
    let duration = match text.strip_suffix("ms") {
        Some(milliseconds) => Duration::from_millis(milliseconds.trim().parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s').unwrap_or(text).trim().parse().ok()?),
    };
    (duration <= MOST).then_some(duration)
}
