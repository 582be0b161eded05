//! A job's files in the jobs directory, as both stores keep them.
//!
//! ```text
//! open/ID.json        a job that lives
//! ID.json             a job that has ended; made by link(2), so the first end stays
//! events/ID-N.jsonl   what its attempt N wrote of what happened: see `journal`
//! webhooks/…          what is still to be told of it: see `outbox`
//! keys/NAME           the job that an Idempotency-Key stands for, and the request's hash
//! ```
//!
//! Each file says in which format it is (`format`); one in a later format than is known here is left alone.
//! The directory may lie on NFS: it is opened before a file is looked for, so that what another
//! machine just made is seen.

use super::files::{self, Made};
use super::outbox::{About, Outbox};
use crate::job::{JobId, Record};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

pub struct JobFiles {
    directory: PathBuf,
    pub outbox: Outbox,
}

/// The format of `keys/NAME`.
const KEY_FORMAT: u32 = 1;

/// `open/ID.json`; its format is that of the record in it.
#[derive(Clone, Deserialize)]
pub struct Open {
    /// Its number in the embedded store's line; the lowest is first.
    #[serde(default, rename = "place")]
    pub position: i64,
    /// The attempt that holds it, on Redis.
    #[serde(default)]
    pub holder: String,
    #[serde(flatten)]
    pub record: Record,
}

#[derive(Serialize)]
struct OpenOf<'a> {
    #[serde(rename = "place")]
    position: i64,
    holder: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

/// `keys/NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyNote {
    #[serde(default)]
    format: u32,
    pub id: JobId,
    pub request: String,
}

impl KeyNote {
    pub fn new(id: JobId, request: &str) -> Self {
        Self { format: KEY_FORMAT, id, request: request.to_owned() }
    }

    /// Reads one as it lies in a file or in Redis.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let note: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if note.format > KEY_FORMAT {
            return Err("an Idempotency-Key was noted by a newer agenticore: ask a server of that version".into());
        }
        Ok(note)
    }
}

impl JobFiles {
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), outbox: Outbox::new(directory) }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the directories that are missing.
    pub fn prepare(&self) -> Result<(), String> {
        for below in ["open", "events", "keys"] {
            let path = self.directory.join(below);
            std::fs::create_dir_all(&path).map_err(|error| files::explain("make the jobs directory", &path, &error))?;
        }
        Ok(())
    }

    pub fn open(&self, id: &JobId) -> PathBuf {
        self.directory.join("open").join(format!("{id}.json"))
    }

    pub fn ended(&self, id: &JobId) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// What attempt `attempt` wrote of what happened.
    pub fn journal(&self, id: &JobId, attempt: u32) -> PathBuf {
        self.directory.join("events").join(format!("{id}-{attempt}.jsonl"))
    }

    /// The events of a job as version 0.2 kept them.
    fn old_events(&self, id: &JobId) -> PathBuf {
        self.directory.join("events").join(format!("{id}.jsonl"))
    }

    /// Removes the journals of the attempts up to `last`.
    pub fn remove_journals(&self, id: &JobId, last: u32) -> Result<(), String> {
        files::remove(&self.old_events(id))?;
        (1..=last).try_for_each(|attempt| files::remove(&self.journal(id, attempt)))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.directory.join("keys").join(name)
    }

    /// The outcome, if there is one.
    pub fn read_ended(&self, id: &JobId) -> Result<Option<Record>, String> {
        refresh(&self.directory);
        let path = self.ended(id);
        let found: Option<Record> = read(&path)?;
        found.iter().try_for_each(Record::check_format).map_err(|why| format!("{}: {why}", path.display()))?;
        // The Python program wrote its living jobs there too: to us they are no jobs. Nor is what names another.
        Ok(found.filter(|record| record.status().has_ended() && record.id == *id))
    }

    pub fn read_open(&self, id: &JobId) -> Result<Option<Open>, String> {
        refresh(&self.directory.join("open"));
        let path = self.open(id);
        let found: Option<Open> = read(&path)?;
        found
            .iter()
            .try_for_each(|open| open.record.check_format())
            .map_err(|why| format!("{}: {why}", path.display()))?;
        Ok(found.filter(|open| open.record.id == *id))
    }

    pub fn write_open(&self, position: i64, holder: &str, record: &Record) -> Result<(), String> {
        let bytes = serde_json::to_vec(&OpenOf { position, holder, record }).map_err(|error| error.to_string())?;
        files::replace(&self.open(&record.id), &bytes)
    }

    /// The same for a new job. False: there is one already, and it stays.
    pub fn write_open_once(&self, record: &Record) -> Result<bool, String> {
        let open = OpenOf { position: 0, holder: "", record };
        let bytes = serde_json::to_vec(&open).map_err(|error| error.to_string())?;
        let path = self.open(&record.id);
        files::create_once(&path, &bytes).or_else(|why| {
            // It may lie there although that could not be made sure of: nobody may find a job that was refused.
            let is_ours = files::read(&path).is_ok_and(|there| there.is_some_and(|there| there == bytes));
            match is_ours && files::remove(&path).is_err() {
                true => Ok(true),
                false => Err(why),
            }
        })
    }

    /// Makes `record` the outcome, unless there is one. Returns the one that stays, and whether this call made it:
    /// one call in the whole fleet does.
    pub fn link_ended(&self, record: Record) -> Result<(Record, bool), String> {
        self.outbox.note(&record, About::Ended)?;
        let bytes = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        match files::make_once(&self.ended(&record.id), &bytes)? {
            Made::Here => Ok((record, true)),
            Made::Same => Ok((record, false)),
            Made::Other => Ok((self.read_ended(&record.id)?.unwrap_or(record), false)),
        }
    }

    /// Writes what is noted of a job after its end. The outcome in it is the one that stands already.
    pub fn amend_ended(&self, record: &Record) -> Result<(), String> {
        let bytes = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        files::replace(&self.ended(&record.id), &bytes)
    }

    /// Notes what a key stands for, unless that is noted already; returns the note that stays.
    pub fn note_key(&self, name: &str, note: KeyNote) -> Result<KeyNote, String> {
        let bytes = serde_json::to_vec(&note).map_err(|error| error.to_string())?;
        let path = self.key(name);
        if files::create_once(&path, &bytes)? {
            return Ok(note);
        }
        match files::read(&path)? {
            Some(bytes) => KeyNote::parse(&bytes).map_err(|why| format!("{}: {why}", path.display())),
            None => Ok(note),
        }
    }

    /// What a key stands for.
    pub fn read_key(&self, name: &str) -> Result<Option<KeyNote>, String> {
        let path = self.key(name);
        let found = files::read(&path)?;
        found.map(|bytes| KeyNote::parse(&bytes).map_err(|why| format!("{}: {why}", path.display()))).transpose()
    }

    pub fn remove_key(&self, name: &str) -> Result<(), String> {
        files::remove(&self.key(name))
    }

    /// The ids of the jobs that live, in no order.
    pub fn open_ids(&self) -> Result<Vec<JobId>, String> {
        Ok(files::list(&self.directory.join("open"))?.iter().filter_map(|path| id_of(path)).collect())
    }

    /// The ids of those that have ended, in no order.
    pub fn ended_ids(&self) -> Result<Vec<JobId>, String> {
        Ok(files::list(&self.directory)?.iter().filter_map(|path| id_of(path)).collect())
    }
}

pub fn id_of(path: &Path) -> Option<JobId> {
    path.file_name()?.to_str()?.strip_suffix(".json").and_then(JobId::parse)
}

/// NFS looks anew at a directory that is opened (close-to-open).
fn refresh(directory: &Path) {
    drop(File::open(directory));
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, String> {
    let Some(bytes) = files::read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("{}: {error}", path.display()))
}
