//! `/openapi.json`: OpenAPI 3.1, made from the table of routes and those in `schemas`. Pure.

mod schemas;

use super::routes::{Access, ROUTES, Route};
use crate::api::PROBLEM_KINDS;
use crate::job::Status;
use schemas::{PARAMETERS, SCHEMAS};
use serde_json::{Map, Value, json};
use tiny_http::Method;

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
                "TooMuch": {
                    "description": "too much at once: of one key (429), or of all (503); nothing was changed",
                    "headers": {"Retry-After": {
                        "description": "seconds after which it may be tried again",
                        "schema": {"type": "integer"},
                    }},
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
    if route.method == Method::Post {
        answers["429"] = json!({"$ref": "#/components/responses/TooMuch"});
        answers["503"] = json!({"$ref": "#/components/responses/TooMuch"});
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
