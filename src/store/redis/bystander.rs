//! What a process beside the server asks of Redis: how its pod is, and that it shall drain.

use super::keys::Keys;
use super::link::{Address, Link};
use crate::config;
use crate::job::Time;
use serde::Deserialize;
use std::time::Duration;

pub struct Bystander {
    link: Link,
    keys: Keys,
    pod: String,
}

/// What a pod says of itself.
#[derive(Debug, Deserialize)]
pub struct PodState {
    pub incarnation: String,
    pub running: Vec<String>,
    pub draining: bool,
    #[serde(default)]
    pub handed_back: Vec<String>,
}

impl Bystander {
    pub fn new(settings: &config::Redis, pod: &str) -> Result<Self, String> {
        let address = Address::new(settings.clone())?;
        Ok(Self { link: Link::new(&address, None), keys: Keys::new(&settings.prefix), pod: pod.to_owned() })
    }

    /// None: no server of this pod has been heard of for a while.
    pub fn state(&self) -> Result<Option<PodState>, String> {
        let key = self.keys.pod(&self.pod);
        let text = self.link.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection))?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| format!("the state of pod {}: {error}", self.pod)))
            .transpose()
    }

    /// For this run of the pod alone. None: no more.
    pub fn ask_to_drain(&self, incarnation: &str, limit: Option<Duration>) -> Result<(), String> {
        let key = self.keys.draining(&self.pod);
        let until = limit.map(|limit| Time::now().0.saturating_add(limit.as_millis() as i64));
        let wish = until.map_or("cancel".to_owned(), |at| at.to_string());
        let value = format!("{incarnation} {wish}");
        self.link.with(|connection| ::redis::cmd("SET").arg(&key).arg(&value).arg("EX").arg(86_400).exec(connection))
    }
}
