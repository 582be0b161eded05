//! Which repository URLs are accepted. Pure: judges text, asks nobody.
//!
//! What is refused here never reaches git, so git never takes an option or a helper for a URL.

use std::fmt;

/// Longer than any URL that a forge hands out.
const LENGTH_LIMIT: usize = 2048;

#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    pub allow_local: bool,
    pub allow_http: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Https,
    Http,
    Ssh,
    Local,
}

/// An accepted URL, exactly as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoUrl {
    text: String,
    pub transport: Transport,
    /// Host and, if one was given, `:port`; empty for a local path.
    pub host: String,
    /// Without the leading slash.
    path: String,
}

impl fmt::Display for RepoUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl RepoUrl {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The cache's key: the first 12 hex digits of the URL's SHA-256.
    pub fn key(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.text.as_bytes());
        digest.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Owner and name, if this is a repository on the GitHub at `server_url`.
    pub fn github_slug(&self, server_url: &str) -> Option<(String, String)> {
        let server = server_url.split_once("://")?.1;
        let server_host = server.split('/').next()?;
        let same = match self.transport {
            Transport::Https | Transport::Http => self.host.eq_ignore_ascii_case(server_host),
            // The port of ssh says nothing about the port of the web.
            Transport::Ssh => without_port(&self.host).eq_ignore_ascii_case(without_port(server_host)),
            Transport::Local => false,
        };
        let (owner, name) = self.path.trim_end_matches('/').split_once('/')?;
        let name = name.strip_suffix(".git").unwrap_or(name);
        let plain = |part: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.chars().all(fits) && !part.starts_with('.')
        };
        (same && plain(owner) && plain(name)).then(|| (owner.to_owned(), name.to_owned()))
    }
}

/// Accepts `text` as a repository URL, or says in a sentence why not and what would be right.
///
/// ```
/// use agenticore::judges::url::{Policy, judge};
/// let url = judge("https://github.com/you/project", Policy::default()).unwrap();
/// assert_eq!(url.github_slug("https://github.com"), Some(("you".into(), "project".into())));
/// assert!(judge("ext::sh -c touch% /tmp/x", Policy::default()).is_err());
/// assert!(judge("/srv/project.git", Policy::default()).is_err(), "a path only where it is allowed");
/// ```
pub fn judge(text: &str, policy: Policy) -> Result<RepoUrl, String> {
    if text.is_empty() || text.len() > LENGTH_LIMIT {
        return Err(format!("repo_url must have 1 to {LENGTH_LIMIT} characters"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("repo_url must not hold white space or control characters".into());
    }
    if text.starts_with('-') {
        return Err(format!("repo_url `{text}` begins with a dash: that is an option, not a URL"));
    }
    match text.split_once("://") {
        Some((scheme, rest)) => with_scheme(text, scheme, rest, policy),
        None if text.starts_with('/') => local(text, text, policy),
        None => scp_style(text).map_err(|why| match policy.allow_local && !text.contains(':') {
            true => format!("{why}; a directory is named by its whole path, from / on"),
            false => why,
        }),
    }
}

fn with_scheme(text: &str, scheme: &str, rest: &str, policy: Policy) -> Result<RepoUrl, String> {
    let transport = match scheme {
        "https" => Transport::Https,
        "http" => Transport::Http,
        "ssh" => Transport::Ssh,
        "file" => return local(text, rest, policy),
        _ => return Err(format!("repo_url has the scheme `{scheme}`, but must begin with https:// or ssh://")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    match (&transport, user) {
        (Transport::Ssh, Some(user)) if is_user(user) => {}
        (Transport::Ssh, Some(_)) => {
            return Err("repo_url has a user that is no plain name: ssh keys log in, not passwords".into());
        }
        (_, Some(_)) => {
            return Err(
                "repo_url must not hold credentials: the server has its own (GITHUB_TOKEN, or a GitHub App)".into()
            );
        }
        (_, None) => {}
    }
    check_host(host)?;
    check_path(path)?;
    if path.contains(['?', '#']) {
        return Err("repo_url must not hold a query (?) or a fragment (#)".into());
    }
    if transport == Transport::Http && !policy.allow_http && !is_loopback(host) {
        return Err("repo_url must begin with https:// (http:// is accepted for this machine, or with \
                    AGENTICORE_ALLOW_HTTP_REPOS=true)"
            .into());
    }
    Ok(RepoUrl { text: text.into(), transport, host: host.into(), path: path.into() })
}

/// `user@host:path`, which git takes for ssh.
fn scp_style(text: &str) -> Result<RepoUrl, String> {
    let wrong = || format!("repo_url `{text}` is no URL: it must look like https://HOST/PATH or git@HOST:PATH");
    let (authority, path) = text.split_once(':').ok_or_else(wrong)?;
    if path.starts_with(':') {
        return Err(format!("repo_url `{text}` names a remote helper: it must begin with https:// or ssh://"));
    }
    let (user, host) = authority.rsplit_once('@').ok_or_else(wrong)?;
    if !is_user(user) || host.contains('/') {
        return Err(wrong());
    }
    check_host(host)?;
    check_path(path)?;
    let path = path.trim_start_matches('/');
    Ok(RepoUrl { text: text.into(), transport: Transport::Ssh, host: host.into(), path: path.into() })
}

fn local(text: &str, path: &str, policy: Policy) -> Result<RepoUrl, String> {
    if !policy.allow_local {
        return Err(
            "repo_url is a path on this machine, which is accepted only with AGENTICORE_ALLOW_LOCAL_REPOS=true: \
                    use https:// or ssh://"
                .into(),
        );
    }
    if !path.starts_with('/') {
        return Err("repo_url as a path on this machine must be absolute".into());
    }
    Ok(RepoUrl { text: text.into(), transport: Transport::Local, host: String::new(), path: path[1..].into() })
}

fn is_user(user: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !user.is_empty() && !user.starts_with('-') && user.chars().all(fits)
}

fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let v6 = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let plain = |n: &str| n.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    let good_name = match v6 {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && !name.starts_with(['-', '.']) && plain(name),
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if good_name && good_port { Ok(()) } else { Err(format!("repo_url names no valid host: `{host}`")) }
}

fn check_path(path: &str) -> Result<(), String> {
    if path.trim_matches('/').is_empty() {
        return Err("repo_url names a host, but no repository on it".into());
    }
    // ssh hands the path to a program on the other side.
    if path.starts_with('-') { Err("repo_url has a path that begins with a dash".into()) } else { Ok(()) }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = without_port(host).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Policy = Policy { allow_local: true, allow_http: true };

    #[test]
    fn accepts_what_users_have() {
        for text in [
            "https://github.com/o/r",
            "https://github.com/o/r.git",
            "https://git.example.com:8443/group/sub/r.git",
            "ssh://git@github.com/o/r.git",
            "ssh://host:2222/r",
            "git@github.com:o/r.git",
            "http://127.0.0.1:3000/o/r",
            "http://localhost/o/r",
            "http://[::1]:80/o/r",
        ] {
            let url = judge(text, Policy::default()).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(url.as_str(), text);
        }
        assert!(judge("/srv/repo", OPEN).is_ok() && judge("file:///srv/repo", OPEN).is_ok());
        assert!(judge("http://example.com/r", OPEN).is_ok());
    }

    #[test]
    fn refuses_the_rest_in_a_sentence() {
        let cases = [
            ("", "1 to 2048"),
            ("--upload-pack=touch x", "white space"),
            ("--upload-pack=x", "option"),
            ("-oProxyCommand=x", "option"),
            ("ext::sh", "remote helper"),
            ("fd::17", "remote helper"),
            ("ext::sh -c x", "white space"),
            ("git://github.com/o/r", "scheme `git`"),
            ("ext::https://x/y", "scheme `ext::https`"),
            ("https://token@github.com/o/r", "credentials"),
            ("https://u:p@github.com/o/r", "credentials"),
            ("ssh://-oProxyCommand=x/r", "no valid host"),
            ("ssh://u:p@host/r", "no plain name"),
            ("git@-oProxyCommand=x:r", "no valid host"),
            ("-u@host:r", "option"),
            ("git@host:-r", "dash"),
            ("host:r", "no URL"),
            ("https://", "no valid host"),
            ("https://host", "no repository"),
            ("https://host/", "no repository"),
            ("https://host:99999/r", "no valid host"),
            ("https://host/r?x=1", "query"),
            ("http://example.com/r", "https://"),
            ("/srv/repo", "AGENTICORE_ALLOW_LOCAL_REPOS"),
            ("file:///srv/repo", "AGENTICORE_ALLOW_LOCAL_REPOS"),
            ("../repo", "no URL"),
            ("repo", "no URL"),
            ("https://host/a\nb", "control"),
            ("https://host/a\0b", "control"),
        ];
        for (text, why) in cases {
            let error = judge(text, Policy::default()).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(judge("file://host/repo", OPEN).unwrap_err().contains("absolute"));
        assert!(judge(&format!("https://h/{}", "x".repeat(3000)), OPEN).is_err());
    }

    #[test]
    fn the_key_is_the_one_users_know() {
        // sha256sum of the text, first 12 digits.
        assert_eq!(judge("https://github.com/o/r", OPEN).unwrap().key(), "97393e7e6b5a");
    }

    #[test]
    fn a_slug_only_on_the_right_server() {
        let slug = |text: &str, server: &str| judge(text, OPEN).unwrap().github_slug(server);
        let found = Some(("o".to_owned(), "r".to_owned()));
        for text in [
            "https://github.com/o/r",
            "https://GitHub.com/o/r.git",
            "git@github.com:o/r.git",
            "ssh://git@github.com:22/o/r",
        ] {
            assert_eq!(slug(text, "https://github.com"), found, "{text}");
        }
        assert_eq!(slug("http://127.0.0.1:80/o/r", "http://127.0.0.1:80"), found);
        for text in [
            "https://gitlab.com/o/r",
            "https://github.com/o",
            "https://github.com/o/r/x",
            "https://github.com/../r",
            "/o/r",
        ] {
            assert_eq!(slug(text, "https://github.com"), None, "{text}");
        }
        assert_eq!(slug("http://127.0.0.1:81/o/r", "http://127.0.0.1:80"), None);
    }
}
