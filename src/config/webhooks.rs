//! Whom the settings have told of jobs, and how that is signed. Pure.

use super::Error;
use super::values::Values;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// How a secret begins, as Standard Webhooks has it; the rest is base64.
const SECRET_BEGINS: &str = "whsec_";
/// How long one may be, in bytes, as Standard Webhooks recommends.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Shorter parts of an address are words, or what is as good as one.
const SHORTEST_TOKEN: usize = 16;
const SHORTEST_PASSWORD: usize = 8;

#[derive(Clone)]
pub struct Webhooks {
    /// The operator's: each hears of every job.
    pub urls: Vec<String>,
    /// What is told is signed with each of them, so that receivers can change over.
    pub secrets: Vec<Vec<u8>>,
    /// What of it is nobody's business, as it was given: URLs often hold a login.
    pub texts: Vec<String>,
    /// A job's own URL may be on this network too.
    pub allow_private: bool,
    /// A job's begin is told too.
    pub tells_start: bool,
    /// The pause after the first try; the others grow from it.
    pub backoff: Duration,
}

pub fn read(values: &Values) -> Result<Webhooks, Error> {
    let urls = values.list("AGENTICORE_WEBHOOK_URLS");
    let secrets = values.list("AGENTICORE_WEBHOOK_SECRET");
    if let Some(at) = urls.iter().position(|url| !is_web(url)) {
        let why = format!("number {} of AGENTICORE_WEBHOOK_URLS must be https:// or http:// with a host", at + 1);
        return Err(Error::Inconsistent(why));
    }
    if !urls.is_empty() && secrets.is_empty() {
        let why = "AGENTICORE_WEBHOOK_URLS needs AGENTICORE_WEBHOOK_SECRET, because what is told is signed: make one \
                   with `echo whsec_$(openssl rand -base64 32)`";
        return Err(Error::Inconsistent(why.into()));
    }
    let backoff = values.duration("AGENTICORE_WEBHOOK_BACKOFF");
    if backoff.is_zero() {
        return Err(Error::Inconsistent("AGENTICORE_WEBHOOK_BACKOFF must be more than 0".into()));
    }
    Ok(Webhooks {
        secrets: secrets.iter().map(|secret| decoded(secret)).collect::<Result<_, _>>()?,
        texts: secrets.iter().cloned().chain(urls.clone()).chain(urls.iter().flat_map(|url| tokens(url))).collect(),
        urls,
        allow_private: values.is_true("AGENTICORE_WEBHOOK_ALLOW_PRIVATE"),
        tells_start: values.text("AGENTICORE_WEBHOOK_EVENTS") == "started,ended",
        backoff,
    })
}

/// Parts of an address that let somebody in, as far as they look like it: an agent may hold them without the rest. No
/// word, no version and no name of a host, which would be masked wherever they stand.
fn tokens(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let password =
        authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password);
    let is_token = |part: &&str| {
        let has = |kind: fn(&char) -> bool| part.chars().any(|c| kind(&c));
        let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
        let is_hex = part.chars().all(|c| c.is_ascii_hexdigit() || c == '-') && has(char::is_ascii_digit);
        part.len() >= SHORTEST_TOKEN && (is_mixed || is_hex)
    };
    let parts = rest.split(['/', '?', '&', '=', '#']).filter(is_token);
    parts.chain(password.filter(|password| password.len() >= SHORTEST_PASSWORD)).map(str::to_owned).collect()
}

fn is_web(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?', '#']))
}

fn decoded(secret: &str) -> Result<Vec<u8>, Error> {
    let bytes = secret.strip_prefix(SECRET_BEGINS).and_then(|rest| STANDARD.decode(rest).ok());
    bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())).ok_or_else(|| {
        let why = "AGENTICORE_WEBHOOK_SECRET must be `whsec_` and 24 to 64 bytes in base64: make one with \
                   `echo whsec_$(openssl rand -base64 32)`";
        Error::Inconsistent(why.into())
    })
}

#[cfg(test)]
mod tests {
    use super::tokens;

    #[test]
    fn tokens_are_masked_and_words_are_not() {
        for (url, found) in [
            (
                "https://hooks.example.com/services/T024BE91L/B0AB12CD3/XyZ9aB3dE5fG7hI9jK1mN2p4",
                vec!["XyZ9aB3dE5fG7hI9jK1mN2p4"],
            ),
            ("https://bot:sesame-open@git2.example1.com/agenticore-v2/hook", vec!["sesame-open"]),
            ("https://a.example/x?sig=0123456789abcdef0123", vec!["0123456789abcdef0123"]),
            ("https://a.example/6fa459ea-ee8a-3ca4-894e-db77e160355e", vec!["6fa459ea-ee8a-3ca4-894e-db77e160355e"]),
            ("https://agenticore-production-2026.example.com/notifications/of-the-release-2026", vec![]),
        ] {
            assert_eq!(tokens(url), found, "{url}");
        }
    }
}
