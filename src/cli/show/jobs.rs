//! Lists of jobs and of plans, as tables. Pure.

use super::table::{self, Cell, Column, Cut};
use super::{Colour, colour_of, first_line, plain};
use crate::api::{JobSummary, Plan, PlanStatus};
use crate::job::Time;

/// Where a table is shown.
#[derive(Clone, Copy)]
pub struct Screen {
    /// In columns; None: it is no terminal, and nothing is cut.
    pub width: Option<usize>,
    pub colourful: bool,
    pub now: Time,
}

const fn column(title: &'static str, cut: Cut, least: usize, leaves: Option<u8>) -> Column {
    Column { title, cut, least, leaves }
}

const JOBS: [Column; 8] = [
    column("ID", Cut::Never, 8, None),
    column("STATUS", Cut::Never, 9, None),
    column("AGE", Cut::Never, 3, Some(4)),
    column("TOOK", Cut::Never, 4, Some(3)),
    column("REPOSITORY", Cut::Begin, 12, Some(5)),
    column("PROFILE", Cut::End, 7, Some(1)),
    column("WORK", Cut::Begin, 10, Some(2)),
    column("TASK", Cut::End, 20, None),
];

pub fn text(list: &[JobSummary], screen: Screen) -> String {
    if list.is_empty() {
        return "no jobs\n".into();
    }
    let rows: Vec<Vec<Cell>> = list.iter().map(|job| row(job, screen.now)).collect();
    table::text(&JOBS, &rows, screen.width, screen.colourful)
}

fn row(job: &JobSummary, now: Time) -> Vec<Cell> {
    let took = job.started_at.map(|start| duration(job.ended_at.unwrap_or(now).since(start)));
    let state = Cell { text: job.status.as_str().into(), colour: Some(colour_of(job.status, job.error.is_some())) };
    vec![
        job.id.short().to_owned().into(),
        state,
        age(now.since(job.created_at)).into(),
        took.unwrap_or_else(|| "-".into()).into(),
        job.repo_url.as_deref().map_or_else(|| "-".into(), |url| plain(&repository(url))).into(),
        plain(&job.profile).into(),
        plain(&work(job)).into(),
        one_line(&job.task).into(),
    ]
}

/// As people call it: the path on its forge, or the directory's name.
fn repository(url: &str) -> String {
    let path = match url.split_once("://") {
        Some(("file", path)) => path,
        Some((_, rest)) => rest.split_once('/').map_or(rest, |(_, path)| path),
        None if url.starts_with('/') => url,
        None => url.split_once(':').map_or(url, |(_, path)| path),
    };
    let path = path.trim_end_matches('/').trim_end_matches(".git");
    if path.starts_with('/') { path.rsplit('/').next().unwrap_or(path).to_owned() } else { path.to_owned() }
}

/// The pull request, the branch that is on the remote, or that there is work in its worktree alone.
fn work(job: &JobSummary) -> String {
    match (&job.pr_url, &job.branch) {
        (Some(url), _) => match url.rsplit_once("/pull/") {
            Some((_, number)) => format!("#{number}"),
            None => url.clone(),
        },
        (None, Some(branch)) if job.pushed => branch.clone(),
        _ if job.has_kept_work => "kept".into(),
        _ => "-".into(),
    }
}

fn one_line(task: &str) -> String {
    plain(&first_line(task, usize::MAX)).replace('\t', " ")
}

/// How long ago, in one unit.
fn age(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long, in two units.
fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
    }
}

const PLANS: [Column; 6] = [
    column("ID", Cut::Never, 8, None),
    column("STATUS", Cut::Never, 7, None),
    column("AGE", Cut::Never, 3, Some(2)),
    column("REPOSITORY", Cut::Begin, 12, Some(3)),
    column("JOB", Cut::Never, 8, Some(1)),
    column("TASK", Cut::End, 20, None),
];

pub fn plans(list: &[Plan], screen: Screen) -> String {
    if list.is_empty() {
        return "no plans\n".into();
    }
    let row = |plan: &Plan| -> Vec<Cell> {
        let colour = match plan.status {
            PlanStatus::Ready => Colour::Green,
            PlanStatus::Failed => Colour::Red,
            PlanStatus::Running => Colour::Blue,
            PlanStatus::Queued => Colour::Dim,
        };
        let url = plan.repo_url.as_deref();
        vec![
            plan.id.short().to_owned().into(),
            Cell { text: plan.status.as_str().into(), colour: Some(colour) },
            age(screen.now.since(plan.created_at)).into(),
            url.map_or_else(|| "-".into(), |url| plain(&repository(url))).into(),
            plan.job_id.as_ref().map_or("-", |id| id.short()).to_owned().into(),
            one_line(&plan.task).into(),
        ]
    };
    table::text(&PLANS, &list.iter().map(row).collect::<Vec<_>>(), screen.width, screen.colourful)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Job;
    use crate::job::tests::queued;
    use crate::job::{JobId, Status};

    const NOW: Time = Time(1_767_323_045_678);

    fn of(id: &str, status: Status, seconds_ago: i64, took: Option<i64>, task: &str) -> JobSummary {
        let mut job = JobSummary::from(&Job::new(&queued().into(), None));
        job.id = JobId::parse(&format!("{id}-0000-4000-8000-000000000000")).unwrap();
        (job.status, job.task, job.profile) = (status, task.into(), "coding".into());
        job.repo_url = Some("https://github.com/you/project.git".into());
        job.created_at = Time(NOW.0 - seconds_ago * 1000);
        job.started_at = took.map(|_| job.created_at);
        job.ended_at = took.filter(|_| status != Status::Running).map(|took| Time(job.created_at.0 + took * 1000));
        job
    }

    fn examples() -> Vec<JobSummary> {
        let mut published = of("3f2a1b9c", Status::Succeeded, 200, Some(93), "fix the failing test in the parser");
        published.pr_url = Some("https://github.com/you/project/pull/41".into());
        let mut pushed = of("a0b1c2d3", Status::Succeeded, 4_000, Some(3_700), "\n  make the build quicker\nand more");
        (pushed.pushed, pushed.branch) = (true, Some("agenticore-a0b1c2d3".into()));
        pushed.repo_url = Some("git@git.example.com:a-group/and-another/a-very-long-name.git".into());
        let mut failed =
            of("00ff00ff", Status::Failed, 500_000, Some(5), "write \u{1b}[2J a poem about 文字化け and ropes");
        (failed.error, failed.repo_url) = (Some("no".into()), Some("/srv/git/here.git".into()));
        (failed.profile, failed.branch) = ("careful-and-slow".into(), Some("not-pushed".into()));
        failed.has_kept_work = true;
        let mut waits = of("12345678", Status::Queued, 3, None, "think");
        waits.repo_url = None;
        vec![waits, of("9a9a9a9a", Status::Running, 61, Some(0), "add a README"), published, pushed, failed]
    }

    /// What a person sees, at four widths. `WRITE_GOLDEN=1` writes it anew.
    #[test]
    fn the_table_of_jobs_is_as_it_was() {
        let mut shown = String::new();
        for width in [Some(60), Some(80), Some(120), None] {
            let text = text(&examples(), Screen { width, colourful: false, now: NOW });
            let is_narrow = |line: &str| width.is_none_or(|width| unicode_width::UnicodeWidthStr::width(line) <= width);
            assert!(text.lines().all(is_narrow) && !text.contains('\u{1b}'), "{text}");
            shown
                .push_str(&format!("== {}\n{text}", width.map_or("no terminal".to_owned(), |width| width.to_string())));
        }
        crate::golden::check("jobs.txt", &shown);
    }

    #[test]
    fn colours_change_no_width() {
        let screen = Screen { width: Some(80), colourful: true, now: NOW };
        let text = text(&examples(), screen);
        assert!(text.contains("\u{1b}[32msucceeded\u{1b}[0m") && text.contains("\u{1b}[31mfailed\u{1b}[0m"), "{text}");
        let plain: String =
            text.split('\u{1b}').map(|part| part.split_once('m').map_or(part, |(_, rest)| rest)).collect();
        assert!(plain.lines().count() == 6, "{plain}");
    }

    #[test]
    fn no_jobs_are_said() {
        let screen = Screen { width: None, colourful: false, now: NOW };
        assert_eq!((text(&[], screen), plans(&[], screen)), ("no jobs\n".into(), "no plans\n".into()));
    }
}
