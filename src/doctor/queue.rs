//! Every unfinished job is in exactly one place, and what is running has a living owner.

use super::disk::ids_in_files;
use super::{Doctor, Finding, Problem, texts};
use crate::job::{JobId, Status};
use crate::store::job_files::JobFiles;
use crate::store::redis::admin::{Admin, Whereabouts};
use std::collections::HashMap;

impl Doctor {
    pub(super) fn look_at_queue(&self) -> Vec<Finding> {
        match &self.redis {
            None => vec![self.files_alone()],
            Some(redis) => vec![self.places(redis), self.leases(redis), self.clone_locks(redis)],
        }
    }

    /// The embedded store: each open file is a job that lives, and no ended one is beside it for long.
    fn files_alone(&self) -> Finding {
        const CHECK: &str = "jobs";
        let files = JobFiles::new(&self.config.jobs_dir);
        let look = || -> Result<(String, Vec<Problem>), String> {
            let (open, ended) = ids_in_files(&self.config.jobs_dir)?;
            let mut problems = Vec::new();
            for id in &open {
                match files.read_open(id) {
                    Ok(Some(_)) if files.read_ended(id)?.is_some() => {
                        problems
                            .push(Problem::new(id.as_str(), "has ended, and what its attempt left is not tidied away"));
                    }
                    Ok(_) => {}
                    Err(why) => problems.push(Problem::new(id.as_str(), why)),
                }
            }
            Ok((format!("{} live, {ended} have ended", open.len()), problems))
        };
        match self.persistent(look) {
            Ok((evidence, problems)) => Finding::new(CHECK, evidence, texts(&problems)),
            Err(why) => Finding::blind(CHECK, why),
        }
    }

    fn places(&self, redis: &Admin) -> Finding {
        const CHECK: &str = "every unfinished job in one place";
        let look = || -> Result<(String, Vec<Problem>), String> {
            let mut queue = redis.list(redis.keys().queue())?;
            for pod in redis.pods_with_queue()? {
                queue.extend(redis.list(redis.keys().queue_of(&pod))?);
            }
            let running = redis.list(redis.keys().running())?;
            let mut count: HashMap<&str, (usize, usize)> = HashMap::new();
            queue.iter().for_each(|id| count.entry(id).or_default().0 += 1);
            running.iter().for_each(|id| count.entry(id).or_default().1 += 1);
            let open = if self.config.has_second_copy() { ids_in_files(&self.config.jobs_dir)?.0 } else { Vec::new() };
            let mut ids: Vec<String> = open.iter().map(|id| id.as_str().to_owned()).chain(redis.living()?).collect();
            ids.extend(count.keys().map(|id| id.to_string()));
            ids.sort();
            ids.dedup();
            let mut problems = Vec::new();
            for id in &ids {
                let (waits, runs) = count.get(id.as_str()).copied().unwrap_or_default();
                let Some(known) = JobId::parse(id) else {
                    problems.push(Problem::new(id, "is no job id"));
                    continue;
                };
                let there = redis.whereabouts(&known)?;
                problems.extend(misplaced(there.as_ref(), waits, runs).map(|what| Problem::new(id, what)));
            }
            let evidence = format!("{} wait, {} run, {} open files", queue.len(), running.len(), open.len());
            Ok((evidence, problems))
        };
        let (evidence, problems) = match self.persistent(look) {
            Ok(found) => found,
            Err(why) => return Finding::blind(CHECK, why),
        };
        let put = |problem: &Problem| match JobId::parse(&problem.id) {
            Some(id) => redis.put_in_place(&id, &self.config.jobs_dir).ok().map(|()| format!("{id}: put in its place")),
            None => redis.take_out(&problem.id).ok().map(|()| format!("{}: taken out", problem.id)),
        };
        let repaired = if self.fix { problems.iter().filter_map(put).collect() } else { Vec::new() };
        Finding::new(CHECK, evidence, texts(&problems)).repaired(repaired)
    }

    fn leases(&self, redis: &Admin) -> Finding {
        const CHECK: &str = "leases with living owners";
        let look = || -> Result<(String, Vec<Problem>), String> {
            let (mut problems, mut held) = (Vec::new(), 0);
            for id in redis.list(redis.keys().running())?.iter().filter_map(|id| JobId::parse(id)) {
                let Some(there) = redis.whereabouts(&id)?.filter(|there| there.status == "running") else { continue };
                let [pod, incarnation, _] = there.holder.split('/').collect::<Vec<_>>()[..] else {
                    problems.push(Problem::new(id.as_str(), "runs, but names nobody"));
                    continue;
                };
                held += 1;
                let state = redis.state_of(pod)?;
                let lives = state.is_some_and(|state| {
                    state.incarnation == incarnation && state.running.iter().any(|runs| runs == id.as_str())
                });
                if !lives {
                    problems.push(Problem::new(id.as_str(), format!("its holder {pod} does not say that it runs it")));
                }
                match there.lease_ms {
                    None => problems.push(Problem::new(id.as_str(), "runs without a lease, and nobody takes it over")),
                    Some(left) if left < 0 => problems.push(Problem::new(id.as_str(), "its lease never runs out")),
                    Some(_) => {}
                }
            }
            Ok((format!("{held} running jobs"), problems))
        };
        match self.persistent(look) {
            Ok((evidence, problems)) => Finding::new(CHECK, evidence, texts(&problems)),
            Err(why) => Finding::blind(CHECK, why),
        }
    }

    fn clone_locks(&self, redis: &Admin) -> Finding {
        const CHECK: &str = "clone locks";
        let look = || -> Result<(String, Vec<Problem>), String> {
            let locks = redis.clone_locks()?;
            let mut problems = Vec::new();
            for (key, holder, left) in &locks {
                let [pod, incarnation, _] = holder.split('/').collect::<Vec<_>>()[..] else {
                    problems.push(Problem::new(key, "names nobody"));
                    continue;
                };
                if *left < 0 {
                    problems.push(Problem::new(key, "never runs out"));
                } else if redis.state_of(pod)?.is_none_or(|state| state.incarnation != incarnation) {
                    problems.push(Problem::new(key, format!("is held by {pod}, which is gone")));
                }
            }
            Ok((format!("{} held", locks.len()), problems))
        };
        let (evidence, problems) = match self.persistent(look) {
            Ok(found) => found,
            Err(why) => return Finding::blind(CHECK, why),
        };
        let free = |problem: &Problem| redis.free_lock(&problem.id).ok().map(|()| format!("{}: freed", problem.id));
        let repaired = if self.fix { problems.iter().filter_map(free).collect() } else { Vec::new() };
        Finding::new(CHECK, evidence, texts(&problems)).repaired(repaired)
    }
}

/// What is wrong about where a job is.
fn misplaced(there: Option<&Whereabouts>, waits: usize, runs: usize) -> Option<String> {
    let Some(there) = there else { return Some("is in a list or a file, but Redis has no record of it".into()) };
    let lives = there.status == "sealed" || Status::parse(&there.status).is_some_and(|status| !status.has_ended());
    let wrong = match there.status.as_str() {
        // Popped and not claimed yet, it is in `running` for a moment.
        "queued" => waits + runs != 1,
        _ if lives => (waits, runs) != (0, 1),
        _ => waits + runs != 0,
    };
    wrong.then(|| format!("is {}, but {waits} times in the queue and {runs} times among the running", there.status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_for_each() {
        let place = |status: &str| Whereabouts { status: status.into(), holder: String::new(), lease_ms: None };
        for (status, waits, runs, fine) in [
            ("queued", 1, 0, true),
            ("queued", 0, 1, true),
            ("queued", 0, 0, false),
            ("queued", 1, 1, false),
            ("running", 0, 1, true),
            ("running", 1, 0, false),
            ("sealed", 0, 1, true),
            ("sealed", 0, 2, false),
            ("succeeded", 0, 0, true),
            ("succeeded", 1, 0, false),
        ] {
            assert_eq!(misplaced(Some(&place(status)), waits, runs).is_none(), fine, "{status} {waits} {runs}");
        }
        assert!(misplaced(None, 1, 0).is_some());
    }
}
