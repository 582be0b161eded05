//! Who asks: the name of an API key, and what it may do. Pure.

use super::Refusal;

/// What a key may do; each holds what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    Read,
    /// Also hand in jobs, and end them.
    Submit,
    /// Also what concerns the server itself.
    Admin,
}

impl Scope {
    pub const NAMES: [&'static str; 3] = ["read", "submit", "admin"];

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Read, Self::Submit, Self::Admin].into_iter().find(|scope| scope.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Of the key; None: no key is wanted here.
    pub name: Option<String>,
    pub scope: Scope,
    /// The most jobs of this key that may wait.
    pub max_queued: Option<usize>,
    /// A command of the server's own pod: it may empty that.
    pub is_own_pod: bool,
    /// SHA-256 of the key: what comes later by the same key is asked of it again.
    pub key: Option<[u8; 32]>,
    /// What the request is called in answers, log lines and records.
    pub request_id: Option<String>,
    /// The trace that it belongs to, as W3C's `traceparent` header says it.
    pub traceparent: Option<String>,
}

impl Caller {
    /// Whoever can start this program, or reaches a server that wants no key.
    pub fn anybody() -> Self {
        Self {
            name: None,
            scope: Scope::Admin,
            max_queued: None,
            is_own_pod: false,
            key: None,
            request_id: None,
            traceparent: None,
        }
    }

    pub fn may(&self, wanted: Scope) -> Result<(), Refusal> {
        if self.scope >= wanted {
            return Ok(());
        }
        if self.is_own_pod {
            let wanted = wanted.as_str();
            return Err(Refusal::Forbidden(format!(
                "no key was given, and without one commands of the server's own pod may only look: set \
                 AGENTICORE_API_KEY to a key with the scope {wanted}"
            )));
        }
        let name = self.name.as_deref().unwrap_or_default();
        let (has, wanted) = (self.scope.as_str(), wanted.as_str());
        Err(Refusal::Forbidden(format!(
            "the key `{name}` has the scope {has}, and this needs {wanted}: use another key, or give it that scope"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_hold_one_another() {
        for (at, name) in Scope::NAMES.iter().enumerate() {
            let scope = Scope::parse(name).unwrap();
            assert_eq!((scope.as_str(), scope as usize), (*name, at));
        }
        let caller = Caller { name: Some("ci".into()), scope: Scope::Submit, ..Caller::anybody() };
        assert!(caller.may(Scope::Read).is_ok() && caller.may(Scope::Submit).is_ok());
        let why = caller.may(Scope::Admin).unwrap_err().to_string();
        assert!(why.starts_with("the key `ci` has the scope submit, and this needs admin"), "{why}");
    }
}
