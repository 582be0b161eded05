//! Which jobs a list is to hold. Pure.

use super::Caller;
use crate::api::Wanted;
use crate::job::Record;

pub struct Filter<'a> {
    wanted: &'a Wanted,
    /// Those of whoever asks are wanted, and this is that one. Where no key is wanted all jobs are anybody's.
    mine: Option<&'a str>,
}

impl<'a> Filter<'a> {
    pub fn new(wanted: &'a Wanted, by: &'a Caller) -> Self {
        Self { wanted, mine: wanted.mine.then_some(by.name.as_deref()).flatten() }
    }

    pub fn wants_all(&self) -> bool {
        let alone = Wanted { since: None, mine: false, ..self.wanted.clone() };
        self.mine.is_none() && alone == Wanted::default()
    }

    /// So are all that come after it.
    pub fn is_too_old(&self, record: &Record) -> bool {
        self.wanted.since.is_some_and(|since| record.created_at < since)
    }

    pub fn fits(&self, record: &Record) -> bool {
        let Wanted { repo, profile, branch, q, labels, submitted_by, .. } = self.wanted;
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        let by = record.submitted_by.as_deref();
        self.mine.is_none_or(|name| by == Some(name))
            && is(submitted_by, by)
            && is(profile, Some(&record.profile))
            && is(branch, record.branch.as_deref())
            && repo.as_deref().is_none_or(|repo| record.repo_url.as_deref().is_some_and(|url| is_repo(url, repo)))
            && labels.iter().all(|(name, value)| record.labels.get(name) == Some(value))
            && q.as_deref().is_none_or(|text| holds(record, text))
    }
}

/// The URL as it is, or the end of its path.
fn is_repo(url: &str, wanted: &str) -> bool {
    let bare = |text: &str| text.trim_end_matches('/').trim_end_matches(".git").to_lowercase();
    let (url, wanted) = (bare(url), bare(wanted));
    url == wanted
        || url.strip_suffix(&wanted).is_some_and(|before| before.ends_with(['/', ':']) || wanted.starts_with('/'))
}

/// `text`: in small letters.
fn holds(record: &Record, text: &str) -> bool {
    let texts = [Some(&record.task), record.error.as_ref(), record.note.as_ref(), record.branch.as_ref()];
    let labels = record.labels.iter().flat_map(|(name, value)| [name, value]);
    texts.into_iter().flatten().chain(labels).any(|found| found.to_lowercase().contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Time;
    use crate::job::tests::queued;

    #[test]
    fn a_repository_is_meant_by_its_url_or_the_end_of_its_path() {
        for (url, wanted, fits) in [
            ("https://github.com/you/project.git", "https://github.com/you/project", true),
            ("https://github.com/you/project.git", "you/project", true),
            ("https://github.com/you/project", "YOU/Project/", true),
            ("git@host:you/project.git", "you/project", true),
            ("https://github.com/you/project", "project", true),
            ("https://github.com/you/project", "ject", false),
            ("/srv/x.git", "x", true),
        ] {
            assert_eq!(is_repo(url, wanted), fits, "{url} {wanted}");
        }
    }

    #[test]
    fn all_that_is_wanted_has_to_fit() {
        let mut record: Record = queued().into();
        (record.task, record.submitted_by) = ("Fix the PARSER".into(), Some("ci".into()));
        record.labels.insert("team".into(), "a".into());
        let ci = Caller { name: Some("ci".into()), ..Caller::anybody() };
        let fits = |wanted: Wanted, by: &Caller| Filter::new(&wanted, by).fits(&record);
        let text = |text: &str| Some(text.to_owned());
        assert!(fits(Wanted { q: text("parser"), mine: true, ..Wanted::default() }, &ci));
        assert!(fits(Wanted { mine: true, ..Wanted::default() }, &Caller::anybody()));
        assert!(!fits(Wanted { q: text("lexer"), ..Wanted::default() }, &ci));
        assert!(!fits(Wanted { submitted_by: text("other"), ..Wanted::default() }, &ci));
        let other = Caller { name: Some("other".into()), ..Caller::anybody() };
        assert!(!fits(Wanted { submitted_by: text("ci"), mine: true, ..Wanted::default() }, &other));
        assert!(!fits(Wanted { submitted_by: text("other"), mine: true, ..Wanted::default() }, &Caller::anybody()));
        assert!(fits(Wanted { labels: vec![("team".into(), "a".into())], ..Wanted::default() }, &ci));
        assert!(!fits(Wanted { labels: vec![("team".into(), "b".into())], ..Wanted::default() }, &ci));
        let since = Wanted { since: Some(Time(5_000)), ..Wanted::default() };
        assert!(Filter::new(&since, &ci).is_too_old(&record) && Filter::new(&since, &ci).wants_all());
    }
}
