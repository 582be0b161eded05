//! The rounds of every pod: jobs whose holder is gone are taken over, and what was sealed is completed.
//!
//! An id in `running` without a lease is acted on when it was seen so in every round for a whole grace,
//! with the same attempt and status. Any trouble with Redis begins the grace anew.

use super::context::Access;
use super::held::Attempts;
use super::reads;
use super::scripts::{Answer, Write, new_stamp};
use crate::job::{Job, JobId, Record, Running, Status};
use crate::log;
use crate::store::{Error, rules};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// What one round saw of an id in `running`.
struct Taken {
    id: JobId,
    /// Empty: Redis has no record of it.
    status: String,
    attempt: u32,
    holder: String,
    created: i64,
    has_lease: bool,
}

/// Ids without a lease, since when, and in which state.
#[derive(Default)]
struct Suspects(HashMap<JobId, (Instant, u32, String)>);

pub struct Reaper {
    pub access: Access,
    pub attempts: Arc<Attempts>,
}

/// Which jobs each run of each pod had when it was last seen alive, by the beginning of their holders' names.
#[derive(Default)]
struct Together(HashMap<String, HashSet<JobId>>);

impl Together {
    fn look(&mut self, taken: &[Taken]) {
        let there: HashSet<&str> = taken.iter().filter_map(|one| one.server()).collect();
        self.0.retain(|server, _| there.contains(server.as_str()));
        for server in there {
            let of_it = || taken.iter().filter(|one| one.server() == Some(server));
            // Once its leases run out it is dead, and its jobs leave one after the other.
            if of_it().any(|one| one.has_lease) || !self.0.contains_key(server) {
                self.0.insert(server.to_owned(), of_it().map(|one| one.id.clone()).collect());
            }
        }
    }

    fn was_alone(&self, one: &Taken) -> bool {
        one.server().and_then(|server| self.0.get(server)).is_none_or(|jobs| jobs.len() <= 1)
    }
}

impl Taken {
    /// `POD/INCARNATION`, of the holder that runs it.
    fn server(&self) -> Option<&str> {
        let runs = self.status == "running";
        self.holder.rsplit_once('/').map(|(server, _)| server).filter(|_| runs)
    }
}

impl Reaper {
    pub fn make_rounds(&self) {
        let settings = &self.access.ctx.settings;
        let (mut suspects, mut together, mut last) = (Suspects::default(), Together::default(), Instant::now());
        while !self.access.ctx.ends() {
            // A pod that slept, or was cut off, has not seen what happened meanwhile.
            if last.elapsed() > settings.reap_period * 3 + settings.timeout {
                suspects.0.clear();
            }
            last = Instant::now();
            if let Err(error) = self.reap(&mut suspects, &mut together) {
                suspects.0.clear();
                // That Redis is away is said once, where leases are renewed.
                if self.access.link.trouble().is_none() {
                    log::warn(&format!("jobs of lost pods could not be looked for: {error}"));
                }
            }
            self.access.ctx.pause(settings.reap_period);
        }
    }

    fn reap(&self, suspects: &mut Suspects, together: &mut Together) -> Result<(), Error> {
        let settings = &self.access.ctx.settings;
        let taken = self.read_running()?;
        together.look(&taken);
        let there: HashSet<&JobId> = taken.iter().map(|one| &one.id).collect();
        suspects.0.retain(|id, _| there.contains(id));
        for one in &taken {
            let is_ours_no_more = self.names_us(one) && !self.attempts.is_ours(&one.id) && one.status == "running";
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
                true => settings.reap_period / 2,
                false => settings.reap_grace,
            };
            if since.elapsed() >= grace {
                suspects.0.remove(&one.id);
                match self.act_on(one, is_ours_no_more, together.was_alone(one)) {
                    // What is wrong with one job keeps no other waiting.
                    Err(error) if self.access.link.trouble().is_none() => log::job(&one.id).warn(&error),
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn names_us(&self, one: &Taken) -> bool {
        one.holder.starts_with(&self.access.ctx.holder_prefix())
    }

    /// Everything in `running`, in two round trips.
    fn read_running(&self) -> Result<Vec<Taken>, Error> {
        let ids = self.access.link.with(|connection| {
            ::redis::cmd("LRANGE").arg(self.access.ctx.keys.running()).arg(0).arg(-1).query::<Vec<String>>(connection)
        });
        let ids: HashSet<JobId> =
            ids.map_err(Error::Unavailable)?.iter().filter_map(|text| JobId::parse(text)).collect();
        let ids: Vec<JobId> = ids.into_iter().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // What cannot be read of one says nothing of the others.
        let found: Vec<::redis::RedisResult<::redis::Value>> = self
            .access
            .link
            .with(|connection| {
                let mut pipe = ::redis::pipe();
                for id in &ids {
                    let fields = ["status", "attempt", "holder", "created"];
                    pipe.cmd("HMGET").arg(self.access.ctx.keys.job(id)).arg(&fields[..]);
                    pipe.cmd("EXISTS").arg(self.access.ctx.keys.lease(id));
                }
                pipe.ignore_errors().query(connection)
            })
            .map_err(Error::Unavailable)?;
        let mut all: Vec<Taken> = ids.into_iter().zip(found.chunks(2)).map(|(id, pair)| taken(id, pair)).collect();
        // Each goes back to the head of the line: the oldest last, and it is first again.
        all.sort_by_key(|one| std::cmp::Reverse(one.created));
        Ok(all)
    }

    fn act_on(&self, one: &Taken, is_ours_no_more: bool, was_alone: bool) -> Result<(), Error> {
        let access = &self.access;
        let outcome = access.ctx.files.read_ended(&one.id).map_err(Error::Unavailable)?;
        if let Some(outcome) = outcome {
            return access.close(&outcome);
        }
        let Some((record, stamp)) = access.read_with_stamp(&one.id)? else {
            access.put_back(&one.id, true)?;
            return Ok(());
        };
        if record.attempt != one.attempt {
            return Ok(());
        }
        match (one.status.as_str(), Job::from(record)) {
            // Popped, and never claimed.
            ("queued", _) => access.steps().relist(&one.id, true).map(drop),
            ("sealed", _) => match self.read_sealed(&one.id)? {
                Some(outcome) => access.conclude(outcome).map(drop),
                None => Ok(()),
            },
            ("running", Job::Running(job)) if is_ours_no_more => {
                let told = format!("it was cut off here in attempt {}, and goes back to the queue", one.attempt);
                log::job(&one.id).info(told);
                self.give_back_stray(one, job).map(drop)
            }
            ("running", Job::Running(job)) => self.take_over(one, job, &stamp, was_alone),
            // Ended: the list is behind.
            _ => access.steps().relist(&one.id, false).map(drop),
        }
    }

    fn read_sealed(&self, id: &JobId) -> Result<Option<Record>, Error> {
        let found = self.access.link.with(|connection| {
            ::redis::cmd("HGET").arg(self.access.ctx.keys.job(id)).arg("outcome").query::<Option<String>>(connection)
        });
        found.map_err(Error::Unavailable)?.map(|text| reads::parse(&text)).transpose()
    }

    /// Its worker is gone: the next one goes on with it, unless it cost too many.
    fn take_over(&self, one: &Taken, job: Running, read: &str, was_alone: bool) -> Result<(), Error> {
        let (access, attempt) = (&self.access, job.attempt);
        let pod = job.pod_name.clone().unwrap_or_default();
        let in_file = access.ctx.files.read_open(&one.id).map_err(Error::Unavailable)?.map(|open| open.record);
        let was_given_back = in_file
            .as_ref()
            .is_some_and(|file| file.attempt == attempt && file.status() == Status::Queued && access.ctx.has_copy);
        let now = access.ctx.now();
        let next = if was_given_back || self.was_draining(one, &pod)? {
            Job::Queued(job.take_back(format!("{pod} went away in attempt {attempt}; another one goes on"), now))
        } else {
            let with = if was_alone { "it" } else { "it and others" };
            job.lose_worker(format!("{pod} was lost with {with} in attempt {attempt}"), was_alone, now)
        };
        match next {
            Job::Queued(job) => {
                let answer = self.requeue(job.into(), Some(read), "")?;
                if answer == Answer::Done {
                    crate::metrics::event("takeover");
                    log::job(&one.id).info(format!("taken over from {pod} (attempt {attempt})"));
                }
                Ok(())
            }
            Job::Ended(ended) => access.seal_and_conclude(ended, read).map(drop),
            Job::Running(_) => Ok(()),
        }
    }

    /// Back to the head of the line, as whoever found it in the state `read`, or as the holder `token`.
    fn requeue(&self, queued: Record, read: Option<&str>, token: &str) -> Result<Answer, Error> {
        let write = Write { record: &queued, stamp: &new_stamp() };
        let event = rules::handover_event(&queued, queued.attempt);
        let Some(read) = read else { return self.access.steps().hand_back(&write, token, event.as_ref()) };
        let answer = self.access.steps().take_back(&write, read, event.as_ref())?;
        if answer == Answer::Done {
            self.access.ctx.write_open("", &queued)?;
        }
        Ok(answer)
    }

    /// A record that names this run of this server for an attempt that it does not run: a reply was
    /// lost, or Redis was away when it was given back. Counts no death.
    fn give_back_stray(&self, one: &Taken, job: Running) -> Result<Answer, Error> {
        let why = format!("attempt {} was cut off from Redis; another one goes on", job.attempt);
        let queued = Record::from(job.take_back(why, self.access.ctx.now()));
        match self.access.ctx.write_open("", &queued) {
            // Redis came back with an older state: the file knows of a later attempt, and so will the next claim.
            Ok(()) | Err(Error::Lost) => self.requeue(queued, None, &one.holder),
            Err(error) => Err(error),
        }
    }

    /// The run of the pod that held it was draining when it went.
    fn was_draining(&self, one: &Taken, pod: &str) -> Result<bool, Error> {
        let key = self.access.ctx.keys.draining(pod);
        let flag =
            self.access.link.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection));
        let flag = flag.map_err(Error::Unavailable)?.unwrap_or_default();
        let incarnation = flag.split(' ').next().unwrap_or_default();
        Ok(!incarnation.is_empty() && one.holder.starts_with(&format!("{pod}/{incarnation}/")))
    }
}

/// `pair`: the fields of its record, and whether it has a lease.
fn taken(id: JobId, pair: &[::redis::RedisResult<::redis::Value>]) -> Taken {
    let value = |at: usize| pair.get(at).and_then(|value| value.as_ref().ok());
    let fields: Option<Vec<Option<String>>> = value(0).and_then(|value| ::redis::from_redis_value_ref(value).ok());
    let has_lease = value(1).and_then(|value| ::redis::from_redis_value_ref(value).ok()).unwrap_or(false);
    let mut fields = fields.unwrap_or_default().into_iter().map(Option::unwrap_or_default);
    let mut next = || fields.next().unwrap_or_default();
    let (status, attempt, holder, created) = (next(), next(), next(), next());
    let (attempt, created) = (attempt.parse().unwrap_or(0), created.parse().unwrap_or(0));
    Taken { id, status, attempt, holder, created, has_lease }
}
