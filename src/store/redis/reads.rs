//! What is asked of the store: from Redis, a page at a time; from the job files, and marked so, while
//! Redis is away.

use super::context::Access;
use super::link::WRONG_TYPE;
use super::scripts::{self, stream_id};
use crate::change::{Change, Moment};
use crate::event::{Cursor, Event};
use crate::job::{JobId, Record, Status, Time};
use crate::log;
use crate::store::{AHEAD_MOST, Error, Place, Seen, Which, journal, rules};
use ::redis::streams::{StreamId, StreamRangeReply};
use ::redis::{Connection, RedisResult};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// How young an event has to be for one before it to be on its way to the volume still, in milliseconds: what is
/// held back there is written after a second.
const ON_ITS_WAY: i64 = 5_000;
/// The most of a list of old or waiting jobs that one round looks at.
const ROUND: isize = 200;
/// How long what was put aside stays.
pub const FOREIGN_STAYS: Duration = Duration::from_secs(7 * 86_400);
/// The most job files that a listing reads while Redis is away.
const FILES_MOST: usize = 5_000;

impl Access {
    pub fn read_with_stamp(&self, id: &JobId) -> Result<Option<(Record, String)>, Error> {
        let get = || {
            self.link.with(|connection| {
                let mut get = ::redis::cmd("HMGET");
                get.arg(self.ctx.keys.job(id)).arg("record").arg("stamp");
                get.query::<(Option<String>, Option<String>)>(connection)
            })
        };
        let read = |found: Result<(Option<String>, Option<String>), String>| match found.map_err(Error::Unavailable)? {
            (Some(text), stamp) => Ok(Some((parse(&text)?, stamp.unwrap_or_default()))),
            _ => Ok(None),
        };
        let found = get();
        let bad = match &found {
            Ok((Some(text), stamp)) => match parse(text) {
                Ok(record) => return Ok(Some((record, stamp.clone().unwrap_or_default()))),
                Err(_) if is_no_record(text) => text.clone(),
                Err(error) => return Err(error),
            },
            Err(why) if why.starts_with(WRONG_TYPE) => String::new(),
            _ => return read(found),
        };
        if self.mend(id, &bad)? { read(get()) } else { read(found) }
    }

    /// What Redis holds of a job is no record: what the job's file says takes its place. False: there is no file, or
    /// somebody has mended it.
    pub fn mend(&self, id: &JobId, found: &str) -> Result<bool, Error> {
        if !self.ctx.has_copy || self.read_file(id)?.is_none() {
            return Ok(false);
        }
        if !self.steps().put_aside(id, found, FOREIGN_STAYS)? {
            return Ok(true);
        }
        log::warn(&format!(
            "Redis held something else where job {id} should be: it was put aside in {}, and the job put back from its \
             file",
            self.ctx.keys.foreign_job(id)
        ));
        self.put_back(id, true)
    }

    pub fn read(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error> {
        match self.read_with_stamp(id) {
            Ok(Some((record, _))) => Ok(Seen::fresh(Some(record))),
            // Accepted, and not queued yet; or ended, and Redis lost it.
            Ok(None) => self.read_file(id).map(Seen::fresh),
            Err(error) => match self.read_file(id)? {
                Some(record) => Ok(Seen { it: Some(record), stale: true }),
                None => Err(error),
            },
        }
    }

    fn read_file(&self, id: &JobId) -> Result<Option<Record>, Error> {
        if let Some(ended) = self.ctx.files.read_ended(id).map_err(Error::Unavailable)? {
            return Ok(Some(ended));
        }
        Ok(self.ctx.files.read_open(id).map_err(Error::Unavailable)?.map(|open| open.record))
    }

    pub fn read_matching(&self, prefix: &str) -> Result<Vec<JobId>, Error> {
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("ZRANGEBYLEX");
            range
                .arg(self.ctx.keys.ids())
                .arg(format!("[{prefix}"))
                .arg(format!("[{prefix}\u{7f}"))
                .arg("LIMIT")
                .arg(0)
                .arg(2);
            range.query::<Vec<String>>(connection)
        });
        let known = found.map(|texts| texts.iter().filter_map(|text| JobId::parse(text)).collect::<Vec<_>>());
        match known {
            Ok(known) if !known.is_empty() => Ok(known),
            // Redis is away, or has not heard of it yet.
            known => {
                let open = self.ctx.files.open_ids().map_err(Error::Unavailable)?;
                let ended =
                    if known.is_err() { self.ctx.files.ended_ids().map_err(Error::Unavailable)? } else { Vec::new() };
                let mut ids: Vec<_> =
                    open.into_iter().chain(ended).filter(|id| id.as_str().starts_with(prefix)).collect();
                ids.sort();
                ids.dedup();
                ids.truncate(2);
                Ok(ids)
            }
        }
    }

    /// A server of this pod said lately that it is there.
    pub fn lives(&self, pod: &str) -> Result<bool, Error> {
        if pod == self.ctx.pod {
            return Ok(true);
        }
        let key = self.ctx.keys.pod(pod);
        let there = self.link.with(|connection| ::redis::cmd("EXISTS").arg(&key).query::<bool>(connection));
        there.map_err(Error::Unavailable)
    }

    /// The pods for which something waits, or waited once.
    pub fn pods_with_queue(&self) -> Result<Vec<String>, Error> {
        let key = self.ctx.keys.pods_with_queue();
        let pods = self.link.with(|connection| ::redis::cmd("SMEMBERS").arg(&key).query(connection));
        pods.map_err(Error::Unavailable)
    }

    /// What waits for this pod alone.
    pub fn ids_waiting_for(&self, pod: &str) -> Result<Vec<JobId>, Error> {
        let key = self.ctx.keys.queue_of(pod);
        let ids = self
            .link
            .with(|connection| ::redis::cmd("LRANGE").arg(&key).arg(0).arg(ROUND - 1).query::<Vec<String>>(connection));
        Ok(ids.map_err(Error::Unavailable)?.iter().filter_map(|text| JobId::parse(text)).collect())
    }

    pub fn read_page(&self, limit: usize, which: Which, after: Option<&Place>) -> Result<Seen<Vec<Record>>, Error> {
        let set = match which {
            Which::All => self.ctx.keys.jobs(),
            Which::Of(status) => self.ctx.keys.jobs_with(status.as_str()),
            Which::For(purpose) => self.ctx.keys.jobs_with(scripts::set_of(purpose)),
        };
        match self.link.with(|connection| self.page(connection, &set, limit, after)) {
            // One that cannot be read keeps nobody from seeing the others.
            Ok(found) => {
                Ok(Seen::fresh(found.iter().filter_map(|(id, text)| self.listed(id, text.as_deref())).collect()))
            }
            Err(why) if !self.ctx.has_copy => Err(Error::Unavailable(why)),
            Err(_) => self.page_of_files(limit, which, after).map(|it| Seen { it, stale: true }),
        }
    }

    /// One that left meanwhile is nowhere; one of the Python program is in its file alone.
    fn listed(&self, id: &JobId, text: Option<&str>) -> Option<Record> {
        match text.and_then(|text| parse(text).ok()) {
            None if self.ctx.has_copy => self.read_file(id).ok().flatten(),
            found => found,
        }
    }

    fn page(
        &self,
        connection: &mut Connection,
        set: &str,
        limit: usize,
        after: Option<&Place>,
    ) -> RedisResult<Vec<(JobId, Option<String>)>> {
        let (mut found, mut from) = (Vec::new(), 0);
        let newest = after.map_or_else(|| "+inf".to_owned(), |place| place.created_at.0.to_string());
        while found.len() < limit {
            let count = limit - found.len();
            let mut range = ::redis::cmd("ZREVRANGEBYSCORE");
            range.arg(set).arg(&newest).arg("-inf").arg("WITHSCORES").arg("LIMIT").arg(from).arg(count);
            let places: Vec<(String, f64)> = range.query(connection)?;
            if places.is_empty() {
                break;
            }
            from += places.len();
            // Those of the very same moment stand in the order of their ids, the last first.
            let is_behind = |(id, time): &&(String, f64)| {
                after.is_none_or(|place| (*time as i64) < place.created_at.0 || id.as_str() < place.id.as_str())
            };
            let ids: Vec<&String> = places.iter().filter(is_behind).map(|(id, _)| id).collect();
            // Jobs that came meanwhile have moved the others on: one that was seen is not shown again.
            let is_new = |id: &JobId| !found.iter().any(|(seen, _): &(JobId, _)| seen == id);
            let ids: Vec<JobId> = ids.iter().filter_map(|id| JobId::parse(id)).filter(is_new).collect();
            if ids.is_empty() {
                continue;
            }
            let mut pipe = ::redis::pipe();
            for id in &ids {
                pipe.cmd("HGET").arg(self.ctx.keys.job(id)).arg("record");
            }
            let texts: Vec<RedisResult<Option<String>>> = pipe.ignore_errors().query(connection)?;
            let texts = texts.into_iter().map(|text| text.ok().flatten());
            let is_shown = |(_, text): &(JobId, Option<String>)| text.is_some() || self.ctx.has_copy;
            found.extend(ids.into_iter().zip(texts).filter(is_shown));
        }
        Ok(found)
    }

    fn page_of_files(&self, limit: usize, which: Which, after: Option<&Place>) -> Result<Vec<Record>, Error> {
        let (open, ended) = (self.ctx.files.open_ids(), self.ctx.files.ended_ids());
        let open = open.map_err(Error::Unavailable)?.into_iter().map(|id| (self.ctx.files.open(&id), id));
        let ended = ended.map_err(Error::Unavailable)?.into_iter().map(|id| (self.ctx.files.ended(&id), id));
        let mut all: Vec<(SystemTime, JobId)> = open
            .chain(ended)
            .filter_map(|(path, id)| Some((path.metadata().and_then(|meta| meta.modified()).ok()?, id)))
            .collect();
        all.sort();
        let newest = all.into_iter().rev().take(FILES_MOST).map(|(_, id)| id);
        let mut records: Vec<Record> = Vec::new();
        for id in newest {
            let is_new = !records.iter().any(|record| record.id == id);
            if is_new
                && let Ok(Some(record)) = self.read_file(&id)
                && which.has(record.status(), record.purpose)
                && after.is_none_or(|place| Place::of(&record) < *place)
            {
                records.push(record);
            }
            if records.len() >= limit {
                break;
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.created_at));
        Ok(records)
    }

    pub fn read_events(&self, record: &Record, after: Cursor, limit: usize) -> Result<Vec<Event>, Error> {
        rules::events(record, after, limit, |attempt, number, limit| {
            let lives = attempt == record.attempt && record.status() == Status::Running;
            self.own_events(&record.id, Cursor { attempt, number }, limit, lives)
        })
    }

    /// What an attempt wrote itself: what Redis has of it, and what the volume has.
    fn own_events(&self, id: &JobId, after: Cursor, limit: usize, lives: bool) -> Result<Vec<Event>, Error> {
        let in_stream = self.stream_of(id, after, limit);
        let mut found = BTreeMap::new();
        if self.ctx.has_copy {
            let path = self.ctx.files.journal(id, after.attempt);
            let written = journal::read(&path, after.number, limit).map_err(Error::Unavailable)?;
            found.extend(written.into_iter().map(|event| (event.number, event)));
            // Without Redis the volume alone has to do.
            found.extend(in_stream.unwrap_or_default().into_iter().map(|event| (event.number, event)));
        } else {
            found.extend(in_stream.map_err(Error::Unavailable)?.into_iter().map(|event| (event.number, event)));
        }
        let (mut events, mut next) = (Vec::new(), after.number + 1);
        for event in found.into_values().take(limit) {
            let is_on_its_way = lives && self.ctx.has_copy && self.ctx.now().since(event.time) < ON_ITS_WAY;
            if event.number != next && is_on_its_way {
                // What lies between is written within a second: it must not be passed over.
                break;
            }
            next = event.number + 1;
            events.push(event);
        }
        Ok(events)
    }

    fn stream_of(&self, id: &JobId, after: Cursor, limit: usize) -> Result<Vec<Event>, String> {
        let last = Cursor { number: Cursor::HANDOVER - 1, ..after };
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("XRANGE");
            range.arg(self.ctx.keys.events(id)).arg(format!("({}", stream_id(after))).arg(stream_id(last));
            range.arg("COUNT").arg(limit);
            range.query::<Vec<(String, Vec<String>)>>(connection)
        })?;
        Ok(found.iter().filter_map(|(at, fields)| read_event(at, fields.get(1)?)).collect())
    }

    pub fn read_changes(&self, after: Moment, limit: usize) -> Result<Vec<Change>, Error> {
        let from = format!("({}-{}", after.milliseconds, after.number);
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("XRANGE");
            range.arg(self.ctx.keys.changes()).arg(&from).arg("+").arg("COUNT").arg(limit);
            range.query::<StreamRangeReply>(connection)
        });
        Ok(found.map_err(Error::Unavailable)?.ids.iter().filter_map(read_change).collect())
    }

    /// How many wait, in whichever line, and since when the oldest does.
    pub fn read_waiting(&self) -> Result<(usize, Option<Time>), Error> {
        let queued = self.ctx.keys.jobs_with(Status::Queued.as_str());
        let found = self.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            let ask =
                pipe.atomic().cmd("ZCARD").arg(&queued).cmd("ZRANGE").arg(&queued).arg(0).arg(0).arg("WITHSCORES");
            ask.query::<(usize, Vec<(String, f64)>)>(connection)
        });
        let (count, oldest) = found.map_err(Error::Unavailable)?;
        Ok((count, oldest.first().map(|(_, time)| Time(*time as i64))))
    }

    /// How many stand before it in its line, whose head is the list's last element.
    pub fn read_ahead(&self, record: &Record) -> Result<Option<usize>, Error> {
        let keys = &self.ctx.keys;
        let line = record.runs_on.as_ref().map_or_else(|| keys.queue(), |pod| keys.queue_of(pod));
        let found = self.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            let ask = pipe.atomic().cmd("LLEN").arg(&line);
            ask.cmd("LPOS").arg(&line).arg(record.id.as_str()).arg("RANK").arg(-1).arg("MAXLEN").arg(AHEAD_MOST);
            ask.query::<(usize, Option<usize>)>(connection)
        });
        let (length, place) = found.map_err(Error::Unavailable)?;
        Ok(place.map(|place| length.saturating_sub(place + 1)))
    }

    pub fn read_with_session(&self, session: &str) -> Result<Option<Record>, Error> {
        let key = self.ctx.keys.session(session);
        let found = self.link.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection));
        match found.map_err(Error::Unavailable)?.and_then(|text| JobId::parse(&text)) {
            Some(id) => Ok(self.read(&id)?.it),
            None => Ok(None),
        }
    }

    /// The first ids of a set that is ordered by time, up to the time `until`.
    pub fn oldest(&self, set: &str, until: i64) -> Result<Vec<JobId>, Error> {
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("ZRANGEBYSCORE");
            range.arg(set).arg("-inf").arg(until).arg("LIMIT").arg(0).arg(ROUND);
            range.query::<Vec<String>>(connection)
        });
        Ok(found.map_err(Error::Unavailable)?.iter().filter_map(|text| JobId::parse(text)).collect())
    }
}

/// It is no record of this version or of a later one.
fn is_no_record(text: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if Record::is_of_later_version(&value) => false,
        Ok(value) => serde_json::from_value::<Record>(value).is_err(),
        Err(_) => true,
    }
}

pub fn parse(text: &str) -> Result<Record, Error> {
    let record: Record = serde_json::from_str(text).map_err(|error| {
        Error::Unavailable(format!("Redis holds something else where a job's record should be: {error}"))
    })?;
    record.check_format().map_err(Error::Unavailable)?;
    Ok(record)
}

/// An entry of the stream of all jobs' changes.
pub fn read_change(entry: &StreamId) -> Option<Change> {
    let (job, status) = (entry.get::<String>("id")?, entry.get::<String>("status")?);
    Some(Change { cursor: Moment::parse(&entry.id)?, job: JobId::parse(&job)?, status: Status::parse(&status)? })
}

/// The stream's `ATTEMPT-NUMBER` is the event's cursor.
pub fn read_event(at: &str, line: &str) -> Option<Event> {
    let (attempt, number) = at.split_once('-')?;
    let event: Event = serde_json::from_str(line).ok()?;
    Some(Event { attempt: attempt.parse().ok()?, number: number.parse().ok()?, ..event })
}
