//! GitHub, or a GitHub Enterprise server: tokens, repositories, pull requests.
//!
//! Decides nothing about jobs and retries nothing: it says whether trying again may help.

mod app_token;
mod github;

pub use github::{GitHub, PullRequest};

use crate::web;
use std::fmt;
use std::time::Duration;

/// What one request may take in all: GitHub answers within seconds, or not at all.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

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

/// `ca_file` (SSL_CERT_FILE) replaces the roots it was built with; `proxy`: what the API is reached through. Redirects
/// are followed where it is known what may be sent along.
fn client(ca_file: Option<&str>, proxy: Option<&str>) -> Result<ureq::Agent, String> {
    let client = web::client(ca_file, proxy, REQUEST_LIMIT).map_err(|why| format!("for the GitHub API {why}"))?;
    Ok(client.into())
}
