//! Whether the account, and not the job, is why an agent's run went wrong: a usage limit, credit that is used up, a
//! login that the API refuses. Pure.
//!
//! By what Claude Code 2.1.330 says; `tests/it/parking.rs` has the real one meet a limit and a refused key.

use super::outcome::{EndedBy, Evidence};
use super::stream::ApiError;
use crate::job::Time;

/// So often a login that the API refuses is asked again, which takes Claude some four seconds: one that is being
/// renewed by another job is good by then.
pub const LOGIN_TRIES: u64 = 3;

/// What the account cannot do at present.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    /// What the API said, and what to do about it.
    pub why: String,
    /// When it will work again, if that was said.
    pub until: Option<Time>,
}

/// The login itself is refused, by Claude's word for it.
fn is_of_login(error: &ApiError) -> bool {
    error.kind == "authentication_failed" || error.status == Some(401)
}

/// Whether to wait no longer for Claude, which asks with a refused login again and again.
pub fn is_hopeless(error: &ApiError) -> bool {
    is_of_login(error) && error.retries.is_some_and(|retries| retries >= LOGIN_TRIES)
}

/// None: the run went well, or its end says nothing about the account.
pub fn refusal(evidence: &Evidence) -> Option<Refusal> {
    if let (Some(EndedBy::Refused), Some(error)) = (evidence.ended_by, &evidence.api_error) {
        let status = error.status.map(|status| format!(" ({status})")).unwrap_or_default();
        return Some(of_login(&format!("authentication failed{status}")));
    }
    let report = evidence.report.as_ref().filter(|report| report.is_error)?;
    let said = report.text.as_deref().unwrap_or_default().trim();
    let error = evidence.api_error.as_ref();
    let (kind, status) = (error.map_or("", |error| error.kind.as_str()), report.api_status);
    let lower = said.to_ascii_lowercase();
    let by_words = |all: &[&str]| error.is_some() && all.iter().any(|words| lower.contains(words));
    if error.is_some_and(is_of_login) || status == Some(401) {
        return Some(of_login(said));
    }
    if kind == "billing_error" || status == Some(402) || by_words(&["credit balance"]) {
        let why = format!("the API says that the account's credit is used up ({said}): buy credit, or use another key");
        return Some(Refusal { why, until: None });
    }
    let is_limit = kind == "rate_limit" || status == Some(429) || by_words(&["usage limit", "you've hit your"]);
    is_limit.then(|| {
        let until = evidence.limit_until.map(|seconds| Time(seconds.saturating_mul(1000)));
        let why = format!("the API says that the account's usage limit is reached ({said}): wait, or use another key");
        Refusal { why, until: until.or_else(|| regained_at(said)) }
    })
}

fn of_login(said: &str) -> Refusal {
    let why = format!(
        "the API refuses Claude's login ({said}): give the server a key or token that is valid, in ANTHROPIC_API_KEY, \
         CLAUDE_CODE_OAUTH_TOKEN (made by `claude setup-token`) or ANTHROPIC_AUTH_TOKEN, and restart it"
    );
    Refusal { why, until: None }
}

/// The API of the console says "You will regain access on 2026-12-01 at 00:00 UTC."
fn regained_at(said: &str) -> Option<Time> {
    let rest = said.split_once("regain access on ")?.1;
    let (date, rest) = rest.split_once(" at ")?;
    let time = rest.split_once(" UTC")?.0;
    let stamp: jiff::Timestamp = format!("{date}T{time}:00Z").parse().ok()?;
    Some(Time(stamp.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stream::Report;

    fn ended(kind: &str, status: i64, said: &str) -> Evidence {
        let error = ApiError { status: Some(status), kind: kind.into(), text: said.into(), retries: None };
        let report = Report { is_error: true, api_status: Some(status), text: Some(said.into()), ..Report::default() };
        Evidence { api_error: Some(error), report: Some(report), ..Evidence::default() }
    }

    #[test]
    fn what_the_account_cannot_do_is_told_from_what_the_job_did_wrong() {
        // As Claude Code 2.1.330 says it.
        let table = [
            ("rate_limit", 429, "You've hit your 5-hour limit · resets 12:45am (UTC)", Some("usage limit")),
            ("rate_limit", 429, "API Error: Request rejected (429) · This request would exceed", Some("usage limit")),
            ("billing_error", 400, "Credit balance is too low", Some("credit")),
            ("unknown", 402, "API Error: 402 pay", Some("credit")),
            ("authentication_failed", 403, "Failed to authenticate: OAuth token revoked.", Some("ANTHROPIC_API_KEY")),
            ("authentication_failed", 401, "Not logged in · Please run /login", Some("ANTHROPIC_API_KEY")),
            ("unknown", 400, "API Error: 400 You have reached your specified API usage limits.", Some("usage limit")),
            ("unknown", 400, "API Error: 400 messages: text content blocks must be non-empty", None),
            ("unknown", 403, "API Error: 403 this model is not for you", None),
            ("overloaded", 529, "API Error: Repeated 529 Overloaded errors", None),
            ("unknown", 500, "API Error: 500", None),
        ];
        for (kind, status, said, expected) in table {
            let found = refusal(&ended(kind, status, said)).map(|refusal| refusal.why);
            let is_right = match (&found, expected) {
                (Some(why), Some(words)) => why.contains(words) && why.contains(said),
                (None, None) => true,
                _ => false,
            };
            assert!(is_right, "{kind} {status} {said}: {found:?}");
        }
    }

    #[test]
    fn an_agent_that_talks_about_limits_has_reached_none() {
        let report = Report { is_error: true, text: Some("the usage limit of the API".into()), ..Report::default() };
        assert_eq!(refusal(&Evidence { report: Some(report), ..Evidence::default() }), None);
        let report = Report { text: Some("credit balance".into()), ..Report::default() };
        assert_eq!(refusal(&Evidence { report: Some(report), ..ended("billing_error", 400, "x") }), None);
    }

    #[test]
    fn it_is_known_until_when() {
        let of_event = Evidence { limit_until: Some(1_795_740_310), ..ended("rate_limit", 429, "You've hit") };
        assert_eq!(refusal(&of_event).unwrap().until, Some(Time(1_795_740_310_000)));
        let said =
            "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC.";
        let until = refusal(&ended("unknown", 400, said)).unwrap().until.unwrap();
        assert_eq!(until.to_string(), "2026-12-01T00:00:00.000Z");
    }

    #[test]
    fn a_refused_login_is_not_asked_for_minutes() {
        let retry = |retries| ApiError {
            status: Some(401),
            kind: "authentication_failed".into(),
            retries: Some(retries),
            ..ApiError::default()
        };
        assert!(!is_hopeless(&retry(1)) && is_hopeless(&retry(LOGIN_TRIES)));
        assert!(!is_hopeless(&ApiError { status: Some(529), kind: "overloaded".into(), ..retry(9) }));
    }
}
