//! The worktrees on this disk. One is removed only if nobody works in it (its owner's lock is free), no store knows its
//! job any more, and nothing in it would be lost; or when an operator names it.

use super::{Doctor, Finding, Problem, texts};
use crate::job::{JobId, Record};
use crate::store::job_files::JobFiles;
use crate::workspace::ownership::{self, Owner, Ownership};
use crate::workspace::url::{self, RepoUrl};
use crate::workspace::worktree::Worktree;
use std::fs;

/// Whether a worktree is needed.
enum Need {
    Needed,
    /// Why it is not.
    No(&'static str),
    /// Why that cannot be told from here.
    Unknown(String),
}

impl Doctor {
    pub(super) fn worktrees(&self) -> Finding {
        const CHECK: &str = "worktrees";
        let root = &self.config.repos.worktree_root;
        let look = || -> Result<(usize, Vec<Problem>), String> {
            let entries = fs::read_dir(root).into_iter().flatten().flatten();
            let ids: Vec<_> = entries.filter_map(|e| JobId::parse(e.file_name().to_str()?)).collect();
            let mut problems = Vec::new();
            for id in &ids {
                problems.extend(self.worktree_problem(id)?);
            }
            Ok((ids.len(), problems))
        };
        let (count, problems) = match self.persistent(look) {
            Ok(found) => found,
            Err(why) => return Finding::blind(CHECK, why),
        };
        let repaired = match self.fix {
            true => problems.iter().filter_map(|problem| self.remove_worktree(problem)).collect(),
            false => Vec::new(),
        };
        Finding::new(CHECK, format!("{count} in {}", root.display()), texts(&problems)).repaired(repaired)
    }

    fn worktree_problem(&self, id: &JobId) -> Result<Option<Problem>, String> {
        let discard = format!("`agenticore doctor --discard {id}` removes it");
        let (owner, _lock) = match ownership::look(&self.config.repos.worktree_root, id) {
            Ownership::Held => return Ok(None),
            Ownership::Free(owner, lock) => (owner, lock),
            Ownership::Unknown => {
                let is_known = self.record_of(id)?.is_some_and(|record| is_needed(&record));
                let what = format!("a worktree of which nothing says whose it is; {discard}");
                return Ok((!is_known).then(|| Problem::new(id.as_str(), what)));
            }
        };
        Ok(match self.need(id, &owner)? {
            Need::Needed => None,
            Need::Unknown(why) => Some(Problem::new(id.as_str(), format!("{why}; {discard}"))),
            Need::No(why) => Some(match self.work_in(id, &owner) {
                None => Problem::new(id.as_str(), why),
                Some(work) => Problem::new(id.as_str(), format!("{why}, and {work}; {discard}")),
            }),
        })
    }

    /// Asks the store that the worktree's job is in, which may be another one than this command's.
    fn need(&self, id: &JobId, owner: &Owner) -> Result<Need, String> {
        let is_ours = owner.jobs_dir == self.config.jobs_dir && owner.in_redis == self.redis.is_some();
        let record = match is_ours {
            true => self.record_of(id)?,
            false if owner.in_redis => {
                let jobs = owner.jobs_dir.display();
                return Ok(Need::Unknown(format!(
                    "a worktree of a server with other settings (its jobs are in {jobs})"
                )));
            }
            false => {
                let files = JobFiles::new(&owner.jobs_dir);
                match files.read_ended(id)? {
                    Some(record) => Some(record),
                    None => files.read_open(id)?.map(|open| open.record),
                }
            }
        };
        Ok(match record {
            None => Need::No("a worktree whose job is known nowhere any more"),
            Some(record) if !is_needed(&record) => Need::No("a worktree of a job that ended and needs none"),
            Some(_) => Need::Needed,
        })
    }

    /// What would be lost with it. None: nothing, for certain.
    fn work_in(&self, id: &JobId, owner: &Owner) -> Option<String> {
        let unknown = |why: String| Some(format!("what it holds cannot be told ({why})"));
        let Some(url) = url_of(owner) else { return unknown("its repository is not known".into()) };
        let worktree = Worktree::of(&self.spaces, &url, id, None);
        if !worktree.repository().is_dir() {
            return unknown("its repository is gone".into());
        }
        match worktree.inspect(&owner.base_commit, &[]) {
            Ok(found) if !found.has_work() => None,
            Ok(found) => {
                let changes = found.is_dirty.then(|| "changes that are in no commit".to_owned());
                let commits = found.has_commits.then(|| format!("commits up to {}", found.head));
                let all: Vec<String> = [changes, commits, found.hidden].into_iter().flatten().collect();
                Some(format!("it holds work that is nowhere else: {}", all.join("; ")))
            }
            Err(error) => unknown(error.to_string()),
        }
    }

    /// Looks again, with the lock held: only then it is removed.
    fn remove_worktree(&self, problem: &Problem) -> Option<String> {
        let id = JobId::parse(&problem.id)?;
        let Ownership::Free(owner, _lock) = ownership::look(&self.config.repos.worktree_root, &id) else { return None };
        let is_removable = matches!(self.need(&id, &owner), Ok(Need::No(_))) && self.work_in(&id, &owner).is_none();
        let url = url_of(&owner).filter(|_| is_removable)?;
        let removed = Worktree::of(&self.spaces, &url, &id, None).remove_abandoned();
        removed.is_ok().then(|| format!("{id}: removed"))
    }

    /// Removes a worktree with whatever is in it. `tell`: what is lost. The error says why it stays.
    pub fn discard(&self, id: &JobId, tell: impl Fn(&str)) -> Result<(), String> {
        let root = &self.config.repos.worktree_root;
        let path = root.join(id.as_str());
        if fs::symlink_metadata(&path).is_err() {
            return Err(format!("there is no worktree {}", path.display()));
        }
        if let Some(record) = self.record_of(id)?.filter(|record| !record.status().has_ended()) {
            let status = record.status().as_str();
            return Err(format!("job {id} is {status}: cancel it first, with `agenticore cancel {id}`"));
        }
        let (owner, _lock) = match ownership::look(root, id) {
            Ownership::Held => return Err(format!("somebody works in {}: end that job first", path.display())),
            Ownership::Free(owner, lock) => (owner, Some(lock)),
            Ownership::Unknown => (Owner::default(), None),
        };
        if let Ok(Need::Needed) = self.need(id, &owner)
            && self.record_of(id)?.is_none()
        {
            tell(&format!("its job is in {}, which names this worktree", owner.jobs_dir.display()));
        }
        match self.work_in(id, &owner) {
            Some(work) => tell(&format!("{}: {work}", path.display())),
            None => tell(&format!("{}: nothing is lost", path.display())),
        }
        let removed = match url_of(&owner) {
            Some(url) => Worktree::of(&self.spaces, &url, id, None).remove_abandoned(),
            None => crate::workspace::remove::tree(&path),
        };
        removed.map_err(|error| format!("{} cannot be removed: {error}", path.display()))
    }
}

/// Its job runs, waits, or names it.
fn is_needed(record: &Record) -> bool {
    !record.status().has_ended() || record.worktree_path.is_some()
}

fn url_of(owner: &Owner) -> Option<RepoUrl> {
    url::judge(&owner.repo_url, url::Policy { allow_local: true, allow_http: true }).ok()
}
