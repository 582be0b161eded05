//! What the embedded store keeps in memory: the line, the jobs that live, and of every job what a
//! listing asks for. No I/O.

use super::Live;
use crate::job::{Job, JobId, Purpose, Status, Time};
use crate::store::{AHEAD_MOST, Back, Place, Which};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A job that lives, behind a lock of its own that is held while its files are written.
pub type Cell = Arc<Mutex<Live>>;

pub fn lock(cell: &Cell) -> MutexGuard<'_, Live> {
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Entry {
    created_at: Time,
    status: Status,
    session_id: Option<String>,
    profile: String,
    purpose: Purpose,
    leaves_at: Option<Time>,
}

#[derive(Default)]
pub struct Index {
    entries: BTreeMap<JobId, Entry>,
    by_age: BTreeSet<Place>,
    by_status: BTreeMap<&'static str, BTreeSet<Place>>,
    /// Those that are there for something else than a task: plans, and worktrees.
    plans: BTreeSet<Place>,
    worktrees: BTreeSet<Place>,
    /// Position in line → job; the lowest is taken first.
    line: BTreeMap<i64, JobId>,
    /// The positions given out so far lie between these two.
    front: i64,
    back: i64,
    pub live: HashMap<JobId, Cell>,
    /// Found running at start, to be taken over.
    pub left_running: Vec<JobId>,
    /// Job, attempt and reason: nobody runs it, and its file could not be written.
    pub not_handed_back: Vec<(JobId, u32, Back)>,
    /// Ended, but their attempt has not been tidied away.
    pub leftovers: Vec<JobId>,
    pub ended_are_known: bool,
    /// Nothing is claimed any more.
    pub is_closed: bool,
}

impl Index {
    /// True: its status is another one than before.
    pub fn note(&mut self, job: &Job) -> bool {
        let leaves_at = match job {
            Job::Ended(ended) => Some(ended.leaves_at()),
            _ => None,
        };
        let entry = Entry {
            created_at: job.created_at,
            status: job.status(),
            session_id: job.had_session().map(str::to_owned),
            profile: job.profile.clone(),
            purpose: job.purpose,
            leaves_at,
        };
        let place = Place::of(job);
        self.by_age.insert(place.clone());
        if let Some(all) = self.of_purpose(job.purpose) {
            all.insert(place.clone());
        }
        self.by_status.entry(job.status().as_str()).or_default().insert(place.clone());
        let before = self.entries.insert(job.id.clone(), entry);
        if let Some(before) = before.as_ref().filter(|before| before.status != job.status()) {
            self.leave_status(before.status, &place);
        }
        before.is_none_or(|before| before.status != job.status())
    }

    /// None: it has no list of its own.
    fn of_purpose(&mut self, purpose: Purpose) -> Option<&mut BTreeSet<Place>> {
        match purpose {
            Purpose::Task => None,
            Purpose::Plan => Some(&mut self.plans),
            Purpose::Worktree => Some(&mut self.worktrees),
        }
    }

    fn leave_status(&mut self, status: Status, place: &Place) {
        if let Some(all) = self.by_status.get_mut(status.as_str()) {
            all.remove(place);
        }
    }

    pub fn forget(&mut self, id: &JobId) {
        if let Some(entry) = self.entries.remove(id) {
            let place = Place { created_at: entry.created_at, id: id.clone() };
            self.by_age.remove(&place);
            if let Some(all) = self.of_purpose(entry.purpose) {
                all.remove(&place);
            }
            self.leave_status(entry.status, &place);
        }
    }

    /// A position behind all others. Nobody is in it until [`queue`](Self::queue).
    pub fn last_position(&mut self) -> i64 {
        self.back += 1;
        self.back
    }

    /// A position before all others.
    pub fn first_position(&mut self) -> i64 {
        self.front -= 1;
        self.front
    }

    pub fn queue(&mut self, position: i64, id: JobId) {
        self.front = self.front.min(position);
        self.back = self.back.max(position);
        self.line.insert(position, id);
    }

    /// How many stand before it in the line.
    pub fn ahead(&self, id: &JobId) -> Option<usize> {
        self.line.values().take(AHEAD_MOST).position(|other| other == id)
    }

    /// How many stand in it, and since when the oldest of its head does.
    pub fn waiting(&self) -> (usize, Option<Time>) {
        let head = self.line.values().take(AHEAD_MOST).filter_map(|id| self.entries.get(id));
        (self.line.len(), head.map(|entry| entry.created_at).min())
    }

    pub fn leave_line(&mut self, position: i64) {
        self.line.remove(&position);
    }

    /// `only`: the first that has this profile, or needs no agent.
    pub fn take_first(&mut self, only: Option<&str>) -> Option<(i64, Cell)> {
        let has = |entry: &Entry, only: &str| entry.profile == only || !entry.purpose.needs_agent();
        let fits = |id: &JobId| only.is_none_or(|only| self.entries.get(id).is_some_and(|entry| has(entry, only)));
        while !self.is_closed
            && let Some(position) = self.line.iter().find(|(_, id)| fits(id)).map(|(position, _)| *position)
            && let Some(id) = self.line.remove(&position)
        {
            if let Some(cell) = self.live.get(&id) {
                return Some((position, cell.clone()));
            }
        }
        None
    }

    pub fn queued(&self) -> Vec<JobId> {
        self.line.values().cloned().collect()
    }

    /// Ended jobs whose time to live was over at `now`.
    pub fn over(&self, now: Time) -> Vec<JobId> {
        let over = self.entries.iter().filter(|(_, entry)| entry.leaves_at.is_some_and(|at| at < now));
        over.map(|(id, _)| id.clone()).collect()
    }

    /// Newest first, behind a place.
    pub fn newest(&self, limit: usize, which: Which, after: Option<&Place>) -> Vec<JobId> {
        let all = match which {
            Which::Of(status) => self.by_status.get(status.as_str()),
            Which::For(Purpose::Plan) => Some(&self.plans),
            Which::For(Purpose::Worktree) => Some(&self.worktrees),
            Which::All | Which::For(Purpose::Task) => Some(&self.by_age),
        };
        let until = after.map_or(Bound::Unbounded, Bound::Excluded);
        let older = all.into_iter().flat_map(|all| all.range((Bound::Unbounded, until)).rev());
        let fits =
            |place: &&Place| self.entries.get(&place.id).is_some_and(|entry| which.has(entry.status, entry.purpose));
        older.filter(fits).take(limit).map(|place| place.id.clone()).collect()
    }

    pub fn with_session(&self, session: &str) -> Option<JobId> {
        self.find(|entry| entry.status.has_ended() && entry.session_id.as_deref() == Some(session)).next().cloned()
    }

    pub fn matching(&self, prefix: &str) -> Vec<JobId> {
        let from = self.entries.keys().skip_while(|id| id.as_str() < prefix);
        from.take_while(|id| id.as_str().starts_with(prefix)).take(2).cloned().collect()
    }

    /// Newest first.
    fn find(&self, fits: impl Fn(&Entry) -> bool) -> impl Iterator<Item = &JobId> {
        self.by_age.iter().rev().map(|place| &place.id).filter(move |id| self.entries.get(*id).is_some_and(&fits))
    }
}
