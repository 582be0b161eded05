//! The file of keys, read strictly: a list of `{name, key | sha256, scopes, expires?, max_queued?}`. Pure but for
//! reading the file.

use super::hash;
use crate::job::Time;
use crate::service::Scope;
use crate::suggest;
use serde_json::{Map, Value};
use std::path::Path;

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub name: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    pub scope: Scope,
    pub expires: Option<Time>,
    pub max_queued: Option<usize>,
}

const FIELDS: [&str; 6] = ["name", "key", "sha256", "scopes", "expires", "max_queued"];
/// Larger ones are no list of keys.
const SIZE_LIMIT: u64 = 1 << 20;
/// Shorter keys can be guessed.
const SHORTEST: usize = 8;

pub fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let told = |why: String| format!("AGENTICORE_API_KEYS_FILE, {}: {why}", path.display());
    let bytes = bytes(path).map_err(told)?;
    let text = String::from_utf8(bytes).map_err(|_| told("is not valid UTF-8".into()))?;
    parse(&text).map_err(told)
}

/// Those that stand in it in clear: an agent may be able to read it too. Nothing, if it cannot be read.
pub fn in_clear(path: &Path) -> Vec<String> {
    let text = bytes(path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let list: Vec<Map<String, Value>> = serde_saphyr::from_str(&text).unwrap_or_default();
    list.iter().filter_map(|fields| fields.get("key")?.as_str().map(str::to_owned)).collect()
}

/// What it holds; nothing that would be waited for, and nothing that is too large, is read.
pub fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let found = std::fs::metadata(path).map_err(cannot)?;
    if !found.is_file() {
        return Err("is no file: expected a list of keys".into());
    }
    if found.len() > SIZE_LIMIT {
        return Err(format!("has {} bytes, but a list of keys has at most {SIZE_LIMIT}", found.len()));
    }
    std::fs::read(path).map_err(cannot)
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let tree: Value = serde_saphyr::from_str(text).map_err(|error| crate::config::not_yaml(&error))?;
    let list = match tree {
        // Half written, most likely.
        Value::Null => return Err("is empty: write [] if no key is to be good".into()),
        Value::Array(list) => list,
        _ => return Err("must hold a list: - {name: ci, sha256: …, scopes: [submit]}".into()),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for (at, one) in list.iter().enumerate() {
        let entry = one.as_object().ok_or_else(|| "must be {name: …, sha256: …, scopes: […]}".to_owned());
        let entry = entry.and_then(entry_of).map_err(|why| format!("entry {} {why}", at + 1))?;
        if entries.iter().any(|other| other.name == entry.name) {
            return Err(format!("entry {} has the name `{}`, which an earlier one has", at + 1, entry.name));
        }
        if let Some(other) = entries.iter().find(|other| other.hash == entry.hash) {
            let (name, other) = (&entry.name, &other.name);
            return Err(format!("entry {} is the key of `{other}`, and here called `{name}`: leave one out", at + 1));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn entry_of(fields: &Map<String, Value>) -> Result<Entry, String> {
    if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        let meant = suggest::did_you_mean(unknown, FIELDS.into_iter());
        return Err(format!("has the field `{unknown}`: known are {}{meant}", FIELDS.join(", ")));
    }
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("has a `{name}` that is no text: put it in quotes")),
    };
    let name = text("name")?.filter(|name| is_name(name));
    let name = name.ok_or("needs a `name` of 1 to 64 letters, digits, dots, dashes and underscores")?.to_owned();
    if is_reserved(&name) {
        return Err(format!("has the name `{name}`, which the server gives to a key of its own: choose another"));
    }
    let hash = match (text("key")?, text("sha256")?) {
        (Some(key), None) if key.len() >= SHORTEST => hash(key.as_bytes()),
        (Some(_), None) => return Err(format!("has a `key` of less than {SHORTEST} characters: make it longer")),
        (None, Some(hex)) => of_hex(hex)
            .filter(|hash| *hash != super::hash(b""))
            .ok_or("has a `sha256` that is none of a key: it has 64 hex digits, and is not that of an empty text")?,
        (None, None) => return Err("needs `sha256`, or `key`: `agenticore key new NAME` makes both".into()),
        (Some(_), Some(_)) => return Err("has both `key` and `sha256`: leave one out".into()),
    };
    Ok(Entry { name, hash, scope: scope_of(fields)?, expires: expires_of(fields)?, max_queued: most_of(fields)? })
}

/// The server gives it to a key of its own.
pub fn is_reserved(name: &str) -> bool {
    let is_number = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    name == super::own::NAME || name.strip_prefix(super::OF_SETTINGS).is_some_and(is_number)
}

pub fn is_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

fn scope_of(fields: &Map<String, Value>) -> Result<Scope, String> {
    let wrong = || format!("needs `scopes`, a list of {}", Scope::NAMES.join(", "));
    let list = fields.get("scopes").and_then(Value::as_array).ok_or_else(wrong)?;
    let scopes: Option<Vec<Scope>> = list.iter().map(|one| one.as_str().and_then(Scope::parse)).collect();
    scopes.and_then(|scopes| scopes.into_iter().max()).ok_or_else(wrong)
}

fn expires_of(fields: &Map<String, Value>) -> Result<Option<Time>, String> {
    let text = match fields.get("expires") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.as_str(),
        Some(_) => "",
    };
    expires(text).map(Some)
}

/// A date is its begin, in UTC.
pub fn expires(text: &str) -> Result<Time, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment: Result<jiff::Timestamp, _> = whole.parse();
    let wrong = |_| format!("has `expires: {text}`: it must be a date, such as 2027-01-31, or a time of RFC 3339");
    moment.map(|moment| Time(moment.as_millisecond())).map_err(wrong)
}

fn most_of(fields: &Map<String, Value>) -> Result<Option<usize>, String> {
    match fields.get("max_queued") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let count = value.as_u64().and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
            let wrong =
                "has a `max_queued` that is no whole number from 1 on; who may hand in nothing has the scope read";
            count.map(Some).ok_or_else(|| wrong.into())
        }
    }
}

fn of_hex(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = hex.trim().chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair.get(1).copied().unwrap_or(0)).collect();
    (digits.len() == 64).then(|| bytes.try_into().ok()).flatten()
}

/// An entry as it stands in the file.
pub fn line(entry: &Entry) -> String {
    let hex: String = entry.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let expires = entry.expires.map(|time| format!(", expires: \"{time}\"")).unwrap_or_default();
    let most = entry.max_queued.map(|most| format!(", max_queued: {most}")).unwrap_or_default();
    format!("- {{name: \"{}\", sha256: \"{hex}\", scopes: [{}]{expires}{most}}}", entry.name, entry.scope.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_an_entry_is_said() {
        let hex = "ab".repeat(32);
        let good = format!("- {{name: a, sha256: {hex}, scopes: [read]}}");
        assert_eq!(parse(&good).unwrap()[0].hash, [0xab; 32]);
        for (text, why) in [
            ("x: 1", "must hold a list"),
            ("- x", "entry 1 must be"),
            ("- {name: a, scopes: [read]}", "entry 1 needs `sha256`, or `key`"),
            ("- {name: a, key: short, scopes: [read]}", "make it longer"),
            ("- {name: a, key: long-enough, sha256: x, scopes: [read]}", "leave one out"),
            ("- {name: a, sha256: abc, scopes: [read]}", "64 hex digits"),
            (
                &format!(
                    "- {{name: a, sha256: {}, scopes: [read]}}",
                    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
                ),
                "of an empty text",
            ),
            ("- {name: a b, key: long-enough, scopes: [read]}", "needs a `name`"),
            ("- {name: a, key: long-enough, scopes: [write]}", "a list of read, submit, admin"),
            ("- {name: a, key: long-enough, scopes: []}", "a list of read"),
            ("- {name: a, key: long-enough}", "needs `scopes`"),
            ("- {name: a, key: 123456789, scopes: [read]}", "put it in quotes"),
            ("- {name: a, key: long-enough, scope: [read]}", "did you mean `scopes`?"),
            ("- {name: a, key: long-enough, scopes: [read], expires: soon}", "must be a date"),
            ("- {name: a, key: long-enough, scopes: [read], max_queued: -1}", "no whole number"),
            (&format!("{good}\n{good}"), "entry 2 has the name `a`, which an earlier one has"),
            (&format!("{good}\n{}", good.replace("name: a", "name: b")), "entry 2 is the key of `a`"),
            ("- {name: own-pod, key: long-enough, scopes: [read]}", "which the server gives to a key of its own"),
            ("- {name: api-key-7, key: long-enough, scopes: [read]}", "which the server gives to a key of its own"),
            ("- {", "is not valid YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for empty in ["", "# none yet\n"] {
            assert!(parse(empty).unwrap_err().contains("is empty: write []"), "{empty}");
        }
        assert_eq!(parse("[]"), Ok(vec![]));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let hash = hash(b"some key");
        let entry =
            Entry { name: "ci".into(), hash, scope: Scope::Submit, expires: Some(Time(1_000)), max_queued: Some(3) };
        assert_eq!(parse(&line(&entry)).unwrap(), std::slice::from_ref(&entry));
        // A name that YAML would take for something else.
        let plain = Entry { name: "2024".into(), expires: None, max_queued: None, ..entry };
        assert_eq!(parse(&line(&plain)).unwrap(), [plain]);
    }
}
