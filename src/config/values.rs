//! The settings as they came out, read by name; and what no single one of them can tell. Pure.

use super::settings::{NEVER_FOR_AGENTS, parse_duration};
use super::{Claude, Effective, Error, GitHub, GitHubApp, Otel, PrivateKey, Repos};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The resolved table, read by name.
pub struct Values<'a>(pub &'a [Effective]);

impl Values<'_> {
    pub fn get(&self, variable: &str) -> Option<&str> {
        self.0.iter().find(|e| e.variable == variable)?.value.as_deref()
    }

    pub fn text(&self, variable: &str) -> String {
        self.get(variable).unwrap_or_default().to_owned()
    }

    pub fn owned(&self, variable: &str) -> Option<String> {
        self.get(variable).map(str::to_owned)
    }

    pub fn path(&self, variable: &str) -> Option<PathBuf> {
        self.get(variable).map(PathBuf::from)
    }

    pub fn number(&self, variable: &str) -> u64 {
        self.get(variable).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    pub fn duration(&self, variable: &str) -> Duration {
        self.get(variable).and_then(parse_duration).unwrap_or_default()
    }

    pub fn is_true(&self, variable: &str) -> bool {
        self.get(variable) == Some("true")
    }

    pub fn list(&self, variable: &str) -> Vec<String> {
        self.get(variable).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
    }

    /// What no single row can tell.
    pub fn check(&self) -> Result<(), Error> {
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

    pub fn claude(&self, home: Option<&Path>) -> Claude {
        let otel = self.is_true("AGENTICORE_OTEL_ENABLED").then(|| Otel {
            endpoint: self.text("OTEL_EXPORTER_OTLP_ENDPOINT"),
            protocol: self.text("OTEL_EXPORTER_OTLP_PROTOCOL"),
            log_prompts: self.is_true("AGENTICORE_OTEL_LOG_PROMPTS"),
            log_tool_details: self.is_true("AGENTICORE_OTEL_LOG_TOOL_DETAILS"),
            headers_text: self.text("OTEL_EXPORTER_OTLP_HEADERS"),
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

    pub fn repos(&self) -> Repos {
        Repos {
            root: self.path("AGENTICORE_REPOS_ROOT").unwrap_or_default(),
            worktree_root: self.path("AGENTICORE_WORKTREE_ROOT").unwrap_or_default(),
            allow_local: self.is_true("AGENTICORE_ALLOW_LOCAL_REPOS"),
            allow_http: self.is_true("AGENTICORE_ALLOW_HTTP_REPOS"),
            git_timeout: self.duration("AGENTICORE_GIT_TIMEOUT"),
            lock_timeout: self.duration("AGENTICORE_LOCK_TIMEOUT"),
            lfs: self.text("AGENTICORE_LFS") == "auto",
            author_name: self.text("AGENTICORE_GIT_AUTHOR_NAME"),
            author_email: self.text("AGENTICORE_GIT_AUTHOR_EMAIL"),
            publish_tries: self.number("AGENTICORE_PUBLISH_TRIES") as u32,
            worktree_max_age: self.duration("AGENTICORE_WORKTREE_MAX_AGE"),
            hosts: self.list("AGENTICORE_REPO_HOSTS"),
            mcp_file_dirs: self.list("AGENTICORE_MCP_FILE_DIRS").into_iter().map(PathBuf::from).collect(),
            job_disk_limit: self.number("AGENTICORE_JOB_DISK_LIMIT") << 20,
            kept_limit: self.number("AGENTICORE_KEPT_LIMIT") << 20,
            publish_backoff: self.duration("AGENTICORE_PUBLISH_BACKOFF"),
        }
    }

    pub fn github(&self) -> Result<GitHub, Error> {
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
