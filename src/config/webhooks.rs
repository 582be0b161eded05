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

/// Shorter parts of an address are words.
const SHORTEST_TOKEN: usize = 10;

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

/// Parts of an address that let somebody in, as far as they look like it: an agent may hold them without the rest.
fn tokens(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let parts = rest.split(['/', '?', '&', '=', '#', '@', ':']).skip(1);
    let is_token = |part: &&str| {
        let has = |kind: fn(&char) -> bool| part.chars().any(|c| kind(&c));
        part.len() >= SHORTEST_TOKEN && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
    };
    parts.filter(is_token).map(str::to_owned).collect()
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
