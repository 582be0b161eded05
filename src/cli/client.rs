//! The client's side of the REST interface.

use super::{Exit, Refusal};
use crate::api::Problem;
use crate::config::Config;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// No request of this client waits for a job, so none takes long.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A thousand records of 200 KB.
const ANSWER_LIMIT: u64 = 256 << 20;

pub struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
}

impl Client {
    pub fn new(config: &Config) -> Self {
        let settings = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_LIMIT))
            .timeout_connect(Some(CONNECT_LIMIT))
            // The server is ours: no proxy stands between.
            .proxy(None)
            .build();
        Self { agent: settings.into(), url: config.server_url(), key: config.api_keys.first().cloned() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.send("GET", path, None, None)
    }

    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.send("DELETE", path, None, None)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Refusal> {
        self.send("POST", path, Some(body), None)
    }

    /// With an Idempotency-Key: sent twice, it is done once.
    pub fn post_with_key<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> Result<T, Refusal> {
        self.send("POST", path, Some(body), key)
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        idempotency_key: Option<&str>,
    ) -> Result<T, Refusal> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(bytes).map_err(|_| {
            Refusal::new(
                Exit::BadUsage,
                format!("{} is no address: check AGENTICORE_HOST and AGENTICORE_API_KEYS", self.url),
            )
        })?;
        let unreachable = |error: ureq::Error| {
            let why = format!(
                "no server answers at {}: {error}; start one with `agenticore serve`, or set AGENTICORE_HOST \
                               and AGENTICORE_PORT",
                self.url
            );
            Refusal::new(Exit::Unreachable, why)
        };
        let mut response = self.agent.run(request).map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(unreachable)?;
        let stranger =
            || Refusal::new(Exit::Failed, format!("what answers at {} is no agenticore server ({status})", self.url));
        if (200..=299).contains(&status) {
            return serde_json::from_str(&text).map_err(|_| stranger());
        }
        let answer: Value = serde_json::from_str(&text).map_err(|_| stranger())?;
        if status == 401 {
            let why = format!("{} wants another API key: set AGENTICORE_API_KEYS to one of the server's", self.url);
            return Err(Refusal::new(Exit::BadUsage, why));
        }
        let exit = if status < 500 { Exit::BadUsage } else { Exit::Failed };
        Err(Refusal::new(exit, reason(answer)))
    }
}

/// Why the server says no: a problem, or that it is not ready.
fn reason(answer: Value) -> String {
    let waits = answer["waiting_for"].as_str().map(|why| format!("it waits for {why}"));
    let drains = (answer["draining"] == true).then(|| "it is draining".to_owned());
    let problem = serde_json::from_value::<Problem>(answer).ok().map(|problem| problem.error);
    problem.or(waits).or(drains).unwrap_or_else(|| "the server gave no reason".into())
}
