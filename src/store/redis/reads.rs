//! What is asked of the store: from Redis, a page at a time; from the job files, and marked so, while
//! Redis is away.

use super::Redis;
use super::link::Link;
use super::scripts::has_ended;
use crate::event::Event;
use crate::job::{JobId, Record, Status};
use crate::store::{Error, Seen};
use ::redis::{Connection, RedisResult};
use std::time::{Duration, Instant, SystemTime};

/// How often an end that happens elsewhere is looked for.
const END_TICK: Duration = Duration::from_millis(500);
/// The most of a list of old or waiting jobs that one round looks at.
const ROUND: isize = 200;
/// The most job files that a listing reads while Redis is away.
const FILES_MOST: usize = 5_000;

impl Redis {
    pub(super) fn read_with_stamp(&self, link: &Link, id: &JobId) -> Result<Option<(Record, String)>, Error> {
        let found = link.with(|connection| {
            let mut get = ::redis::cmd("HMGET");
            get.arg(self.keys.job(id)).arg("record").arg("stamp");
            get.query::<(Option<String>, Option<String>)>(connection)
        });
        match found.map_err(Error::Unavailable)? {
            (Some(text), stamp) => Ok(Some((parse(&text)?, stamp.unwrap_or_default()))),
            _ => Ok(None),
        }
    }

    pub(super) fn read(&self, id: &JobId) -> Result<Seen<Option<Record>>, Error> {
        match self.read_with_stamp(&self.link, id) {
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
        if let Some(ended) = self.files.read_ended(id).map_err(Error::Unavailable)? {
            return Ok(Some(ended));
        }
        Ok(self.files.read_open(id).map_err(Error::Unavailable)?.map(|open| open.record))
    }

    pub(super) fn read_matching(&self, prefix: &str) -> Result<Vec<JobId>, Error> {
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("ZRANGEBYLEX");
            range
                .arg(self.keys.ids())
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
                let open = self.files.open_ids().map_err(Error::Unavailable)?;
                let ended =
                    if known.is_err() { self.files.ended_ids().map_err(Error::Unavailable)? } else { Vec::new() };
                let mut ids: Vec<_> =
                    open.into_iter().chain(ended).filter(|id| id.as_str().starts_with(prefix)).collect();
                ids.sort();
                ids.dedup();
                ids.truncate(2);
                Ok(ids)
            }
        }
    }

    pub(super) fn read_page(&self, limit: usize, status: Option<Status>) -> Result<Seen<Vec<Record>>, Error> {
        let set = status.map_or(self.keys.jobs(), |status| self.keys.jobs_with(status.as_str()));
        match self.link.with(|connection| self.page(connection, &set, limit)) {
            // One that cannot be read keeps nobody from seeing the others.
            Ok(found) => {
                Ok(Seen::fresh(found.iter().filter_map(|(id, text)| self.listed(id, text.as_deref())).collect()))
            }
            Err(why) if !self.has_copy => Err(Error::Unavailable(why)),
            Err(_) => self.page_of_files(limit, status).map(|it| Seen { it, stale: true }),
        }
    }

    /// One that left meanwhile is nowhere; one of the Python program is in its file alone.
    fn listed(&self, id: &JobId, text: Option<&str>) -> Option<Record> {
        match text {
            Some(text) => parse(text).ok(),
            None if self.has_copy => self.files.read_ended(id).ok().flatten(),
            None => None,
        }
    }

    fn page(&self, connection: &mut Connection, set: &str, limit: usize) -> RedisResult<Vec<(JobId, Option<String>)>> {
        let (mut found, mut from) = (Vec::new(), 0);
        while found.len() < limit {
            let count = limit - found.len();
            let ids: Vec<String> =
                ::redis::cmd("ZREVRANGE").arg(set).arg(from).arg(from + count - 1).query(connection)?;
            if ids.is_empty() {
                break;
            }
            from += ids.len();
            let ids: Vec<JobId> = ids.iter().filter_map(|id| JobId::parse(id)).collect();
            let mut pipe = ::redis::pipe();
            for id in &ids {
                pipe.cmd("HGET").arg(self.keys.job(id)).arg("record");
            }
            let texts: Vec<Option<String>> = pipe.query(connection)?;
            let is_shown = |(_, text): &(JobId, Option<String>)| text.is_some() || self.has_copy;
            found.extend(ids.into_iter().zip(texts).filter(is_shown));
        }
        Ok(found)
    }

    fn page_of_files(&self, limit: usize, status: Option<Status>) -> Result<Vec<Record>, Error> {
        let (open, ended) = (self.files.open_ids(), self.files.ended_ids());
        let open = open.map_err(Error::Unavailable)?.into_iter().map(|id| (self.files.open(&id), id));
        let ended = ended.map_err(Error::Unavailable)?.into_iter().map(|id| (self.files.ended(&id), id));
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
                && status.is_none_or(|status| record.status() == status)
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

    pub(super) fn read_events(&self, id: &JobId, after: u64, limit: usize) -> Result<Vec<Event>, Error> {
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("XRANGE");
            range.arg(self.keys.events(id)).arg(format!("({}-{}", after >> 32, after & 0xffff_ffff)).arg("+");
            range.arg("COUNT").arg(limit);
            range.query::<Vec<(String, Vec<String>)>>(connection)
        });
        let found = found.map_err(Error::Unavailable)?;
        Ok(found.into_iter().filter_map(|(at, fields)| read_event(&at, fields.get(1)?)).collect())
    }

    pub(super) fn read_with_session(&self, session: &str) -> Result<Option<Record>, Error> {
        let key = self.keys.session(session);
        let found = self.link.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection));
        match found.map_err(Error::Unavailable)?.and_then(|text| JobId::parse(&text)) {
            Some(id) => Ok(self.read(&id)?.it),
            None => Ok(None),
        }
    }

    pub(super) fn read_when_ended(&self, id: &JobId, wait: Duration) -> Result<Option<Record>, Error> {
        let until = Instant::now() + wait;
        loop {
            let status = self.link.with(|connection| {
                ::redis::cmd("HGET").arg(self.keys.job(id)).arg("status").query::<Option<String>>(connection)
            });
            let may_have_ended = !matches!(&status, Ok(Some(status)) if !has_ended(status));
            if may_have_ended
                && let Ok(Seen { it: Some(record), .. }) = self.read(id)
                && record.status().has_ended()
            {
                return Ok(Some(record));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait_for_change(left.min(END_TICK));
        }
    }

    /// The first ids of a set that is ordered by time, up to the time `until`.
    pub(super) fn oldest(&self, set: &str, until: i64) -> Result<Vec<JobId>, Error> {
        let found = self.link.with(|connection| {
            let mut range = ::redis::cmd("ZRANGEBYSCORE");
            range.arg(set).arg("-inf").arg(until).arg("LIMIT").arg(0).arg(ROUND);
            range.query::<Vec<String>>(connection)
        });
        Ok(found.map_err(Error::Unavailable)?.iter().filter_map(|text| JobId::parse(text)).collect())
    }

    /// Takes the turn of this pod at something that one pod does for all, once every `period`.
    pub(super) fn is_our_turn(&self, what: &str, period: Duration) -> Result<bool, Error> {
        let taken = self.link.with(|connection| {
            let mut set = ::redis::cmd("SET");
            set.arg(self.keys.turn(what))
                .arg(&self.incarnation)
                .arg("NX")
                .arg("PX")
                .arg(period.as_millis().max(1) as u64);
            set.query::<Option<String>>(connection)
        });
        Ok(taken.map_err(Error::Unavailable)?.is_some())
    }
}

pub fn parse(text: &str) -> Result<Record, Error> {
    serde_json::from_str(text)
        .map_err(|error| Error::Unavailable(format!("Redis holds a record that is none: {error}")))
}

/// The stream's `ATTEMPT-SEQUENCE` is the event's number: it rises, and goes on after a gap.
fn read_event(at: &str, line: &str) -> Option<Event> {
    let (attempt, sequence) = at.split_once('-')?;
    let number = (attempt.parse::<u64>().ok()? << 32) | (sequence.parse::<u64>().ok()? & 0xffff_ffff);
    let event: Event = serde_json::from_str(line).ok()?;
    Some(Event { number, ..event })
}
