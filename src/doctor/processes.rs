//! The supervisors on this machine: each has a server above it.

use super::{Doctor, Finding, Problem, texts};
use crate::process::identity::ServerIdentity;
use crate::process::{proc_table, supervise, sys};

impl Doctor {
    pub(super) fn processes(&self) -> Finding {
        let look = || -> Result<(usize, Vec<Problem>), String> {
            let all = proc_table::command_lines();
            let supervisors: Vec<_> =
                all.iter().filter(|(_, _, words)| words.get(1).is_some_and(|word| word == supervise::ROLE)).collect();
            let orphans = supervisors.iter().filter_map(|(pid, _, words)| orphan(*pid, words));
            Ok((supervisors.len(), orphans.collect()))
        };
        let (count, problems) = self.persistent(look).unwrap_or_default();
        let repaired = if self.fix { problems.iter().filter_map(end).collect() } else { Vec::new() };
        Finding::new("processes", format!("{count} agents run on this machine"), texts(&problems)).repaired(repaired)
    }
}

/// A supervisor whose server is dead for certain, with when it began: its number may be given again.
fn orphan(pid: i32, words: &[String]) -> Option<Problem> {
    let server = ServerIdentity::parse(words.get(2)?)?;
    let began = proc_table::started(pid)?;
    let what = format!("a supervisor whose server, process {}, is gone: its job's processes still run", server.pid);
    (server.lives() == Some(false)).then(|| Problem::new(format!("{pid}:{began}"), what))
}

/// It ends its tree, and then itself.
fn end(problem: &Problem) -> Option<String> {
    let (pid, began) = problem.id.split_once(':')?;
    let pid: i32 = pid.parse().ok()?;
    let is_it = proc_table::started(pid)?.to_string() == began;
    is_it.then(|| {
        sys::kill(pid, sys::SIGTERM);
        format!("{pid}: told to end")
    })
}
