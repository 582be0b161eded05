//! GitHub, or a GitHub Enterprise server: tokens, repositories, pull requests.
//!
//! Decides nothing about jobs and retries nothing: it says whether trying again may help.

mod app_token;
mod github;

pub use github::{GitHub, PullRequest};

use crate::tls;
use std::fmt;
use std::time::Duration;

/// What one request may take in all: GitHub answers within seconds, or not at all.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq)]
pub enum Error {
    /// Trying again may help, but not before `after`.
    Passing {
        why: String,
        after: Option<Duration>,
    },
    Final(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Passing { why, .. } | Error::Final(why) => f.write_str(why),
        }
    }
}

/// A client with limits on everything. `ca_file` (SSL_CERT_FILE) replaces the roots it was built with; `proxy`: what
/// the API is reached through.
fn client(ca_file: Option<&str>, proxy: Option<&str>) -> Result<ureq::Agent, String> {
    let unusable = |error| {
        format!("the proxy for the GitHub API cannot be used (AGENTICORE_PROXY, HTTPS_PROXY, ALL_PROXY): {error}")
    };
    let proxy = proxy.map(ureq::Proxy::new).transpose().map_err(unusable)?;
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(proxy)
        .timeout_global(Some(REQUEST_LIMIT))
        .timeout_connect(Some(CONNECT_LIMIT))
        // Redirects are followed where it is known what may be sent along.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("agenticore/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_file {
        config = config.tls_config(tls::trusting(&[path])?);
    }
    Ok(config.build().into())
}
