//! How our own HTTP clients reach the internet: with limits on everything, through the proxy that leads there, trusting
//! whom the settings say. Follows no redirect, and takes a refusal for an answer.

use crate::tls;
use std::time::Duration;
use ureq::config::Config;

/// How long connecting may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// `ca_file` (SSL_CERT_FILE) replaces the roots that were built in; `limit`: of a whole request. The error is a
/// sentence.
pub fn client(ca_file: Option<&str>, proxy: Option<&str>, limit: Duration) -> Result<Config, String> {
    let proxy = proxy.map(ureq::Proxy::new).transpose();
    let proxy = proxy.map_err(|error| {
        format!("the proxy cannot be used (AGENTICORE_PROXY, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY): {error}")
    })?;
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(proxy)
        .timeout_global(Some(limit))
        .timeout_connect(Some(CONNECT_LIMIT.min(limit)))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("agenticore/", env!("CARGO_PKG_VERSION")));
    if let Some(path) = ca_file {
        config = config.tls_config(tls::trusting(&[path])?);
    }
    Ok(config.build())
}
