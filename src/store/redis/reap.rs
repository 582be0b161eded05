//! The rounds of every pod: jobs whose holder is gone are taken over, and what was sealed is completed.
//!
//! An id in `running` without a lease is acted on when it was seen so in every round for a whole grace,
//! with the same attempt and status. Any trouble with Redis begins the grace anew.

use super::Redis;
use super::reads;
use super::scripts::{Said, Write, new_stamp};
use crate::event::{Draft, Kind};
use crate::job::{Job, JobId, Record, Running, Time};
use crate::log;
use crate::store::Error;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// What one round saw of an id in `running`.
pub(super) struct Taken {
    pub id: JobId,
    /// Empty: Redis has no record of it.
    status: String,
    attempt: u32,
    holder: String,
    has_lease: bool,
}

/// Ids without a lease, since when, and in which state.
#[derive(Default)]
struct Suspects(HashMap<JobId, (Instant, u32, String)>);

impl Redis {
    pub(super) fn make_rounds(&self) {
        let (mut suspects, mut last) = (Suspects::default(), Instant::now());
        while !self.ends() {
            // A pod that slept, or was cut off, has not seen what happened meanwhile.
            if last.elapsed() > self.settings.reap_period * 3 + self.settings.timeout {
                suspects.0.clear();
            }
            last = Instant::now();
            if let Err(error) = self.reap(&mut suspects) {
                suspects.0.clear();
                // That Redis is away is said once, where leases are renewed.
                if self.rounds.trouble().is_none() {
                    log::warn(&format!("jobs of lost pods could not be looked for: {error}"));
                }
            }
            self.pause(self.settings.reap_period);
        }
    }

    fn reap(&self, suspects: &mut Suspects) -> Result<(), Error> {
        let taken = self.read_running()?;
        let there: HashSet<&JobId> = taken.iter().map(|one| &one.id).collect();
        suspects.0.retain(|id, _| there.contains(id));
        for one in &taken {
            let is_ours_no_more = self.names_us(one) && !self.table.is_ours(&one.id) && one.status == "running";
            if one.has_lease && !is_ours_no_more {
                suspects.0.remove(&one.id);
                continue;
            }
            let attempt = one.attempt;
            let (since, of, status) =
                suspects.0.entry(one.id.clone()).or_insert_with(|| (Instant::now(), attempt, one.status.clone()));
            if (*of, status.as_str()) != (attempt, one.status.as_str()) {
                (*since, *of, *status) = (Instant::now(), attempt, one.status.clone());
            }
            let grace = match is_ours_no_more {
                // Nobody knows better than we that we do not run it; seen twice, it is no claim under way.
                true => self.settings.reap_period / 2,
                false => self.settings.reap_grace,
            };
            if since.elapsed() >= grace {
                suspects.0.remove(&one.id);
                match self.act_on(one, is_ours_no_more) {
                    // What is wrong with one job keeps no other waiting.
                    Err(error) if self.rounds.trouble().is_none() => log::warn(&format!("job {}: {error}", one.id)),
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn names_us(&self, one: &Taken) -> bool {
        one.holder.starts_with(&format!("{}/{}/", self.pod, self.incarnation))
    }

    /// Everything in `running`, in two round trips.
    pub(super) fn read_running(&self) -> Result<Vec<Taken>, Error> {
        let ids = self.rounds.with(|connection| {
            ::redis::cmd("LRANGE").arg(self.keys.running()).arg(0).arg(-1).query::<Vec<String>>(connection)
        });
        let ids: HashSet<JobId> =
            ids.map_err(Error::Unavailable)?.iter().filter_map(|text| JobId::parse(text)).collect();
        let ids: Vec<JobId> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        type Fields = Vec<Option<String>>;
        let found: Vec<(Fields, bool)> = self
            .rounds
            .with(|connection| {
                let mut pipe = ::redis::pipe();
                for id in &ids {
                    let fields = ["status", "attempt", "holder"];
                    pipe.cmd("HMGET").arg(self.keys.job(id)).arg(&fields[..]);
                    pipe.cmd("EXISTS").arg(self.keys.lease(id));
                }
                let flat: Vec<::redis::Value> = pipe.query(connection)?;
                flat.chunks(2)
                    .map(|pair| {
                        Ok((::redis::from_redis_value_ref(&pair[0])?, ::redis::from_redis_value_ref(&pair[1])?))
                    })
                    .collect()
            })
            .map_err(Error::Unavailable)?;
        Ok(ids.into_iter().zip(found).map(|(id, (fields, has_lease))| taken(id, fields, has_lease)).collect())
    }

    fn act_on(&self, one: &Taken, is_ours_no_more: bool) -> Result<(), Error> {
        let steps = self.in_rounds();
        let outcome = self.files.read_ended(&one.id).map_err(Error::Unavailable)?;
        if let Some(outcome) = outcome {
            return self.close(&steps, &outcome);
        }
        let Some((record, stamp)) = self.read_with_stamp(&self.rounds, &one.id)? else {
            self.put_back(&steps, &one.id)?;
            return Ok(());
        };
        if record.attempt != one.attempt {
            return Ok(());
        }
        match (one.status.as_str(), Job::from(record)) {
            // Popped, and never claimed.
            ("queued", _) => steps.place(&one.id, true).map(drop),
            ("sealed", _) => match self.read_sealed(&one.id)? {
                Some(outcome) => self.conclude(&steps, outcome).map(drop),
                None => Ok(()),
            },
            ("running", Job::Running(job)) if is_ours_no_more => {
                log::info(&format!(
                    "job {} was cut off here in attempt {}: it goes back to the queue",
                    one.id, one.attempt
                ));
                self.give_back_stray(job.into()).map(drop)
            }
            ("running", Job::Running(job)) => self.take_over(one, job, &stamp),
            // Ended: the list is behind.
            _ => steps.place(&one.id, false).map(drop),
        }
    }

    fn read_sealed(&self, id: &JobId) -> Result<Option<Record>, Error> {
        let found = self.rounds.with(|connection| {
            ::redis::cmd("HGET").arg(self.keys.job(id)).arg("outcome").query::<Option<String>>(connection)
        });
        found.map_err(Error::Unavailable)?.map(|text| reads::parse(&text)).transpose()
    }

    /// Its worker is gone: the next one goes on with it, unless it cost too many.
    fn take_over(&self, one: &Taken, job: Running, read: &str) -> Result<(), Error> {
        let steps = self.in_rounds();
        let attempt = job.attempt;
        let pod = job.pod_name.clone().unwrap_or_default();
        let in_file = self.files.read_open(&one.id).map_err(Error::Unavailable)?.map(|open| open.record);
        let was_given_back = in_file.as_ref().is_some_and(|file| {
            file.attempt == attempt && file.status() == crate::job::Status::Queued && self.has_copy
        });
        let (next, event) = if was_given_back || self.was_draining(one, &pod)? {
            let event =
                Draft::new(Kind::HandedBack, format!("{pod} went away in attempt {attempt}; another one goes on"));
            (Job::Queued(job.hand_back()), event)
        } else {
            let event = Draft::new(Kind::WorkerLost, format!("{pod} was lost with it in attempt {attempt}"));
            (job.lose_worker(Time::now()), event)
        };
        match next {
            Job::Queued(job) => {
                let queued = Record::from(job);
                let write = Write { record: &queued, stamp: &new_stamp() };
                let said = steps.take_back(&write, read, event)?;
                if said == Said::Done {
                    log::info(&format!("job {} was taken over from {pod} (attempt {attempt})", one.id));
                    self.write_open("", &queued)?;
                }
                Ok(())
            }
            Job::Ended(ended) => self.seal_and_conclude(&steps, ended, read).map(drop),
            Job::Running(_) => Ok(()),
        }
    }

    /// The run of the pod that held it was draining when it went.
    fn was_draining(&self, one: &Taken, pod: &str) -> Result<bool, Error> {
        let key = self.keys.draining(pod);
        let flag = self.rounds.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection));
        let flag = flag.map_err(Error::Unavailable)?.unwrap_or_default();
        let incarnation = flag.split(' ').next().unwrap_or_default();
        Ok(!incarnation.is_empty() && one.holder.starts_with(&format!("{pod}/{incarnation}/")))
    }
}

fn taken(id: JobId, fields: Vec<Option<String>>, has_lease: bool) -> Taken {
    let mut fields = fields.into_iter().map(Option::unwrap_or_default);
    let mut next = || fields.next().unwrap_or_default();
    let (status, attempt, holder) = (next(), next(), next());
    Taken { id, status, attempt: attempt.parse().unwrap_or(0), holder, has_lease }
}
