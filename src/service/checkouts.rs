//! Fetches the checkouts of agentihooks and of a bundle again, by the server or beside it.

use super::{Refusal, Service};
use crate::api::{Checkout, SyncAnswer};
use crate::checkouts::{Checkouts, Target};
use crate::config::Config;
use crate::forge::GitHub;
use crate::log;
use crate::workspace::cache::Workspaces;
use crate::workspace::lock::Locks;
use crate::workspace::remove;
use std::path::Path;

impl Service {
    /// `target`: all, agentihooks or bundle.
    pub fn sync(&self, target: &str) -> Result<SyncAnswer, Refusal> {
        sync(&self.runner.checkouts(), target, None)
    }
}

/// The same by this process, beside the server. `url`: instead of the configured one.
pub fn sync_here(config: Config, target: &str, url: Option<&str>) -> Result<SyncAnswer, Refusal> {
    beside_the_server(config, |checkouts| sync(checkouts, target, url))
}

/// Clones what is configured and not there yet, below `root`.
pub fn make_missing(mut config: Config, root: &Path) -> Result<SyncAnswer, Refusal> {
    config.checkouts.root = root.to_owned();
    beside_the_server(config, |checkouts| {
        let made: Result<Vec<_>, _> = checkouts.make_missing().into_iter().map(|(_, done)| done).collect();
        let made = made.map_err(Refusal::CannotRun)?;
        Ok(SyncAnswer { success: true, synced: made.iter().map(Checkout::from).collect(), warnings: Vec::new() })
    })
}

fn beside_the_server<T>(config: Config, act: impl FnOnce(&Checkouts) -> Result<T, Refusal>) -> Result<T, Refusal> {
    let config = config.beside_the_server();
    let failed = |why: String| Refusal::CannotRun(why);
    let spaces = Workspaces::new(&config, Locks::default(), None).map_err(|error| failed(error.to_string()))?;
    let github = GitHub::new(&config).map_err(Refusal::CannotRun)?;
    let done = act(&Checkouts { config: &config, spaces: &spaces, github: &github });
    // Private git directories of this process.
    let _ = remove::tree(&config.runtime_dir);
    done
}

fn sync(checkouts: &Checkouts, target: &str, url: Option<&str>) -> Result<SyncAnswer, Refusal> {
    let targets = Target::of(target).map_err(|why| Refusal::invalid("target", format!("target {why}")))?;
    let configured = checkouts.configured();
    let targets = match (url, &targets[..]) {
        // A URL is that of agentihooks, unless the bundle is named.
        (Some(_), [Target::Bundle]) => targets,
        (Some(_), _) => vec![Target::Agentihooks],
        (None, [one]) if !configured.contains(one) => {
            let why = format!("no checkout of {} is configured: set {}", one.name(), one.variable());
            return Err(Refusal::invalid("target", why));
        }
        (None, _) => targets.into_iter().filter(|target| configured.contains(target)).collect(),
    };
    let (mut synced, mut wrong) = (Vec::new(), Vec::new());
    for target in targets {
        match checkouts.sync(target, url) {
            Ok(done) => synced.push(Checkout::from(&done)),
            Err(why) => wrong.push(why),
        }
    }
    // What was fetched is used, whatever became of the others.
    let warnings = if synced.is_empty() { Vec::new() } else { checkouts.install() };
    warnings.iter().for_each(|why| log::warn(why));
    match wrong.is_empty() {
        true => Ok(SyncAnswer { success: true, synced, warnings }),
        false => Err(Refusal::CannotRun(wrong.join("; "))),
    }
}
