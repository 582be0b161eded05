//! The volume with the job files, this machine's worktrees, and its processes.

use super::{Doctor, Finding, Problem, texts};
use crate::job::Record;
use crate::store::job_files::{JobFiles, id_of};
use crate::volume;
use crate::workspace::ownership::{self, Ownership};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Clocks may differ by this much: leases and times to live are tens of seconds and more.
pub const SKEW_LIMIT: Duration = Duration::from_secs(2);
/// A lock file of git's this old was left by one that died: references are locked for milliseconds.
const LOCK_FILE_AGE: Duration = Duration::from_secs(900);

impl Doctor {
    pub(super) fn look_at_disk(&self) -> Vec<Finding> {
        let directory = &self.config.jobs_dir;
        if !directory.exists() {
            let why = "it does not exist: no server has run with these settings (is this the server's environment, \
             and its HOME?)";
            return vec![Finding::new("jobs directory", directory.display().to_string(), vec![why.into()])];
        }
        let mut found = vec![match probe(directory) {
            Ok(skew) => {
                let problems = match skew > SKEW_LIMIT {
                    true => vec![format!("its clock is {} ms off this machine's", skew.as_millis())],
                    false => Vec::new(),
                };
                let evidence = format!(
                    "{}: wrote, renamed, linked, locked; clock within {} ms",
                    directory.display(),
                    skew.as_millis()
                );
                Finding::new("jobs directory", evidence, problems)
            }
            Err(why) => Finding::new("jobs directory", directory.display().to_string(), vec![why]),
        }];
        if let Some(root) = &self.config.shared_root {
            let mut problems: Vec<String> = probe(root).err().into_iter().collect();
            let is_copy = self.config.has_second_copy();
            if !is_copy && self.redis.is_some() {
                problems.push("AGENTICORE_JOBS_DIR lies elsewhere: the job files are no second copy".into());
            }
            if !self.config.repos.root.starts_with(root) && self.redis.is_some() {
                problems.push("AGENTICORE_REPOS_ROOT lies elsewhere: each pod clones for itself".into());
            }
            found.push(Finding::new("shared volume", root.display().to_string(), problems));
        } else if self.redis.is_some() {
            let why = "AGENTICORE_SHARED_FS_ROOT is not set: jobs are as safe as Redis keeps them";
            found.push(Finding::new("shared volume", "none", vec![why.into()]));
        }
        found
    }

    pub(super) fn look_at_machine(&self) -> Vec<Finding> {
        vec![self.worktrees(), self.registrations(), self.lock_files(), self.processes()]
    }

    pub(super) fn record_of(&self, id: &crate::job::JobId) -> Result<Option<Record>, String> {
        let files = JobFiles::new(&self.config.jobs_dir);
        if let Some(redis) = &self.redis
            && let Some(record) = redis.record(id)?
        {
            return Ok(Some(record));
        }
        match files.read_ended(id)? {
            Some(record) => Ok(Some(record)),
            None => Ok(files.read_open(id)?.map(|open| open.record)),
        }
    }

    /// What the clone caches know of worktrees belongs to jobs that are known.
    fn registrations(&self) -> Finding {
        const CHECK: &str = "clone caches";
        let look = || -> Result<((usize, usize), Vec<Problem>), String> {
            let (mut caches, mut count, mut problems) = (0, 0, Vec::new());
            for cache in git_dirs(&self.config.repos.root) {
                caches += 1;
                let repo = if cache.ends_with(".git") { cache.parent().unwrap_or(&cache) } else { &cache };
                let jobs = [cache.join("worktrees"), repo.with_file_name("jobs")];
                for entry in jobs.iter().flat_map(fs::read_dir).flatten().flatten() {
                    let Some(id) = entry.file_name().to_str().and_then(crate::job::JobId::parse) else { continue };
                    count += 1;
                    // One on this disk is looked at with its worktree.
                    let is_elsewhere =
                        matches!(ownership::look(&self.config.repos.worktree_root, &id), Ownership::Unknown);
                    if is_elsewhere && self.record_of(&id)?.is_none() {
                        let what = format!("{} is borrowed from by it, but nobody knows the job", cache.display());
                        problems.push(Problem::new(id.as_str(), what));
                    }
                }
            }
            Ok(((caches, count), problems))
        };
        match self.persistent(look) {
            Ok(((caches, count), problems)) => {
                let evidence =
                    format!("{caches} caches in {}, {count} worktrees registered", self.config.repos.root.display());
                Finding::new(CHECK, evidence, texts(&problems))
            }
            Err(why) => Finding::blind(CHECK, why),
        }
    }

    /// No lock file of a git that died is in the way.
    fn lock_files(&self) -> Finding {
        let (mut looked, mut stale) = (0, Vec::new());
        for cache in git_dirs(&self.config.repos.root) {
            for path in files_below(&cache, 6) {
                looked += 1;
                let is_lock = path.extension().is_some_and(|end| end == "lock");
                if is_lock && is_old(&path) {
                    stale.push(path);
                }
            }
        }
        let problems = stale.iter().map(|path| format!("{} was left by a git that died", path.display())).collect();
        let repaired =
            if self.fix { stale.iter().filter_map(|path| self.remove_lock_file(path)).collect() } else { Vec::new() };
        Finding::new("git's lock files", format!("looked through {looked} files of the clone caches"), problems)
            .repaired(repaired)
    }

    /// Only with the repository's lock, which whoever works in the cache holds. In a fleet that lock is the servers'
    /// alone: they remove such a file when it is in their way.
    fn remove_lock_file(&self, path: &Path) -> Option<String> {
        if self.redis.is_some() {
            return None;
        }
        let directory = path.ancestors().find(|above| above.parent() == Some(&self.config.repos.root))?;
        let _lock = self.spaces.lock_directory(directory).ok()?;
        // It may be another one by now.
        (is_old(path) && fs::remove_file(path).is_ok()).then(|| format!("{}: removed", path.display()))
    }
}

fn is_old(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|meta| meta.modified()).ok();
    changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > LOCK_FILE_AGE)
}

/// What the store needs of `directory`, tried; returns how far its clock is off.
fn probe(directory: &Path) -> Result<Duration, String> {
    let found = volume::probe::look(directory);
    // What it can do without is said when a server starts, and by init-shared-fs.
    match found.lacks.into_iter().find(|lack| lack.is_fatal) {
        Some(lack) => Err(lack.sentence),
        None => Ok(found.skew.unwrap_or_default()),
    }
}

fn git_dirs(root: &Path) -> Vec<PathBuf> {
    let places = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path().join("repo"));
    places.flat_map(|repo| [repo.join(".git"), repo]).filter(|path| path.join("objects").is_dir()).collect()
}

/// The files below `directory`, the objects left out.
fn files_below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_directory && depth > 0 && entry.file_name() != "objects" {
            found.extend(files_below(&entry.path(), depth - 1));
        } else if !is_directory {
            found.push(entry.path());
        }
    }
    found
}

/// The ids in the jobs directory, of those that live and of those that have ended.
pub fn ids_in_files(directory: &Path) -> Result<(Vec<crate::job::JobId>, usize), String> {
    let files = JobFiles::new(directory);
    let ended = fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let ended = ended.flatten().filter(|entry| id_of(&entry.path()).is_some()).count();
    Ok((files.open_ids()?, ended))
}
