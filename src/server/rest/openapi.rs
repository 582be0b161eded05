//! `/openapi.json`: OpenAPI 3.1, made from the table of routes and from the tables here. Pure.

use super::routes::{Access, ROUTES, Route};
use crate::api::PROBLEM_KINDS;
use crate::job::Status;
use serde_json::{Map, Value, json};
use tiny_http::Method;

/// What a parameter of any route is: its name, type, and what it says.
const PARAMETERS: [(&str, &str, &str); 19] = [
    ("limit", "integer", "how many, 1 to 1000"),
    ("status", "status", "those of this status alone"),
    ("view", "full|summary", "summary leaves out what is long"),
    ("after", "string", "only what comes after this cursor"),
    ("repo", "string", "a URL, or the end of its path: you/project"),
    ("profile", "string", "those of this profile"),
    ("branch", "string", "those on this branch"),
    ("submitted_by", "string", "those that this key handed in"),
    ("mine", "true|false", "those of the key that asks"),
    ("since", "string", "an age (90m, 12h, 3d), a date, or a time of RFC 3339"),
    ("q", "string", "a text in the task, error, note, branch or labels"),
    ("label", "string", "NAME=VALUE; more than one may be given"),
    ("wait", "integer", "seconds, to 3600: an empty page waits so long for something to happen"),
    ("timeout", "integer", "seconds that running jobs get"),
    ("target", "all|agentihooks|bundle", "which checkouts"),
    ("paths", "string", "ids or paths, separated by commas"),
    ("max_age_hours", "number", "those that nobody used for so long"),
    ("discard", "true|false", "also one with work that is nowhere else"),
    ("id", "string", "a UUID, or its first characters (at least 4) if no other begins so"),
];

/// Bodies and answers: the fields of each and their types. `?`: may be null or missing; `[X]`: a list of X; `a|b`: one
/// of these; `{}`: an object of texts; a capital letter: another one of this table.
const SCHEMAS: [(&str, &[(&str, &str)]); 31] = [
    (
        "JobRequest",
        &[
            ("task", "string"),
            ("repo_url", "string?"),
            ("profile", "string?"),
            ("base_ref", "string?"),
            ("session_id", "string?"),
            ("file_path", "string?"),
            ("worktree_id", "string?"),
            ("create_repo", "boolean?"),
            ("private", "boolean?"),
            ("labels", "{}?"),
            ("wait", "boolean?"),
        ],
    ),
    ("RetryRequest", &[("wait", "boolean?")]),
    ("ResumeRequest", &[("task", "string"), ("wait", "boolean?")]),
    (
        "PlanRequest",
        &[
            ("task", "string"),
            ("repo_url", "string?"),
            ("base_ref", "string?"),
            ("file_path", "string?"),
            ("wait", "boolean?"),
        ],
    ),
    (
        "ExecuteRequest",
        &[("repo_url", "string?"), ("profile", "string?"), ("file_path", "string?"), ("wait", "boolean?")],
    ),
    ("WorktreeRequest", &[("repo_url", "string"), ("base_ref", "string?")]),
    (
        "Job",
        &[
            ("id", "string"),
            ("repo_url", "string?"),
            ("base_ref", "string?"),
            ("task", "string"),
            ("profile", "string"),
            ("status", "status"),
            ("mode", "string"),
            ("exit_code", "integer?"),
            ("session_id", "string?"),
            ("pr_url", "string?"),
            ("output", "string?"),
            ("error", "string?"),
            ("created_at", "time"),
            ("started_at", "time?"),
            ("ended_at", "time?"),
            ("ttl_seconds", "integer"),
            ("pid", "integer?"),
            ("pod_name", "string?"),
            ("worktree_path", "string?"),
            ("worktree_on", "string?"),
            ("branch", "string?"),
            ("job_config_dir", "string?"),
            ("file_path", "string?"),
            ("create_repo", "boolean"),
            ("private", "boolean"),
            ("attempt", "integer"),
            ("deaths", "integer"),
            ("base_commit", "string?"),
            ("pr_base", "string?"),
            ("commit", "string?"),
            ("pushed", "boolean"),
            ("kept_because", "string?"),
            ("caution", "string?"),
            ("note", "string?"),
            ("cost_usd", "number?"),
            ("turns", "integer?"),
            ("usage", "any?"),
            ("denied_tools", "[string]"),
            ("submitted_by", "string?"),
            ("cancelled_by", "string?"),
            ("request_id", "string?"),
            ("labels", "{}?"),
            ("retry_of", "string?"),
            ("retried_as", "string?"),
            ("purpose", "string"),
            ("plan_id", "string?"),
            ("executed_as", "string?"),
            ("worktree_id", "string?"),
            ("kept", "KeptWork?"),
            ("jobs_ahead", "integer?"),
            ("waiting_for", "string?"),
            ("stale", "boolean?"),
        ],
    ),
    (
        "KeptWork",
        &[
            ("bundle", "string?"),
            ("bytes", "integer"),
            ("base", "string"),
            ("head", "string"),
            ("work", "string?"),
            ("fetch", "string?"),
            ("lacks", "string?"),
        ],
    ),
    (
        "JobSummary",
        &[
            ("id", "string"),
            ("status", "status"),
            ("created_at", "time"),
            ("started_at", "time?"),
            ("ended_at", "time?"),
            ("profile", "string"),
            ("repo_url", "string?"),
            ("branch", "string?"),
            ("pr_url", "string?"),
            ("pushed", "boolean"),
            ("pod_name", "string?"),
            ("attempt", "integer"),
            ("task", "string"),
            ("error", "string?"),
        ],
    ),
    ("JobAnswer", &[("success", "boolean"), ("job", "Job"), ("stale", "boolean?")]),
    (
        "JobsAnswer",
        &[
            ("success", "boolean"),
            ("count", "integer"),
            ("jobs", "[Job/JobSummary]"),
            ("next", "string?"),
            ("stale", "boolean?"),
        ],
    ),
    (
        "Event",
        &[
            ("cursor", "string"),
            ("time", "time"),
            ("attempt", "integer"),
            ("kind", "string"),
            ("text", "string"),
            ("tool", "string?"),
        ],
    ),
    ("EventPage", &[("success", "boolean"), ("events", "[Event]"), ("next", "string?"), ("ended", "boolean")]),
    ("Change", &[("cursor", "string"), ("time", "time"), ("job", "string"), ("status", "status")]),
    ("ChangePage", &[("success", "boolean"), ("events", "[Change]"), ("next", "string?")]),
    (
        "Plan",
        &[
            ("id", "string"),
            ("status", "queued|running|ready|failed"),
            ("task", "string"),
            ("repo_url", "string?"),
            ("base_ref", "string?"),
            ("base_commit", "string?"),
            ("plan", "string?"),
            ("error", "string?"),
            ("note", "string?"),
            ("job_id", "string?"),
            ("profile", "string"),
            ("created_at", "time"),
            ("started_at", "time?"),
            ("ended_at", "time?"),
            ("session_id", "string?"),
            ("pod_name", "string?"),
            ("file_path", "string?"),
            ("cost_usd", "number?"),
            ("waiting_for", "string?"),
        ],
    ),
    ("PlanAnswer", &[("success", "boolean"), ("plan", "Plan"), ("stale", "boolean?")]),
    ("PlansAnswer", &[("success", "boolean"), ("count", "integer"), ("plans", "[Plan]"), ("stale", "boolean?")]),
    (
        "Worktree",
        &[
            ("id", "string"),
            ("status", "preparing|ready|in_use|removing|pod_gone|failed"),
            ("path", "string?"),
            ("pod", "string?"),
            ("repo_url", "string?"),
            ("base_ref", "string?"),
            ("base_commit", "string?"),
            ("job_id", "string?"),
            ("created_at", "time"),
            ("error", "string?"),
            ("waiting_for", "string?"),
        ],
    ),
    ("WorktreeAnswer", &[("success", "boolean"), ("worktree", "Worktree")]),
    ("WorktreesAnswer", &[("success", "boolean"), ("count", "integer"), ("worktrees", "[Worktree]")]),
    ("KeptWorktree", &[("id", "string"), ("path", "string?"), ("why", "string")]),
    (
        "CleanupAnswer",
        &[("success", "boolean"), ("count", "integer"), ("removed", "[Worktree]"), ("kept", "[KeptWorktree]")],
    ),
    (
        "Profile",
        &[
            ("name", "string"),
            ("description", "string"),
            ("extends", "string?"),
            ("auto_pr", "boolean"),
            ("model", "any?"),
            ("max_turns", "any?"),
            ("permission_mode", "any?"),
        ],
    ),
    (
        "ProfilesAnswer",
        &[
            ("success", "boolean"),
            ("count", "integer"),
            ("profiles", "[any]"),
            ("errors", "[string]?"),
            ("warnings", "[string]?"),
        ],
    ),
    (
        "Drain",
        &[
            ("success", "boolean?"),
            ("draining", "boolean"),
            ("running", "[string]"),
            ("handed_back", "[string]"),
            ("seconds_left", "integer?"),
        ],
    ),
    ("Health", &[("status", "string"), ("service", "string"), ("waiting_for", "string?"), ("draining", "boolean?")]),
    ("Readiness", &[("ready", "boolean"), ("draining", "boolean"), ("waiting_for", "string?")]),
    (
        "ServerStatus",
        &[
            ("success", "boolean"),
            ("status", "string"),
            ("service", "string"),
            ("waiting_for", "string?"),
            ("version", "string"),
            ("pod_name", "string"),
            ("runs_jobs", "boolean"),
            ("draining", "boolean"),
            ("slots", "integer"),
            ("running", "integer"),
            ("queued", "integer?"),
            ("checks", "[Check]"),
        ],
    ),
    (
        "Check",
        &[("name", "string"), ("ok", "boolean"), ("why", "string"), ("what_to_do", "string?"), ("stops", "string?")],
    ),
    (
        "Problem",
        &[
            ("type", "string"),
            ("title", "string"),
            ("status", "integer"),
            ("detail", "string"),
            ("field", "string?"),
            ("success", "boolean?"),
            ("error", "string"),
            ("job", "Job?"),
        ],
    ),
];

/// The whole document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        let here = paths.entry(route.path).or_insert_with(|| json!({}));
        here[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    let schemas: Map<String, Value> =
        SCHEMAS.iter().map(|(name, fields)| ((*name).into(), schema(name, fields))).collect();
    let kinds: Vec<String> =
        PROBLEM_KINDS.iter().map(|kind| format!("{} {}: {}", kind.status, kind.slug, kind.what_to_do)).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Agenticore",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "Takes coding tasks, queues them, and runs Claude Code for each in a worktree of its own. \
                Each answer has an X-Request-Id.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": kinds.join("\n\n"),
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                },
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
                "query": {"type": "apiKey", "in": "query", "name": "api_key", "description": "deprecated"},
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let scope = match route.access {
        Access::Public => None,
        Access::Needs(scope) | Access::Pod(scope) => Some(scope.as_str()),
    };
    let summary = route.summary.split(':').next().unwrap_or_default();
    let in_path = route.path.contains("{id}").then_some("id");
    let names = in_path.iter().chain(route.parameters).copied();
    let parameters: Vec<Value> = names.map(parameter).collect();
    let content = match route.gives {
        "text" => json!({"text/plain": {"schema": {"type": "string"}}}),
        "any" => json!({"application/json": {}}),
        // A stream for those who do not ask for JSON.
        page @ ("EventPage" | "ChangePage") => {
            let stream = json!({"schema": {"type": "string"}});
            json!({"application/json": {"schema": reference(page)}, "text/event-stream": stream})
        }
        gives => json!({"application/json": {"schema": reference(gives)}}),
    };
    let mut answers = json!({
        "200": {"description": "as asked", "content": content},
        "default": {"$ref": "#/components/responses/Problem"},
    });
    if route.path == "/ready" {
        answers["503"] = json!({"description": "requests should go elsewhere", "content": content});
    }
    let mut operation = json!({
        "summary": summary,
        "operationId": operation_id(route),
        "parameters": parameters,
        "responses": answers,
        "security": scope.map_or_else(|| json!([{}]), |_| json!([{"bearer": []}, {"header": []}, {"query": []}, {}])),
    });
    if let Some(scope) = scope {
        operation["description"] = json!(format!("Where keys are wanted: one with the scope `{scope}`."));
    }
    if !route.body.is_empty() {
        let is_required = !["RetryRequest", "ExecuteRequest"].contains(&route.body);
        let schema = reference(route.body);
        operation["requestBody"] =
            json!({"required": is_required, "content": {"application/json": {"schema": schema}}});
    }
    if route.method == Method::Post
        && ["/jobs", "/plans", "/worktrees", "/jobs/{id}/retry", "/jobs/{id}/resume"].contains(&route.path)
    {
        let header = json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
            "description": "sent again with the same key, it is the same one",
        });
        if let Some(all) = operation["parameters"].as_array_mut() {
            all.push(header);
        }
    }
    operation
}

/// `get_jobs_id_events`
fn operation_id(route: &Route) -> String {
    let path = route.path.trim_matches('/').replace(['/', '{', '}', '.'], "_").replace("__", "_");
    format!("{}_{}", route.method.as_str().to_ascii_lowercase(), path.trim_end_matches('_'))
}

fn parameter(name: &str) -> Value {
    let (_, kind, what) = PARAMETERS.iter().find(|(known, _, _)| *known == name).unwrap_or(&PARAMETERS[3]);
    let place = if name == "id" { "path" } else { "query" };
    let mut schema = of_type(kind);
    if name == "limit" {
        schema = json!({"type": "integer", "minimum": 1, "maximum": 1000});
    }
    json!({"name": name, "in": place, "required": name == "id", "description": what, "schema": schema})
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn schema(name: &str, fields: &[(&str, &str)]) -> Value {
    let properties: Map<String, Value> = fields.iter().map(|(field, kind)| ((*field).into(), of_type(kind))).collect();
    let required: Vec<&str> = fields.iter().filter(|(_, kind)| !kind.ends_with('?')).map(|(field, _)| *field).collect();
    let mut schema = json!({"type": "object", "properties": properties, "required": required});
    if name.ends_with("Request") {
        // What is not known is refused; answers may hold more one day.
        schema["additionalProperties"] = json!(false);
    }
    if let Some(task) = schema["properties"].get_mut("task").filter(|_| name.ends_with("Request")) {
        *task = json!({"type": "string", "minLength": 1, "pattern": "\\S"});
    }
    schema
}

fn of_type(kind: &str) -> Value {
    if let Some(kind) = kind.strip_suffix('?') {
        let mut schema = of_type(kind);
        return match schema["type"].take() {
            Value::String(kind) => {
                schema["type"] = json!([kind, "null"]);
                schema
            }
            _ if kind == "any" => json!({}),
            _ => json!({"anyOf": [of_type(kind), {"type": "null"}]}),
        };
    }
    if let Some(of) = kind.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let each = match of.split_once('/') {
            Some((one, other)) => json!({"anyOf": [reference(one), reference(other)]}),
            None => of_type(of),
        };
        return json!({"type": "array", "items": each});
    }
    match kind {
        "string" | "integer" | "number" | "boolean" => json!({"type": kind}),
        "time" => json!({"type": "string", "format": "date-time"}),
        "status" => json!({"type": "string", "enum": Status::ALL.map(Status::as_str)}),
        "any" => json!({}),
        "{}" => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        choice if choice.contains('|') => json!({"type": "string", "enum": choice.split('|').collect::<Vec<_>>()}),
        name => reference(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Job, JobSummary, Problem};
    use crate::job::tests::queued;
    use std::collections::BTreeSet;

    fn fields(name: &str) -> BTreeSet<String> {
        let (_, fields) = SCHEMAS.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no {name}"));
        fields.iter().map(|(field, _)| field.to_string()).collect()
    }

    #[test]
    fn what_is_shown_is_described() {
        let job = Job::new(&queued().into(), None);
        let shown = |value: Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        for (name, value) in [
            ("Job", serde_json::to_value(&job).unwrap()),
            ("JobSummary", serde_json::to_value(JobSummary::from(&job)).unwrap()),
            ("Problem", serde_json::to_value(Problem::new(400, "x")).unwrap()),
        ] {
            let unknown: Vec<String> = shown(value).difference(&fields(name)).cloned().collect();
            assert!(unknown.is_empty(), "{name} is shown with {unknown:?}, which SCHEMAS does not have");
        }
    }

    #[test]
    fn all_that_is_named_is_there() {
        let text = document().to_string();
        for part in text.split("#/components/schemas/").skip(1) {
            let name: String = part.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(SCHEMAS.iter().any(|(known, _)| *known == name), "{name}");
        }
        for route in &ROUTES {
            for name in route.parameters {
                assert!(PARAMETERS.iter().any(|(known, _, _)| known == name), "{name}");
            }
        }
    }
}
