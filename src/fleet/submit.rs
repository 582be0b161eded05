//! From a request to a job that is accepted: everything that can be known to be wrong is said now.

use crate::api::JobRequest;
use crate::config::Config;
use crate::job::{Mode, Spec};
use crate::pipeline::Runner;
use crate::profile::materialize;
use crate::workspace::{refname, url};
use std::path::Path;

/// Checks `request` against the settings and the profiles. Changes nothing.
pub fn judge(request: JobRequest, runner: &Runner) -> Result<Spec, String> {
    let config: &Config = &runner.config;
    let profile = request.profile.unwrap_or_else(|| config.default_profile.clone());
    runner.profiles.find(&profile).map_err(|error| error.to_string())?;
    let url = request.repo_url.as_deref().map(|text| url::judge(text, runner.url_policy())).transpose()?;
    if let Some(name) = &request.base_ref {
        if url.is_none() {
            return Err("`base_ref` needs a `repo_url`".into());
        }
        refname::judge(name)?;
    }
    if request.worktree_id.is_some() {
        return Err(
            "`worktree_id` is not supported by this version: leave it out, and the job gets a worktree of its own"
                .into(),
        );
    }
    if request.create_repo {
        match &url {
            None => return Err("`create_repo` needs a `repo_url`".into()),
            Some(url) if runner.github.slug(url).is_none() => {
                return Err(format!("`create_repo` works on GitHub alone, and {url} is not on it"));
            }
            Some(_) => {}
        }
    }
    if let Some(session) = &request.session_id
        && uuid::Uuid::try_parse(session).is_err()
    {
        return Err(format!(
            "`session_id` must be a UUID, as a job's record shows it, not `{}`",
            crate::job::cut(session.clone(), 80)
        ));
    }
    if let Some(file) = &request.file_path {
        let path = Path::new(file);
        if !path.is_absolute() {
            return Err("`file_path` must be the absolute path of a .mcp.json on the server".into());
        }
        materialize::read_servers(path).map_err(|why| format!("`file_path`: {why}"))?;
    }
    Ok(Spec {
        task: request.task,
        profile,
        repo_url: request.repo_url,
        base_ref: request.base_ref,
        session_id: request.session_id,
        file_path: request.file_path,
        create_repo: request.create_repo,
        private: request.private.unwrap_or(true),
        mode: if request.wait { Mode::Sync } else { Mode::FireAndForget },
        ttl_seconds: config.job_ttl_seconds,
        key: None,
    })
}
