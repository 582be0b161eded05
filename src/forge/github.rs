//! GitHub's REST API, as far as a job needs it.

use super::app_token::{self, AppTokens};
use super::{Error, client};
use crate::config::Config;
use crate::job::Time;
use crate::workspace::credentials::Login;
use crate::workspace::url::{RepoUrl, Transport};
use serde_json::{Value, json};
use std::time::Duration;

/// Larger answers than any that is asked for here.
const ANSWER_LIMIT: u64 = 4 << 20;
/// GitHub's rate limits reset within the hour.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);
/// What GitHub asks for at least when it limits requests and does not say for how long.
const UNTOLD_WAIT: Duration = Duration::from_secs(60);
/// A repository that was renamed or moved is found behind one redirect, seldom two.
const REDIRECTS_MOST: usize = 3;

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
    pub fn new(config: &Config) -> Result<Self, String> {
        let settings = &config.github;
        let tokens = match (&settings.app, &settings.token) {
            (Some(app), _) => {
                app_token::check(app)?;
                Tokens::App(Box::new(AppTokens::new(app.clone())))
            }
            (None, Some(token)) => Tokens::Fixed(token.clone()),
            (None, None) => Tokens::None,
        };
        let agent = client(config.ca_file(), config.proxy_to(&settings.api_url).as_deref())?;
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
        let (owner, name) = &self.present_name(wanted.slug)?;
        let path = format!("/repos/{owner}/{name}/pulls?state=all&per_page=1&head={owner}:{}", wanted.head);
        match self.request("GET", &path, None)? {
            (200, found) => Ok(found[0]["html_url"].as_str().map(str::to_owned)),
            (status, answer) => Err(refused("list pull requests", status, &answer)),
        }
    }

    /// What a repository is called now: after a rename its pull requests are found by the new owner alone.
    fn present_name(&self, slug: &(String, String)) -> Result<(String, String), Error> {
        let (owner, name) = slug;
        let (_, answer) = self.request("GET", &format!("/repos/{owner}/{name}"), None)?;
        let full_name = answer["full_name"].as_str().and_then(|full| full.split_once('/'));
        Ok(full_name.map_or_else(|| slug.clone(), |(owner, name)| (owner.to_owned(), name.to_owned())))
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
        let mut url = format!("{}{path}", self.api);
        for _ in 0..=REDIRECTS_MOST {
            match self.send_to(method, &url, body, bearer)? {
                Sent::Answer(status, answer) => return Ok((status, answer)),
                Sent::Elsewhere(there) => url = there,
            }
        }
        Err(Error::Final(format!("GitHub at {} redirects a request in a circle", self.api)))
    }

    fn send_to(&self, method: &str, url: &str, body: Option<&Value>, bearer: Option<&str>) -> Result<Sent, Error> {
        let passing = |why: String| Error::Passing { why, after: None };
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(url)
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
        if matches!(status, 301 | 302 | 307 | 308)
            && let Some(there) = header("location")
        {
            // The login is for this host alone.
            return match same_host(url, &there) {
                Some(there) => Ok(Sent::Elsewhere(there)),
                None => Err(Error::Final(format!("GitHub at {} sends its client to another host: {there}", self.api))),
            };
        }
        let told = ["retry-after", "x-ratelimit-remaining", "x-ratelimit-reset"].map(header);
        let text = response.body_mut().with_config().limit(ANSWER_LIMIT).lossy_utf8(true).read_to_string();
        let text = text.map_err(|error| passing(format!("GitHub's answer broke off: {error}")))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let said = said(&answer);
        if let Some(after) = rate_limit(status, &told, &said, Time::now()) {
            let why = format!("GitHub limits the rate of requests ({status}): {said}");
            return Err(Error::Passing { why, after: Some(after) });
        }
        if status >= 500 {
            let asked = told[0].as_deref().and_then(|text| text.parse().ok()).map(Duration::from_secs);
            let after = asked.map(|wait| wait.min(LONGEST_WAIT));
            return Err(Error::Passing { why: format!("GitHub has a fault of its own ({status}): {said}"), after });
        }
        Ok(Sent::Answer(status, answer))
    }
}

enum Sent {
    Answer(u16, Value),
    /// A redirect to this URL, on the same host.
    Elsewhere(String),
}

/// The URL that a redirect names, if it lies on the host that was asked.
fn same_host(asked: &str, location: &str) -> Option<String> {
    let host_end =
        |url: &str| url.find("://").map(|at| url[at + 3..].find('/').map_or(url.len(), |path| at + 3 + path));
    let host = &asked[..host_end(asked)?];
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{host}{location}"));
    }
    let there = &location[..host_end(location)?];
    there.eq_ignore_ascii_case(host).then(|| location.to_owned())
}

/// How long GitHub wants to be left alone, if it limits the rate of requests. `told`: Retry-After, and of the limit
/// what is left and when it is reset. By the rules in GitHub's "Rate limits for the REST API".
fn rate_limit(status: u16, told: &[Option<String>; 3], said: &str, now: Time) -> Option<Duration> {
    let [retry_after, remaining, reset] = told;
    let is_used_up = remaining.as_deref() == Some("0");
    let said = said.to_ascii_lowercase();
    let says_so = ["rate limit", "abuse detection"].iter().any(|words| said.contains(words));
    if !(status == 429 || (status == 403 && (retry_after.is_some() || is_used_up || says_so))) {
        return None;
    }
    let asked = retry_after.as_deref().and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let until_reset = reset.as_deref().filter(|_| is_used_up).and_then(|text| text.parse::<i64>().ok());
    let until_reset = until_reset.map(|at| Duration::from_secs((at - now.0 / 1000).max(1) as u64));
    Some(asked.or(until_reset).unwrap_or(UNTOLD_WAIT).min(LONGEST_WAIT))
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
    // A detail without words of its own names what is wrong by field and code.
    let named = |detail: &Value| {
        let parts = ["resource", "field", "code"].map(|part| detail[part].as_str());
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
    };
    let words = |detail: &Value| detail["message"].as_str().or(detail.as_str()).map(str::to_owned);
    let details: Vec<String> = details.filter_map(|detail| words(detail).or_else(|| named(detail))).collect();
    let text = if details.is_empty() { message.to_owned() } else { format!("{message}: {}", details.join("; ")) };
    crate::job::cut(text, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_as_long_as_github_asks_for() {
        let told = |after: Option<&str>, left: Option<&str>, reset: Option<&str>| {
            [after, left, reset].map(|text| text.map(str::to_owned))
        };
        let now = Time(1_000_000_000);
        let none = told(None, None, None);
        for (status, told, said, seconds) in [
            (429, told(Some("7"), None, None), "slow down", Some(7)),
            (403, told(None, Some("0"), Some("1000090")), "API rate limit exceeded", Some(90)),
            (403, told(None, Some("4999"), Some("1003600")), "You have exceeded a secondary rate limit.", Some(60)),
            (403, none.clone(), "You have triggered an abuse detection mechanism", Some(60)),
            (429, told(None, None, Some("1003600")), "too many", Some(60)),
            (403, told(Some("86400"), None, None), "x", Some(3_600)),
            (403, none.clone(), "Resource not accessible by integration", None),
            (404, none, "rate limit", None),
        ] {
            let waits = rate_limit(status, &told, said, now).map(|wait| wait.as_secs());
            assert_eq!(waits, seconds, "{status} {told:?} {said}");
        }
    }

    #[test]
    fn a_redirect_is_followed_on_the_same_host_alone() {
        let asked = "https://api.h/repos/a/b?x=1";
        for (location, url) in [
            ("https://api.h/repositories/7", Some("https://api.h/repositories/7")),
            ("/repositories/7", Some("https://api.h/repositories/7")),
            ("https://API.h/r", Some("https://API.h/r")),
            ("http://api.h/r", None),
            ("https://api.h.evil.example/r", None),
            ("//evil.example/r", None),
            ("https://api.h:8443/r", None),
            ("https://api.h@evil.example/r", None),
            ("nonsense", None),
        ] {
            assert_eq!(same_host(asked, location).as_deref(), url, "{location}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_by_field_and_code() {
        let answer = json!({"message": "Validation Failed", "errors": [{"resource": "PullRequest", "field": "head",
            "code": "invalid"}, {"message": "No commits between main and x"}]});
        assert_eq!(said(&answer), "Validation Failed: PullRequest head invalid; No commits between main and x");
    }
}
