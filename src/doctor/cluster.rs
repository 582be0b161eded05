//! `doctor --cluster`: the whole fleet from one place, a line for each pod, for what scales it, for the volume, and for
//! the jobs that nobody could run. Asks Redis and the volume; asks no pod. Repairs nothing.

use super::disk::SKEW_LIMIT;
use super::{Doctor, Finding};
use crate::job::{JobId, Record, Time};
use crate::store::redis::admin::{Admin, PodState};
use crate::volume::probe;
use std::collections::BTreeSet;

/// So many of the jobs that wait longest are looked at.
const WAITING_LOOKED_AT: usize = 200;

impl Doctor {
    /// The same as the checks of one pod, for all of them together.
    pub fn examine_cluster(&self, mut tell: impl FnMut(&Finding)) -> Vec<Finding> {
        let Some(redis) = &self.redis else {
            let why =
                "there is no Redis, so no fleet: --cluster is for servers that share one; set REDIS_URL as they do";
            let found = vec![Finding::new("cluster", "the settings of this command", vec![why.into()])];
            found.iter().for_each(&mut tell);
            return found;
        };
        let mut all = Vec::new();
        let looks: [fn(&Self, &Admin) -> Vec<Finding>; 4] =
            [Self::pods, Self::scaling, Self::abilities_of_volume, Self::waiting];
        for look in looks {
            let found = look(self, redis);
            found.iter().for_each(&mut tell);
            all.extend(found);
        }
        all
    }

    fn pods(&self, redis: &Admin) -> Vec<Finding> {
        const CHECK: &str = "pods";
        let (now, mut pods) = match redis.time().and_then(|time| Ok((time, redis.all_states()?))) {
            Ok(found) => found,
            Err(why) => return vec![Finding::blind(CHECK, why)],
        };
        pods.sort_by(|(one, _), (other, _)| one.cmp(other));
        if pods.is_empty() {
            let why = "no pod has said anything lately: none runs, or they have another prefix or database than this \
                       command (REDIS_KEY_PREFIX, REDIS_URL)";
            return vec![Finding::new(CHECK, "asked for what pods say of themselves", vec![why.into()])];
        }
        let mut found: Vec<Finding> = pods.iter().map(|(pod, state)| of_pod(pod, state, now)).collect();
        let versions: BTreeSet<&str> = pods.iter().map(|(_, state)| state.version()).collect();
        let versions: Vec<&str> = versions.into_iter().collect();
        let (slots, busy) = pods.iter().fold((0, 0), |(slots, busy), (_, state)| {
            (slots + state.slots.unwrap_or_default(), busy + state.running.len())
        });
        let evidence =
            format!("{} pods, {busy} of {slots} slots in use, version {}", pods.len(), versions.join(" and "));
        let warnings = match versions.len() {
            1 => Vec::new(),
            _ => vec![
                "pods of several versions: well during a rollout; afterwards see which pod was not replaced".into(),
            ],
        };
        found.push(Finding { warnings, ..Finding::new("fleet", evidence, Vec::new()) });
        found
    }

    /// What an autoscaler has to read to see the same queue.
    fn scaling(&self, redis: &Admin) -> Vec<Finding> {
        const CHECK: &str = "what to scale on";
        let Some(settings) = &self.config.redis else { return Vec::new() };
        let (queue, busy) = (redis.keys().queue(), redis.keys().busy());
        let length =
            match redis.list(queue.clone()).and_then(|waiting| Ok((waiting.len(), redis.list(busy.clone())?.len()))) {
                Ok(found) => found,
                Err(why) => return vec![Finding::blind(CHECK, why)],
            };
        let evidence = format!(
            "KEDA has to read `{queue}` (now {} long) and `{busy}` (now {}) in database {} at {}; compare with \
             `kubectl get scaledobject -o yaml` (listName, databaseIndex) and the Secret's redis-address",
            length.0,
            length.1,
            settings.database,
            settings.shown()
        );
        vec![Finding::new(CHECK, evidence, Vec::new())]
    }

    fn abilities_of_volume(&self, _: &Admin) -> Vec<Finding> {
        const CHECK: &str = "shared volume";
        let Some(root) = &self.config.shared_root else {
            let why = "AGENTICORE_SHARED_FS_ROOT is not set here: set it as the pods have it, or run this in a pod";
            return vec![Finding { warnings: vec![why.into()], ..Finding::new(CHECK, "not looked at", Vec::new()) }];
        };
        let found = probe::look(&self.config.jobs_dir);
        let (fatal, others): (Vec<_>, Vec<_>) = found.lacks.into_iter().partition(|lack| lack.is_fatal);
        let evidence = format!("{}: tried and well: {}", root.display(), found.good.join(", "));
        let problems = fatal.into_iter().map(|lack| lack.sentence).collect();
        let warnings = others.into_iter().map(|lack| lack.sentence).collect();
        vec![Finding { warnings, ..Finding::new(CHECK, evidence, problems) }]
    }

    /// The jobs that wait, and why nobody took them.
    fn waiting(&self, redis: &Admin) -> Vec<Finding> {
        const CHECK: &str = "jobs that wait";
        let look = || -> Result<(usize, Vec<Record>, Vec<String>), String> {
            let waiting = redis.list(redis.keys().queue())?;
            let mut records = Vec::new();
            // Ids come in at the left: the oldest are last.
            for id in waiting.iter().rev().take(WAITING_LOOKED_AT).filter_map(|id| JobId::parse(id)) {
                records.extend(redis.record(&id)?);
            }
            let mut gone = Vec::new();
            let pods: BTreeSet<String> = redis.all_states()?.into_iter().map(|(pod, _)| pod).collect();
            for pod in redis.pods_with_queue()?.into_iter().filter(|pod| !pods.contains(pod)) {
                let count = redis.list(redis.keys().queue_of(&pod))?.len();
                if count > 0 {
                    gone.push(format!(
                        "{count} jobs wait for the pod {pod}, which has their worktree and has not been heard of: \
                         bring it back, or they end soon"
                    ));
                }
            }
            Ok((waiting.len(), records, gone))
        };
        let (count, records, mut problems) = match look() {
            Ok(found) => found,
            Err(why) => return vec![Finding::blind(CHECK, why)],
        };
        for record in &records {
            if let Some(why) = &record.waits_because {
                problems.push(format!("job {} was tried and could not be run: {why}", record.id));
            }
        }
        let oldest = records.iter().map(|record| Time::now().since(record.created_at) / 1000).max();
        let oldest = oldest.map_or(String::new(), |seconds| format!(", the oldest for {seconds} s"));
        vec![Finding::new(CHECK, format!("{count} wait{oldest}"), problems)]
    }
}

fn of_pod(pod: &str, state: &PodState, now: i64) -> Finding {
    let skew = state.time.0 - now;
    let mut problems = state.unwell.clone();
    if skew > SKEW_LIMIT.as_millis() as i64 {
        problems.push(format!("its clock is {skew} ms ahead of Redis': set that machine's clock"));
    }
    let slots = state.slots.map_or("an unknown number of".to_owned(), |slots| slots.to_string());
    let drains = if state.draining { ", draining" } else { "" };
    let heard = (now - state.time.0).max(0);
    let evidence = format!(
        "version {}, {} of {slots} slots in use{drains}, heard of {heard} ms ago",
        state.version(),
        state.running.len()
    );
    Finding { subject: Some(pod.to_owned()), ..Finding::new("pod", evidence, problems) }
}
