//! `webhooks`: who is still to be told of jobs, and who could not be.

use super::client::Client;
use super::{Exit, Refusal, pretty, print, show};
use crate::api::{WebhookState, WebhooksAnswer, WebhooksRetried};
use crate::log;
use serde_json::json;

pub fn run(client: &Client, retry: bool, json: bool) -> Result<Exit, Refusal> {
    if retry {
        let answer: WebhooksRetried = client.post("/webhooks/retry", &json!({}))?;
        return print(&if json { pretty(&answer) } else { format!("will be tried now: {}\n", answer.count) });
    }
    let answer: WebhooksAnswer = client.get("/webhooks")?;
    if let Some(warning) = &answer.warning {
        log::warning(warning);
    }
    print(&if json { pretty(&answer.webhooks) } else { show::webhooks(&answer) })?;
    let has_failed = answer.webhooks.iter().any(|one| one.state == WebhookState::Failed);
    Ok(if has_failed { Exit::Failed } else { Exit::Done })
}
