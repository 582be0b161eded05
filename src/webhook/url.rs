//! Which URLs may be told: a job's own may not lead into the server's network. Pure.

use crate::addresses;
use crate::trace_context::to_hex;
use ureq::http::Uri;

/// The longest URL of a job, in bytes.
const URL_LIMIT: usize = 2_000;
/// Names of services that tell a machine its own credentials.
const METADATA: [&str; 3] = ["metadata", "metadata.google.internal", "instance-data"];

/// A job's own. What its name stands for is looked at when it is told.
pub fn judge(text: &str, allow_private: bool) -> Result<(), String> {
    const SHOULD: &str =
        "`webhook_url` must be http:// or https:// with a host, without a user, at most 2000 characters";
    let is_plain = text.len() <= URL_LIMIT && text.bytes().all(|b| b.is_ascii_graphic());
    let uri = text.parse::<Uri>().ok().filter(|_| is_plain).ok_or(SHOULD)?;
    let authority = uri.authority().ok_or(SHOULD)?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_web || authority.as_str().contains('@') || authority.host().is_empty() || text.contains('#') {
        return Err(SHOULD.into());
    }
    // `%` begins a zone of this machine's.
    let port = authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest).split_once(':');
    let has_port = port.is_none_or(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !has_port || authority.as_str().contains('%') {
        return Err(SHOULD.into());
    }
    let name = authority.host().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let is_local = name == "localhost" || name.ends_with(".localhost") || METADATA.contains(&name.as_str());
    let is_private = is_local || addresses::spelled(&name).is_some_and(|address| !addresses::is_public(address));
    if is_private && !allow_private {
        let why = "`webhook_url` leads into this server's own network: give a public one, or have the operator set \
                   AGENTICORE_WEBHOOK_ALLOW_PRIVATE=true";
        return Err(why.into());
    }
    Ok(())
}

/// Which server it leads to.
pub fn host(url: &str) -> String {
    let uri = url.parse::<Uri>().ok();
    uri.as_ref().and_then(Uri::host).unwrap_or_default().to_ascii_lowercase()
}

/// As others may see it: path and query may hold a secret. What stands for them tells one URL from another.
pub fn shown(url: &str) -> String {
    let Ok(uri) = url.parse::<Uri>() else { return "…".into() };
    let host = uri.authority().map(|it| it.as_str().rsplit('@').next().unwrap_or_default()).unwrap_or_default();
    let scheme = uri.scheme_str().unwrap_or_default();
    if uri.path() == "/" && uri.query().is_none() {
        return format!("{scheme}://{host}");
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, url.as_bytes());
    format!("{scheme}://{host}/…{}", to_hex(&digest.as_ref()[..2]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_own_url_leads_to_the_internet() {
        for bad in [
            "",
            "example.com",
            "ftp://example.com/",
            "https://",
            "https://u:p@example.com/",
            "https://example.com/ x",
            "https://example.com/#x",
            "file:///etc/passwd",
            "https://example.com/\u{e4}",
            "http://example.com:99999/",
            "http://example.com:0/",
            "http://[::1%25lo]/",
        ] {
            assert!(judge(bad, true).is_err(), "{bad}");
        }
        for private in [
            "http://127.0.0.1:9/",
            "http://127.1/",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost/",
            "http://a.localhost./",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest",
            "http://metadata.google.internal/",
        ] {
            assert!(judge(private, false).unwrap_err().contains("own network"), "{private}");
            assert_eq!(judge(private, true), Ok(()), "{private}");
        }
        for good in ["https://hooks.example.com/a?b=c", "http://1.1.1.1:8080/"] {
            assert_eq!(judge(good, false), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        let hidden = shown("https://hooks.example.com:8443/T000/secret?x=y");
        assert!(hidden.starts_with("https://hooks.example.com:8443/…") && !hidden.contains("secret"), "{hidden}");
        assert_ne!(hidden, shown("https://hooks.example.com:8443/T001/secret?x=y"));
        assert_eq!(shown("https://u:p@hooks.example.com/"), "https://hooks.example.com");
    }
}
