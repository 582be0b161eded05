//! Why a request was refused: a problem document (RFC 9457) that carries the interface's own fields too. One table says
//! which kinds there are; `docs/errors.md` is printed from it.

use super::Job;
use serde::{Deserialize, Serialize};

/// A kind of refusal; its heading in the documentation is its type.
pub struct ProblemKind {
    pub slug: &'static str,
    pub status: u16,
    pub title: &'static str,
    /// What a caller can do about it.
    pub what_to_do: &'static str,
}

const fn kind(slug: &'static str, status: u16, title: &'static str, what_to_do: &'static str) -> ProblemKind {
    ProblemKind { slug, status, title, what_to_do }
}

/// The first of a status is what is meant when nothing more is said.
pub const KINDS: [ProblemKind; 18] = [
    kind("invalid-request", 400, "The request is not valid", "mend what `detail` names; `field` is where it stands"),
    kind("key-required", 401, "A key is required", "send one as `Authorization: Bearer KEY`, or as `X-Api-Key`"),
    kind("key-expired", 401, "The key's time is over", "use another key"),
    kind("scope-lacking", 403, "The key may not do this", "use a key with the scope that `detail` names"),
    kind("page-refused", 403, "Pages of this origin are refused", "list the origin in AGENTICORE_ALLOWED_ORIGINS"),
    kind(
        "not-found",
        404,
        "There is no such thing",
        "look at the path and the id; records leave after their time to live",
    ),
    kind("method-not-allowed", 405, "The method does nothing here", "use one that `Allow` names"),
    kind("too-slow", 408, "The request did not come in time", "send it again, at once and whole"),
    kind("conflict", 409, "It does not fit how things stand", "read `detail`; `job` is how it stands"),
    kind("length-required", 411, "The body's length is not given", "send Content-Length, and no chunks"),
    kind("too-large", 413, "The body is too large", "send less: a body may have 1 MiB"),
    kind("wrong-host", 421, "The server does not answer to this name", "list the name in AGENTICORE_ALLOWED_HOSTS"),
    kind(
        "unsupported-type",
        415,
        "The body is said to be plain text, or a form with files",
        "send it as application/json",
    ),
    kind("key-reused", 422, "The Idempotency-Key was used for another request", "use a new one"),
    kind("too-many", 429, "Too much at once", "try again after `Retry-After` seconds"),
    kind("head-too-large", 431, "The request's head is too large", "send fewer or shorter headers"),
    kind("internal", 500, "A fault of agenticore", "its log says more; X-Request-Id finds the line"),
    kind("unavailable", 503, "It cannot be done now", "try again; nothing was changed"),
];

/// Where the kinds are explained.
const PAGE: &str = "https://github.com/the-cloud-clock-work/agenticore/blob/main/docs/errors.md";

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub detail: String,
    /// The field, parameter or header that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// None: the interface has none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
    pub error: String,
    /// The job that it is about, as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
}

impl Problem {
    /// The usual kind of this status.
    pub fn new(status: u16, error: impl Into<String>) -> Self {
        let kind = KINDS.iter().find(|kind| kind.status == status);
        Self { status, ..Self::made(kind.unwrap_or(&KINDS[KINDS.len() - 2]), error.into()) }
    }

    /// A kind of the table, by its name.
    pub fn of(slug: &str, error: impl Into<String>) -> Self {
        let kind = KINDS.iter().find(|kind| kind.slug == slug);
        Self::made(kind.unwrap_or(&KINDS[0]), error.into())
    }

    fn made(kind: &ProblemKind, error: String) -> Self {
        Self {
            kind: format!("{PAGE}#{}", kind.slug),
            title: kind.title.into(),
            status: kind.status,
            detail: error.clone(),
            field: None,
            success: Some(false),
            error,
            job: None,
        }
    }

    /// `field`: what is wrong; of a body or a query what the sentence begins with, if it names a field.
    pub fn about(self, field: &str) -> Self {
        let named = self.error.strip_prefix('`').and_then(|rest| rest.split_once('`')).map(|(name, _)| name);
        let field = if ["body", "query"].contains(&field) { named.unwrap_or(field) } else { field };
        Self { field: Some(field.to_owned()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..at].iter().all(|other| other.slug != kind.slug), "{}", kind.slug);
            assert_eq!(Problem::of(kind.slug, "x").status, kind.status);
        }
        let problem = Problem::new(400, "`task` must be text, not a number").about("body");
        assert_eq!((problem.field.as_deref(), problem.detail.as_str()), (Some("task"), problem.error.as_str()));
        assert_eq!(Problem::new(418, "x").status, 418);
    }
}
