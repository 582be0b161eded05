//! Judges how an agent's run went. Pure: evidence in, verdict out.
//!
//! Success is exit code 0 *and* a last `result` that is no error: API failures end with
//! `subtype: "success"`, and an interrupt ends with exit code 0 and no result at all.

use super::stream::{ApiError, Report};
use crate::job::{ERROR_LIMIT, OUTPUT_LIMIT, Spent, Verdict, cut};
use crate::process::sys::Exit;
use std::time::Duration;

/// Why the runner ended an agent that had not ended by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndedBy {
    /// It ran longer than its profile allows.
    Timeout(Duration),
    /// It said nothing for this long.
    Stall(Duration),
    /// It had reported its result, and then lingered.
    Lingering,
    /// It took more of the disk than it may, in bytes.
    Disk { taken: u64, limit: u64 },
    /// The API refuses its login, and it would ask again for minutes.
    Refused,
}

#[derive(Default, Debug)]
pub struct Evidence {
    /// It could not be started.
    pub refused: Option<String>,
    pub exit: Option<Exit>,
    pub ended_by: Option<EndedBy>,
    /// The last one; there may be several.
    pub report: Option<Report>,
    /// The last text it said, for a run without a result.
    pub last_text: Option<String>,
    /// The last thing that the API answered was this error.
    pub api_error: Option<ApiError>,
    /// A limit of the account holds until then, in seconds since 1970.
    pub limit_until: Option<i64>,
    /// What it wrote on standard error, and on standard output without being an event.
    pub complaint: String,
    /// The session's cost before this run.
    pub cost_before: f64,
}

pub fn judge(evidence: &Evidence) -> (Verdict, Spent) {
    let problem = problem(evidence);
    let report = evidence.report.as_ref();
    let text = report.and_then(|r| r.text.clone()).or_else(|| evidence.last_text.clone());
    let verdict = Verdict {
        succeeded: problem.is_none(),
        exit_code: evidence.exit.map(|exit| match exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }),
        output: text.map(|text| cut(text, OUTPUT_LIMIT)),
        error: problem.map(|why| cut(why, ERROR_LIMIT)),
    };
    (verdict, report.map(|report| spent(report, evidence.cost_before)).unwrap_or_default())
}

/// What a result says was used; `cost_before` is the session's cost before this run, because Claude's
/// figure is cumulative.
pub fn spent(report: &Report, cost_before: f64) -> Spent {
    Spent {
        cost_usd: report.session_cost_usd.map(|cost| (cost - cost_before).max(0.0)),
        session_cost_usd: report.session_cost_usd,
        turns: report.turns,
        usage: report.usage.clone(),
        denied_tools: report.denied_tools.clone(),
    }
}

/// Why an agent could not be started, and what to do.
pub fn not_started(why: &str) -> String {
    format!(
        "the agent could not be started: {why}; install Claude Code on this machine, or name it with \
         AGENTICORE_CLAUDE_BINARY"
    )
}

/// None: it succeeded.
fn problem(evidence: &Evidence) -> Option<String> {
    if let Some(why) = &evidence.refused {
        return Some(not_started(why));
    }
    match evidence.ended_by {
        Some(EndedBy::Timeout(limit)) => {
            return Some(format!("the agent was ended after its time limit of {} s", limit.as_secs_f32()));
        }
        Some(EndedBy::Stall(limit)) => {
            return Some(format!("the agent was ended because it said nothing for {} s", limit.as_secs_f32()));
        }
        Some(EndedBy::Disk { taken, limit }) => {
            let (taken, limit) = (taken >> 20, limit >> 20);
            return Some(format!(
                "the agent was ended because the job took {taken} MiB of its disk, and AGENTICORE_JOB_DISK_LIMIT is \
                 {limit} MiB"
            ));
        }
        _ => {}
    }
    let Some(report) = &evidence.report else { return Some(without_result(evidence)) };
    if report.is_error {
        return Some(complaint_of(report));
    }
    match evidence.exit {
        // It had done its work; how it went after that says nothing about it.
        _ if evidence.ended_by == Some(EndedBy::Lingering) => None,
        Some(Exit::Code(0)) => None,
        exit => Some(with_complaint(format!("the agent reported success, but {}", how(exit)), evidence)),
    }
}

fn without_result(evidence: &Evidence) -> String {
    with_complaint(format!("the agent {} without reporting a result", how(evidence.exit)), evidence)
}

fn how(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit::Code(code)) => format!("exited with code {code}"),
        Some(Exit::Signal(signal)) => format!("was ended by signal {signal}"),
        None => "was lost, its supervisor with it".into(),
    }
}

fn with_complaint(what: String, evidence: &Evidence) -> String {
    match evidence.complaint.trim() {
        "" => what,
        complaint => format!("{what}: {complaint}"),
    }
}

fn complaint_of(report: &Report) -> String {
    let said =
        if report.errors.is_empty() { report.text.clone().unwrap_or_default() } else { report.errors.join("; ") };
    let reason = report.terminal_reason.as_deref().unwrap_or(report.subtype.as_str());
    match (said.trim(), reason) {
        ("", "") => "the agent reported an error and no word why".into(),
        ("", reason) => format!("the agent reported an error: {reason}"),
        (said, _) => said.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(is_error: bool, text: &str) -> Option<Report> {
        Some(Report { is_error, text: Some(text.into()), subtype: "success".into(), ..Report::default() })
    }

    fn error(evidence: Evidence) -> String {
        let (verdict, _) = judge(&evidence);
        assert!(!verdict.succeeded);
        verdict.error.unwrap()
    }

    #[test]
    fn success_needs_code_0_and_a_good_result() {
        let (verdict, _) =
            judge(&Evidence { exit: Some(Exit::Code(0)), report: report(false, "hi"), ..Evidence::default() });
        assert_eq!((verdict.succeeded, verdict.output.as_deref(), verdict.error), (true, Some("hi"), None));
    }

    #[test]
    fn everything_else_is_failure_and_says_why() {
        let table = [
            (Some(Exit::Code(0)), None, "", "code 0 without reporting a result"),
            (Some(Exit::Code(1)), None, "unknown option", "code 1 without reporting a result: unknown option"),
            (Some(Exit::Signal(9)), None, "", "signal 9"),
            (Some(Exit::Code(1)), report(true, "API Error: 400"), "", "API Error: 400"),
            (Some(Exit::Code(0)), report(true, "aborted"), "", "aborted"),
            (Some(Exit::Code(1)), report(false, "fine"), "late", "reported success, but exited with code 1: late"),
            (None, None, "", "lost"),
        ];
        for (exit, report, complaint, expected) in table {
            let evidence = Evidence { exit, report, complaint: complaint.into(), ..Evidence::default() };
            let error = error(evidence);
            assert!(error.contains(expected), "{error}");
        }
        let max_turns =
            Report { is_error: true, errors: vec!["Reached maximum number of turns (2)".into()], ..Report::default() };
        assert!(
            error(Evidence { exit: Some(Exit::Code(1)), report: Some(max_turns), ..Evidence::default() })
                .contains("maximum")
        );
        assert!(
            error(Evidence { refused: Some("`claude` was not found".into()), ..Evidence::default() })
                .contains("AGENTICORE_CLAUDE_BINARY")
        );
    }

    #[test]
    fn limits_are_named_and_a_lingering_process_keeps_its_result() {
        let by = |ended_by, exit| Evidence {
            ended_by: Some(ended_by),
            exit: Some(exit),
            report: report(false, "hi"),
            ..Evidence::default()
        };
        assert!(error(by(EndedBy::Timeout(Duration::from_secs(7)), Exit::Code(143))).contains("time limit of 7 s"));
        assert!(error(by(EndedBy::Stall(Duration::from_secs(9)), Exit::Signal(9))).contains("nothing for 9 s"));
        let (verdict, _) = judge(&by(EndedBy::Lingering, Exit::Signal(9)));
        assert!(verdict.succeeded && verdict.exit_code == Some(137));
    }

    #[test]
    fn cost_is_of_this_run_alone() {
        let report = Report { session_cost_usd: Some(0.75), turns: Some(2), ..Report::default() };
        let evidence =
            Evidence { exit: Some(Exit::Code(0)), report: Some(report), cost_before: 0.5, ..Evidence::default() };
        let (_, spent) = judge(&evidence);
        assert_eq!((spent.cost_usd, spent.session_cost_usd, spent.turns), (Some(0.25), Some(0.75), Some(2)));
    }
}
