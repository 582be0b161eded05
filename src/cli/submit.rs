//! `run`, and what a job is asked for by: its task, its repository, and what is otherwise than its profile says.

use super::args::Run;
use super::client::Client;
use super::{Exit, Refusal, show, tell};
use crate::api::{self, JobAnswer, JobRequest};
use std::io::Read;

pub fn submit(client: &Client, run: &Run) -> Result<Exit, Refusal> {
    let request = request_of(run)?;
    let body = serde_json::to_value(&request).map_err(|error| Refusal::new(Exit::Failed, error.to_string()))?;
    // Waiting is done here, by following its events: that also survives a restart of the server.
    let answer: JobAnswer = client.post_with_key("/jobs", &body, run.idempotency_key.as_deref())?;
    tell(client, answer.job, run.wait, run.json)
}

/// The task, from standard input if it is `-`.
pub fn task_of(word: &str) -> Result<String, Refusal> {
    let task = match word {
        "-" => {
            let mut task = String::new();
            let read = std::io::stdin().take(api::BODY_LIMIT as u64).read_to_string(&mut task);
            read.map_err(|error| {
                Refusal::new(Exit::BadUsage, format!("cannot read the task from standard input: {error}"))
            })?;
            task
        }
        task => task.to_owned(),
    };
    judged(task)
}

/// The task that a file holds.
fn task_in(file: &str) -> Result<String, Refusal> {
    if file == "-" {
        return task_of(file);
    }
    let wrong = |why: String| Refusal::new(Exit::BadUsage, format!("--task-file is `{file}`: {why}"));
    let found = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if !found.is_file() || found.len() > api::BODY_LIMIT as u64 {
        return Err(wrong("it must be a regular file of at most 1 MiB".into()));
    }
    judged(std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?)
}

fn judged(task: String) -> Result<String, Refusal> {
    if task.trim() == show::TASK {
        let why = format!("TASK is `{}`: put what is to be done in its place", show::TASK);
        return Err(Refusal::new(Exit::BadUsage, why));
    }
    if task.trim().is_empty() {
        return Err(Refusal::new(
            Exit::BadUsage,
            "TASK is empty: say what is to be done, or give - and write it to standard input",
        ));
    }
    Ok(task)
}

pub fn absolute(path: &String) -> String {
    std::path::absolute(path).map_or(path.clone(), |path| path.display().to_string())
}

/// A path of this machine is meant from here, not from where the server runs. However it is spelled, it is the same
/// repository.
pub fn here_or_url(repo: &String) -> Result<String, Refusal> {
    match std::fs::canonicalize(repo) {
        Ok(path) if is_here(repo) => Ok(path.display().to_string()),
        // An absolute one may be meant for a server elsewhere.
        _ if repo.starts_with('.') => {
            let why = format!("--repo is `{repo}`, but there is no such directory here: give its path, or a URL");
            Err(Refusal::new(Exit::BadUsage, why))
        }
        _ => Ok(repo.clone()),
    }
}

pub fn request_of(run: &Run) -> Result<JobRequest, Refusal> {
    Ok(JobRequest {
        task: match &run.task_file {
            Some(file) => task_in(file)?,
            None => task_of(&run.task)?,
        },
        repo_url: run.repo.as_ref().map(here_or_url).transpose()?,
        profile: run.profile.clone(),
        base_ref: run.base_ref.clone(),
        session_id: run.session_id.clone(),
        file_path: run.file_path.as_ref().map(absolute),
        worktree_id: None,
        create_repo: run.create_repo,
        private: run.private,
        labels: run.labels.clone(),
        overrides: run.overrides.clone(),
        webhook_url: run.webhook_url.clone(),
        wait: false,
    })
}

fn is_here(repo: &str) -> bool {
    !repo.contains(':') && !repo.starts_with('-') && std::path::Path::new(repo).is_dir()
}
