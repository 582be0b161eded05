//! A job's id. Pure.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A job's id: a UUID in its hyphenated lower-case form, and therefore safe in a path.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct JobId(String);

impl JobId {
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().hyphenated().to_string())
    }

    /// Accepts only the canonical form, so that no other spelling of an id, and no path, passes.
    pub fn parse(text: &str) -> Option<Self> {
        let canonical = uuid::Uuid::try_parse(text).ok()?.hyphenated().to_string();
        (canonical == text).then_some(Self(canonical))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 8 hex digits: what branch names and people use.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }

    /// The branch this job's work is pushed to.
    pub fn branch(&self) -> String {
        format!("agenticore-{}", self.short())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for JobId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("`{text}` is not a job id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = JobId::random();
        assert_eq!(JobId::parse(id.as_str()), Some(id.clone()));
        for wrong in [&id.as_str().to_uppercase(), &id.as_str().replace('-', ""), "../../etc", ""] {
            assert_eq!(JobId::parse(wrong), None, "{wrong}");
        }
    }
}
