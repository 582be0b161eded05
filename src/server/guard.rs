//! Which requests may come in at all, judged by the head alone: where one was sent, and whose page sent it. Who asks,
//! the keys tell. Pure.
//!
//! A web page elsewhere must be able to do nothing: neither by a form, nor by a name that it makes point here.

use super::http::Head;
use std::borrow::Cow;
use tiny_http::Method;

pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    /// Bound to this machine alone: then nobody needs a name for it.
    is_local: bool,
}

/// Why a request is refused.
#[derive(Debug, PartialEq)]
pub enum Refused {
    /// It was sent to a name that this server does not answer to.
    Host(String),
    /// A page of somebody else's sent it.
    Page(String),
    /// A body of this type a page may send without being asked first. Ours is JSON.
    Type(String),
}

impl Guard {
    pub fn new(hosts: Vec<String>, origins: Vec<String>, is_local: bool) -> Self {
        Self { hosts, origins, is_local }
    }

    /// Before a key is looked at, and before a body is read.
    pub fn check_sender(&self, head: &Head) -> Result<(), Refused> {
        let host = head.header("host").unwrap_or_default();
        let host_matters = self.is_local || !self.hosts.is_empty();
        if host_matters && !host.is_empty() && !self.answers_to(host) {
            return Err(Refused::Host(host.to_owned()));
        }
        if let Some(origin) = head.header("origin")
            && !self.knows_page(origin, host)
        {
            return Err(Refused::Page(origin.to_owned()));
        }
        // Whatever else it is called, `curl -d` calls it a form, it is read as JSON.
        let kind = head.header("content-type").unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("text/plain") || kind.starts_with("multipart/") {
            return Err(Refused::Type(kind));
        }
        let is_change = !matches!(head.method, Method::Get | Method::Head | Method::Options);
        match head.header("sec-fetch-site") {
            Some("same-origin" | "none") | None => Ok(()),
            // One that is listed is as good as our own.
            Some(_) if !is_change || head.header("origin").is_some() => Ok(()),
            Some(site) => Err(Refused::Page(site.to_owned())),
        }
    }

    /// A probe comes by address; a name has to be known.
    fn answers_to(&self, host: &str) -> bool {
        let name = without_port(host);
        let is_address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        is_address
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn knows_page(&self, origin: &str, host: &str) -> bool {
        let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        (!host.is_empty() && own.is_some_and(|own| own.eq_ignore_ascii_case(host))) || self.is_listed(origin)
    }

    fn is_listed(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }

    /// What lets a page of a listed origin read the answer.
    pub fn cors(&self, head: &Head) -> Vec<(&'static str, String)> {
        let Some(origin) = head.header("origin").filter(|origin| self.is_listed(origin)) else { return Vec::new() };
        let mut headers = vec![("Access-Control-Allow-Origin", origin.to_owned()), ("Vary", "Origin".to_owned())];
        if head.method == Method::Options {
            let wanted = head.header("access-control-request-headers").unwrap_or("content-type, x-api-key").to_owned();
            headers.push(("Access-Control-Allow-Methods", "GET, POST, DELETE".to_owned()));
            headers.push(("Access-Control-Allow-Headers", wanted));
            headers.push(("Access-Control-Max-Age", "600".to_owned()));
        }
        headers
    }

    /// A page asks whether it may ask.
    pub fn is_preflight(&self, head: &Head) -> bool {
        head.method == Method::Options
            && head.header("access-control-request-method").is_some()
            && head.header("origin").is_some_and(|origin| self.is_listed(origin))
    }
}

/// The keys that a request carries, in the order in which they count.
pub fn offered_keys(head: &Head) -> Vec<Cow<'_, str>> {
    let bearer = head.header("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    });
    let in_query = pairs(head).filter(|(name, _)| name == "api_key").map(|(_, value)| value);
    head.header("x-api-key").into_iter().chain(bearer).map(Cow::Borrowed).chain(in_query).collect()
}

/// The key that counts came in the address, where it is written down by whatever stands between.
pub fn is_key_in_address(head: &Head) -> bool {
    head.header("x-api-key").is_none()
        && head.header("authorization").is_none()
        && pairs(head).any(|(name, value)| name == "api_key" && !value.is_empty())
}

/// What stands behind the `?`.
pub fn pairs(head: &Head) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(head.query.as_bytes())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::http::parse_head;

    fn guard() -> Guard {
        Guard::new(vec!["agents.example".into()], vec!["https://page.example".into()], true)
    }

    #[test]
    fn a_page_elsewhere_can_do_nothing() {
        let check = |method: &str, headers: &str| {
            let text = format!("{method} /jobs HTTP/1.1\r\n{headers}\r\n");
            guard().check_sender(&parse_head(text.as_bytes()).unwrap().unwrap().0)
        };
        for good in [
            "Host: 127.0.0.1:8200\r\n",
            "Host: localhost\r\n",
            "Host: [::1]:8200\r\n",
            "Host: Agents.example:80\r\n",
            "Host: 10.1.2.3\r\nOrigin: http://10.1.2.3\r\nSec-Fetch-Site: same-origin\r\n",
            "Host: localhost:8200\r\nOrigin: https://page.example\r\nSec-Fetch-Site: cross-site\r\n",
            "Host: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        ] {
            assert_eq!(check("POST", good), Ok(()), "{good}");
        }
        for host in ["evil.example", "evil.example:8200", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert_eq!(check("GET", &format!("Host: {host}\r\n")), Err(Refused::Host(host.into())));
        }
        for origin in ["https://evil.example", "null", "http://localhost:1234", "file://"] {
            let headers = format!("Host: localhost:8200\r\nOrigin: {origin}\r\n");
            assert_eq!(check("POST", &headers), Err(Refused::Page(origin.into())));
        }
        for kind in ["text/plain; charset=utf-8", "multipart/form-data; boundary=x"] {
            let headers = format!("Host: localhost\r\nContent-Type: {kind}\r\n");
            assert_eq!(check("POST", &headers), Err(Refused::Type(kind.into())));
        }
        let cross = "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n";
        assert_eq!((check("GET", cross), check("POST", cross)), (Ok(()), Err(Refused::Page("cross-site".into()))));
    }
}
