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
use std::time::{Duration, Instant};

/// What one round saw of an id in `running`.
pub(super) struct Taken {
    pub id: JobId,
    record: Option<Record>,
    status: String,
    stamp: String,
    holder: String,
    outcome: Option<Record>,
    has_lease: bool,
}

/// Ids without a lease, since when, and in which state.
#[derive(Default)]
struct Suspects(HashMap<JobId, (Instant, u32, String)>);

impl Redis {
    pub(super) fn make_rounds(&self) {
        let (mut suspects, mut last) = (Suspects::default(), Instant::now());
        let mut sweep_at = Instant::now();
        while !self.ends() {
            // A pod that slept, or was cut off, has not seen what happened meanwhile.
            if last.elapsed() > self.settings.reap_period * 3 + self.settings.timeout {
                suspects.0.clear();
            }
            last = Instant::now();
            match self.reap(&mut suspects) {
                Ok(()) => {}
                Err(Error::Lost) => {}
                Err(error) => {
                    suspects.0.clear();
                    log::warn(&format!("a round was cut short: {error}"));
                }
            }
            if Instant::now() >= sweep_at {
                sweep_at = Instant::now() + self.settings.sweep_period;
                if let Err(error) = self.sweep() {
                    log::warn(&format!("the job files were not compared with Redis: {error}"));
                }
            }
            let until = Instant::now() + self.settings.reap_period;
            while !self.ends() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
            }
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
            let attempt = one.record.as_ref().map_or(0, |record| record.attempt);
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
                self.act_on(one, is_ours_no_more)?;
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
                    let fields = ["record", "status", "stamp", "holder", "outcome"];
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
        ids.into_iter().zip(found).map(|(id, (fields, has_lease))| taken(id, fields, has_lease)).collect()
    }

    fn act_on(&self, one: &Taken, is_ours_no_more: bool) -> Result<(), Error> {
        let steps = self.in_rounds();
        let outcome = self.files.read_ended(&one.id).map_err(Error::Unavailable)?;
        if let Some(outcome) = outcome {
            return self.close(&steps, &outcome);
        }
        let Some(record) = &one.record else {
            self.put_back(&steps, &one.id)?;
            return Ok(());
        };
        match (one.status.as_str(), Job::from(record.clone())) {
            // Popped, and never claimed.
            ("queued", _) => steps.place(&one.id, true).map(drop),
            ("sealed", _) => match &one.outcome {
                Some(outcome) => self.conclude(&steps, outcome.clone()).map(drop),
                None => Ok(()),
            },
            ("running", Job::Running(_)) if is_ours_no_more => {
                log::info(&format!(
                    "job {} was cut off here in attempt {}: it goes back to the queue",
                    one.id, record.attempt
                ));
                self.give_back_stray(record.clone()).map(drop)
            }
            ("running", Job::Running(job)) => self.take_over(one, job),
            // Ended: the list is behind.
            _ => steps.place(&one.id, false).map(drop),
        }
    }

    /// Its worker is gone: the next one goes on with it, unless it cost too many.
    fn take_over(&self, one: &Taken, job: Running) -> Result<(), Error> {
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
                let said = steps.take_back(&write, &one.stamp, event)?;
                if said == Said::Done {
                    log::info(&format!("job {} was taken over from {pod} (attempt {attempt})", one.id));
                    self.write_open("", &queued)?;
                }
                Ok(())
            }
            Job::Ended(ended) => self.seal_and_conclude(&steps, ended, &one.stamp).map(drop),
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

fn taken(id: JobId, fields: Vec<Option<String>>, has_lease: bool) -> Result<Taken, Error> {
    let mut fields = fields.into_iter();
    let mut next = || fields.next().flatten();
    let (record, status, stamp, holder, outcome) = (next(), next(), next(), next(), next());
    Ok(Taken {
        id,
        record: record.map(|text| reads::parse(&text)).transpose()?,
        status: status.unwrap_or_default(),
        stamp: stamp.unwrap_or_default(),
        holder: holder.unwrap_or_default(),
        outcome: outcome.map(|text| reads::parse(&text)).transpose()?,
        has_lease,
    })
}
