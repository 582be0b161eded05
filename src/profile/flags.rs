//! A profile's flags for Claude: `key: value` becomes `--kebab-case VALUE`. Pure.

use serde_json::Value;
use std::collections::BTreeMap;

/// What the runner sets itself: with another value it could not read what Claude says, or the
/// decision whether a repository is trusted would be made twice.
const RESERVED: &[&str] = &[
    "p",
    "print",
    "output-format",
    "input-format",
    "verbose",
    "resume",
    "r",
    "continue",
    "c",
    "session-id",
    "fork-session",
    "setting-sources",
    "strict-mcp-config",
    "bg",
    "background",
    "cloud",
    "remote-control",
    "teleport",
    "tmux",
    "replay-user-messages",
    "no-session-persistence",
];

/// Flags of Claude 2.1.330 that make sense in a profile, as keys. Others are passed on as well; one that resembles one
/// of these was probably meant as it.
pub const KNOWN: &[&str] = &[
    "add_dir",
    "agent",
    "agents",
    "allowed_tools",
    "append_system_prompt",
    "append_system_prompt_file",
    "betas",
    "dangerously_skip_permissions",
    "debug",
    "debug_file",
    "disable_slash_commands",
    "disallowed_tools",
    "effort",
    "fallback_model",
    "json_schema",
    "max_budget_usd",
    "max_turns",
    "mcp_config",
    "model",
    "permission_mode",
    "permission_prompt_tool",
    "plugin_dir",
    "plugin_url",
    "settings",
    "system_prompt",
    "system_prompt_file",
    "tools",
];

#[derive(Clone, Default, Debug, PartialEq)]
pub struct Flags(BTreeMap<String, Value>);

impl Flags {
    /// Refuses reserved keys.
    pub fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        let name = kebab(key);
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("`claude.{key}` is set by the runner and cannot be set by a profile"));
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || name.starts_with('-') {
            return Err(format!("`claude.{key}` is no flag's name"));
        }
        self.0.insert(name, value);
        Ok(())
    }

    pub fn overlay(&mut self, above: &Flags) {
        self.0.extend(above.0.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Takes a flag out, as the words that would follow it.
    pub fn take(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).map(|value| words(&value)).unwrap_or_default()
    }

    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        for (name, value) in &self.0 {
            if *value == Value::Bool(true) {
                arguments.push(format!("--{name}"));
                continue;
            }
            let words = words(value);
            if !words.is_empty() {
                arguments.push(format!("--{name}"));
                arguments.extend(words);
            }
        }
        arguments
    }
}

fn words(value: &Value) -> Vec<String> {
    match value {
        Value::Null | Value::Bool(false) => Vec::new(),
        Value::Bool(true) => vec!["true".into()],
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Number(number) => vec![number.to_string()],
        Value::Array(items) => items.iter().flat_map(words).collect(),
        Value::Object(_) => vec![value.to_string()],
    }
}

/// `max_turns` and `maxTurns` → `max-turns`.
fn kebab(key: &str) -> String {
    let mut name = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        match c {
            '_' | ' ' => name.push('-'),
            c if c.is_ascii_uppercase() => {
                if !name.is_empty() && !name.ends_with('-') {
                    name.push('-');
                }
                name.push(c.to_ascii_lowercase());
            }
            c => name.push(c),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_become_arguments() {
        let mut flags = Flags::default();
        for (key, value) in [
            ("max_turns", json!(5)),
            ("permissionMode", json!("plan")),
            ("chrome", json!(false)),
            ("brief", json!(true)),
            ("model", json!("")),
            ("tools", json!(["Bash", "Read"])),
            ("agents", json!({"a": {"prompt": "p"}})),
            ("effort", json!(null)),
        ] {
            flags.set(key, value).unwrap();
        }
        let expected = [
            "--agents",
            r#"{"a":{"prompt":"p"}}"#,
            "--brief",
            "--max-turns",
            "5",
            "--permission-mode",
            "plan",
            "--tools",
            "Bash",
            "Read",
        ];
        assert_eq!(flags.arguments(), expected);
        for reserved in ["outputFormat", "p", "session_id", "--x", "a b=c", ""] {
            assert!(flags.set(reserved, json!("x")).is_err(), "{reserved}");
        }
    }
}
