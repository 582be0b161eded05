//! Taking jobs in: key, open file, queue. Accepted means: the open file is written.

use super::scripts::{Write, new_stamp};
use super::{Redis, guard};
use crate::event::{Draft, Kind};
use crate::job::{JobId, Queued, Record, Spec, Time};
use crate::log;
use crate::store::job_files::KeyNote;
use crate::store::{Error, Key, crash, files};

/// A month: longer than any job runs.
const KEY_SLACK: u64 = 30 * 86_400;

impl Redis {
    pub(super) fn accept(&self, spec: Spec, key: Option<&Key>) -> Result<Record, Error> {
        let Some(key) = key else { return self.enqueue(JobId::random(), spec) };
        if !guard(&self.keys_in_flight).insert(key.name.clone()) {
            return Err(Error::InFlight);
        }
        let done = self.accept_once(spec, key);
        guard(&self.keys_in_flight).remove(&key.name);
        done
    }

    fn accept_once(&self, spec: Spec, key: &Key) -> Result<Record, Error> {
        let wish = KeyNote { id: JobId::random(), request: key.request.clone() };
        let note = match self.has_copy {
            true => self.files.note_key(&key.name, wish).map_err(Error::Unavailable)?,
            false => self.note_key_in_redis(&key.name, wish, spec.ttl_seconds)?,
        };
        if note.request != key.request {
            return Err(Error::OtherRequest);
        }
        let there = match self.read(&note.id) {
            Ok(seen) => seen.it,
            // Redis is away, and no file knows the job: with a second copy that is certain.
            Err(_) if self.has_copy => None,
            Err(error) => return Err(error),
        };
        match there {
            Some(record) => Ok(record),
            // The first caller's submission did not get that far: it is completed under its id.
            None => self.enqueue(note.id, Spec { key: Some(key.name.clone()), ..spec }).inspect_err(|_| {
                // Nothing was accepted: the key stands for nothing. One that stays all the same is completed.
                let _ = self.files.remove_key(&key.name);
            }),
        }
    }

    /// Kept until the job is forgotten; should that never come, for long after.
    fn note_key_in_redis(&self, name: &str, wish: KeyNote, ttl_seconds: u64) -> Result<KeyNote, Error> {
        let key = self.keys.idempotency(name);
        let text = serde_json::to_string(&wish).map_err(|error| Error::Unavailable(error.to_string()))?;
        let found = self.link.with(|connection| {
            let mut set = ::redis::cmd("SET");
            set.arg(&key)
                .arg(&text)
                .arg("NX")
                .arg("GET")
                .arg("EX")
                .arg(ttl_seconds.saturating_mul(2).saturating_add(KEY_SLACK));
            set.query::<Option<String>>(connection)
        });
        match found.map_err(Error::Unavailable)? {
            None => Ok(wish),
            Some(there) => serde_json::from_str(&there).map_err(|error| Error::Unavailable(error.to_string())),
        }
    }

    fn enqueue(&self, id: JobId, spec: Spec) -> Result<Record, Error> {
        let record = Record::from(Queued::new(id, spec, Time::now()));
        // Another pod may have written it, for the same key: then that one is the job.
        let written = self.files.write_open_once(&record).map_err(Error::Unavailable)?;
        if !written && let Some(there) = self.files.read_open(&record.id).map_err(Error::Unavailable)? {
            return self.put_in_line(there.record);
        }
        self.put_in_line(record)
    }

    fn put_in_line(&self, record: Record) -> Result<Record, Error> {
        crash::point(Kind::Queued, "after-record");
        let write = Write { record: &record, stamp: &new_stamp() };
        match self.transitions().put(&write, "", false, Some(Draft::new(Kind::Queued, ""))) {
            Ok(_) if !self.has_copy => {
                // Of this machine alone: were it left, it could bring the job back when it is long over.
                if let Err(why) = files::remove(&self.files.open(&record.id)) {
                    log::warn(&why);
                }
            }
            Ok(_) => {}
            // It is in its file, and the sweep queues it.
            Err(error) => log::warn(&format!("job {} is kept in its file until Redis is back: {error}", record.id)),
        }
        Ok(record)
    }
}
