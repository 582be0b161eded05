//! What is told of jobs by webhooks, as it is shown.

use crate::job::{JobId, Time};
use serde::{Deserialize, Serialize};

/// One receiver of one message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Webhook {
    pub job_id: JobId,
    /// `started` or `ended`.
    pub event: String,
    /// Without what may be a secret in it.
    pub url: String,
    pub state: WebhookState,
    pub tries: u32,
    /// When it is tried next.
    pub next_at: Option<Time>,
    pub told_at: Option<Time>,
    /// Why the last try did not work.
    pub last: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookState {
    Waiting,
    Told,
    /// It is not tried again, unless somebody says so.
    Failed,
}

impl WebhookState {
    pub fn as_str(self) -> &'static str {
        match self {
            WebhookState::Waiting => "waiting",
            WebhookState::Told => "told",
            WebhookState::Failed => "failed",
        }
    }
}

/// `GET /webhooks`: those that wait and those that failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct WebhooksAnswer {
    pub success: bool,
    pub count: usize,
    pub webhooks: Vec<Webhook>,
    /// There are more than are shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Why they are not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// `POST /webhooks/retry`
#[derive(Debug, Serialize, Deserialize)]
pub struct WebhooksRetried {
    pub success: bool,
    /// How many are tried again.
    pub count: usize,
}
