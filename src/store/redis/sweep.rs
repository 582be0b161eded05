//! Compares the job files with Redis: what Redis lost, or never heard of, is put back; what it says
//! of a job that has ended follows the ended file. One pod at a time does it for all.

use super::context::Access;
use super::scripts::{Write, has_ended, new_stamp};
use crate::job::{Job, JobId, Record};
use crate::log;
use crate::store::{Error, files};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Jobs that are asked for in one round trip.
const CHUNK: usize = 500;
/// Every so many-th sweep looks for ended files also where nothing hints at one.
const THOROUGH_EVERY: u64 = 12;
/// A file that was never finished is removed after this long: writing one takes seconds at most.
const ABANDONED: Duration = Duration::from_secs(600);
/// A job that is younger than this, in milliseconds, may be on its way into the queue.
const JUST_NOW: i64 = 5_000;
/// What reading all ended files may take, before another pod tries.
const INDEX_TURN: Duration = Duration::from_secs(60);

/// What Redis says of an id: its status, and whether it is listed.
type Known = (Option<String>, Option<f64>);

pub struct Sweeper {
    pub access: Access,
    /// Pods that something waits for and that are not there, and since when that was seen.
    pub gone: HashMap<String, Instant>,
}

impl Sweeper {
    /// Beside the reaper, who must not wait for it: with many jobs it takes its time.
    pub fn sweep_on(mut self) {
        let (mut was_away, mut sweeps, mut pause) = (true, 0_u64, self.access.ctx.settings.sweep_period);
        while !self.access.ctx.ends() {
            let began = Instant::now();
            // A Redis that is away is asked again in the next round.
            let _ = self.end_what_waits_for_the_gone();
            match self.sweep(was_away || sweeps.is_multiple_of(THOROUGH_EVERY), pause) {
                Ok(was_thorough) => was_away &= !was_thorough,
                Err(error) => {
                    was_away = true;
                    // That Redis is away is said once, where leases are renewed.
                    if self.access.link.trouble().is_none() {
                        log::warn(&format!("the job files were not compared with Redis: {error}"));
                    }
                }
            }
            sweeps += 1;
            // One that takes long is made less often.
            pause = self.access.ctx.settings.sweep_period.max(began.elapsed() * 5);
            self.access.ctx.pause(pause);
        }
    }

    /// `thorough`: each open job's ended file is looked for too, which finds what was cancelled while
    /// Redis was away. Returns whether this pod made a thorough one.
    /// `turn_lasts`: for how long no other pod makes one.
    fn sweep(&self, thorough: bool, turn_lasts: Duration) -> Result<bool, Error> {
        if !self.access.ctx.has_copy {
            self.sweep_pending()?;
        }
        let turn = if thorough { "thorough-sweep" } else { "sweep" };
        if !self.access.take_turn(turn, turn_lasts)? {
            return Ok(false);
        }
        let ids = match self.access.ctx.has_copy {
            true => self.access.ctx.files.open_ids().map_err(Error::Unavailable)?,
            false => self.living_ids()?,
        };
        // After the files: what was submitted since is in no list that was read before.
        let in_lists = self.ids_in_lists()?;
        let mut unknown = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            for (id, known) in chunk.iter().zip(self.ask_for(chunk)?) {
                match known {
                    (None, _) => unknown.push(id),
                    (Some(status), listed) => {
                        let is_placed = listed.is_some() && in_lists.contains(id);
                        self.bear(id, self.compare(id, &status, is_placed, thorough))?;
                    }
                }
            }
        }
        for (id, head) in self.in_order_of_return(unknown) {
            self.bear(&id, self.put_back(&id, head))?;
        }
        self.index_ended()?;
        if self.access.ctx.has_copy {
            for below in ["", "open", "keys"] {
                let directory = self.access.ctx.files.directory().join(below);
                files::remove_abandoned(&directory, ABANDONED).map_err(Error::Unavailable)?;
            }
        }
        Ok(thorough)
    }

    /// What is wrong with one job keeps no other waiting.
    fn bear(&self, id: &JobId, done: Result<(), Error>) -> Result<(), Error> {
        match done {
            Err(error) if self.access.link.trouble().is_none() => log::job(id).warn(&error),
            other => other?,
        }
        Ok(())
    }

    /// Jobs that Redis does not know, in an order in which they stand in the line as before: the newest goes back to
    /// the head first, and the oldest last. One that was submitted just now, and is on its way there, is not one of
    /// those that were lost: it goes to the tail.
    fn in_order_of_return(&self, unknown: Vec<&JobId>) -> Vec<(JobId, bool)> {
        let read = |id: &JobId| self.access.ctx.files.read_open(id).ok().flatten().map(|open| open.record);
        let mut all: Vec<_> = unknown.iter().map(|id| (read(id), (*id).clone())).collect();
        all.sort_by_key(|(record, _)| record.as_ref().map(|record| (record.attempt == 0, record.created_at)));
        let is_new = |record: &Option<Record>| {
            let age = record.as_ref().map(|record| self.access.ctx.now().since(record.created_at));
            record.as_ref().is_some_and(|record| record.attempt == 0) && age.is_some_and(|age| age < JUST_NOW)
        };
        let (new, lost): (Vec<_>, Vec<_>) = all.into_iter().partition(|(record, _)| is_new(record));
        let lost = lost.into_iter().rev().map(|(_, id)| (id, true));
        lost.chain(new.into_iter().map(|(_, id)| (id, false))).collect()
    }

    fn put_back(&self, id: &JobId, head: bool) -> Result<(), Error> {
        if self.access.put_back(id, head)? {
            log::job(id).info("Redis did not know it: it was put back from its file");
        }
        Ok(())
    }

    /// Accepted while Redis was away, on a machine whose files nobody else sees: queued, and the file goes.
    fn sweep_pending(&self) -> Result<(), Error> {
        for id in self.access.ctx.files.open_ids().map_err(Error::Unavailable)? {
            let open = match self.access.ctx.files.read_open(&id) {
                Ok(Some(open)) => open,
                Ok(None) => continue,
                Err(why) => {
                    log::warn(&format!("{why}; it is left alone"));
                    continue;
                }
            };
            let write = Write { record: &open.record, stamp: &new_stamp() };
            self.access.steps().put(&write, "", open.record.attempt > 0)?;
            files::remove(&self.access.ctx.files.open(&id)).map_err(Error::Unavailable)?;
        }
        Ok(())
    }

    fn living_ids(&self) -> Result<Vec<JobId>, Error> {
        let sets = ["queued", "running"].map(|status| self.access.ctx.keys.jobs_with(status));
        let found = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            for set in &sets {
                pipe.cmd("ZRANGE").arg(set).arg(0).arg(-1);
            }
            pipe.query::<Vec<Vec<String>>>(connection)
        });
        Ok(found.map_err(Error::Unavailable)?.iter().flatten().filter_map(|text| JobId::parse(text)).collect())
    }

    /// A job that one pod alone may take ends when that pod has been gone for a grace: nobody else has its worktree.
    fn end_what_waits_for_the_gone(&mut self) -> Result<(), Error> {
        let pods = self.access.pods_with_queue()?;
        self.gone.retain(|pod, _| pods.contains(pod));
        for pod in pods {
            if self.access.lives(&pod)? {
                self.gone.remove(&pod);
                continue;
            }
            let since = *self.gone.entry(pod.clone()).or_insert_with(Instant::now);
            // One that restarts says within a lease that it is back.
            if since.elapsed() < self.access.ctx.settings.lease + self.access.ctx.settings.reap_grace {
                continue;
            }
            for id in self.access.ids_waiting_for(&pod)? {
                if let Some((record, stamp)) = self.access.read_with_stamp(&id)?
                    && let Job::Queued(job) = Job::from(record)
                {
                    let why = format!("the pod {pod}, which alone had its worktree, is gone");
                    self.access.seal_and_conclude(job.give_up(why, self.access.ctx.now()), &stamp)?;
                }
            }
        }
        Ok(())
    }

    fn ids_in_lists(&self) -> Result<HashSet<JobId>, Error> {
        let keys = &self.access.ctx.keys;
        let own_lines = self.access.pods_with_queue()?;
        let own_lines = own_lines.iter().map(|pod| keys.queue_of(pod));
        let lists: Vec<String> = own_lines.chain([keys.queue(), keys.running()]).collect();
        let found = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            for list in &lists {
                pipe.cmd("LRANGE").arg(list).arg(0).arg(-1);
            }
            pipe.query::<Vec<Vec<String>>>(connection)
        });
        Ok(found.map_err(Error::Unavailable)?.iter().flatten().filter_map(|text| JobId::parse(text)).collect())
    }

    /// A job of the Python program: it is listed. Its own hash in Redis, which has the same name as ours would have,
    /// is left as it is.
    fn list_foreign(&self, record: &Record) -> Result<(), Error> {
        let sets = [self.access.ctx.keys.jobs(), self.access.ctx.keys.jobs_with(record.status().as_str())];
        let listed = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            for set in &sets {
                pipe.cmd("ZADD").arg(set).arg(record.created_at.0).arg(record.id.as_str());
            }
            pipe.cmd("ZADD").arg(self.access.ctx.keys.ids()).arg(0).arg(record.id.as_str());
            pipe.query::<()>(connection)
        });
        listed.map_err(Error::Unavailable)
    }

    fn ask_for(&self, ids: &[JobId]) -> Result<Vec<Known>, Error> {
        let found = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            for id in ids {
                pipe.cmd("HGET").arg(self.access.ctx.keys.job(id)).arg("status");
                pipe.cmd("ZSCORE").arg(self.access.ctx.keys.jobs()).arg(id.as_str());
            }
            // One of another type is as good as unknown.
            let flat: Vec<::redis::RedisResult<::redis::Value>> = pipe.ignore_errors().query(connection)?;
            Ok(flat.chunks(2).map(|pair| (known(pair.first()), known(pair.get(1)))).collect())
        });
        found.map_err(Error::Unavailable)
    }

    /// `is_placed`: it is listed, and in the queue or among the running.
    fn compare(&self, id: &JobId, status: &str, is_placed: bool, thorough: bool) -> Result<(), Error> {
        let access = &self.access;
        if access.ctx.has_copy
            && (thorough || !is_placed)
            && let Some(outcome) = access.ctx.files.read_ended(id).map_err(Error::Unavailable)?
        {
            if !has_ended(status) {
                log::job(id).info("it had ended without Redis knowing: its record is closed");
            }
            return access.close(&outcome);
        }
        if has_ended(status) {
            // The record says so, and it is the only one that does: the second copy follows it.
            if let Some((record, _)) = access.read_with_stamp(id)?
                && record.status().has_ended()
            {
                access.follow(record)?;
            }
        } else if !is_placed {
            access.steps().relist(id, false)?;
        }
        Ok(())
    }

    /// After a restart, a failover or a flush Redis may not list jobs that have ended: they are listed
    /// again from their files. Once for each run of Redis.
    fn index_ended(&self) -> Result<(), Error> {
        if !self.access.ctx.has_copy {
            return Ok(());
        }
        let key = self.access.ctx.keys.indexed();
        let (run, indexed) = self
            .access
            .link
            .with(|connection| {
                // A user may not be allowed to ask: then a flush is seen, and a restart with an older state is not.
                let info: String = ::redis::cmd("INFO").arg("server").query(connection).unwrap_or_default();
                let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or("unknown").to_owned();
                let indexed: Option<String> = ::redis::cmd("GET").arg(&key).query(connection)?;
                Ok((run, indexed))
            })
            .map_err(Error::Unavailable)?;
        if indexed.as_deref() == Some(run.as_str()) || !self.access.take_turn(&format!("index:{run}"), INDEX_TURN)? {
            return Ok(());
        }
        let ids = self.access.ctx.files.ended_ids().map_err(Error::Unavailable)?;
        for chunk in ids.chunks(CHUNK) {
            for (id, (status, listed)) in chunk.iter().zip(self.ask_for(chunk)?) {
                if (status.is_none() || listed.is_none())
                    && let Ok(Some(outcome)) = self.access.ctx.files.read_ended(id)
                {
                    if outcome.is_foreign() {
                        self.list_foreign(&outcome)?;
                        continue;
                    }
                    self.access.close(&outcome)?;
                    self.access.steps().relist(id, false)?;
                }
            }
        }
        let done = self.access.link.with(|connection| ::redis::cmd("SET").arg(&key).arg(&run).exec(connection));
        done.map_err(Error::Unavailable)
    }
}

fn known<T: ::redis::FromRedisValue>(found: Option<&::redis::RedisResult<::redis::Value>>) -> Option<T> {
    ::redis::from_redis_value_ref(found?.as_ref().ok()?).ok()
}
