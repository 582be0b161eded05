//! Takes known secrets out of texts before they reach a record, an event, a log or a pull request.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use std::borrow::Cow;

/// Shorter ones would take ordinary words out of every text.
const SHORTEST: usize = 8;

#[derive(Clone, Default)]
pub struct Redactor(Vec<String>);

impl Redactor {
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let forms = secrets.into_iter().flat_map(|secret| forms(&secret));
        let mut secrets: Vec<String> = forms.filter(|form| form.len() >= SHORTEST).collect();
        // A secret that holds another one goes first, or its rest would stay.
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        secrets.dedup();
        Self(secrets)
    }

    /// The same with one more, such as a token that was made meanwhile.
    pub fn and(&self, secret: Option<&str>) -> Self {
        let more = Self::new(secret.map(str::to_owned)).0;
        let mut all: Vec<String> = self.0.iter().cloned().chain(more).collect();
        all.sort_by(|one, other| other.len().cmp(&one.len()).then(one.cmp(other)));
        all.dedup();
        Self(all)
    }

    pub fn clean(&self, text: impl Into<String>) -> String {
        let mut text = text.into();
        for secret in &self.0 {
            if let Cow::Owned(cleaned) = replace(&text, secret) {
                text = cleaned;
            }
        }
        text
    }
}

/// How a secret may stand in a text: itself, without the blanks around it, each line of it, and as JSON, a URL or
/// base64 spell it.
fn forms(secret: &str) -> Vec<String> {
    let whole = secret.trim();
    let json = serde_json::to_string(whole).unwrap_or_default();
    let json = json.trim_matches('"').to_owned();
    let percent = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let url: String = whole.bytes().map(percent).collect();
    let small = whole.bytes().map(percent).map(|part| if part.len() == 3 { part.to_lowercase() } else { part });
    let small: String = small.collect();
    let slashes = json.replace('/', "\\/");
    let base64 = |engine: &base64::engine::GeneralPurpose| engine.encode(whole).trim_end_matches('=').to_owned();
    let lines = whole.lines().map(|line| line.trim().to_owned());
    let mut all: Vec<String> = lines.collect();
    all.extend([whole.to_owned(), json, url, small, slashes]);
    all.extend([base64(&STANDARD), base64(&URL_SAFE)]);
    all
}

fn replace<'a>(text: &'a str, secret: &str) -> Cow<'a, str> {
    if text.contains(secret) { Cow::Owned(text.replace(secret, "********")) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_words_stay() {
        let redactor =
            Redactor::new(["ghp_12345678".into(), "ghp_12345678-long".into(), "k".into()]).and(Some("made-later"));
        assert_eq!(
            redactor.clean("a ghp_12345678-long b ghp_12345678 made-later k"),
            "a ******** b ******** ******** k"
        );
    }

    #[test]
    fn a_secret_goes_in_every_form() {
        let redactor =
            Redactor::new([" sk-ant/key 12345\n".into(), "-----BEGIN KEY-----\nMIIEvQIBADAN\nshort\n".into()]);
        for text in [
            "x sk-ant/key 12345 y",
            "x sk-ant%2Fkey%2012345 y",
            "x sk-ant%2fkey%2012345 y",
            "x sk-ant\\/key 12345 y",
            "x c2stYW50L2tleSAxMjM0NQ== y",
            "x MIIEvQIBADAN y",
            "x -----BEGIN KEY-----\\nMIIEvQIBADAN\\nshort y",
        ] {
            let cleaned = redactor.clean(text);
            assert!(cleaned.starts_with("x ********") && cleaned.ends_with(" y"), "{text}: {cleaned}");
        }
        assert_eq!(redactor.clean("short key"), "short key");
    }
}
