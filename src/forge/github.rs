//! GitHub's REST API, as far as a job needs it.

use super::app_token::{self, AppTokens};
use super::{Error, client};
use crate::config;
use crate::job::Time;
use crate::workspace::credentials::Login;
use crate::workspace::url::{RepoUrl, Transport};
use serde_json::{Value, json};
use std::time::Duration;

/// Larger answers than any that is asked for here.
const ANSWER_LIMIT: u64 = 4 << 20;
/// GitHub's rate limits reset within the hour; nobody waits longer for a pull request.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

pub struct GitHub {
    agent: ureq::Agent,
    server: String,
    api: String,
    tokens: Tokens,
}

enum Tokens {
    None,
    Fixed(String),
    App(Box<AppTokens>),
}

pub struct PullRequest<'a> {
    pub slug: &'a (String, String),
    /// The branch with the work.
    pub head: &'a str,
    /// The branch it goes to.
    pub base: &'a str,
    pub title: &'a str,
    pub body: &'a str,
}

impl GitHub {
    pub fn new(settings: &config::GitHub, ca_file: Option<&str>) -> Result<Self, String> {
        let tokens = match (&settings.app, &settings.token) {
            (Some(app), _) => {
                app_token::check(app)?;
                Tokens::App(Box::new(AppTokens::new(app.clone())))
            }
            (None, Some(token)) => Tokens::Fixed(token.clone()),
            (None, None) => Tokens::None,
        };
        let agent = client(ca_file)?;
        Ok(Self { agent, server: settings.server_url.clone(), api: settings.api_url.clone(), tokens })
    }

    /// Owner and name, if `url` is a repository on this GitHub.
    pub fn slug(&self, url: &RepoUrl) -> Option<(String, String)> {
        url.github_slug(&self.server)
    }

    pub fn token(&self) -> Result<Option<String>, Error> {
        match &self.tokens {
            Tokens::None => Ok(None),
            Tokens::Fixed(token) => Ok(Some(token.clone())),
            Tokens::App(app) => app.token(|path, jwt| self.installation_token(path, jwt)).map(Some),
        }
    }

    /// The login for `url`, if it is this GitHub over HTTP and there is a token.
    pub fn login(&self, url: &RepoUrl) -> Result<Option<Login>, Error> {
        let over_http = matches!(url.transport, Transport::Https | Transport::Http);
        let (scheme, server) = self.server.split_once("://").unwrap_or_default();
        let host = server.split('/').next().unwrap_or_default();
        let same_scheme = url.as_str().starts_with(&format!("{scheme}://"));
        if !over_http || !same_scheme || !url.host.eq_ignore_ascii_case(host) {
            return Ok(None);
        }
        // As the URL spells the host: that is how git will ask.
        Ok(self.token()?.map(|password| Login { origin: format!("{scheme}://{}", url.host), password }))
    }

    /// Opens a pull request; "already exists" is success. Returns its address.
    pub fn open(&self, wanted: &PullRequest) -> Result<String, Error> {
        let (owner, name) = wanted.slug;
        let body = json!({ "title": wanted.title, "head": wanted.head, "base": wanted.base, "body": wanted.body });
        let (status, answer) = self.request("POST", &format!("/repos/{owner}/{name}/pulls"), Some(&body))?;
        match (status, answer["html_url"].as_str()) {
            (201, Some(url)) => Ok(url.to_owned()),
            (422, _) if said(&answer).contains("already exists") => self
                .find(wanted)?
                .ok_or_else(|| Error::Final("GitHub says the pull request exists, but shows none".into())),
            _ => Err(Error::Final(format!("GitHub refused the pull request ({status}): {}", said(&answer)))),
        }
    }

    /// The address of the pull request for this branch, in whatever state it is.
    pub fn find(&self, wanted: &PullRequest) -> Result<Option<String>, Error> {
        let (owner, name) = wanted.slug;
        let path = format!("/repos/{owner}/{name}/pulls?state=all&per_page=1&head={owner}:{}", wanted.head);
        match self.request("GET", &path, None)? {
            (200, found) => Ok(found[0]["html_url"].as_str().map(str::to_owned)),
            (status, answer) => Err(refused("list pull requests", status, &answer)),
        }
    }

    /// Makes the repository if it is not there. True if it was made.
    pub fn ensure_repository(&self, slug: &(String, String), private: bool) -> Result<bool, Error> {
        let (owner, name) = slug;
        match self.request("GET", &format!("/repos/{owner}/{name}"), None)? {
            (200, _) => return Ok(false),
            (404, _) => {}
            (status, answer) => return Err(refused("look for the repository", status, &answer)),
        }
        // An App's installation has no user; then it is an organization's.
        let own = matches!(self.request("GET", "/user", None)?, (200, user) if user["login"] == owner.as_str());
        let path = if own { "/user/repos".to_owned() } else { format!("/orgs/{owner}/repos") };
        // With a first commit, so that there is a branch to begin at.
        let body = json!({ "name": name, "private": private, "auto_init": true });
        match self.request("POST", &path, Some(&body))? {
            (201, _) => Ok(true),
            (422, answer) if said(&answer).contains("already exists") => Ok(false),
            (status, answer) => Err(refused("create the repository", status, &answer)),
        }
    }

    fn installation_token(&self, path: &str, jwt: &str) -> Result<(String, Time), Error> {
        let (status, answer) = self.send("POST", path, None, Some(jwt))?;
        let ends = serde_json::from_value::<Time>(answer["expires_at"].clone());
        match (status, answer["token"].as_str(), ends) {
            (201, Some(token), Ok(ends)) => Ok((token.to_owned(), ends)),
            _ => Err(refused("give the App a token", status, &answer)),
        }
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let token = self.token()?;
        self.send(method, path, body, token.as_deref())
    }

    /// One request. Failures of the network, of the server, and of rate limits are passing.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        bearer: Option<&str>,
    ) -> Result<(u16, Value), Error> {
        let passing = |why: String| Error::Passing { why, after: None };
        let url = format!("{}{path}", self.api);
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(&url)
            .header("accept", "application/vnd.github+json")
            .header("x-github-api-version", "2022-11-28");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        // Nothing of the token is in this error.
        let request =
            request.body(bytes).map_err(|error| Error::Final(format!("GITHUB_API_URL is of no use: {error}")))?;
        let mut response = self
            .agent
            .run(request)
            .map_err(|error| passing(format!("GitHub at {} cannot be reached: {error}", self.api)))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (retry_after, remaining, reset) =
            (header("retry-after"), header("x-ratelimit-remaining"), header("x-ratelimit-reset"));
        let text = response.body_mut().with_config().limit(ANSWER_LIMIT).lossy_utf8(true).read_to_string();
        let text = text.map_err(|error| passing(format!("GitHub's answer broke off: {error}")))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let limited = status == 429 || (status == 403 && (retry_after.is_some() || remaining.as_deref() == Some("0")));
        if limited || status >= 500 {
            let asked = retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
            let until_reset = reset.and_then(|text| text.parse::<i64>().ok()).map(|at| at - Time::now().0 / 1000);
            let until_reset = until_reset.filter(|_| limited).map(|wait| Duration::from_secs(wait.max(1) as u64));
            let after = asked.or(until_reset).map(|wait| wait.min(LONGEST_WAIT));
            let what = if limited { "limits the rate of requests" } else { "has a fault of its own" };
            return Err(Error::Passing { why: format!("GitHub {what} ({status}): {}", said(&answer)), after });
        }
        Ok((status, answer))
    }
}

fn refused(what: &str, status: u16, answer: &Value) -> Error {
    let hint = match status {
        401 => ": check GITHUB_TOKEN, or the App's key",
        403 | 404 => ": check that the token or App may do so",
        _ => "",
    };
    Error::Final(format!("GitHub did not {what} ({status}, {}){hint}", said(answer)))
}

/// What an answer says about a failure.
fn said(answer: &Value) -> String {
    let message = answer["message"].as_str().unwrap_or("no message");
    let details = answer["errors"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let details: Vec<&str> = details.filter_map(|e| e["message"].as_str().or(e.as_str())).collect();
    let text = if details.is_empty() { message.to_owned() } else { format!("{message}: {}", details.join("; ")) };
    crate::job::cut(text, 500)
}
