//! One try at telling one receiver, within its limits. Follows no redirect; of a job's own URL it looks at each address
//! before it connects to that.

use super::message::{self, Message};
use crate::addresses;
use crate::config::Config;
use crate::job::Time;
use crate::web;
use std::time::Duration;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

/// What one try may take in all. A receiver should note what it is told and answer at once.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// What came of a try.
pub enum Outcome {
    Told,
    /// Why not; it is tried again.
    Failed(String),
    /// The receiver wants no more (410).
    Unwanted(String),
}

pub fn send(config: &Config, url: &str, is_of_job: bool, message: &Message) -> Outcome {
    let checks = is_of_job && !config.webhooks.allow_private;
    let agent = match agent(config, url, checks) {
        Ok(agent) => agent,
        Err(why) => return Outcome::Failed(why),
    };
    let seconds = Time::now().0 / 1000;
    let request = agent
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", message::signature(&config.webhooks.secrets, message, seconds));
    match request.send(message.body.as_bytes()).map(|answer| answer.status().as_u16()) {
        Ok(200..=299) => Outcome::Told,
        Ok(status @ 300..=399) => Outcome::Failed(format!("it answered {status}, and redirects are not followed")),
        Ok(410) => Outcome::Unwanted("it answered 410: it wants to hear no more".into()),
        Ok(status) => Outcome::Failed(format!("it answered {status}")),
        Err(error) => Outcome::Failed(told(&error)),
    }
}

/// Without what the error may say of the URL.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "its name is not known".into(),
        ureq::Error::Timeout(_) => format!("it did not answer within {} s", REQUEST_LIMIT.as_secs()),
        ureq::Error::Io(error) => format!("it cannot be reached: {error}"),
        ureq::Error::BadUri(_) => "it is no URL that can be used".into(),
        other => format!("it cannot be reached: {other}"),
    }
}

fn agent(config: &Config, url: &str, checks_addresses: bool) -> Result<ureq::Agent, String> {
    let proxy = config.proxy_to(url);
    let client = web::client(config.ca_file(), proxy.as_deref(), REQUEST_LIMIT)?;
    // Behind a proxy names are the proxy's to resolve, and its own address is the operator's.
    Ok(match checks_addresses && proxy.is_none() {
        true => ureq::Agent::with_parts(client, DefaultConnector::default(), PublicOnly::default()),
        false => client.into(),
    })
}

/// Resolves names to addresses on the internet alone.
#[derive(Debug, Default)]
struct PublicOnly(DefaultResolver);

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        found.iter().filter(|address| addresses::is_public(address.ip())).for_each(|address| kept.push(*address));
        if kept.is_empty() {
            let why = "its name stands for an address in this server's own network";
            return Err(ureq::Error::Io(std::io::Error::other(why)));
        }
        Ok(kept)
    }
}
