//! A job's files in the jobs directory, as both stores keep them.
//!
//! ```text
//! open/ID.json        a job that lives
//! ID.json             a job that has ended; made by link(2), so the first end stays
//! events/ID.jsonl     its events (embedded store)
//! keys/NAME           the job that an Idempotency-Key stands for, and the request's hash
//! ```
//!
//! The directory may lie on NFS: it is opened before a file is looked for, so that what another
//! machine just made is seen.

use super::files;
use crate::job::{JobId, Record};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

pub struct JobFiles(PathBuf);

/// `open/ID.json`.
#[derive(Clone, Deserialize)]
pub struct Open {
    /// Its number in the embedded store's line.
    #[serde(default)]
    pub place: i64,
    /// The attempt that holds it, on Redis.
    #[serde(default)]
    pub holder: String,
    #[serde(flatten)]
    pub record: Record,
}

#[derive(Serialize)]
struct OpenOf<'a> {
    place: i64,
    holder: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

/// `keys/NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyNote {
    pub id: JobId,
    pub request: String,
}

impl JobFiles {
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Makes the directories that are missing.
    pub fn prepare(&self) -> Result<(), String> {
        for below in ["open", "events", "keys"] {
            let path = self.0.join(below);
            std::fs::create_dir_all(&path).map_err(|error| files::explain("make the jobs directory", &path, &error))?;
        }
        Ok(())
    }

    pub fn open(&self, id: &JobId) -> PathBuf {
        self.0.join("open").join(format!("{id}.json"))
    }

    pub fn ended(&self, id: &JobId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }

    pub fn events(&self, id: &JobId) -> PathBuf {
        self.0.join("events").join(format!("{id}.jsonl"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.0.join("keys").join(name)
    }

    /// The outcome, if there is one.
    pub fn read_ended(&self, id: &JobId) -> Result<Option<Record>, String> {
        refresh(&self.0);
        let found: Option<Record> = read(&self.ended(id))?;
        // The Python program wrote its living jobs there too: to us they are no jobs. Nor is what names another.
        Ok(found.filter(|record| record.status().has_ended() && record.id == *id))
    }

    pub fn read_open(&self, id: &JobId) -> Result<Option<Open>, String> {
        refresh(&self.0.join("open"));
        let found: Option<Open> = read(&self.open(id))?;
        Ok(found.filter(|open| open.record.id == *id))
    }

    pub fn write_open(&self, place: i64, holder: &str, record: &Record) -> Result<(), String> {
        let bytes = serde_json::to_vec(&OpenOf { place, holder, record }).map_err(|error| error.to_string())?;
        files::replace(&self.open(&record.id), &bytes)
    }

    /// The same for a new job. False: there is one already, and it stays.
    pub fn write_open_once(&self, record: &Record) -> Result<bool, String> {
        let open = OpenOf { place: 0, holder: "", record };
        let bytes = serde_json::to_vec(&open).map_err(|error| error.to_string())?;
        files::create_once(&self.open(&record.id), &bytes)
    }

    /// Makes `record` the outcome, unless there is one; returns the one that stays.
    pub fn link_ended(&self, record: Record) -> Result<Record, String> {
        let bytes = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        if files::create_once(&self.ended(&record.id), &bytes)? {
            return Ok(record);
        }
        Ok(self.read_ended(&record.id)?.unwrap_or(record))
    }

    /// Notes what a key stands for, unless that is noted already; returns the note that stays.
    pub fn note_key(&self, name: &str, note: KeyNote) -> Result<KeyNote, String> {
        let bytes = serde_json::to_vec(&note).map_err(|error| error.to_string())?;
        let path = self.key(name);
        if files::create_once(&path, &bytes)? {
            return Ok(note);
        }
        Ok(read(&path)?.unwrap_or(note))
    }

    pub fn remove_key(&self, name: &str) -> Result<(), String> {
        files::remove(&self.key(name))
    }

    /// The ids of the jobs that live, in no order.
    pub fn open_ids(&self) -> Result<Vec<JobId>, String> {
        Ok(files::list(&self.0.join("open"))?.iter().filter_map(|path| id_of(path)).collect())
    }

    /// The ids of those that have ended, in no order.
    pub fn ended_ids(&self) -> Result<Vec<JobId>, String> {
        Ok(files::list(&self.0)?.iter().filter_map(|path| id_of(path)).collect())
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
