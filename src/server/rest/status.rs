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
    told(&Problem::new(status, why))
}

pub fn told(problem: &Problem) -> Answer {
    Answer { content_type: PROBLEM, ..Answer::json(problem.status, problem) }
}

/// RFC 9457.
const PROBLEM: &str = "application/problem+json";

/// The interface's own words, without `success`.
pub fn wants_key() -> Answer {
    let problem = Problem { success: None, ..Problem::of("key-required", "Invalid or missing API key") };
    told(&problem).with("WWW-Authenticate", "Bearer")
}

pub fn key_expired(name: &str) -> Answer {
    let why = format!("the time of the key `{name}` is over: use another one");
    told(&Problem::of("key-expired", why)).with("WWW-Authenticate", "Bearer")
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
        Refusal::Unconfigured(_) | Refusal::Unavailable(_) | Refusal::CannotRun(_) | Refusal::Full { .. } => 503,
    };
    if let Refusal::Unavailable(why) = refusal {
        log::warn(why);
    }
    let job = match refusal {
        Refusal::TooLate(job) | Refusal::TooEarly(job) => Some(job.clone()),
        _ => None,
    };
    let problem = Problem { job, ..Problem::new(status, refusal.to_string()) };
    let answer = told(&match refusal {
        Refusal::Invalid { field, .. } => problem.about(field),
        _ => problem,
    });
    match refusal {
        Refusal::Busy { retry_after, .. } | Refusal::Full { retry_after, .. } => {
            answer.with("Retry-After", retry_after.to_string())
        }
        _ => answer,
    }
}
