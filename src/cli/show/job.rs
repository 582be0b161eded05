//! One job for a person: what is known of it, where its work is, and what can be done next. Pure.

use super::{Colour, first_line, paint, plain, status};
use crate::api::{Job, Webhook};
use crate::job::{Purpose, Status};
use std::path::Path;

/// Where the job ran: what can be done next is another thing there.
#[derive(Clone, Copy, PartialEq)]
pub enum Ran {
    OnServer,
    /// `run --local`: no server knows it.
    Here,
}

/// Everything that has a value, then its output, then what to do next.
pub fn text(job: &Job, ran: Ran) -> String {
    let mut text = fields(job);
    if let Some(output) = &job.output {
        text.push_str(&format!("\n{}\n", plain(output).trim_end()));
    }
    let next = next(job, ran);
    let width = next.iter().map(|(command, _)| command.chars().count()).filter(|width| *width <= LONG).max();
    if !next.is_empty() {
        text.push_str(&format!("\n{}\n", paint("next", Colour::Dim)));
    }
    for (command, what) in next {
        let width = width.unwrap_or(0);
        match command.chars().count() <= LONG {
            true => text.push_str(&format!("  {command:width$}  {}\n", paint(&format!("# {what}"), Colour::Dim))),
            false => text.push_str(&format!("  {}\n  {command}\n", paint(&format!("# {what}"), Colour::Dim))),
        }
    }
    text
}

/// What is to be replaced in a command that is printed; `run` refuses it.
pub const TASK: &str = "…";
/// What Claude says of a conversation that is not there: to go on with it again would be of no use.
const NO_SUCH_SESSION: &str = "No conversation found";

/// A command longer than this has its explanation above it.
const LONG: usize = 48;

fn fields(job: &Job) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // What stands on a further line is no field, whatever it looks like.
        let value = value.trim_end().replace('\n', &format!("\n{:15}", ""));
        text.push_str(&format!("{} {value}\n", paint(&format!("{name:14}"), Colour::Dim)));
    };
    let kept = job.kept.as_ref();
    let lacks = kept.and_then(|kept| kept.lacks.as_ref()).map(|what| format!("what was saved does not hold {what}"));
    let fetch = kept.and_then(|kept| kept.fetch.clone());
    line("job", job.id.to_string());
    line("status", status(job.status, job.error.is_some()).trim_end().to_owned());
    if let Some(error) = &job.error {
        line("error", plain(error));
    }
    line("task", first_line(&plain(&job.task), 100));
    if let Some(place) = place(job) {
        line("place", place);
    }
    if let Some(work) = work(job) {
        line("work", plain(&work));
    }
    let labels: Vec<String> = job.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = (!labels.is_empty()).then(|| labels.join(", "));
    let told = |one: &Webhook| {
        let why = one.last.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{}: {} {}{why}", one.url, one.event, one.state.as_str())
    };
    let webhooks: Vec<String> = job.webhooks.iter().map(told).collect();
    let webhooks = (!webhooks.is_empty()).then(|| webhooks.join("\n"));
    let is_pushed = job.pushed || job.pr_url.is_some() || !job.status.has_ended();
    let branch = job.branch.as_ref().map(|name| if is_pushed { name.clone() } else { format!("{name} (not pushed)") });
    let told = [
        ("waiting_for", &job.waiting_for),
        ("profile", &Some(job.profile.clone())),
        ("repo_url", &job.repo_url),
        ("base_ref", &job.base_ref),
        ("branch", &branch),
        ("pr_url", &job.pr_url),
        ("commit", &job.commit),
        ("note", &job.note),
        ("kept_because", &job.kept_because),
        ("caution", &job.caution),
        ("session_id", &job.session_id),
        ("worktree_path", &job.worktree_path),
        ("worktree_on", &job.worktree_on),
        ("kept", &fetch),
        ("kept", &lacks),
        ("pod_name", &job.pod_name),
        ("model", &job.overrides.model),
        ("max_turns", &job.overrides.max_turns.map(|turns| turns.to_string())),
        ("timeout", &job.overrides.timeout.map(|seconds| format!("{seconds} s"))),
        ("labels", &labels),
        ("webhooks", &webhooks),
        ("resumed_from", &job.resumed_from.as_ref().map(|id| id.to_string())),
        ("retry_of", &job.retry_of.as_ref().map(|id| id.to_string())),
        ("retried_as", &job.retried_as.as_ref().map(|id| id.to_string())),
        ("plan_id", &job.plan_id.as_ref().map(|id| id.to_string())),
        ("executed_as", &job.executed_as.as_ref().map(|id| id.to_string())),
        ("worktree_id", &job.worktree_id.as_ref().map(|id| id.to_string())),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            line(name, plain(value));
        }
    }
    line(
        "attempt",
        match job.deaths {
            0 => job.attempt.to_string(),
            1 => format!("{} (one worker lost)", job.attempt),
            count => format!("{} ({count} workers lost)", job.attempt),
        },
    );
    let times = [("created_at", Some(job.created_at)), ("started_at", job.started_at), ("ended_at", job.ended_at)];
    for (name, time) in times {
        if let Some(time) = time {
            line(name, time.to_string());
        }
    }
    if let Some(cost) = job.cost_usd {
        let turns = match job.turns {
            None => String::new(),
            Some(1) => " in 1 turn".to_owned(),
            Some(turns) => format!(" in {turns} turns"),
        };
        line("cost", format!("${cost:.4}{turns}"));
    }
    if !job.denied_tools.is_empty() {
        line("denied tools", job.denied_tools.iter().map(|tool| plain(tool)).collect::<Vec<_>>().join(", "));
    }
    text
}

fn place(job: &Job) -> Option<String> {
    if job.status != Status::Queued {
        return None;
    }
    Some(match job.jobs_ahead? {
        0 => "the next in line".into(),
        1 => "one job waits before it".into(),
        count => format!("{count} jobs wait before it"),
    })
}

/// Where what the agent did can be had.
fn work(job: &Job) -> Option<String> {
    if let Some(url) = &job.pr_url {
        return Some(format!("pull request {url}"));
    }
    let repository = job.repo_url.as_deref().map(quoted);
    if job.pushed
        && let (Some(repository), Some(branch)) = (&repository, &job.branch)
    {
        return Some(format!("pushed, without a pull request: git fetch {repository} {}", quoted(branch)));
    }
    let on = job.worktree_on.as_ref().map(|pod| format!(" on {pod}")).unwrap_or_default();
    let saved = job.kept.as_ref().and_then(|kept| kept.fetch.as_ref());
    let saved = saved.map(|fetch| format!("; a copy, from a clone of the repository: {fetch}")).unwrap_or_default();
    match (&job.worktree_path, job.status) {
        (Some(path), Status::Running) => Some(format!("under way in {path}{on}")),
        // Nobody has looked whether there was any.
        (Some(path), Status::Cancelled) if saved.is_empty() && job.kept_because.is_none() => {
            Some(format!("not published; if there is any, it is in {path}{on}"))
        }
        (Some(path), _) => Some(format!("not published: it is in {path}{on}{saved}")),
        (None, _) if !saved.is_empty() => Some(format!("not published{saved}")),
        (None, _) if job.repo_url.is_none() && job.purpose.is_task() => {
            // Beside Claude's own files of the job.
            let directory = Path::new(job.job_config_dir.as_ref()?).parent()?;
            let on = job.pod_name.as_ref().map(|pod| format!(" on {pod}")).unwrap_or_default();
            Some(format!("without a repository: what it wrote is in {}{on}", directory.display()))
        }
        (None, status) if status.has_ended() && job.repo_url.is_some() && job.purpose.is_task() => {
            Some("none: no file was changed, or nothing of it was kept".into())
        }
        _ => None,
    }
}

/// Commands, and what each is for.
fn next(job: &Job, ran: Ran) -> Vec<(String, &'static str)> {
    let id = job.id.short();
    let mut next = Vec::new();
    if ran == Ran::OnServer {
        match job.status.has_ended() {
            false => {
                next.push((format!("agenticore logs {id} -f"), "follow it"));
                next.push((format!("agenticore cancel {id}"), "end it"));
            }
            true => {
                next.push((format!("agenticore logs {id}"), "what the agent said and did"));
                if job.purpose != Purpose::Worktree {
                    next.push((format!("agenticore retry {id}"), "the same request, as a new job"));
                }
            }
        }
        if job.purpose == Purpose::Plan && job.status == Status::Succeeded {
            next.push((format!("agenticore execute-plan {id}"), "carry the plan out"));
        }
    }
    if job.status.has_ended()
        && job.purpose.is_task()
        && let Some(session) = &job.session_id
        && !job.error.as_deref().is_some_and(|error| error.contains(NO_SUCH_SESSION))
    {
        let what = match (job.branch.as_deref().filter(|_| job.pushed), &job.kept) {
            (None, Some(kept)) if kept.fetch.is_some() => "go on with the conversation, and with the files it left",
            (Some(_), _) => "go on with the conversation, from the branch it pushed",
            _ => "go on with the conversation",
        };
        if ran == Ran::OnServer {
            next.push((format!("agenticore resume {id} \"{TASK}\""), what));
            return next;
        }
        let repository = job.repo_url.as_deref().map(|url| format!(" --repo {}", quoted(url))).unwrap_or_default();
        let branch = job.branch.as_deref().filter(|_| job.pushed);
        // Where it began, if that was not where most begin.
        let began = job.base_ref.as_deref().filter(|name| !["main", "master"].contains(name));
        let base = branch.or(began).filter(|_| job.repo_url.is_some());
        let base = base.map(|name| format!(" --base-ref {}", quoted(name))).unwrap_or_default();
        let profile = Some(&job.profile).filter(|name| *name != "coding");
        let profile = profile.map(|name| format!(" --profile {}", quoted(name))).unwrap_or_default();
        let session = quoted(session);
        next.push((
            format!("agenticore run --local \"{TASK}\"{repository}{base}{profile} --session-id {session}"),
            what,
        ));
    }
    next
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,~".contains(c);
    let text = plain(text);
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::queued;
    use crate::job::{Record, Time};

    fn ended() -> Job {
        let record: Record = queued().claim("pod", Time(1_767_323_045_678)).fail("because".into(), Time(0)).into();
        let mut job = Job::new(&record, None);
        job.repo_url = Some("https://github.com/you/project".into());
        job
    }

    #[test]
    fn a_job_is_readable_and_harmless() {
        let mut job = ended();
        job.task = "\nfix \u{1b}[2J it\nmore".into();
        (job.created_at, job.deaths, job.cost_usd, job.turns) = (Time(1_767_323_045_678), 1, Some(0.5), Some(3));
        let text = text(&job, Ran::OnServer);
        assert!(text.contains("because") && text.contains("$0.5000 in 3 turns") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn it_says_where_the_work_is() {
        let mut job = ended();
        assert!(work(&job).unwrap().starts_with("none: "));
        job.worktree_path = Some("/w/1".into());
        assert_eq!(work(&job).unwrap(), "not published: it is in /w/1");
        job.worktree_on = Some("pod-3".into());
        assert_eq!(work(&job).unwrap(), "not published: it is in /w/1 on pod-3");
        (job.pushed, job.branch) = (true, Some("b".into()));
        assert_eq!(work(&job).unwrap(), "pushed, without a pull request: git fetch https://github.com/you/project b");
        job.pr_url = Some("https://github.com/you/project/pull/7".into());
        assert_eq!(work(&job).unwrap(), "pull request https://github.com/you/project/pull/7");
    }

    #[test]
    fn it_says_what_can_be_done_next() {
        let mut job = ended();
        let commands = |job: &Job, ran| next(job, ran).into_iter().map(|(command, _)| command).collect::<Vec<_>>();
        let id = job.id.short().to_owned();
        assert_eq!(commands(&job, Ran::OnServer), [format!("agenticore logs {id}"), format!("agenticore retry {id}")]);
        assert_eq!(commands(&job, Ran::Here), [] as [&str; 0]);
        job.session_id = Some("s".into());
        job.repo_url = Some("/a b".into());
        assert_eq!(commands(&job, Ran::Here), ["agenticore run --local \"…\" --repo '/a b' --session-id s"]);
        let waiting = Job { jobs_ahead: Some(3), ..Job::new(&queued().into(), None) };
        let id = waiting.id.short().to_owned();
        let all = [format!("agenticore logs {id} -f"), format!("agenticore cancel {id}")];
        assert_eq!(commands(&waiting, Ran::OnServer), all);
        assert_eq!(place(&waiting).unwrap(), "3 jobs wait before it");
    }

    /// `WRITE_GOLDEN=1` writes it anew.
    #[test]
    fn a_job_is_shown_as_it_was() {
        let id = "3f2a1b9c-0000-4000-8000-000000000000";
        let mut failed = ended();
        failed.id = crate::job::JobId::parse(id).unwrap();
        failed.task = "fix the failing test".into();
        failed.session_id = Some("613d26fb-a63f-460b-9dee-1de47cf66177".into());
        (failed.branch, failed.error) =
            (Some("agenticore-3f2a1b9c".into()), Some("the agent stopped after 20 turns".into()));
        failed.kept = Some(crate::api::KeptWork {
            bundle: Some("/shared/kept/work.bundle".into()),
            bytes: 438,
            base: "b".into(),
            head: "h".into(),
            work: None,
            fetch: Some("git fetch /shared/kept/work.bundle '+refs/kept/*:refs/kept/*'".into()),
            lacks: None,
        });
        (failed.created_at, failed.started_at, failed.ended_at) = (Time(0), Some(Time(1_000)), Some(Time(61_000)));
        let mut published = failed.clone();
        (published.status, published.error, published.kept) = (Status::Succeeded, None, None);
        (published.pushed, published.pr_url) = (true, Some("https://github.com/you/project/pull/41".into()));
        (published.cost_usd, published.turns) = (Some(0.25), Some(7));
        published.output = Some("The test is green again.".into());
        let mut queued = Job { jobs_ahead: Some(12), ..Job::new(&queued().into(), None) };
        (queued.id, queued.created_at, queued.task) = (failed.id.clone(), Time(0), "think".into());
        let shown = [failed, published, queued].map(|job| text(&job, Ran::OnServer));
        crate::golden::check("job.txt", &shown.join("== the next\n"));
    }
}
