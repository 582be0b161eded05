//! `profile.yml`, read strictly where it is ours. Top-level keys of other tools are ignored. Pure.

use super::{Layer, flags};
use crate::config::parse_duration;
use crate::suggest;
use crate::workspace::submodules::Wanted;
use serde_json::{Map, Value};
use std::time::Duration;

/// The keys that are read here, and those of `claude:` that are the runner's own.
const KEYS: [&str; 9] = [
    "name",
    "description",
    "extends",
    "auto_pr",
    "publish_conflicts",
    "submodules",
    "trust_repo",
    "github_token",
    "claude",
];
const CLAUDE_KEYS: [&str; 2] = ["timeout", "worktree"];

/// A sentence for each key that was probably meant as another one. Keys that resemble none are other tools', and in
/// `claude:` they are Claude's own flags.
fn typos(tree: &Map<String, Value>) -> Vec<String> {
    let below = tree.get("claude").and_then(Value::as_object);
    let meant = |prefix: &str, keys: &mut dyn Iterator<Item = &String>, known: &[&'static str]| -> Vec<String> {
        // Claude's flags may be written as Claude writes them.
        let spelled = |key: &str| if prefix.is_empty() { key.to_owned() } else { key.replace('-', "_") };
        let unknown = keys.filter(|key| !known.contains(&spelled(key).as_str()));
        let near = unknown.filter_map(|key| Some((key, suggest::nearest(&spelled(key), known.iter().copied())?)));
        near.map(|(key, name)| format!("the key `{prefix}{key}` is not known here; did you mean `{prefix}{name}`?"))
            .collect()
    };
    let mut found = meant("", &mut tree.keys(), &KEYS);
    let of_claude = [&CLAUDE_KEYS[..], flags::KNOWN].concat();
    found.extend(below.map(|claude| meant("claude.", &mut claude.keys(), &of_claude)).unwrap_or_default());
    found
}

/// One `profile.yml`, before it is laid over what it extends.
///
/// ```
/// use agenticore::judges::profile::layer;
/// assert!(layer("extends: coding\nclaude:\n  max_turns: 20\n").is_ok());
/// assert_eq!(layer("auto_pr: perhaps").unwrap_err(), "`auto_pr` must be true or false");
/// ```
pub fn layer(text: &str) -> Result<Layer, String> {
    let mut layer = Layer::default();
    if text.trim().is_empty() {
        return Ok(layer);
    }
    let tree: Value = serde_saphyr::from_str(text).map_err(|error| crate::config::not_yaml(&error))?;
    let Value::Object(tree) = tree else { return Err("must hold keys and values".into()) };
    layer.typos = typos(&tree);
    layer.description = text_of(&tree, "description")?;
    layer.extends = text_of(&tree, "extends")?.filter(|name| !name.is_empty());
    layer.auto_pr = truth_of(&tree, "auto_pr")?;
    layer.publish_conflicts = truth_of(&tree, "publish_conflicts")?;
    layer.submodules = submodules(&tree)?;
    layer.trust_repo = truth_of(&tree, "trust_repo")?;
    layer.github_token = truth_of(&tree, "github_token")?;
    match tree.get("claude") {
        None | Some(Value::Null) => {}
        Some(Value::Object(claude)) => {
            for (key, value) in claude {
                match key.as_str() {
                    "timeout" => layer.timeout = Some(timeout(value)?),
                    "worktree" => {
                        layer.worktree = truth_of(claude, "worktree").map_err(|e| e.replace('`', "`claude."))?
                    }
                    _ => layer.flags.set(key, value.clone())?,
                }
            }
        }
        Some(_) => return Err("`claude` must hold keys and values".into()),
    }
    Ok(layer)
}

fn text_of(tree: &Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match tree.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim().to_owned())),
        Some(_) => Err(format!("`{key}` must be text")),
    }
}

fn truth_of(tree: &Map<String, Value>, key: &str) -> Result<Option<bool>, String> {
    match tree.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(*truth)),
        Some(_) => Err(format!("`{key}` must be true or false")),
    }
}

fn submodules(tree: &Map<String, Value>) -> Result<Option<Wanted>, String> {
    match tree.get("submodules") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(false)) => Ok(Some(Wanted::None)),
        Some(Value::Bool(true)) => Ok(Some(Wanted::Own)),
        Some(Value::String(text)) if text == "recursive" => Ok(Some(Wanted::Recursive)),
        Some(_) => Err("`submodules` must be true, false or recursive".into()),
    }
}

fn timeout(value: &Value) -> Result<Duration, String> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let limit = parse_duration(&text).filter(|limit| !limit.is_zero());
    limit.ok_or_else(|| format!("`claude.timeout` must be seconds, such as 3600, and not `{text}`"))
}
