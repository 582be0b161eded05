//! What the service says, as HTTP says it: the one place where refusals become statuses.

use super::Answered;
use crate::api::Problem;
use crate::log;
use crate::server::http::{Answer, Reply};
use crate::service::Refusal;
use serde::Serialize;

pub fn json(status: u16, body: &impl Serialize) -> Answered {
    Ok(Reply::Whole(Answer::json(status, body)))
}

pub fn problem(status: u16, why: &str) -> Answer {
    Answer::json(status, &Problem::new(why))
}

/// The interface's own words, without `success`.
pub fn wants_key() -> Answer {
    Answer::json(401, &serde_json::json!({ "error": "Invalid or missing API key" })).with("WWW-Authenticate", "Bearer")
}

pub fn key_expired(name: &str) -> Answer {
    problem(401, &format!("the time of the key `{name}` is over: use another one")).with("WWW-Authenticate", "Bearer")
}

pub fn refused(refusal: &Refusal) -> Answer {
    let status = match refusal {
        Refusal::Invalid { .. } => 400,
        Refusal::Unknown(_) | Refusal::NotFound(_) => 404,
        Refusal::Ambiguous(_)
        | Refusal::TooLate(_)
        | Refusal::Conflict(_)
        | Refusal::TooEarly(_)
        | Refusal::InFlight
        | Refusal::Closing
        | Refusal::Cancelled => 409,
        Refusal::Forbidden(_) => 403,
        Refusal::Busy { .. } => 429,
        Refusal::OtherRequest => 422,
        Refusal::Unconfigured(_) | Refusal::Unavailable(_) | Refusal::CannotRun(_) => 503,
    };
    if let Refusal::Unavailable(why) = refusal {
        log::warn(why);
    }
    let job = match refusal {
        Refusal::TooLate(job) | Refusal::TooEarly(job) => Some(job.clone()),
        _ => None,
    };
    let answer = Answer::json(status, &Problem { job, ..Problem::new(refusal.to_string()) });
    match refusal {
        Refusal::Busy { retry_after, .. } => answer.with("Retry-After", retry_after.to_string()),
        _ => answer,
    }
}
