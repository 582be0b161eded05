//! After the commit: push and pull request. Each is in the record before the next begins, and each done twice is done
//! once.

use super::commit::joined;
use super::retry::Failure;
use super::{Execution, Halt};
use crate::event::{Draft, Kind};
use crate::forge::PullRequest;
use crate::job::{Mark, Record, cut};
use crate::workspace::commit_push::Push;
use crate::workspace::url::RepoUrl;
use crate::workspace::worktree::Worktree;

/// GitHub takes 256; more than this is no title.
const TITLE_LIMIT: usize = 120;
/// GitHub takes 65 536 characters in a body; the task and the summary share it, each as it stands there.
const BODY_PART_LIMIT: usize = 30_000;

impl Execution<'_> {
    /// What an attempt on a pod that is gone left on that pod's disk is lost: the agent begins again. What
    /// it committed lies in the cache, and is published by whoever has the job.
    pub fn find_work(&mut self) -> Result<(), Halt> {
        self.looked.for_work = true;
        let Some(url) = self.url()? else { return Ok(()) };
        let id = self.record.id.clone();
        let worktree = Worktree::of(&self.runner.spaces, &url, &id, None);
        let is_here = match &self.record.commit {
            Some(commit) => worktree.cache_has(commit)?,
            None => self.record.worktree_on == self.runner.pod && self.worktree(&url).path().is_dir(),
        };
        if is_here || self.bring_work(&url)? {
            return Ok(());
        }
        let pod = self.record.worktree_on.clone().unwrap_or_else(|| "an earlier server".into());
        let told = format!("what the agent had done was on the disk of {pod}, which is gone: it begins again");
        self.mark(Mark::WorkLost, Some(Draft::new(Kind::PublishNotice, told)))
    }

    /// An earlier attempt may have pushed and opened a pull request without Redis knowing it any more: then that
    /// is adopted, and the agent need not run again.
    pub fn find_branch(&mut self) -> Result<(), Halt> {
        self.looked.for_branch = true;
        let Some(url) = self.url()? else { return Ok(()) };
        let id = self.record.id.clone();
        let worktree = Worktree::of(&self.runner.spaces, &url, &id, None);
        // A remote that cannot be asked is met again, and explained, when the repository is fetched.
        let Ok(login) = self.runner.github.login(&url) else { return Ok(()) };
        let Ok(Some(there)) = worktree.on_remote(&id.branch(), login.clone(), self.stop) else { return Ok(()) };
        // One that its agent pushed half-way says nothing of the rest.
        if !worktree.is_servers_own(&there, login.clone(), self.stop).unwrap_or(false) {
            return Ok(());
        }
        let pr_base = worktree.pull_request_base(self.record.base_ref.as_deref(), login, self.stop)?;
        let told = format!("{} was on the remote already, at {there}, by an earlier attempt", id.branch());
        self.mark(Mark::Adopted { commit: there, pr_base }, Some(Draft::new(Kind::Pushed, told)))
    }

    /// What publishing works on: the next step is one of it only for a job with both.
    pub(super) fn published(&self) -> Result<(RepoUrl, String), Halt> {
        let missing = || Halt::Failed("the job's record names no repository or no branch to publish to".into());
        Ok((self.url()?.ok_or_else(missing)?, self.record.branch.clone().ok_or_else(missing)?))
    }

    /// The one that the job works in, on the branch that is checked out there.
    fn worktree<'a>(&'a self, url: &'a RepoUrl) -> Worktree<'a> {
        let id = self.record.worktree_name();
        Worktree::of(&self.runner.spaces, url, id, self.record.branch.as_ref().map(|_| id.branch()))
    }

    pub fn push(&mut self) -> Result<(), Halt> {
        let (url, branch) = self.published()?;
        let (id, commit) = (self.record.id.clone(), self.record.commit.clone().unwrap_or_default());
        let worktree = Worktree::of(&self.runner.spaces, &url, &id, Some(branch.clone()));
        let pushed = self.try_again("pushing", || {
            self.prove()?;
            let login = self.runner.github.login(&url)?;
            worktree.push(&commit, &branch, login, self.stop).map_err(Failure::from)
        })?;
        match pushed {
            // Pushed now, or by an earlier attempt of this job: what it pushes was in the record before.
            Ok(Push::Done) => self.mark(Mark::Pushed, Some(Draft::new(Kind::Pushed, branch))),
            Ok(Push::Exists(there)) if worktree.agent_has(&there) => self.unpublished(format!(
                "the agent pushed the branch {branch} itself, at {there}, and went on from an earlier commit than \
                 that: the branch is left as it is, and the work stays in the worktree"
            )),
            // An earlier attempt of this job, whose marks were lost with Redis or by restoring a back-up, had got that
            // far.
            Ok(Push::Exists(there)) if self.made_by_server(&worktree, &there)? => {
                let told = format!("the branch {branch} was on the remote already, at {there}, by an earlier attempt");
                let adopted = Mark::Adopted { commit: there, pr_base: None };
                self.mark(adopted, Some(Draft::new(Kind::Pushed, told)))
            }
            Ok(Push::Exists(there)) => Err(Halt::Failed(format!(
                "the branch {branch} is on the remote already, at {there}, and is not this job's work: it is left \
                 alone, and the work stays in the worktree"
            ))),
            Err(why) => self.unpublished(format!("the push failed: {why}")),
        }
    }

    fn made_by_server(&self, worktree: &Worktree, commit: &str) -> Result<bool, Halt> {
        let Ok(login) = self.runner.github.login(worktree.url) else { return Ok(false) };
        Ok(worktree.is_servers_own(commit, login, self.stop)?)
    }

    pub fn open_pull_request(&mut self) -> Result<(), Halt> {
        let (url, branch) = self.published()?;
        let github = &self.runner.github;
        let Some(slug) = github.slug(&url) else {
            return self.note(&format!(
                "the branch {branch} is pushed; there is no pull request because {url} is not on the GitHub that \
                 this server \
                 knows (GITHUB_SERVER_URL)"
            ));
        };
        let title = title(&self.record.task);
        let body = self.redactor.clean(body(&self.record));
        let base = self.record.pr_base.clone().unwrap_or_else(|| "main".into());
        let wanted = PullRequest { slug: &slug, head: &branch, base: &base, title: &title, body: &body };
        let opened = self.try_again("opening the pull request", || {
            if github.token()?.is_none() {
                return Ok(None);
            }
            self.prove()?;
            if let Some(address) = github.find(&wanted)? {
                return Ok(Some(address));
            }
            self.prove()?;
            Ok(Some(github.open(&wanted)?))
        })?;
        match opened {
            Ok(Some(address)) => {
                let event = Draft::new(Kind::PrOpened, address.as_str());
                self.mark(Mark::PrOpened(address), Some(event))
            }
            Ok(None) => self.note(&format!(
                "the branch {branch} is pushed; there is no pull request because the server has neither \
                 GITHUB_TOKEN nor a \
                 GitHub App"
            )),
            Err(why) => self.unpublished(format!("the branch {branch} is pushed, but there is no pull request: {why}")),
        }
    }

    pub(super) fn note(&mut self, text: &str) -> Result<(), Halt> {
        self.mark(Mark::Note(text.to_owned()), Some(Draft::new(Kind::PublishNotice, text)))
    }

    pub(super) fn unpublished(&mut self, why: String) -> Result<(), Halt> {
        let why = self.redactor.clean(why);
        self.mark(Mark::Unpublished(why.clone()), Some(Draft::new(Kind::PublishNotice, why)))
    }
}

/// The task's first line that says something.
pub(super) fn title(task: &str) -> String {
    let printable = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned();
    let line = task.lines().map(printable).find(|line| !line.is_empty());
    harmless(&cut(line.unwrap_or_else(|| "agenticore job".into()), TITLE_LIMIT))
}

/// Words by which GitHub closes an issue when a text is merged.
const CLOSING: [&str; 9] = ["close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "resolves", "resolved"];

/// The same to read, for a text that only repeats what somebody else wrote: it mentions nobody and closes nothing.
fn harmless(text: &str) -> String {
    const NOTHING: char = '\u{200b}';
    let (mut out, mut word, mut closes) = (String::with_capacity(text.len()), String::new(), false);
    for c in text.chars() {
        out.push(c);
        match c {
            '@' => out.push(NOTHING),
            '#' if closes => out.push(NOTHING),
            c if c.is_alphanumeric() => word.extend(c.to_lowercase()),
            // `closes: #1`, `closes owner/name#1`: what stands between goes on.
            ' ' | ':' | '\t' if CLOSING.contains(&word.as_str()) => (closes, word) = (true, String::new()),
            '/' | '-' | '_' | '.' | ':' => {}
            _ => (closes, word) = (closes && word.is_empty(), String::new()),
        }
    }
    out
}

fn body(record: &Record) -> String {
    // As it was given: nothing in it is markup, mentions somebody or closes an issue.
    let task = fenced(&cut(record.task.replace('\0', ""), BODY_PART_LIMIT));
    // Its own words; but it pings nobody, and what it quotes closes nothing.
    let line =
        |line: &str| if line.trim_start().starts_with('>') { harmless(line) } else { line.replace('@', "@\u{200b}") };
    let summary = record.output.as_deref().map(|text| text.lines().map(line).collect::<Vec<_>>().join("\n"));
    let summary = summary.map(|text| cut(text, BODY_PART_LIMIT));
    let summary = summary.unwrap_or_else(|| "(the agent gave no summary)".into());
    // Conflicts are a reason to keep the worktree too.
    let caution =
        record.caution.clone().filter(|what| !record.kept_because.as_ref().is_some_and(|why| why.contains(what)));
    let first = joined([caution, record.kept_because.clone()]).map(|why| harmless(&why));
    let first = first.map(|why| format!("**Look at this first**: {why}.\n\n")).unwrap_or_default();
    format!(
        "Job `{}`, profile `{}`, by agenticore.\n\n{first}**Task**\n\n{task}\n**What the agent says**\n\n{summary}\n",
        record.id, record.profile
    )
}

/// A code block with a fence that nothing in the text ends.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Queued;
    use crate::job::tests::spec;
    use crate::job::{JobId, Spec, Time};

    #[test]
    fn what_is_repeated_mentions_nobody_and_closes_nothing() {
        for (text, shown) in [
            ("closes #1", "closes #|1"),
            ("Fixes: #12, see #13", "Fixes: #|12, see #13"),
            ("resolves owner/name#7", "resolves owner/name#|7"),
            ("@team look at #5", "@|team look at #5"),
            ("the prefix #1", "the prefix #1"),
            ("mail a@b.c", "mail a@|b.c"),
        ] {
            assert_eq!(harmless(text).replace('\u{200b}', "|"), shown);
        }
    }

    #[test]
    fn a_body_fits_whatever_the_task_is() {
        let task = "closes #1 @all\n```\n".to_owned() + &"\n".repeat(60_000);
        let mut record: Record = Queued::new(JobId::random(), Spec { task, ..spec() }, Time(0)).into();
        record.output = Some("Fixes #2 for @you\n> closes #3\n".repeat(5_000));
        let body = body(&record);
        assert!(body.chars().count() < 65_536, "{}", body.chars().count());
        assert!(body.contains("````text\ncloses #1 @all"), "{}", &body[..200]);
        assert!(!body.contains("Look at this first"));
        record.kept_because = Some("conflicts are left unresolved in `a`".into());
        record.caution = record.kept_because.clone();
        assert!(super::body(&record).contains("**Look at this first**: conflicts are left unresolved in `a`."));
        assert!(body.contains("Fixes #2 for @\u{200b}you\n> closes #\u{200b}3"), "its own words stay");
    }

    #[test]
    fn a_title_is_one_printable_line() {
        assert_eq!(title("\n  fix it \nthen rest"), "fix it");
        assert_eq!(title("a\u{1b}[31mb"), "a[31mb");
        assert!(title(&"x".repeat(1000)).len() <= TITLE_LIMIT);
        assert_eq!(title("\0"), "agenticore job");
    }
}
