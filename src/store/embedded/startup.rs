//! How the embedded store starts: one server per directory, what is there is read, and what a
//! dead server left is taken over.

use super::index::{Cell, Index, lock};
use super::{Core, Embedded, Hub, JobFiles, KeysInFlight, Live, agents_lock};
use crate::event::Kind;
use crate::job::{Job, Time};
use crate::store::{Error, agents, crash, files, job_files};
use fs2::FileExt;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Opens `directory`, which it makes if need be, for the pod of this name. Fails when another
/// server has it, or when it cannot be written.
pub fn open(directory: &Path, pod: &str) -> Result<Arc<Embedded>, String> {
    let job_files = JobFiles::new(directory);
    job_files.prepare()?;
    let (lock, ended_in_order) = take_lock(directory)?;
    let agents = agents_lock(&job_files);
    File::create(&agents).map_err(|error| files::explain("write", &agents, &error))?;
    for below in [directory.to_owned(), directory.join("open"), directory.join("keys")] {
        files::remove_unfinished(&below)?;
    }
    let index = load_open(&job_files)?;
    let core = Arc::new(Core {
        files: job_files,
        pod: pod.to_owned(),
        index: Mutex::new(index),
        changed: Condvar::new(),
        keys_in_flight: KeysInFlight::default(),
        hub: Arc::new(Hub::default()),
        ended_in_order,
        _lock: lock,
    });
    let reader = core.clone();
    // Reads what ended earlier, so that a long history does not delay the start; ends when done.
    std::thread::Builder::new()
        .name("index".into())
        .spawn(move || load_ended(&reader))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(Arc::new(Embedded(core)))
}

/// What the server that has this directory wrote down of itself: its process, and where it listens. None: nobody has
/// it. What is not known is empty.
pub fn holder(directory: &Path) -> Option<(String, String)> {
    let path = directory.join(".lock");
    let is_held = File::open(&path).is_ok_and(|file| FileExt::try_lock_shared(&file).is_err());
    is_held.then(|| {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.trim().to_owned());
        (lines.next().unwrap_or_default(), lines.next().unwrap_or_default())
    })
}

/// Writes down where the server that has this directory listens. To be called by that one alone.
pub fn say_where(directory: &Path, place: &str) -> Result<(), String> {
    let path = directory.join(".lock");
    fs::write(&path, format!("{}\n{place}\n", std::process::id()))
        .map_err(|error| files::explain("write", &path, &error))
}

/// What stands in the lock file in place of the process of a server that ended in order. What it could not hand back,
/// because the disk was full, was no death then.
const IN_ORDER: &str = "ended";

/// The server that has this directory ends in order. Writes no more than there is already, so that it works on a full
/// disk.
pub fn say_end(directory: &Path) {
    let path = directory.join(".lock");
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    if text.len() > IN_ORDER.len() {
        text.replace_range(..=IN_ORDER.len(), &format!("{IN_ORDER}\n"));
        let written = OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            crate::log::warn(&files::explain("write", &path, &error));
        }
    }
}

/// The lock, and whether the server before this one ended in order.
fn take_lock(directory: &Path) -> Result<(File, bool), String> {
    let path = directory.join(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(&path)
        .map_err(|error| files::explain("write", &path, &error))?;
    if FileExt::try_lock_exclusive(&file).is_err() {
        let holder = fs::read_to_string(&path).unwrap_or_default();
        let holder = holder.lines().next().unwrap_or_default().trim();
        let who = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
        return Err(format!(
            "another server{who} already uses the jobs directory {}: give this one its own AGENTICORE_JOBS_DIR",
            directory.display()
        ));
    }
    let ended_in_order = fs::read_to_string(&path).unwrap_or_default().lines().next() == Some(IN_ORDER);
    // For people and for the message above; the lock itself is the flock.
    fs::write(&path, format!("{}\n", std::process::id())).map_err(|error| files::explain("write", &path, &error))?;
    Ok((file, ended_in_order))
}

/// One file that is of no use keeps no other job from going on: it is said, and left alone.
fn load_open(job_files: &JobFiles) -> Result<Index, String> {
    let mut index = Index::default();
    for path in files::list(&job_files.directory().join("open"))? {
        if let Err(why) = load_one(job_files, &path, &mut index) {
            crate::log::warn(&format!("{}: {why}; it is left alone", path.display()));
        }
    }
    Ok(index)
}

fn load_one(job_files: &JobFiles, path: &Path, index: &mut Index) -> Result<(), String> {
    let bytes = files::read(path)?.unwrap_or_default();
    let job_files::Open { position, record, .. } =
        serde_json::from_slice(&bytes).map_err(|error| format!("this file should hold a job's record: {error}"))?;
    record.check_format()?;
    let id = record.id.clone();
    if job_files::id_of(path).as_ref() != Some(&id) {
        return Err(format!("this file holds the record of another job, {id}"));
    }
    if job_files.read_ended(&id)?.is_some() {
        index.leftovers.push(id);
        return Ok(());
    }
    let job = Job::from(record);
    index.note(&job);
    match &job {
        Job::Queued(_) => index.queue(position, id.clone()),
        _ => index.left_running.push(id.clone()),
    }
    index.live.insert(id, Arc::new(Mutex::new(Live { job, position, log: None })));
    Ok(())
}

fn load_ended(core: &Core) {
    for id in core.files.ended_ids().unwrap_or_default() {
        if let Ok(Some(record)) = core.files.read_ended(&id) {
            core.index().note(&Job::from(record));
        }
    }
    core.index().ended_are_known = true;
    core.changed.notify_all();
}

/// Takes over what was found running, once the agents of the server that ran it are gone.
pub fn recover(core: &Core, limit: Duration) -> Result<usize, Error> {
    agents::wait(&agents_lock(&core.files), limit)?;
    let ids = std::mem::take(&mut core.index().left_running);
    let mut left: Vec<Cell> = ids.iter().filter_map(|id| core.cell(id)).collect();
    // The one that was first in line goes back to the head last, and so is first again.
    left.sort_by_key(|cell| std::cmp::Reverse(lock(cell).position));
    let was_alone = left.len() == 1;
    for (at, cell) in left.iter().enumerate() {
        if let Err(error) = take_over(core, cell, was_alone) {
            // Those that are left are taken over when this is tried again.
            let rest = left[at..].iter().map(|cell| lock(cell).job.id.clone());
            core.index().left_running = rest.collect();
            return Err(error);
        }
    }
    Ok(left.len())
}

fn take_over(core: &Core, cell: &Cell, was_alone: bool) -> Result<(), Error> {
    let mut live = lock(cell);
    let Job::Running(job) = &live.job else { return Ok(()) };
    let why = format!("its server ended without giving it back, in attempt {}", job.attempt);
    let next = match core.ended_in_order {
        true => Job::Queued(job.clone().take_back(why, Time::now())),
        false => job.clone().lose_worker(why, was_alone, Time::now()),
    };
    match next {
        Job::Queued(job) => {
            core.requeue(&mut live, job)?;
            crash::point(Kind::WorkerLost, "after-record");
        }
        Job::Ended(ended) => {
            let id = ended.id.clone();
            core.close(&mut live, ended, false)?;
            core.index().leftovers.push(id);
        }
        Job::Running(_) => {}
    }
    Ok(())
}
