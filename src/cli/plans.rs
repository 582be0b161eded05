//! Plans: submitted, listed, carried out.

use super::client::Client;
use super::submit::{absolute, here_or_url, task_of};
use super::{AWAY_LIMIT, Exit, Refusal, follow, path_part, pretty, print, say_if_stale, show};
use crate::api::{self, ExecuteRequest, JobAnswer, PlanAnswer, PlanRequest, PlanStatus, PlansAnswer};
use std::io::Write;

#[derive(Debug, PartialEq)]
pub struct Plan {
    pub task: String,
    pub repo: Option<String>,
    pub base_ref: Option<String>,
    pub file_path: Option<String>,
    pub wait: bool,
    pub idempotency_key: Option<String>,
    pub json: bool,
}

#[derive(Debug, PartialEq)]
pub struct Execute {
    pub id: String,
    pub repo: Option<String>,
    pub profile: Option<String>,
    pub file_path: Option<String>,
    pub wait: bool,
    pub json: bool,
}

fn body(request: &impl serde::Serialize) -> Result<serde_json::Value, Refusal> {
    serde_json::to_value(request).map_err(|error| Refusal::new(Exit::Failed, error.to_string()))
}

pub fn submit(client: &Client, plan: &Plan) -> Result<Exit, Refusal> {
    let request = PlanRequest {
        task: task_of(&plan.task)?,
        repo_url: plan.repo.as_ref().map(here_or_url).transpose()?,
        base_ref: plan.base_ref.clone(),
        file_path: plan.file_path.as_ref().map(absolute),
        wait: false,
    };
    let answer: PlanAnswer = client.post_with_key("/plans", &body(&request)?, plan.idempotency_key.as_deref())?;
    let id = answer.plan.id.clone();
    if !plan.wait {
        if plan.json {
            return print(&pretty(&answer.plan));
        }
        let (status, short) = (answer.plan.status.as_str(), id.short());
        return print(&format!(
            "{status} {id}\nfollow it with: agenticore logs {short} -f\n\
             carry it out once it is ready with: agenticore execute-plan {short}\n"
        ));
    }
    let job: JobAnswer = client.get(&format!("/jobs/{id}"))?;
    follow::to_the_end(client, job.job, AWAY_LIMIT)?;
    let answer: PlanAnswer = client.get(&format!("/plans/{id}"))?;
    print(&if plan.json { pretty(&answer.plan) } else { text(&answer.plan) })?;
    Ok(if answer.plan.status == PlanStatus::Ready { Exit::Done } else { Exit::Failed })
}

/// The plan alone on standard output; what else there is to know of it on standard error.
fn text(plan: &api::Plan) -> String {
    let say = |text: &str| drop(writeln!(std::io::stderr(), "{}", show::plain(text)));
    for remark in plan.note.iter().chain(&plan.error) {
        say(remark);
    }
    if plan.status == PlanStatus::Ready {
        say(&format!("carry it out with: agenticore execute-plan {}", plan.id.short()));
    }
    plan.plan.as_deref().map(|text| format!("{}\n", show::plain(text).trim_end())).unwrap_or_default()
}

pub fn list(client: &Client, limit: usize, json: bool) -> Result<Exit, Refusal> {
    let answer: PlansAnswer = client.get(&format!("/plans?limit={limit}"))?;
    say_if_stale(answer.stale);
    print(&if json { pretty(&answer.plans) } else { show::plans(&answer.plans) })
}

pub fn execute(client: &Client, execute: &Execute) -> Result<Exit, Refusal> {
    let request = ExecuteRequest {
        repo_url: execute.repo.as_ref().map(here_or_url).transpose()?,
        profile: execute.profile.clone(),
        file_path: execute.file_path.as_ref().map(absolute),
        wait: false,
    };
    let path = format!("/plans/{}/execute", path_part(&execute.id)?);
    let answer: JobAnswer = client.post(&path, &body(&request)?)?;
    super::tell(client, answer.job, execute.wait, execute.json)
}
