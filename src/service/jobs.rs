//! What is asked about jobs, and done to them.

use super::filter::Filter;
use super::{Caller, Refusal, Service};
use crate::api::{Event, EventPage, EventsRequest, Job, JobDiff, KeptWork, LIST_DEFAULT, ListCursor, ListRequest};
use crate::event::Cursor;
use crate::job::{JobId, Record, Status};
use crate::store::{Cancelled, Place, Seen, Store, Which};

/// How many records are read at once where not all are wanted, and how many at most for one page.
const STRETCH: usize = 200;
const LOOKED_AT_MOST: usize = 2_000;

fn cursor_of(place: Place) -> String {
    ListCursor { created_at: place.created_at, id: place.id }.to_string()
}

impl Service {
    /// The job of this id, or the only one whose id begins so.
    pub fn find(&self, id: &str) -> Result<Seen<Job>, Refusal> {
        let Seen { it, stale } = self.find_record(id)?;
        let kept = self.kept_work(&it);
        let waits = it.status() == Status::Queued && !stale;
        // One that was claimed just now, or a store that is away, is no reason to say nothing of the job.
        let jobs_ahead = if waits { self.runner.store.ahead(&it).unwrap_or_default() } else { None };
        let webhooks = self.webhooks_of(&it.id);
        let mut job = Job { kept, jobs_ahead, webhooks, ..self.shown(&it) };
        if !stale && self.worked_in_one_that_is_gone(&it) {
            (job.worktree_path, job.worktree_on) = (None, None);
        }
        Ok(Seen { it: job, stale })
    }

    /// A prepared worktree leaves with its record; those of the jobs that worked in it stay.
    fn worked_in_one_that_is_gone(&self, record: &Record) -> bool {
        let worktree = record.worktree_id.as_ref().filter(|_| record.status().has_ended());
        worktree.is_some_and(|id| matches!(self.runner.store.get(id), Ok(Seen { it: None, stale: false })))
    }

    /// What a job changed.
    pub fn diff(&self, id: &str) -> Result<JobDiff, Refusal> {
        let record = self.find_record(id)?.it;
        let diff = self.runner.diff_of(&record.id).ok_or_else(|| {
            let why = match (record.status().has_ended(), &record.repo_url) {
                (false, _) => "it has not ended",
                (true, None) => "it has no repository to differ from",
                (true, Some(_)) => "it changed nothing, or had ended before diffs were kept",
            };
            Refusal::NotFound(format!("job {} has no diff: {why}", record.id))
        })?;
        Ok(JobDiff {
            success: true,
            job_id: record.id,
            base: diff.base,
            commit: diff.commit,
            summary: diff.summary,
            diff: diff.text,
            cut: diff.is_cut,
            lacks: diff.lacks,
        })
    }

    fn kept_work(&self, record: &Record) -> Option<KeptWork> {
        let (directory, kept) = self.runner.shown_kept(&record.id)?;
        let bundle = kept.bundle(&directory).map(|path| path.display().to_string());
        if bundle.is_none() && kept.lacks.is_none() {
            return None;
        }
        let fetch = bundle.as_ref().map(|path| format!("git fetch {path} '+refs/kept/*:refs/kept/*'"));
        let (bytes, lacks) = (kept.bytes, kept.lacks);
        Some(KeptWork { bundle, bytes, base: kept.base, head: kept.head, work: kept.work, fetch, lacks })
    }

    /// Newest first; and where it goes on. Where not all jobs are wanted, a stretch of the list is looked through:
    /// a page may hold fewer than asked for, and go on all the same.
    pub fn list(&self, request: &ListRequest, by: &Caller) -> Result<(Seen<Vec<Job>>, Option<String>), Refusal> {
        let limit = request.limit.unwrap_or(LIST_DEFAULT);
        let which = request.status.map_or(Which::All, Which::Of);
        let filter = Filter::new(&request.wanted, by);
        let at_once = if filter.wants_all() { limit } else { STRETCH };
        let mut place = request.after.clone().map(|cursor| Place { created_at: cursor.created_at, id: cursor.id });
        let (mut found, mut is_stale, mut looked_at) = (Vec::new(), false, 0);
        loop {
            let Seen { it, stale } = self.runner.store.list_after(at_once, which, place.as_ref())?;
            is_stale |= stale;
            let is_last = it.len() < at_once;
            for record in &it {
                if filter.is_too_old(record) {
                    return Ok((Seen { it: found, stale: is_stale }, None));
                }
                place = Some(Place::of(record));
                looked_at += 1;
                if filter.fits(record) {
                    found.push(self.shown(record));
                }
                if found.len() >= limit {
                    // There may be more behind it, or not: the next page says so.
                    let is_end = is_last && it.last().is_some_and(|last| last.id == record.id);
                    let next = place.filter(|_| !is_end).map(cursor_of);
                    return Ok((Seen { it: found, stale: is_stale }, next));
                }
            }
            if is_last {
                return Ok((Seen { it: found, stale: is_stale }, None));
            }
            if looked_at >= LOOKED_AT_MOST {
                return Ok((Seen { it: found, stale: is_stale }, place.map(cursor_of)));
            }
        }
    }

    /// Cancels a job that has not ended. Asked twice, answered twice alike.
    pub fn cancel(&self, id: &str, by: &Caller) -> Result<Job, Refusal> {
        let found = self.find_record(id)?.it;
        match self.pool.cancel(&found.id, by.name.as_deref())? {
            Cancelled::Done { record, .. } => Ok(self.shown(&record)),
            Cancelled::Unknown => Err(unknown(id)),
            Cancelled::Ended(record) if record.status() == Status::Cancelled => Ok(self.shown(&record)),
            Cancelled::Ended(record) => Err(Refusal::TooLate(Box::new(self.shown(&record)))),
        }
    }

    /// What happened to a job after a cursor.
    pub fn events(&self, id: &str, request: &EventsRequest) -> Result<EventPage, Refusal> {
        page(&*self.runner.store, &self.find_record(id)?.it, request)
    }

    pub(super) fn find_record(&self, id: &str) -> Result<Seen<Record>, Refusal> {
        let store = &self.runner.store;
        let whole = match JobId::parse(id) {
            Some(id) => id,
            None if is_prefix(id) => {
                let mut found = store.matching(id)?;
                match found.len() {
                    0 => return Err(unknown(id)),
                    1 => found.remove(0),
                    _ => return Err(Refusal::Ambiguous(id.to_owned())),
                }
            }
            None => {
                let why = "an id is a UUID in lower case, or at least its first 4 characters";
                return Err(Refusal::Unknown(why.into()));
            }
        };
        let Seen { it, stale } = store.get(&whole)?;
        it.map(|it| Seen { it, stale }).ok_or_else(|| unknown(id))
    }
}

/// The events after a cursor that there are now.
pub(super) fn page(store: &dyn Store, record: &Record, request: &EventsRequest) -> Result<EventPage, Refusal> {
    let events = store.events(record, request.after, request.limit)?;
    let ended = record.status().has_ended() && events.len() < request.limit;
    let next = events.last().map(crate::event::Event::cursor).unwrap_or(request.after);
    Ok(EventPage {
        success: true,
        events: events.iter().map(Event::from).collect(),
        next: (next != Cursor::START).then(|| next.to_string()),
        ended,
    })
}

/// Enough of an id to mean one job, and nothing but characters of an id.
fn is_prefix(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b) || b == b'-';
    (4..36).contains(&text.len()) && text.bytes().all(fits)
}

fn unknown(id: &str) -> Refusal {
    Refusal::Unknown(crate::job::cut(id.to_owned(), 64))
}
