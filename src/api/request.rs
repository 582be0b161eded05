//! What a request may say, read strictly: what is wrong with one is said in a sentence. Pure.

use crate::change::Moment;
use crate::event::Cursor;
use crate::job::{Overrides, Status};
use crate::suggest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most of a request's body that is read.
pub const BODY_LIMIT: usize = 1 << 20;
/// The longest list that is given at once.
pub const LIST_LIMIT: usize = 1000;
pub const LIST_DEFAULT: usize = 20;
/// How many events are given at once when nothing else is said.
const EVENTS_DEFAULT: usize = 100;

/// `POST /jobs`, as it was sent. An empty text is one that was not given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobRequest {
    pub task: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktree_id: Option<String>,
    #[serde(default)]
    pub create_repo: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<bool>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What is otherwise than the profile says.
    #[serde(flatten)]
    pub overrides: Overrides,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    #[serde(default)]
    pub wait: bool,
}

impl JobRequest {
    const FIELDS: [&str; 15] = [
        "task",
        "repo_url",
        "profile",
        "base_ref",
        "session_id",
        "file_path",
        "worktree_id",
        "create_repo",
        "private",
        "labels",
        "model",
        "max_turns",
        "timeout",
        "webhook_url",
        "wait",
    ];

    /// Reads a body; says in a sentence what is wrong with one that is no request.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let fields = known_fields(body, &Self::FIELDS)?;
        let request = Self {
            task: text(&fields, "task")?.unwrap_or_default(),
            repo_url: text(&fields, "repo_url")?,
            profile: text(&fields, "profile")?,
            base_ref: text(&fields, "base_ref")?,
            session_id: text(&fields, "session_id")?,
            file_path: text(&fields, "file_path")?,
            worktree_id: text(&fields, "worktree_id")?,
            create_repo: truth(&fields, "create_repo")?.unwrap_or(false),
            private: truth(&fields, "private")?,
            labels: labels(&fields)?,
            overrides: overrides(&fields)?,
            webhook_url: text(&fields, "webhook_url")?,
            wait: truth(&fields, "wait")?.unwrap_or(false),
        };
        if request.task.trim().is_empty() {
            return Err(NO_TASK.into());
        }
        Ok(request)
    }
}

pub(super) const NO_TASK: &str = "`task` must say what is to be done: it is missing or empty";

/// The fields of a body that has no others than these.
pub(super) fn known_fields(body: &[u8], known: &[&'static str]) -> Result<Map<String, Value>, String> {
    let fields = object(body)?;
    let unknown: Vec<&str> = fields.keys().map(String::as_str).filter(|key| !known.contains(key)).collect();
    if unknown.is_empty() {
        return Ok(fields);
    }
    let meant = unknown.iter().map(|field| suggest::did_you_mean(field, known.iter().copied()));
    let meant = meant.into_iter().find(|meant| !meant.is_empty()).unwrap_or_default();
    Err(format!("unknown field {}: known are {}{meant}", unknown.join(", "), known.join(", ")))
}

/// The same for a body that may be missing.
pub(super) fn known_fields_if_any(body: &[u8], known: &[&'static str]) -> Result<Map<String, Value>, String> {
    if body.trim_ascii().is_empty() { Ok(Map::new()) } else { known_fields(body, known) }
}

/// `POST /jobs/{id}/retry`: the body may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetryRequest {
    pub wait: bool,
}

impl RetryRequest {
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let fields = object(body)?;
        if let Some(unknown) = fields.keys().find(|key| *key != "wait") {
            return Err(format!("unknown field {unknown}: a retry takes `wait` alone, the rest is as it was"));
        }
        Ok(Self { wait: truth(&fields, "wait")?.unwrap_or(false) })
    }
}

/// `POST /jobs/{id}/resume`: the rest is as it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ResumeRequest {
    pub task: String,
    pub wait: bool,
}

impl ResumeRequest {
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let fields = known_fields(body, &["task", "wait"])?;
        let task = text(&fields, "task")?.filter(|task| !task.trim().is_empty()).ok_or(NO_TASK)?;
        Ok(Self { task, wait: truth(&fields, "wait")?.unwrap_or(false) })
    }
}

/// How gzip's output begins: RFC 1952, 2.3.1.
const GZIP: &[u8] = b"\x1f\x8b";

fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    if body.starts_with(GZIP) {
        return Err("the body is compressed by gzip: send it as it is, without Content-Encoding".into());
    }
    // Some editors and shells begin a text with this.
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let tree: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not valid JSON: {error}"))?;
    match tree {
        Value::Object(fields) => Ok(fields),
        other => Err(format!("the body must be a JSON object, not {}", kind_of(&other))),
    }
}

pub(super) fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{name}` must be text, not {}", kind_of(other))),
    }
}

pub(super) fn truth(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(*truth)),
        // As a text that is empty.
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(other) => Err(format!("`{name}` must be true or false, not {}", kind_of(other))),
    }
}

/// The longest name of a model; the most turns; the longest that an agent may run, in seconds: a day.
const MODEL_LIMIT: usize = 200;
const TURNS_LIMIT: u64 = 10_000;
const TIMEOUT_LIMIT: u64 = 86_400;

fn overrides(fields: &Map<String, Value>) -> Result<Overrides, String> {
    let model = text(fields, "model")?;
    if let Some(model) = &model {
        let fits = |c: char| c.is_ascii_graphic();
        if model.len() > MODEL_LIMIT || model.starts_with('-') || !model.chars().all(fits) {
            let shown = crate::job::cut(model.clone(), 80);
            return Err(format!(
                "`model` must be the name of a model, such as sonnet or claude-opus-4-5, not `{shown}`"
            ));
        }
    }
    let max_turns = count(fields, "max_turns", TURNS_LIMIT)?.and_then(|turns| u32::try_from(turns).ok());
    Ok(Overrides { model, max_turns, timeout: count(fields, "timeout", TIMEOUT_LIMIT)? })
}

/// A whole number from 1 on; some clients write 20 as 20.0, as JSON's own numbers may be.
fn count(fields: &Map<String, Value>, name: &str, most: u64) -> Result<Option<u64>, String> {
    let given = match fields.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(given) => given,
    };
    let whole = given.as_f64().filter(|number| number.fract() == 0.0 && (1.0..=most as f64).contains(number));
    let number = whole.map(|number| number as u64);
    let shown = if given.is_number() { given.to_string() } else { kind_of(given).to_owned() };
    number.map(Some).ok_or_else(|| format!("`{name}` must be a whole number from 1 to {most}, not {shown}"))
}

/// So many labels, and characters in their names and values, at most.
const LABELS_LIMIT: usize = 16;
const LABEL_NAME_LIMIT: usize = 63;
const LABEL_LIMIT: usize = 200;

fn labels(fields: &Map<String, Value>) -> Result<BTreeMap<String, String>, String> {
    let given = match fields.get("labels") {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(given)) => given,
        Some(other) => return Err(format!("`labels` must be an object of texts, not {}", kind_of(other))),
    };
    if given.len() > LABELS_LIMIT {
        return Err(format!("`labels` may hold {LABELS_LIMIT} labels, not {}", given.len()));
    }
    let one = |(name, value): (&String, &Value)| match value {
        Value::String(value) => label(name, value).map(|()| (name.clone(), value.clone())),
        other => Err(format!("the label `{name}` must be text, not {}", kind_of(other))),
    };
    given.iter().map(one).collect()
}

/// What a label may be called, and hold.
pub fn label(name: &str, value: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    if name.is_empty() || name.len() > LABEL_NAME_LIMIT || !name.bytes().all(fits) {
        let shown = crate::job::cut(name.to_owned(), 80);
        return Err(format!(
            "the label `{shown}` must be called by 1 to {LABEL_NAME_LIMIT} letters, digits, dots, dashes, underscores \
             and slashes"
        ));
    }
    if value.chars().count() > LABEL_LIMIT || value.chars().any(char::is_control) {
        return Err(format!(
            "the label `{name}` must hold at most {LABEL_LIMIT} characters, and no control characters"
        ));
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// `GET /jobs/{id}/events?after=&limit=&wait=`
#[derive(Clone, Debug, PartialEq)]
pub struct EventsRequest {
    pub after: Cursor,
    pub limit: usize,
    /// How long a page waits for an event when there is none yet.
    pub wait: Duration,
}

/// `GET /events?after=&limit=&wait=`
#[derive(Clone, Debug, PartialEq)]
pub struct ChangesRequest {
    pub after: Moment,
    pub limit: usize,
    pub wait: Duration,
}

impl ChangesRequest {
    pub fn parse(pairs: &[(&str, &str)]) -> Result<Self, String> {
        let mut request = Self { after: Moment::START, limit: EVENTS_DEFAULT, wait: Duration::ZERO };
        for (name, value) in pairs {
            match *name {
                "limit" => request.limit = limit(value)?,
                "after" if value.is_empty() => {}
                "after" => request.after = moment(value)?,
                "wait" => request.wait = wait(value)?,
                _ => {}
            }
        }
        Ok(request)
    }
}

pub fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text).ok_or_else(|| format!("a cursor must be as an event shows it, not `{text}`"))
}

/// The longest that a page waits, in seconds.
const WAIT_MOST: u64 = 3_600;

fn wait(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= WAIT_MOST);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`wait` must be whole seconds from 0 to {WAIT_MOST}, not `{text}`"))
}

impl EventsRequest {
    pub fn parse(pairs: &[(&str, &str)]) -> Result<Self, String> {
        let mut request = Self { after: Cursor::START, limit: EVENTS_DEFAULT, wait: Duration::ZERO };
        for (name, value) in pairs {
            match *name {
                "limit" => request.limit = limit(value)?,
                "after" if value.is_empty() => {}
                "after" => request.after = cursor(value)?,
                "wait" => request.wait = wait(value)?,
                _ => {}
            }
        }
        Ok(request)
    }
}

pub fn cursor(text: &str) -> Result<Cursor, String> {
    Cursor::parse(text).ok_or_else(|| format!("a cursor must be as an event shows it, not `{text}`"))
}

pub fn limit(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=LIST_LIMIT).contains(number));
    number.ok_or_else(|| format!("`limit` must be a whole number from 1 to {LIST_LIMIT}, not `{text}`"))
}

pub fn status(text: &str) -> Result<Status, String> {
    Status::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
        let meant = suggest::did_you_mean(text, known.iter().copied());
        format!("`status` must be one of {}, not `{text}`{meant}", known.join(", "))
    })
}

/// What a drain gets when nothing else is said (the interface's number).
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(300);
/// The longest drain, in seconds: a day.
const DRAIN_MOST: u64 = 86_400;

pub fn drain_timeout(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok().filter(|seconds| *seconds <= DRAIN_MOST);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("`timeout` must be whole seconds from 0 to {DRAIN_MOST}, not `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_bodies_are_refused_in_a_sentence() {
        for (body, why) in [
            ("", "not valid JSON"),
            ("{", "not valid JSON"),
            ("[]", "an array"),
            ("\"x\"", "must be a JSON object, not text"),
            ("{}", "`task`"),
            (r#"{"task":""}"#, "`task`"),
            (r#"{"task":" \n\t"}"#, "`task`"),
            (r#"{"task":7}"#, "`task` must be text, not a number"),
            (r#"{"task":"t","wait":"yes"}"#, "`wait` must be true or false, not text"),
            (r#"{"task":"t","repo_url":[]}"#, "`repo_url` must be text, not an array"),
            (r#"{"task":"t","repo":"x","prio":1}"#, "unknown field prio, repo"),
        ] {
            let error = JobRequest::parse(body.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{body}: {error}");
        }
        assert!(JobRequest::parse(b"\x1f\x8b\x08\0").unwrap_err().contains("compressed by gzip"));
        assert!(JobRequest::parse("\u{feff}{\"task\":\"t\"}".as_bytes()).is_ok());
        assert!(JobRequest::parse(b"\xff").is_err());
    }

    #[test]
    fn a_retry_takes_nothing_but_wait() {
        for (body, waits) in [("", false), (" ", false), ("{}", false), (r#"{"wait":true}"#, true)] {
            assert_eq!(RetryRequest::parse(body.as_bytes()), Ok(RetryRequest { wait: waits }), "{body}");
        }
        for bad in ["[]", "{", r#"{"task":"x"}"#, r#"{"wait":1}"#] {
            assert!(RetryRequest::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn empty_texts_are_not_given() {
        let request = JobRequest::parse(br#"{"task":"t\u0000","repo_url":"","profile":null,"private":false}"#).unwrap();
        assert_eq!(
            (request.task.as_str(), request.repo_url, request.profile, request.private),
            ("t\0", None, None, Some(false))
        );
    }

    fn pairs_of(query: &str) -> Vec<(&str, &str)> {
        query.split('&').filter_map(|pair| pair.split_once('=')).collect()
    }

    #[test]
    fn pages_of_events_begin_at_a_cursor() {
        let parse = |query: &'static str| EventsRequest::parse(&pairs_of(query));
        assert_eq!(
            parse("").unwrap(),
            EventsRequest { after: Cursor::START, limit: EVENTS_DEFAULT, wait: Duration::ZERO }
        );
        let after = Cursor { attempt: 2, number: 7 };
        assert_eq!(
            parse("after=00002-000007&limit=5&wait=9").unwrap(),
            EventsRequest { after, limit: 5, wait: Duration::from_secs(9) }
        );
        for bad in ["after=x", "after=7", "limit=0", "wait=3601", "wait=", "wait=1.5"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
