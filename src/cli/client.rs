//! The client's side of the REST interface.

use super::{Exit, Refusal};
use crate::api::Problem;
use crate::config::Config;
use crate::server;
use crate::tls;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::time::Duration;

/// No request of this client waits for a job, so none takes long.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long one stream is read before it is taken up again at its cursor: a server that is gone without a word is
/// noticed by then.
const STREAM_LIMIT: Duration = Duration::from_secs(300);
/// How long one message of MCP may take: it may wait for a job.
const MESSAGE_LIMIT: Duration = Duration::from_secs(86_400);
/// A thousand records of 200 KB.
const ANSWER_LIMIT: u64 = 256 << 20;

pub struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    is_proxied: bool,
}

impl Client {
    /// Refused: a proxy or a certificate that cannot be used.
    pub fn new(config: &Config) -> Result<Self, Refusal> {
        let bad = |why| Refusal::new(Exit::BadUsage, why);
        let url = config.server_url();
        // The server of this machine is asked directly, by whatever address it listens on.
        let proxy = config.client.url.as_ref().and_then(|url| config.proxy_to(url));
        let is_proxied = proxy.is_some();
        let proxy = proxy.map(|proxy| ureq::Proxy::new(&proxy)).transpose();
        let proxy = proxy.map_err(|error| bad(format!("the proxy for {url} cannot be used: {error}")))?;
        let mut settings = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_LIMIT))
            .timeout_connect(Some(CONNECT_LIMIT))
            .proxy(proxy);
        let trusted = config.ca_files_of_client();
        if url.starts_with("https:") && !trusted.is_empty() {
            settings = settings.tls_config(tls::trusting(&trusted).map_err(bad)?);
        }
        let key = config.client.key.clone().or_else(|| config.api_keys.first().cloned());
        // The server beside this command, if it is that one that is asked.
        let key = key.or_else(|| config.client.url.is_none().then(|| server::keys::own::read(config)).flatten());
        Ok(Self { agent: settings.build().into(), url, key, is_proxied })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.send("GET", path, None, None)
    }

    /// The JSON of what would be a stream otherwise.
    pub fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let request = self.request("GET", path).header("accept", "application/json");
        self.read(request, Vec::new())
    }

    /// The lines of an event stream, from a cursor on.
    pub fn stream(&self, path: &str, after: &str) -> Result<impl BufRead + use<>, Refusal> {
        let mut request = self.request("GET", path).header("accept", "text/event-stream");
        if !after.is_empty() {
            request = request.header("last-event-id", after);
        }
        let request = request.body(Vec::new()).map_err(|_| self.no_address())?;
        let request = self.agent.configure_request(request).timeout_global(Some(STREAM_LIMIT)).build();
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(error))?;
        if response.status().as_u16() != 200 {
            return Err(self.refused(&mut response));
        }
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// Sends one message of MCP, and hears each that comes back. The error is a sentence.
    pub fn message(
        &self,
        message: &Value,
        headers: &[(&str, String)],
        is_wanted: impl Fn() -> bool,
        mut hear: impl FnMut(&Value),
    ) -> Result<(), String> {
        let request = self.request("POST", "/mcp").header("content-type", "application/json");
        let request = request.header("accept", "application/json, text/event-stream");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = request.body(message.to_string().into_bytes()).map_err(|_| self.no_address().why)?;
        let request = self.agent.configure_request(request).timeout_global(Some(MESSAGE_LIMIT)).build();
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(error).why)?;
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            let lines = BufReader::new(response.into_body().into_reader()).lines();
            for line in lines {
                let line = line.map_err(|error| format!("the answer was cut off: {error}"))?;
                // To hang up ends the waiting there; something comes each 15 s.
                if !is_wanted() {
                    return Ok(());
                }
                if let Some(Ok(said)) = line.strip_prefix("data: ").map(serde_json::from_str) {
                    hear(&said);
                }
            }
            return Ok(());
        }
        if response.status().as_u16() == 401 {
            return Err(self.refused(&mut response).why);
        }
        let text = self.text(&mut response).map_err(|refusal| refusal.why)?;
        match serde_json::from_str::<Value>(&text) {
            Ok(said) if said["jsonrpc"] == "2.0" => hear(&said),
            _ if text.is_empty() => {}
            Ok(other) => return Err(reason(other)),
            Err(_) => return Err(self.stranger(response.status().as_u16()).why),
        }
        Ok(())
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
        let mut request = self.request(method, path);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.read(request, body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
    }

    fn request(&self, method: &str, path: &str) -> Builder {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.header("x-api-key", key),
            None => request,
        }
    }

    fn read<T: DeserializeOwned>(&self, request: Builder, body: Vec<u8>) -> Result<T, Refusal> {
        let request = request.body(body).map_err(|_| self.no_address())?;
        let mut response = self.agent.run(request).map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            return Err(self.refused(&mut response));
        }
        let status = response.status().as_u16();
        serde_json::from_str(&self.text(&mut response)?).map_err(|_| self.stranger(status))
    }

    fn text(&self, response: &mut Response) -> Result<String, Refusal> {
        let body = response.body_mut().with_config().limit(ANSWER_LIMIT).lossy_utf8(true);
        body.read_to_string().map_err(|error| self.unreachable(error))
    }

    fn refused(&self, response: &mut Response) -> Refusal {
        let status = response.status().as_u16();
        let answer = self.text(response).map(|text| serde_json::from_str::<Value>(&text));
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => return self.stranger(status),
            Err(refusal) => return refusal,
        };
        let is_expired = answer["type"].as_str().is_some_and(|kind| kind.ends_with("#key-expired"));
        if status == 401 && !is_expired {
            let which = if self.key.is_some() { "another" } else { "an" };
            let why = format!("{} wants {which} API key: set AGENTICORE_API_KEY to one of the server's", self.url);
            return Refusal::new(Exit::BadUsage, why);
        }
        Refusal::new(if status < 500 { Exit::BadUsage } else { Exit::Failed }, reason(answer))
    }

    fn no_address(&self) -> Refusal {
        let why = format!("{} is no address: check AGENTICORE_URL, AGENTICORE_HOST and the API key", self.url);
        Refusal::new(Exit::BadUsage, why)
    }

    fn unreachable(&self, error: ureq::Error) -> Refusal {
        let way = if self.is_proxied { " through the proxy (AGENTICORE_PROXY, HTTPS_PROXY, HTTP_PROXY)" } else { "" };
        let cause = match error {
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        let why = format!(
            "no server answers at {}{way}: {cause}; start one with `agenticore serve`, or set AGENTICORE_URL, or \
             AGENTICORE_HOST and AGENTICORE_PORT",
            self.url
        );
        Refusal::new(Exit::Unreachable, why)
    }

    fn stranger(&self, status: u16) -> Refusal {
        Refusal::new(Exit::Failed, format!("what answers at {} is no agenticore server ({status})", self.url))
    }
}

type Builder = ureq::http::request::Builder;
type Response = ureq::http::Response<ureq::Body>;

/// Why the server says no: a problem, or that it is not ready.
fn reason(answer: Value) -> String {
    let waits = answer["waiting_for"].as_str().map(|why| format!("it waits for {why}"));
    let drains = (answer["draining"] == true).then(|| "it is draining".to_owned());
    let problem = serde_json::from_value::<Problem>(answer).ok().map(|problem| problem.error);
    problem.or(waits).or(drains).unwrap_or_else(|| "the server gave no reason".into())
}
