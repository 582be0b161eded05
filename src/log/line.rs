//! How a line of the log looks, as text and as JSON. Pure.

use crate::job::{Record, Time};
use crate::plain;
use crate::redact::Redactor;
use serde_json::Value;
use std::time::Duration;

/// How much a line matters; the later, the more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub const NAMES: &'static [&'static str] = &["error", "warn", "info", "debug"];

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error].into_iter().find(|level| level.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Text,
    Json,
}

impl Format {
    pub const NAMES: &'static [&'static str] = &["text", "json"];
}

pub struct Line {
    pub level: Level,
    pub text: String,
    pub job: Option<String>,
    /// What machines get beside the text.
    pub fields: Vec<(&'static str, Value)>,
}

impl Line {
    pub fn new(level: Level, text: &str) -> Self {
        Self { level, text: text.to_owned(), job: None, fields: Vec::new() }
    }

    /// With its end of line.
    pub fn written(&self, time: Time, format: Format, secrets: Option<&Redactor>) -> String {
        let clean = |text: &str| plain::line(&secrets.map_or_else(|| text.to_owned(), |secrets| secrets.clean(text)));
        let level = self.level.as_str();
        if format == Format::Text {
            let job = self.job.as_ref().map(|id| format!("job {id}: ")).unwrap_or_default();
            return format!("{time} {level:5} {job}{}\n", clean(&self.text));
        }
        let mut all = vec![
            ("time", Value::from(time.to_string())),
            ("level", level.into()),
            ("message", clean(&self.text).into()),
        ];
        all.extend(self.job.as_ref().map(|id| ("job", Value::from(id.as_str()))));
        all.extend(
            self.fields
                .iter()
                .map(|(name, value)| (*name, value.as_str().map_or_else(|| value.clone(), |text| clean(text).into()))),
        );
        // As it is read, not as the alphabet has it.
        let all: Vec<String> = all.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}\n", all.join(","))
    }
}

/// A step, to read: what, what came of it, how long it took, where.
pub fn told(step: &str, detail: &str, took: Option<Duration>, record: &Record) -> String {
    let took = took.map(|took| format!("{:.1} s", tenths(took)));
    let what = [Some(step), Some(detail).filter(|detail| !detail.is_empty())];
    let what: Vec<&str> = what.into_iter().flatten().collect();
    let rest = [took.as_deref(), record.repo_url.as_deref()];
    [what.join(": ")].into_iter().chain(rest.into_iter().flatten().map(str::to_owned)).collect::<Vec<_>>().join("; ")
}

/// Seconds to a tenth.
pub fn tenths(took: Duration) -> f64 {
    (took.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::queued;

    const AT: Time = Time(1_767_323_045_678);

    #[test]
    fn a_line_is_one_line_without_secrets_and_without_orders_for_a_terminal() {
        let secrets = Redactor::new(["hunter2-hunter2".to_owned()]);
        let line =
            Line { job: Some("abc".into()), ..Line::new(Level::Warn, "a\nb \u{1b}[2J hunter2-hunter2 \u{202e}x") };
        let text = line.written(AT, Format::Text, Some(&secrets));
        assert_eq!(text, "2026-01-02T03:04:05.678Z warn  job abc: a b \u{fffd}[2J ******** \u{fffd}x\n");
        let json: Value = serde_json::from_str(&line.written(AT, Format::Json, Some(&secrets))).unwrap();
        assert_eq!(json["message"], "a b \u{fffd}[2J ******** \u{fffd}x");
        assert_eq!((json["level"].as_str(), json["job"].as_str()), (Some("warn"), Some("abc")));
    }

    #[test]
    fn a_step_says_what_and_where_and_how_long() {
        let mut record: Record = queued().into();
        record.repo_url = Some("https://a.example/b".into());
        let text = told("cloned", "main", Some(Duration::from_millis(1234)), &record);
        assert_eq!(text, "cloned: main; 1.2 s; https://a.example/b");
        record.repo_url = None;
        assert_eq!(told("ended", "succeeded", None, &record), "ended: succeeded");
    }

    #[test]
    fn levels_have_an_order_and_names() {
        assert!(Level::Debug < Level::Info && Level::Warn < Level::Error);
        assert!(Level::NAMES.iter().all(|name| Level::parse(name).is_some_and(|level| level.as_str() == *name)));
        assert_eq!(Level::parse("loud"), None);
    }
}
