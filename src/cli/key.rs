//! `key new`: makes an API key, and the line by which a server knows it. Asks no server.

use super::{Exit, Refusal, print};
use crate::job::Time;
use crate::log;
use crate::server::keys::{self, Entry, own};
use crate::service::Scope;

#[derive(Debug, PartialEq)]
pub struct New {
    pub name: String,
    pub scope: String,
    pub expires: Option<String>,
    pub max_queued: Option<String>,
    pub json: bool,
}

fn wrong(why: impl Into<String>) -> Refusal {
    Refusal::new(Exit::BadUsage, why)
}

pub fn new(wanted: &New) -> Result<Exit, Refusal> {
    let name = &wanted.name;
    if !keys::is_name(name) {
        return Err(wrong("NAME must be 1 to 64 letters, digits, dots, dashes and underscores"));
    }
    if keys::is_reserved(name) {
        return Err(wrong(format!("NAME must not be `{name}`, which the server gives to a key of its own")));
    }
    let scope = Scope::parse(&wanted.scope).ok_or_else(|| {
        let known = Scope::NAMES.join(", ");
        wrong(format!("--scope must be one of {known}, not `{}`", wanted.scope))
    })?;
    let expires = wanted.expires.as_deref().map(keys::expires).transpose();
    let expires = expires.map_err(|_| wrong("--expires must be a date, such as 2027-01-31, or a time of RFC 3339"))?;
    let count = |text: &String| {
        let count = text.parse().ok().filter(|count| *count > 0);
        count.ok_or_else(|| wrong("--max-queued must be a whole number from 1 on"))
    };
    let max_queued = wanted.max_queued.as_ref().map(count).transpose()?;
    let key = own::new().map_err(|error| Refusal::new(Exit::Failed, format!("no key could be made: {error}")))?;
    let hash = keys::hash(key.as_bytes());
    if expires.is_some_and(|end| end <= Time::now()) {
        log::warning("--expires is in the past: no server will take this key");
    }
    let line = keys::line(&Entry { name: name.clone(), hash, scope, expires, max_queued });
    if wanted.json {
        return print(&super::pretty(&serde_json::json!({"name": name, "key": key, "line": line})));
    }
    print(&format!(
        "the key of {name}, shown this once:\n{key}\n\n\
         its line, for the file that AGENTICORE_API_KEYS_FILE names:\n{line}\n"
    ))
}
