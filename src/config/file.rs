//! `config.yml`, read as `a.b` → text.

use super::Error;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// One sentence of an error that shows several lines.
pub fn not_yaml(error: &dyn fmt::Display) -> String {
    let text = error.to_string();
    format!("is not valid YAML: {}", text.lines().next().unwrap_or_default())
}

/// `config.yml` as `a.b` → text. A file that is not there is empty.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Error::File(path.to_owned(), error.to_string())),
    };
    let mut found = BTreeMap::new();
    if text.trim().is_empty() {
        return Ok(found);
    }
    let tree: serde_json::Value =
        serde_saphyr::from_str(&text).map_err(|e| Error::File(path.to_owned(), not_yaml(&e)))?;
    match tree {
        serde_json::Value::Null => {}
        serde_json::Value::Object(_) => flatten("", &tree, &mut found),
        _ => return Err(Error::File(path.to_owned(), "must hold keys and values".into())),
    }
    Ok(found)
}

fn flatten(prefix: &str, value: &serde_json::Value, into: &mut BTreeMap<String, String>) {
    use serde_json::Value;
    let text = match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, into);
            }
            return;
        }
        Value::Null => return,
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(","),
        other => other.to_string(),
    };
    into.insert(prefix.to_owned(), text);
}
