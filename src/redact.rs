//! Takes known secrets out of texts before they reach a record, an event, a log or a pull request.

use std::borrow::Cow;

/// Shorter ones would take ordinary words out of every text.
const SHORTEST: usize = 8;

#[derive(Clone, Default)]
pub struct Redactor(Vec<String>);

impl Redactor {
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST).collect();
        // A secret that holds another one goes first, or its rest would stay.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets)
    }

    /// The same with one more, such as a token that was made meanwhile.
    pub fn and(&self, secret: Option<&str>) -> Self {
        Self::new(self.0.iter().cloned().chain(secret.map(str::to_owned)))
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
}
