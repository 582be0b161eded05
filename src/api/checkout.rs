//! The checkouts of agentihooks and of a bundle, as they are shown.

use crate::checkouts::Synced;
use serde::{Deserialize, Serialize};

/// `POST /admin/sync`
#[derive(Debug, Serialize, Deserialize)]
pub struct SyncAnswer {
    pub success: bool,
    pub synced: Vec<Checkout>,
    /// What is used less well because of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Checkout {
    /// agentihooks or bundle
    pub target: String,
    pub url: String,
    pub path: String,
    pub commit: String,
    /// It is another commit than before.
    pub changed: bool,
}

impl From<&Synced> for Checkout {
    fn from(synced: &Synced) -> Self {
        Self {
            target: synced.target.name().into(),
            url: synced.url.clone(),
            path: synced.path.display().to_string(),
            commit: synced.commit.clone(),
            changed: synced.changed,
        }
    }
}
