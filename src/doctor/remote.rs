//! Remotes and GitHub: no branch and no pull request of a job that ended without one.

use super::{Doctor, Finding};
use crate::job::{Record, Status};
use crate::process::stop::Stop;
use crate::store::job_files::JobFiles;
use crate::workspace::url;
use crate::workspace::worktree::Worktree;
use std::time::{Duration, Instant};

/// The most jobs that remotes are asked about, and the longest that takes.
const JOBS_MOST: usize = 50;
const TIME_MOST: Duration = Duration::from_secs(60);

impl Doctor {
    pub(super) fn look_at_remotes(&self) -> Vec<Finding> {
        let (asked, mut problems, mut silent) = (self.ended_without(), Vec::new(), 0);
        let until = Instant::now() + TIME_MOST;
        let mut count = 0;
        for record in asked.iter().take_while(|_| Instant::now() < until) {
            count += 1;
            match self.on_remote(record) {
                Ok(None) => {}
                Ok(Some(commit)) => problems.push(format!(
                    "job {} {}, but its branch {} is on {} at {commit}",
                    record.id,
                    record.status().as_str(),
                    record.id.branch(),
                    record.repo_url.as_deref().unwrap_or_default(),
                )),
                Err(_) => silent += 1,
            }
        }
        let evidence = format!(
            "{count} jobs that ended without a pull request, the newest first; {silent} could not be asked for"
        );
        vec![Finding::new("no branch without its job", evidence, problems)]
    }

    /// Ended, on a repository, and neither pushed nor with a pull request.
    fn ended_without(&self) -> Vec<Record> {
        let files = JobFiles::new(&self.config.jobs_dir);
        let mut records: Vec<Record> = match &self.redis {
            Some(redis) if !self.config.has_second_copy() => redis.newest(1000).unwrap_or_default(),
            _ => files
                .ended_ids()
                .unwrap_or_default()
                .iter()
                .filter_map(|id| files.read_ended(id).ok().flatten())
                .collect(),
        };
        records.retain(|record| {
            let is_bad = matches!(record.status(), Status::Failed | Status::Cancelled | Status::Expired);
            is_bad && record.attempt > 0 && record.repo_url.is_some() && !record.pushed && record.pr_url.is_none()
        });
        records.sort_by_key(|record| std::cmp::Reverse(record.ended_at));
        records.truncate(JOBS_MOST);
        records
    }

    fn on_remote(&self, record: &Record) -> Result<Option<String>, String> {
        let text = record.repo_url.as_deref().unwrap_or_default();
        let repos = &self.config.repos;
        let url = url::judge(text, url::Policy { allow_local: repos.allow_local, allow_http: repos.allow_http })?;
        let login = self.github.login(&url).map_err(|error| error.to_string())?;
        let worktree = Worktree::of(&self.spaces, &url, &record.id, None);
        worktree.on_remote(&record.id.branch(), login, &Stop::default()).map_err(|error| error.to_string())
    }
}
