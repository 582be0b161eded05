//! Redis itself: whether it is there, keeps what it is told, throws nothing away, and has our time.

use super::disk::SKEW_LIMIT;
use super::{Doctor, Finding};
use crate::job::Time;
use crate::store::redis::admin::Admin;

impl Doctor {
    pub(super) fn look_at_redis(&self) -> Vec<Finding> {
        let Some(redis) = &self.redis else { return Vec::new() };
        let info = match redis.info() {
            Ok(Some(info)) => info,
            Ok(None) => {
                let told = "its user may not ask for INFO: whether it keeps what it is told is not known".to_owned();
                return vec![Finding::new("Redis", told, Vec::new()), self.clocks(redis)];
            }
            Err(why) => return vec![Finding::new("Redis", "asked for its state", vec![why])],
        };
        let get = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).unwrap_or("unknown").to_owned()
        };
        vec![self.persistence(&get), eviction(&get), self.clocks(redis)]
    }

    fn persistence(&self, get: &impl Fn(&str) -> String) -> Finding {
        let (append_only, role) = (get("aof_enabled") == "1", get("role"));
        let mut problems = Vec::new();
        if !append_only && !self.config.has_second_copy() {
            problems
                .push("it keeps no append-only file, and there is no second copy: a crash of Redis loses jobs".into());
        }
        for name in ["aof_last_write_status", "rdb_last_bgsave_status"] {
            if get(name) == "err" {
                problems.push(format!("{name} is err: it cannot write what it is told"));
            }
        }
        if role != "master" {
            problems.push(format!("it is a {role}: nothing can be written there"));
        }
        let kept = if append_only {
            "append-only file"
        } else {
            "no append-only file (after a restart jobs come back from their files)"
        };
        let copy = if self.config.has_second_copy() { "job files are the second copy" } else { "no second copy" };
        let evidence = format!("Redis {} {role}, {kept}, {copy}", get("redis_version"));
        Finding::new("Redis keeps what it is told", evidence, problems)
    }

    fn clocks(&self, redis: &Admin) -> Finding {
        const CHECK: &str = "clocks";
        let limit = SKEW_LIMIT.as_millis() as i64;
        let before = Time::now().0;
        let (of_redis, pods) = match redis.time().and_then(|time| Ok((time, redis.all_states()?))) {
            Ok(found) => found,
            Err(why) => return Finding::blind(CHECK, why),
        };
        let skew = of_redis - (before + Time::now().0) / 2;
        let mut problems = Vec::new();
        if skew.abs() > limit {
            problems.push(format!("this machine's clock is {skew} ms off Redis's"));
        }
        for (pod, state) in &pods {
            // It was said at most a renewal or two ago; ahead of Redis it can only be by a wrong clock.
            let ahead = state.time.0 - of_redis;
            if ahead > limit {
                problems.push(format!("the clock of {pod} is {ahead} ms ahead"));
            }
        }
        Finding::new(CHECK, format!("{skew} ms between this machine and Redis; {} pods heard of", pods.len()), problems)
    }
}

fn eviction(get: &impl Fn(&str) -> String) -> Finding {
    let (policy, limit) = (get("maxmemory_policy"), get("maxmemory"));
    let problems = match policy.as_str() {
        "noeviction" | "unknown" => Vec::new(),
        _ => vec![format!(
            "maxmemory-policy is {policy}, by which jobs are thrown away: set it in Redis (CONFIG SET \
             maxmemory-policy noeviction, \
             and in its configuration)"
        )],
    };
    let evidence = format!("maxmemory-policy {policy}, maxmemory {limit}, {} bytes in use", get("used_memory"));
    Finding::new("Redis throws nothing away", evidence, problems)
}
