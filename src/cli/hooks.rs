//! `hooks sync`: has the newest of the checkouts of agentihooks and of a bundle.

use super::show::plain;
use super::{Exit, Refusal, pretty, print};
use crate::api::SyncAnswer;
use crate::config::Config;
use crate::service::{self, checkouts};

pub fn sync(config: Config, target: &str, url: Option<&str>, json: bool) -> Result<Exit, Refusal> {
    let answer = checkouts::sync_here(config, target, url).map_err(|refusal| {
        let exit = if matches!(refusal, service::Refusal::Invalid { .. }) { Exit::BadUsage } else { Exit::Failed };
        Refusal::new(exit, refusal.to_string())
    })?;
    if json {
        return print(&pretty(&answer));
    }
    print(&told(&answer))
}

pub fn told(answer: &SyncAnswer) -> String {
    let mut text = String::new();
    for one in &answer.synced {
        let commit = one.commit.get(..8).unwrap_or(&one.commit);
        let word = if one.changed { "is now at" } else { "was already at" };
        text.push_str(&format!("{} {word} {commit}, in {}\n", one.target, plain(&one.path)));
    }
    if answer.synced.is_empty() {
        text.push_str("nothing is configured: set AGENTICORE_AGENTIHOOKS_URL or AGENTICORE_AGENTIHOOKS_BUNDLE_URL\n");
    }
    for warning in &answer.warnings {
        text.push_str(&format!("warn: {}\n", plain(warning)));
    }
    text
}
