//! The way of a job through the pipeline: where an attempt goes on. Pure.
//!
//! What was achieved is in the record, so an attempt that takes over goes on behind the last mark. What one attempt
//! has looked at itself, another has to look at again: that is in [`Looked`].

use crate::job::{Purpose, Record};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// What an earlier attempt's agent did has to be within reach before it is published.
    FindWork,
    /// An earlier attempt may have pushed without the record knowing.
    FindBranch,
    /// Repository, worktree, profile; then the agent itself.
    RunAgent,
    /// A worktree that stays is all that is wanted.
    MakeWorktree,
    Commit,
    Push,
    OpenPullRequest,
    /// The worktree goes, unless work would be lost with it.
    Tidy,
    /// The job ends as the verdict on the agent's run says.
    Finish,
}

/// What an attempt knows beside the record.
#[derive(Clone, Copy, Default, Debug)]
pub struct Looked {
    /// The profile wants a branch and a pull request.
    pub publishes: bool,
    /// Marks of an earlier attempt may be lost: in a fleet, from the second attempt on.
    pub may_be_behind: bool,
    /// This attempt has done these.
    pub for_work: bool,
    pub for_branch: bool,
    pub tidied: bool,
}

pub fn next_step(record: &Record, looked: &Looked) -> Step {
    if record.purpose == Purpose::Worktree {
        return match record.verdict {
            None => Step::MakeWorktree,
            // It may have been made on another pod.
            Some(_) if !looked.for_work => Step::FindWork,
            Some(_) => Step::Finish,
        };
    }
    let succeeded = record.verdict.as_ref().is_some_and(|verdict| verdict.succeeded);
    let publishes = looked.publishes && succeeded && record.repo_url.is_some() && record.branch.is_some();
    let is_open = publishes && !is_settled(record);
    if is_open && !record.pushed && !looked.for_work {
        return Step::FindWork;
    }
    if record.verdict.is_none() {
        let may_be_pushed = looked.publishes && looked.may_be_behind && record.repo_url.is_some();
        return if may_be_pushed && !looked.for_branch { Step::FindBranch } else { Step::RunAgent };
    }
    if is_open {
        return match () {
            () if record.commit.is_none() => Step::Commit,
            () if !record.pushed => Step::Push,
            () => Step::OpenPullRequest,
        };
    }
    if looked.tidied { Step::Finish } else { Step::Tidy }
}

/// Publishing was decided, one way or the other.
fn is_settled(record: &Record) -> bool {
    record.pr_url.is_some() || record.note.is_some() || record.error.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::{queued, spec};
    use crate::job::{JobId, Mark, Queued, Running, Spec, Spent, Time, Verdict};

    fn on_repository() -> Running {
        let spec = Spec { repo_url: Some("https://example.com/o/r".into()), ..spec() };
        Queued::new(JobId::random(), spec, Time(1)).claim("a", Time(2))
    }

    fn worktree() -> Mark {
        let (path, branch) = ("/w".to_owned(), Some("agenticore-1".to_owned()));
        let (base_ref, base_commit, pr_base) = ("main".into(), "c0".into(), "main".into());
        Mark::Worktree { path, on: None, branch, base_ref, base_commit, pr_base }
    }

    fn agent_ended(succeeded: bool) -> Mark {
        let error = (!succeeded).then(|| "it failed".to_owned());
        Mark::AgentEnded {
            verdict: Verdict { succeeded, exit_code: None, output: None, error },
            spent: Spent::default(),
        }
    }

    fn after(mut job: Running, marks: &[Mark]) -> Record {
        marks.iter().for_each(|mark| job.mark(mark.clone()));
        job.into()
    }

    const FRESH: Looked =
        Looked { publishes: true, may_be_behind: false, for_work: false, for_branch: false, tidied: false };
    const WORK_IS_HERE: Looked = Looked { for_work: true, ..FRESH };
    const TAKES_OVER: Looked = Looked { may_be_behind: true, ..FRESH };

    #[test]
    fn a_job_goes_on_behind_its_last_mark() {
        let (well, badly) = (agent_ended(true), agent_ended(false));
        let committed = Mark::Committed("c1".into());
        let opened = Mark::PrOpened("https://example.com/pull/1".into());
        let adopted = Mark::Adopted { commit: "c1".into(), pr_base: None };
        let table: &[(&str, &[Mark], Looked, Step)] = &[
            ("claimed", &[], FRESH, Step::RunAgent),
            ("taken over", &[], TAKES_OVER, Step::FindBranch),
            ("no branch there", &[], Looked { for_branch: true, ..TAKES_OVER }, Step::RunAgent),
            ("taken over, publishes nothing", &[], Looked { publishes: false, ..TAKES_OVER }, Step::RunAgent),
            ("a worktree", &[worktree()], FRESH, Step::RunAgent),
            ("done", &[worktree(), well.clone()], FRESH, Step::FindWork),
            ("done, and here", &[worktree(), well.clone()], WORK_IS_HERE, Step::Commit),
            ("done, and lost", &[worktree(), well.clone(), Mark::WorkLost], WORK_IS_HERE, Step::RunAgent),
            ("done, publishes nothing", &[worktree(), well.clone()], Looked { publishes: false, ..FRESH }, Step::Tidy),
            ("failed", &[worktree(), badly], FRESH, Step::Tidy),
            ("nothing changed", &[worktree(), well.clone(), Mark::Note("nothing".into())], FRESH, Step::Tidy),
            ("committed", &[worktree(), well.clone(), committed.clone()], WORK_IS_HERE, Step::Push),
            ("pushed", &[worktree(), well.clone(), committed.clone(), Mark::Pushed], FRESH, Step::OpenPullRequest),
            ("adopted", &[adopted], TAKES_OVER, Step::OpenPullRequest),
            ("opened", &[worktree(), well.clone(), committed.clone(), Mark::Pushed, opened], FRESH, Step::Tidy),
            ("not pushed", &[worktree(), well.clone(), committed, Mark::Unpublished("no".into())], FRESH, Step::Tidy),
            ("tidied", &[worktree(), well, Mark::Note("n".into())], Looked { tidied: true, ..FRESH }, Step::Finish),
        ];
        for (what, marks, looked, step) in table {
            assert_eq!(next_step(&after(on_repository(), marks), looked), *step, "{what}");
        }
    }

    #[test]
    fn without_a_repository_nothing_is_published() {
        let claimed = queued().claim("a", Time(2));
        assert_eq!(next_step(&after(claimed.clone(), &[]), &TAKES_OVER), Step::RunAgent);
        assert_eq!(next_step(&after(claimed, &[agent_ended(true)]), &FRESH), Step::Tidy);
    }
}
