//! What a tool is: how it is described to a model, and what is wrong with a call of it. `table` has all of them.

use super::calls::is_absent;
pub use super::table::TOOLS;
use crate::api::{Job, Shape};
use crate::service::{Caller, Scope, Service};
use crate::suggest;
use serde_json::{Map, Value, json};

pub type Arguments = Map<String, Value>;

/// What a tool says.
pub enum Said {
    Now(Value),
    /// A job that lives, shown as this. `waits`: the answer is wanted once it has ended.
    Lives {
        job: Box<Job>,
        shape: Shape,
        waits: bool,
    },
}

pub struct Tool {
    pub name: &'static str,
    pub title: &'static str,
    /// When to use it, and what comes next.
    pub description: &'static str,
    /// Name, type, what it is; the ones that must be there.
    pub(super) arguments: &'static [(&'static str, &'static str, &'static str)],
    pub(super) required: &'static [&'static str],
    /// The field of the answer that holds what was asked for, and its type.
    pub(super) gives: (&'static str, &'static str),
    pub(super) is_read_only: bool,
    pub(super) is_destructive: bool,
    pub(super) is_idempotent: bool,
    pub call: fn(&Service, &Caller, &Arguments) -> Result<Said, String>,
}

pub fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

impl Tool {
    /// What it takes to call it.
    pub fn scope(&self) -> Scope {
        if self.is_read_only { Scope::Read } else { Scope::Submit }
    }

    pub fn to_json(&self) -> Value {
        let properties: Map<String, Value> = self
            .arguments
            .iter()
            .map(|(name, kind, what)| (name.to_string(), json!({"type": kind, "description": what})))
            .collect();
        let (field, kind) = self.gives;
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": {"type": "object", "properties": properties, "required": self.required},
            "outputSchema": {
                "type": "object",
                "properties": {"success": {"type": "boolean"}, field: {"type": kind}},
                "required": ["success", field],
            },
            "annotations": {
                "title": self.title,
                "readOnlyHint": self.is_read_only,
                "destructiveHint": self.is_destructive,
                "idempotentHint": self.is_idempotent,
                "openWorldHint": !self.is_read_only,
            },
        })
    }

    /// Names, and what is missing; a sentence from which a model can mend its call.
    pub fn check(&self, arguments: &Arguments) -> Result<(), String> {
        let names = || self.arguments.iter().map(|(name, _, _)| *name);
        if let Some(unknown) = arguments.keys().find(|given| !names().any(|name| name == *given)) {
            let meant = suggest::did_you_mean(unknown, names());
            let known = names().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "it takes none".to_owned() } else { format!("known are {known}") };
            return Err(format!("unknown argument `{unknown}` of {}: {known}{meant}", self.name));
        }
        match self.required.iter().find(|name| is_absent(arguments.get(**name))) {
            Some(missing) => Err(format!("{} needs `{missing}`", self.name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::limit;
    use super::*;

    #[test]
    fn the_table_is_compatible_with_the_contract() {
        let contract: &[(&str, &[&str])] = &[
            (
                "run_task",
                &[
                    "task",
                    "repo_url",
                    "profile",
                    "base_ref",
                    "session_id",
                    "file_path",
                    "create_repo",
                    "private",
                    "worktree_id",
                    "wait",
                ],
            ),
            ("get_job", &["job_id"]),
            ("list_jobs", &["limit", "status"]),
            ("cancel_job", &["job_id"]),
            ("list_profiles", &[]),
            ("plan_task", &["task", "repo_url", "wait", "file_path"]),
            ("get_plan", &["plan_id"]),
            ("list_plans", &["limit"]),
            ("execute_plan", &["plan_id", "repo_url", "profile", "wait", "file_path"]),
            ("prepare_worktree", &["repo_url", "base_ref"]),
            ("get_worktree", &["worktree_id"]),
            ("list_worktrees", &[]),
            ("cleanup_worktrees", &["paths", "max_age_hours"]),
        ];
        for (name, arguments) in contract {
            let tool = find(name).unwrap();
            let names: Vec<&str> = tool.arguments.iter().map(|(name, _, _)| *name).collect();
            assert!(names.starts_with(arguments), "{name}: {names:?}");
        }
        for tool in &TOOLS {
            assert!(
                tool.description.len() > 60
                    && tool.required.iter().all(|name| tool.arguments.iter().any(|a| a.0 == *name))
            );
        }
    }

    #[test]
    fn a_wrong_call_is_explained() {
        let of = |value: Value| value.as_object().unwrap().clone();
        let check = |name: &str, value: Value| find(name).unwrap().check(&of(value));
        assert!(
            check("run_task", json!({"task": "x", "repo_ur": "y"})).unwrap_err().ends_with("did you mean `repo_url`?")
        );
        assert_eq!(check("get_job", json!({"job_id": ""})), Err("get_job needs `job_id`".into()));
        assert_eq!(limit(&of(json!({"limit": 20.0}))), Ok(Some(20)));
        assert_eq!(limit(&of(json!({"limit": ""}))), Ok(None));
        assert!(limit(&of(json!({"limit": 0}))).is_err() && limit(&of(json!({"limit": "x"}))).is_err());
    }
}
