//! What a list of jobs is asked for, read strictly. Pure.

use super::request::{label, limit, status};
use crate::job::{JobId, Status, Time};
use crate::suggest;
use std::fmt;

/// What a list shows of each job.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum View {
    #[default]
    Full,
    Summary,
}

/// Behind which job a list goes on: opaque for those who send it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListCursor {
    pub created_at: Time,
    pub id: JobId,
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:x}.{}", self.created_at.0, self.id)
    }
}

impl ListCursor {
    fn parse(text: &str) -> Option<Self> {
        let (time, id) = text.split_once('.')?;
        Some(Self { created_at: Time(i64::from_str_radix(time, 16).ok()?), id: JobId::parse(id)? })
    }
}

/// `GET /jobs?…`
#[derive(Debug, Default, PartialEq)]
pub struct ListRequest {
    pub limit: Option<usize>,
    pub status: Option<Status>,
    pub view: View,
    pub after: Option<ListCursor>,
    pub wanted: Wanted,
}

/// What a job has to be to be listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The URL, or the end of its path: `you/project`.
    pub repo: Option<String>,
    pub profile: Option<String>,
    pub branch: Option<String>,
    pub submitted_by: Option<String>,
    /// Those of whoever asks.
    pub mine: bool,
    pub since: Option<Time>,
    /// A text in its task, error, note or labels, whatever the letters' size.
    pub q: Option<String>,
    pub labels: Vec<(String, String)>,
}

impl ListRequest {
    /// `now`: what an age is counted from.
    pub fn parse(pairs: &[(&str, &str)], now: Time) -> Result<Self, String> {
        let mut request = Self::default();
        for (name, value) in pairs {
            let text = || Some((*value).to_owned());
            match *name {
                "limit" => request.limit = Some(limit(value)?),
                "view" => request.view = view(value)?,
                // One that is empty is one that was not given.
                _ if value.is_empty() => {}
                "status" => request.status = Some(status(value)?),
                "after" => {
                    let wrong = || format!("`after` must be the `next` of a list, not `{value}`");
                    request.after = Some(ListCursor::parse(value).ok_or_else(wrong)?);
                }
                "repo" => request.wanted.repo = text(),
                "profile" => request.wanted.profile = text(),
                "branch" => request.wanted.branch = text(),
                "submitted_by" => request.wanted.submitted_by = text(),
                "mine" => request.wanted.mine = truth(value)?,
                "since" => request.wanted.since = Some(since(value, now)?),
                "q" => request.wanted.q = Some(value.to_lowercase()),
                "label" => request.wanted.labels.push(pair(value)?),
                // The table of routes says which there are.
                _ => {}
            }
        }
        Ok(request)
    }
}

fn view(text: &str) -> Result<View, String> {
    match text {
        "full" => Ok(View::Full),
        "summary" => Ok(View::Summary),
        other => {
            let meant = suggest::did_you_mean(other, ["full", "summary"].into_iter());
            Err(format!("`view` must be full or summary, not `{other}`{meant}"))
        }
    }
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("`mine` must be true or false, not `{other}`")),
    }
}

/// `NAME=VALUE`
pub fn pair(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("a label must be NAME=VALUE, not `{text}`");
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    label(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A time of RFC 3339, a date (its begin, in UTC), or an age: `90m`, `12h`, `3d`.
fn since(text: &str, now: Time) -> Result<Time, String> {
    let age = |unit: char, seconds: i64| {
        let count: i64 = text.strip_suffix(unit)?.parse().ok().filter(|count| (0..=1_000_000).contains(count))?;
        Some(Time(now.0 - count * seconds * 1000))
    };
    let ages = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    if let Some(time) = ages.into_iter().find_map(|(unit, seconds)| age(unit, seconds)) {
        return Ok(time);
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment: Option<jiff::Timestamp> = whole.parse().ok();
    moment.map(|moment| Time(moment.as_millisecond())).ok_or_else(|| {
        format!("`since` must be an age such as 90m, 12h or 3d, a date, or a time of RFC 3339, not `{text}`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<ListRequest, String> {
        let pairs: Vec<_> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        ListRequest::parse(&pairs, Time(1_767_323_045_678))
    }

    #[test]
    fn lists_have_limits() {
        assert_eq!(parse("").unwrap(), ListRequest::default());
        let wanted = ListRequest {
            limit: Some(1000),
            status: Some(Status::Running),
            view: View::Summary,
            ..ListRequest::default()
        };
        assert_eq!(parse("limit=1000&status=running&view=summary").unwrap(), wanted);
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=abc",
            "limit=-1",
            "limit=",
            "status=done",
            "view=all",
            "after=x",
            "mine=me",
            "since=soon",
            "since=-1d",
            "label=x",
            "label=a b=c",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = ListCursor { created_at: Time(1_767_323_045_678), id: JobId::random() };
        assert_eq!(parse(&format!("after={cursor}")).unwrap().after, Some(cursor));
    }

    #[test]
    fn ages_dates_and_labels_are_understood() {
        let since = |text: &str| parse(&format!("since={text}")).unwrap().wanted.since.unwrap().to_string();
        assert_eq!(since("3h"), "2026-01-02T00:04:05.678Z");
        assert_eq!(since("2026-01-01"), "2026-01-01T00:00:00.000Z");
        assert_eq!(since("2026-01-01T10:00:00Z"), "2026-01-01T10:00:00.000Z");
        let labels = parse("label=team=a&label=x.y/z=1=2").unwrap().wanted.labels;
        assert_eq!(labels, [("team".into(), "a".into()), ("x.y/z".into(), "1=2".into())]);
    }
}
