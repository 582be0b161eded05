//! The one table of routes: dispatch, what is allowed where, and what the help and the 404s say come from it.

use super::status::problem;
use super::{Answered, Asked, Rest};
use crate::server::http::{Answer, Head};
use crate::server::mcp::{self, sse};
use crate::service::Scope;
use crate::suggest;
use tiny_http::Method;

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Without a key, also where keys are wanted.
    Public,
    Needs(Scope),
    /// The same, or a command of the server's own pod.
    Pod(Scope),
}

pub struct Route {
    pub method: Method,
    /// `{id}` stands for one part.
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    /// What may stand behind the `?`, beside the key.
    pub parameters: &'static [&'static str],
    /// The schema of its body, and of its answer (`openapi`); empty: it takes none.
    pub body: &'static str,
    pub gives: &'static str,
    pub answer: fn(&Rest, &Asked) -> Answered,
}

const fn route(
    access: Access,
    method: Method,
    path: &'static str,
    parameters: &'static [&'static str],
    (body, gives): (&'static str, &'static str),
    summary: &'static str,
    answer: fn(&Rest, &Asked) -> Answered,
) -> Route {
    Route { method, path, access, summary, parameters, body, gives, answer }
}

const PUBLIC: Access = Access::Public;
const READ: Access = Access::Needs(Scope::Read);
const SUBMIT: Access = Access::Needs(Scope::Submit);
const ADMIN: Access = Access::Needs(Scope::Admin);
const POD: Access = Access::Pod(Scope::Admin);

#[rustfmt::skip]
pub static ROUTES: [Route; 30] = [
    route(PUBLIC, Method::Get, "/health", &[], ("", "Health"),
        "whether the server answers, and what it waits for", Rest::health),
    route(PUBLIC, Method::Get, "/ready", &[], ("", "Readiness"),
        "whether requests should be sent here (200 or 503)", Rest::ready),
    route(READ, Method::Get, "/metrics", &[], ("", "text"),
        "what Prometheus reads", Rest::metrics),
    route(READ, Method::Get, "/openapi.json", &[], ("", "any"),
        "this interface, as OpenAPI 3.1 describes it", Rest::openapi),
    route(READ, Method::Get, "/status", &[], ("", "ServerStatus"),
        "what this server needs to run jobs, and whether it has it", Rest::status),
    route(READ, Method::Get, "/jobs",
        &["limit", "after", "status", "repo", "profile", "branch", "submitted_by", "mine", "since", "q", "label",
            "view"],
        ("", "JobsAnswer"),
        "lists jobs, newest first: limit=, after=, status=, repo=, label=, q= …", Rest::list),
    route(SUBMIT, Method::Post, "/jobs", &[], ("JobRequest", "JobAnswer"),
        "submits a job; with \"wait\": true answers once it has ended", Rest::submit),
    route(READ, Method::Get, "/jobs/{id}", &[], ("", "JobAnswer"),
        "shows a job", Rest::show),
    route(SUBMIT, Method::Delete, "/jobs/{id}", &[], ("", "JobAnswer"),
        "cancels a queued or running job", Rest::cancel),
    route(READ, Method::Get, "/jobs/{id}/diff", &[], ("", "JobDiff"),
        "what a job changed, once it is published or kept", Rest::diff),
    route(READ, Method::Get, "/jobs/{id}/events", &["after", "limit", "wait"], ("", "EventPage"),
        "what happened to a job, then live: after=CURSOR, limit=, wait=SECONDS", Rest::events),
    route(SUBMIT, Method::Post, "/jobs/{id}/resume", &[], ("ResumeRequest", "JobAnswer"),
        "goes on with an ended job's conversation and work, as a new job", Rest::resume),
    route(SUBMIT, Method::Post, "/jobs/{id}/retry", &[], ("RetryRequest", "JobAnswer"),
        "submits an ended job's request again, as a new job", Rest::retry),
    route(READ, Method::Get, "/events", &["after", "limit", "wait"], ("", "ChangePage"),
        "changes of all jobs, then live: after=CURSOR, limit=, wait=SECONDS", Rest::changes),
    route(SUBMIT, Method::Post, "/plans", &[], ("PlanRequest", "PlanAnswer"),
        "has a task planned; with \"wait\": true answers once that is done", Rest::plan),
    route(READ, Method::Get, "/plans", &["limit"], ("", "PlansAnswer"),
        "lists plans, newest first: limit=", Rest::list_plans),
    route(READ, Method::Get, "/plans/{id}", &[], ("", "PlanAnswer"),
        "shows a plan", Rest::show_plan),
    route(SUBMIT, Method::Post, "/plans/{id}/execute", &[], ("ExecuteRequest", "JobAnswer"),
        "makes the one job that carries a plan out", Rest::execute_plan),
    route(SUBMIT, Method::Post, "/worktrees", &[], ("WorktreeRequest", "WorktreeAnswer"),
        "prepares a worktree; answers once it is there", Rest::prepare_worktree),
    route(READ, Method::Get, "/worktrees", &[], ("", "WorktreesAnswer"),
        "lists prepared worktrees", Rest::list_worktrees),
    route(SUBMIT, Method::Delete, "/worktrees", &["paths", "max_age_hours"], ("", "CleanupAnswer"),
        "removes those past their age, or: paths=A,B, max_age_hours=", Rest::clean_up_worktrees),
    route(READ, Method::Get, "/worktrees/{id}", &[], ("", "WorktreeAnswer"),
        "shows a prepared worktree", Rest::show_worktree),
    route(SUBMIT, Method::Delete, "/worktrees/{id}", &["discard"], ("", "WorktreeAnswer"),
        "removes a prepared worktree; one with work only with discard=true", Rest::remove_worktree),
    route(READ, Method::Get, "/webhooks", &[], ("", "WebhooksAnswer"),
        "who is still to be told of jobs, and who could not be", Rest::webhooks),
    route(ADMIN, Method::Post, "/webhooks/retry", &[], ("", "WebhooksRetried"),
        "tries to tell them again", Rest::retry_webhooks),
    route(READ, Method::Get, "/profiles", &[], ("", "ProfilesAnswer"),
        "lists the execution profiles", Rest::profiles),
    route(POD, Method::Get, "/admin/drain", &[], ("", "Drain"),
        "how far the drain of this pod has come", Rest::drain),
    route(POD, Method::Post, "/admin/drain", &["timeout"], ("", "Drain"),
        "empties this pod: timeout=SECONDS", Rest::begin_drain),
    route(POD, Method::Delete, "/admin/drain", &[], ("", "Drain"),
        "takes the drain back", Rest::take_back_drain),
    route(ADMIN, Method::Post, "/admin/sync", &["target"], ("", "any"),
        "fetches the checkouts again: target=all|agentihooks|bundle", Rest::sync),
];

/// For the documentation.
#[cfg(test)]
pub fn table() -> &'static [Route] {
    &ROUTES
}

impl Route {
    /// Says no to a parameter that means nothing here. A probe may ask as it likes.
    pub fn check_parameters(&self, asked: &Asked) -> Result<(), String> {
        let mut given = asked.parameters();
        match given.find(|(name, _)| self.access != Access::Public && !self.parameters.contains(&name.as_ref())) {
            None => Ok(()),
            Some((name, _)) => {
                let meant = suggest::did_you_mean(&name, self.parameters.iter().copied());
                let known = match self.parameters {
                    [] => "this route takes none".to_owned(),
                    known => format!("known are {}", known.join(", ")),
                };
                Err(format!("unknown parameter `{name}`: {known}{meant}"))
            }
        }
    }
}

/// The routes for people, a line each.
pub fn shown() -> String {
    let line = |method: &str, path: &str, what: &str| format!("  {method:<6} {path:<20} {what}\n");
    let routes: String = ROUTES.iter().map(|route| line(route.method.as_str(), route.path, route.summary)).collect();
    let mcp = line("POST", mcp::PATH, "MCP over streamable HTTP");
    format!("{routes}{mcp}{}", line("GET", sse::STREAM, "MCP's older transport; its messages go to /messages"))
}

/// What stands for `{id}` if the path fits; empty if it has none.
fn fits<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    let mut id = "";
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(id),
            (Some("{id}"), Some(part)) if !part.is_empty() => id = part,
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// As it stands in the table.
pub fn template(head: &Head) -> Option<&'static str> {
    let path = trimmed(&head.path);
    ROUTES.iter().find(|route| fits(route.path, path).is_some()).map(|route| route.path)
}

/// What it takes to ask this; where nothing is, to be told so.
pub fn access(head: &Head) -> Access {
    find(head).map_or(READ, |(route, _)| route.access)
}

/// The route of a request and the id in its path; or the answer that there is none.
pub fn find(head: &Head) -> Result<(&'static Route, &str), Answer> {
    let path = trimmed(&head.path);
    let here: Vec<(&Route, &str)> =
        ROUTES.iter().filter_map(|route| fits(route.path, path).map(|id| (route, id))).collect();
    // HEAD is GET without the body.
    let asked = if head.method == Method::Head { &Method::Get } else { &head.method };
    if let Some(found) = here.iter().find(|(route, _)| route.method == *asked) {
        return Ok(*found);
    }
    if here.is_empty() {
        let mut known: Vec<&str> = ROUTES.iter().map(|route| route.path).chain([mcp::PATH, sse::STREAM]).collect();
        known.dedup();
        let meant = suggest::did_you_mean(path, known.iter().copied());
        return Err(problem(404, &format!("there is nothing here: known are {}{meant}", known.join(", "))));
    }
    let allow = here.iter().map(|(route, _)| route.method.as_str()).collect::<Vec<_>>().join(", ");
    let refusal = problem(405, &format!("{} does nothing here: allowed are {allow}", head.method));
    Err(refusal.with("Allow", allow))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_whole_or_not_at_all() {
        for (pattern, path, id) in [
            ("/jobs", "/jobs", Some("")),
            ("/jobs/{id}", "/jobs/abc", Some("abc")),
            ("/jobs/{id}/events", "/jobs/abc/events", Some("abc")),
            ("/jobs/{id}", "/jobs", None),
            ("/jobs/{id}", "/jobs/", None),
            ("/jobs/{id}", "/jobs/a/b", None),
            ("/jobs", "", None),
        ] {
            assert_eq!(fits(pattern, path), id, "{pattern} {path}");
        }
        let access = |method: &str, path: &str| {
            let text = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            super::access(&crate::server::http::parse_head(text.as_bytes()).unwrap().unwrap().0)
        };
        for (method, path, wanted) in [
            ("GET", "/health/", PUBLIC),
            ("HEAD", "/ready", PUBLIC),
            ("GET", "/jobs", READ),
            ("POST", "/jobs", SUBMIT),
            ("DELETE", "/worktrees/x", SUBMIT),
            ("POST", "/admin/drain?timeout=1", POD),
            ("POST", "/admin/sync", ADMIN),
            ("GET", "/nothing", READ),
            ("PUT", "/jobs", READ),
        ] {
            assert_eq!(access(method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn routes_of_one_path_stand_together() {
        let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
        paths.dedup();
        let count = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), count, "a path stands in two places of the table");
    }
}
