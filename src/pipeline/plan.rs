//! Planning: what its agent is asked for, and how a plan is carried out. Pure.

use crate::job::{Purpose, Record};

/// Below the task, for an agent that is to plan it.
const PLAN_ONLY: &str = "\
Do not carry this task out, and change no file. Write the plan for it. Another agent, who sees nothing of what you see \
here but your plan, will carry it out in a fresh checkout of the same commit. Your last message is the plan, and \
nothing else is kept: say in it which files are to be changed and how, in which order, and how to check that it is \
done.";

/// What the agent is told.
pub fn prompt(record: &Record) -> String {
    match record.purpose {
        Purpose::Plan => format!("{}\n\n{PLAN_ONLY}\n", record.task),
        _ => record.task.clone(),
    }
}

/// What an agent is told that was interrupted.
pub fn prompt_to_go_on(record: &Record) -> String {
    format!(
        "You were interrupted while you worked on this task. The files are as you left them. Go on with it, and do not \
         begin anew. The task was:\n\n{}",
        prompt(record)
    )
}

/// The task of a job that carries out a plan.
pub fn task_with(task: &str, plan: &str) -> String {
    format!(
        "{}\n\nCarry out the following plan for this task. It was made for the commit that is checked out.\n\n{plan}\n",
        task.trim_end()
    )
}

/// What a reader should know of a plan whose agent did more than to plan.
pub fn has_changes(path: &str) -> String {
    format!("the agent changed files, although it was only to plan: nothing of that is published, it stays in {path}")
}
