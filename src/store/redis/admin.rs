//! What another process than a server asks of Redis: how its pod is, that it shall drain, and, for
//! `doctor`, whether everything is where it belongs.

use super::keys::Keys;
use super::link::{Address, Link};
use super::own_state::FLAG_STAYS;
use super::reads;
use super::scripts::{Transitions, Write, new_stamp};
use crate::api::Pod;
use crate::config;
use crate::job::{JobId, Record, Time};
use crate::store::job_files::JobFiles;
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

pub struct Admin {
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
    pub time: Time,
    /// Of a version that says so: its version, how many jobs it may run, and what it lacks.
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    pub slots: Option<usize>,
    #[serde(default)]
    pub unwell: Vec<String>,
}

impl PodState {
    pub fn shown(self, name: String) -> Pod {
        Pod {
            name,
            version: self.version().to_owned(),
            slots: self.slots.unwrap_or_default(),
            running: self.running.len(),
            draining: self.draining,
            heard_at: self.time,
            unwell: self.unwell,
        }
    }

    pub fn version(&self) -> &str {
        self.version.as_deref().unwrap_or("unknown")
    }
}

/// What Redis says of where a job is.
#[derive(Debug)]
pub struct Whereabouts {
    pub status: String,
    pub holder: String,
    /// What is left of its lease; negative: it never runs out.
    pub lease_ms: Option<i64>,
}

impl Admin {
    pub fn new(settings: &config::Redis, pod: &str) -> Result<Self, String> {
        let address = Address::new(settings.clone())?;
        Ok(Self { link: Link::new(&address, None), keys: Keys::new(&settings.prefix), pod: pod.to_owned() })
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// None: no server of this pod has been heard of for a while.
    pub fn state(&self) -> Result<Option<PodState>, String> {
        self.state_of(&self.pod)
    }

    pub fn state_of(&self, pod: &str) -> Result<Option<PodState>, String> {
        let key = self.keys.pod(pod);
        let text = self.link.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection))?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| format!("the state of pod {pod}: {error}")))
            .transpose()
    }

    /// Every pod that was heard of lately.
    pub fn all_states(&self) -> Result<Vec<(String, PodState)>, String> {
        let (before, after) = self.keys.around_pod();
        let names = self.scan(&format!("{before}*{after}"))?;
        let pods = names.iter().filter_map(|name| name.strip_prefix(&before)?.strip_suffix(&after));
        let states = pods.map(|pod| Ok(self.state_of(pod)?.map(|state| (pod.to_owned(), state))));
        states.filter_map(Result::transpose).collect()
    }

    fn scan(&self, pattern: &str) -> Result<Vec<String>, String> {
        self.link.with(|connection| {
            let (mut cursor, mut found) = (0_u64, Vec::new());
            loop {
                let mut scan = ::redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000);
                let (next, some): (u64, Vec<String>) = scan.query(connection)?;
                found.extend(some);
                if next == 0 {
                    return Ok(found);
                }
                cursor = next;
            }
        })
    }

    /// None: this user may not ask for it.
    pub fn info(&self) -> Result<Option<String>, String> {
        self.link.with(|connection| match ::redis::cmd("INFO").query(connection) {
            Err(error) if error.code() == Some("NOPERM") => Ok(None),
            other => other.map(Some),
        })
    }

    /// Redis's clock, in milliseconds since 1970.
    pub fn time(&self) -> Result<i64, String> {
        let (seconds, micros): (i64, i64) = self.link.with(|connection| ::redis::cmd("TIME").query(connection))?;
        Ok(seconds * 1000 + micros / 1000)
    }

    pub fn list(&self, key: String) -> Result<Vec<String>, String> {
        self.link.with(|connection| ::redis::cmd("LRANGE").arg(&key).arg(0).arg(-1).query(connection))
    }

    /// The pods for which something waits, or waited once.
    pub fn pods_with_queue(&self) -> Result<Vec<String>, String> {
        let key = self.keys.pods_with_queue();
        self.link.with(|connection| ::redis::cmd("SMEMBERS").arg(&key).query(connection))
    }

    /// The ids that are listed as queued or running.
    pub fn living(&self) -> Result<Vec<String>, String> {
        let sets = ["queued", "running"].map(|status| self.keys.jobs_with(status));
        self.link.with(|connection| {
            let ranges =
                sets.iter().map(|set| ::redis::cmd("ZRANGE").arg(set).arg(0).arg(-1).query::<Vec<String>>(connection));
            Ok(ranges.collect::<::redis::RedisResult<Vec<_>>>()?.concat())
        })
    }

    pub fn whereabouts(&self, id: &JobId) -> Result<Option<Whereabouts>, String> {
        let (job, lease) = (self.keys.job(id), self.keys.lease(id));
        let ((status, holder), left): ((Option<String>, Option<String>), i64) = self.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            pipe.cmd("HMGET").arg(&job).arg("status").arg("holder");
            pipe.cmd("PTTL").arg(&lease);
            pipe.query(connection)
        })?;
        // -2: there is none; -1: it never runs out.
        let lease_ms = Some(left).filter(|left| *left != -2);
        Ok(status.map(|status| Whereabouts { status, holder: holder.unwrap_or_default(), lease_ms }))
    }

    pub fn record(&self, id: &JobId) -> Result<Option<Record>, String> {
        let key = self.keys.job(id);
        let text: Option<String> =
            self.link.with(|connection| ::redis::cmd("HGET").arg(&key).arg("record").query(connection))?;
        text.map(|text| reads::parse(&text).map_err(|error| error.to_string())).transpose()
    }

    /// The newest records, at most `limit`.
    pub fn newest(&self, limit: usize) -> Result<Vec<Record>, String> {
        let key = self.keys.jobs();
        let ids: Vec<String> = self.link.with(|connection| {
            ::redis::cmd("ZREVRANGE").arg(&key).arg(0).arg(limit.saturating_sub(1)).query(connection)
        })?;
        let records = ids.iter().filter_map(|id| JobId::parse(id)).map(|id| self.record(&id));
        records.filter_map(Result::transpose).collect()
    }

    /// Key, holder and what is left in milliseconds of each clone lock.
    pub fn clone_locks(&self) -> Result<Vec<(String, String, i64)>, String> {
        let names = self.scan(&self.keys.clone_lock("*"))?;
        self.link.with(|connection| {
            let mut found = Vec::new();
            for name in &names {
                let holder: Option<String> = ::redis::cmd("GET").arg(name).query(connection)?;
                let left: i64 = ::redis::cmd("PTTL").arg(name).query(connection)?;
                found.extend(holder.map(|holder| (name.clone(), holder, left)));
            }
            Ok(found)
        })
    }

    pub fn free_lock(&self, key: &str) -> Result<(), String> {
        self.link.with(|connection| ::redis::cmd("DEL").arg(key).exec(connection))
    }

    /// By the same steps as the servers' own sweep.
    pub fn put_in_place(&self, id: &JobId, jobs_dir: &Path) -> Result<(), String> {
        let steps = Transitions { link: &self.link, keys: &self.keys };
        let files = JobFiles::new(jobs_dir);
        let is_known = self.whereabouts(id)?.is_some();
        if !is_known
            && files.read_ended(id)?.is_none()
            && let Some(open) = files.read_open(id)?
        {
            let write = Write { record: &open.record, stamp: &new_stamp() };
            steps.put(&write, &open.holder, open.record.attempt > 0).map_err(|error| error.to_string())?;
        }
        steps.relist(id, false).map(drop).map_err(|error| error.to_string())
    }

    /// Takes out of the lists what is no id of a job.
    pub fn take_out(&self, text: &str) -> Result<(), String> {
        self.link.with(|connection| {
            for list in [self.keys.queue(), self.keys.running()] {
                ::redis::cmd("LREM").arg(list).arg(0).arg(text).exec(connection)?;
            }
            Ok(())
        })
    }

    /// For this run of the pod alone. None: no more.
    pub fn ask_to_drain(&self, incarnation: &str, limit: Option<Duration>) -> Result<(), String> {
        let key = self.keys.draining(&self.pod);
        let until = limit.map(|limit| Time::now().0.saturating_add(limit.as_millis() as i64));
        let wanted = until.map_or("cancel".to_owned(), |at| at.to_string());
        let value = format!("{incarnation} {wanted}");
        self.link
            .with(|connection| ::redis::cmd("SET").arg(&key).arg(&value).arg("EX").arg(FLAG_STAYS).exec(connection))
    }
}
