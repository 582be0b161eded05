//! Taking jobs in: key, open file, queue. Accepted means: the open file is written.

use super::context::Access;
use super::scripts::{Write, new_stamp};
use crate::event::Kind;
use crate::job::{JobId, Queued, Record, Spec};
use crate::log;
use crate::store::job_files::KeyNote;
use crate::store::rules::{self, KeyedSubmission, KeysInFlight};
use crate::store::{Error, Key, crash, files};
use std::sync::Arc;

/// How long a key is noted in Redis beyond what the job may last, in seconds: a month, longer than any job runs.
const KEY_SLACK: u64 = 30 * 86_400;

pub struct Submissions {
    access: Arc<Access>,
    keys_in_flight: KeysInFlight,
}

impl Submissions {
    pub fn new(access: Arc<Access>) -> Self {
        Self { access, keys_in_flight: KeysInFlight::default() }
    }

    pub fn submit(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error> {
        let Some(key) = key else { return self.accept(JobId::random(), spec) };
        let _entered = self.keys_in_flight.enter(key)?;
        let keyed = Keyed { submissions: self, ttl_seconds: spec.ttl_seconds };
        rules::submit_once(&keyed, spec, key)
    }

    pub fn submitted(&self, key: &Key) -> Result<Option<Record>, Error> {
        // What it stands for is being decided; to ask Redis for it could take long.
        self.keys_in_flight.refuse(key)?;
        rules::submitted(&Keyed { submissions: self, ttl_seconds: 0 }, key)
    }

    /// Kept until the job is forgotten; should that never come, for long after.
    fn note_in_redis(&self, name: &str, note: KeyNote, ttl_seconds: u64) -> Result<KeyNote, Error> {
        let key = self.access.ctx.keys.idempotency(name);
        let text = serde_json::to_string(&note).map_err(|error| Error::Unavailable(error.to_string()))?;
        let found = self.access.link.with(|connection| {
            let mut set = ::redis::cmd("SET");
            set.arg(&key).arg(&text).arg("NX").arg("GET");
            set.arg("EX").arg(ttl_seconds.saturating_mul(2).saturating_add(KEY_SLACK));
            set.query::<Option<String>>(connection)
        });
        match found.map_err(Error::Unavailable)? {
            None => Ok(note),
            Some(there) => KeyNote::parse(there.as_bytes()).map_err(Error::Unavailable),
        }
    }

    fn accept(&self, id: JobId, spec: Spec) -> Result<Record, Error> {
        let files = &self.access.ctx.files;
        let record = Record::from(Queued::new(id, spec, self.access.ctx.now()));
        // Another pod may have written it, for the same key: then that one is the job.
        let written = files.write_open_once(&record).map_err(Error::Unavailable)?;
        if !written && let Some(there) = files.read_open(&record.id).map_err(Error::Unavailable)? {
            return self.put_in_line(there.record);
        }
        self.put_in_line(record)
    }

    fn put_in_line(&self, record: Record) -> Result<Record, Error> {
        let ctx = &self.access.ctx;
        crash::point(Kind::Queued, "after-record");
        let write = Write { record: &record, stamp: &new_stamp() };
        match self.access.steps().put(&write, "", false) {
            Ok(_) if !ctx.has_copy => {
                // Of this machine alone: were it left, it could bring the job back when it is long over.
                if let Err(why) = files::remove(&ctx.files.open(&record.id)) {
                    log::warn(&why);
                }
            }
            Ok(_) => {}
            // It is in its file, and the sweep queues it.
            Err(error) => log::job(&record.id).warn(format!("it is kept in its file until Redis is back: {error}")),
        }
        Ok(record)
    }
}

struct Keyed<'a> {
    submissions: &'a Submissions,
    ttl_seconds: u64,
}

impl KeyedSubmission for Keyed<'_> {
    fn note(&self, name: &str, note: KeyNote) -> Result<KeyNote, Error> {
        let ctx = &self.submissions.access.ctx;
        match ctx.has_copy {
            true => ctx.files.note_key(name, note).map_err(Error::Unavailable),
            false => self.submissions.note_in_redis(name, note, self.ttl_seconds),
        }
    }

    fn noted(&self, name: &str) -> Result<Option<KeyNote>, Error> {
        let access = &self.submissions.access;
        if access.ctx.has_copy {
            return access.ctx.files.read_key(name).map_err(Error::Unavailable);
        }
        let key = access.ctx.keys.idempotency(name);
        let found = access.link.with(|connection| ::redis::cmd("GET").arg(&key).query::<Option<String>>(connection));
        let found = found.map_err(Error::Unavailable)?;
        found.map(|text| KeyNote::parse(text.as_bytes()).map_err(Error::Unavailable)).transpose()
    }

    fn find(&self, id: &JobId) -> Result<Option<Record>, Error> {
        let access = &self.submissions.access;
        match access.read(id) {
            Ok(seen) => Ok(seen.it),
            // Redis is away, and no file knows the job: with a second copy that is certain.
            Err(_) if access.ctx.has_copy => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn accept(&self, id: JobId, spec: Spec) -> Result<Record, Error> {
        self.submissions.accept(id, spec)
    }

    fn forget(&self, id: &JobId, name: &str) {
        let files = &self.submissions.access.ctx.files;
        // Unless the job is there after all, or was, by another pod. A note that stays is completed by the next caller.
        if !files.open(id).exists() && !files.ended(id).exists() {
            let _ = files.remove_key(name);
        }
    }
}
