//! Work that outlives its worktree's disk: saved before the worktree may go, and gone on from, on any server.

use super::{Execution, Halt, Runner};
use crate::agent::home;
use crate::event::Kind;
use crate::job::{JobId, Mark, Record};
use crate::log;
use crate::process::stop::Stop;
use crate::workspace::cache;
use crate::workspace::kept::Kept;
use crate::workspace::remove;
use crate::workspace::unsaved;
use crate::workspace::url::RepoUrl;
use crate::workspace::worktree::Worktree;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the conversation lies beside what was saved, as in Claude's own directory.
const CONVERSATION: &str = "claude";

/// What an attempt goes on from.
pub struct GoesOn {
    pub kept: Kept,
    pub directory: PathBuf,
    /// It is this job's own: its agent's conversation goes on too.
    pub is_own: bool,
}

impl Runner {
    pub fn kept_directory(&self, id: &JobId) -> PathBuf {
        let of_earlier = self.earlier_runs.iter().find(|(record, _)| record.id == *id).map(|(_, directory)| directory);
        of_earlier.unwrap_or(&self.config.jobs_dir).join("kept").join(id.as_str())
    }

    /// An earlier local run that had this conversation.
    fn earlier_local(&self, session: &str) -> Option<Record> {
        let earlier = self.earlier_runs.iter().filter(|(record, _)| record.had_session() == Some(session));
        earlier.max_by_key(|(record, _)| record.created_at).map(|(record, _)| record.clone())
    }

    /// What was saved of a job's work.
    pub fn kept_of(&self, id: &JobId) -> Option<Kept> {
        Kept::read(&self.kept_directory(id))
    }

    /// Saves what a job has in its worktree here, before that may go. Returns what is lost all the same.
    pub fn save_work(&self, record: &Record, stop: &Stop) -> Option<String> {
        let (url, base) = (self.url_of(record)?, record.base_commit.as_ref()?);
        let limit = self.config.repos.kept_limit;
        if record.worktree_id.is_some() || record.pushed || limit == 0 {
            return None;
        }
        let worktree = Worktree::of(&self.spaces, &url, &record.id, record.branch.clone());
        if !worktree.is_there() {
            return None;
        }
        let directory = self.kept_directory(&record.id);
        // It is saved already, and no agent has worked since.
        let lacking = |lacks: String| format!("what was saved does not hold {lacks}");
        if let Some(kept) = Kept::read(&directory).filter(|kept| !kept.used) {
            return kept.lacks.map(lacking);
        }
        // Beside it first: what is there stays until the new one is whole.
        let new = directory.with_extension("new");
        let saved = worktree.save(base, &new, limit, stop).and_then(|mut kept| {
            if let Some(diff) = kept.diff.take() {
                self.note_diff(record, diff);
            }
            let finish = || -> io::Result<Kept> {
                let mut kept = Kept { session: record.session_id.clone(), ..kept };
                if let Some((session, from)) = record.session_id.as_deref().zip(record.job_config_dir.as_deref())
                    && !home::bring_session(session, Path::new(from), &new.join(CONVERSATION))?
                {
                    kept.session = None;
                }
                kept.write(&new)?;
                remove::tree(&directory)?;
                fs::rename(&new, &directory)?;
                Ok(kept)
            };
            finish().map_err(|error| cache::Error::Final(format!("{}: {error}", directory.display())))
        });
        match saved {
            Ok(kept) => kept.lacks.map(lacking),
            Err(error) => {
                log::job(&record.id).warn(format!("its work could not be saved: {error}"));
                let _ = remove::tree(&new);
                Some(format!("its work could not be saved: {error}"))
            }
        }
    }

    /// Notes the conversation of a job without a repository, whose files stay where they are. Returns what is lost.
    pub fn save_conversation(&self, record: &Record) -> Option<String> {
        let (session, from) = record.session_id.as_deref().zip(record.job_config_dir.as_deref())?;
        let directory = self.kept_directory(&record.id);
        let write = || -> io::Result<()> {
            match keep_newest(session, Path::new(from), &directory.join(CONVERSATION))? {
                true => Kept::of_conversation(session).write(&directory),
                false => Ok(()),
            }
        };
        let failed = write().err()?;
        Some(format!("its conversation could not be saved in {}: {failed}", directory.display()))
    }

    /// An agent works from here on. What was saved before and was not gone on from stays, out of the way.
    pub fn set_kept_aside(&self, id: &JobId) {
        let directory = self.kept_directory(id);
        let Some(kept) = Kept::read(&directory).filter(|kept| !kept.used) else { return };
        let moved = match (kept.bytes, directory.parent()) {
            (1.., Some(all)) => fs::rename(&directory, unsaved::next_free(all, id)),
            _ => remove::tree(&directory),
        };
        if let Err(error) = moved {
            log::job(id).warn(format!("{}: {error}", directory.display()));
        }
    }

    /// Where the work of a job lies that is saved and was gone on from by none, and what it is.
    pub fn shown_kept(&self, id: &JobId) -> Option<(PathBuf, Kept)> {
        let directory = self.kept_directory(id);
        let earlier = || unsaved::newest_earlier(directory.parent()?, id);
        let found = if directory.is_dir() { directory.clone() } else { earlier()? };
        let kept = Kept::read(&found)?;
        Some((found, kept))
    }

    /// The job is forgotten.
    pub fn forget_kept(&self, id: &JobId) {
        self.drop_kept(id);
        if let Some(Err(error)) = self.kept_directory(id).parent().map(|all| unsaved::remove_earlier(all, id)) {
            log::job(id).warn(format!("what was kept of it cannot be removed: {error}"));
        }
    }

    /// All of it is somewhere else.
    pub fn drop_kept(&self, id: &JobId) {
        let directory = self.kept_directory(id);
        // With what a server that died had begun to save.
        for path in [directory.with_extension("new"), directory] {
            if let Err(error) = remove::tree(&path) {
                log::warn(&format!("cannot remove {}: {error}", path.display()));
            }
        }
    }
}

/// Keeps a conversation in `saved`: from where an attempt had it, else the one that is there. False: neither is.
fn keep_newest(session: &str, from: &Path, saved: &Path) -> io::Result<bool> {
    let beside = saved.with_extension("new");
    remove::tree(&beside)?;
    if home::bring_session(session, from, &beside)? {
        remove::tree(saved)?;
        fs::rename(&beside, saved)?;
    }
    Ok(saved.is_dir())
}

/// What the agent made, beside what the runner had put there for it.
fn has_files(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| {
        let name = name.to_string_lossy();
        !name.starts_with('.') && name != "system-prompt.md"
    })
}

/// So many jobs of one conversation are looked through for its files, from the newest on.
const CONVERSATION_MOST: usize = 20;

/// It worked where this job does; without a repository each has a directory of its own.
fn is_in(earlier: &Record, url: Option<&RepoUrl>) -> bool {
    url.is_some() && earlier.repo_url.as_deref() == url.map(RepoUrl::as_str)
}

/// An earlier job of a conversation, seen from one that resumes it.
enum Left {
    /// Its files are kept, and fit.
    Files(Box<GoesOn>),
    /// They are elsewhere: so.
    Elsewhere(String),
    /// It changed nothing that could be missing.
    Nothing,
}

impl Execution<'_> {
    /// What this attempt goes on from: what its job's earlier attempt saved, or the job whose conversation it resumes.
    pub fn find_kept(&mut self, url: &RepoUrl) -> Result<Option<GoesOn>, Halt> {
        let runner = self.runner;
        let id = &self.record.id;
        if let Some(kept) = runner.kept_of(id).filter(|kept| !kept.used && kept.repo_url == url.as_str()) {
            let directory = runner.kept_directory(id);
            // With all of it alone: its conversation tells of files that would not be there.
            let is_whole = kept.session.is_some() && kept.lacks.is_none();
            return Ok(is_whole.then_some(GoesOn { kept, directory, is_own: true }));
        }
        let Some(session) = self.record.resume_session.clone() else { return Ok(None) };
        match self.left_by(&session, Some(url))? {
            Left::Files(goes_on) => Ok(Some(*goes_on)),
            Left::Elsewhere(why) => {
                let text = format!("the conversation goes on without its files: {why}");
                self.remark_on(text).map(|()| None)
            }
            Left::Nothing => Ok(None),
        }
    }

    /// What the jobs of a conversation left: the newest first, and what each of them went on from.
    fn left_by(&mut self, session: &str, url: Option<&RepoUrl>) -> Result<Left, Halt> {
        let runner = self.runner;
        // A second attempt goes on from the same as the first, whoever had the conversation since.
        let mut next = match &self.record.resumed_from {
            Some(id) => self.persistently(|_| runner.store.get(id))?.it,
            None => self.persistently(|_| runner.store.with_session(session))?,
        };
        if next.as_ref().is_none_or(|newest| newest.id == self.record.id) {
            next = runner.earlier_local(session);
        }
        let Some(newest) = next.as_ref().filter(|newest| newest.id != self.record.id) else { return Ok(Left::Nothing) };
        self.mark(Mark::ResumesFrom(newest.id.clone()), None)?;
        let mut elsewhere = None;
        for _ in 0..CONVERSATION_MOST {
            let Some(earlier) = next.take() else { break };
            match self.left_by_one(&earlier, url) {
                Left::Nothing => {}
                Left::Elsewhere(why) if is_in(&earlier, url) => return Ok(Left::Elsewhere(why)),
                // What it did was somewhere else: the files from before it may be here.
                Left::Elsewhere(why) => elsewhere = elsewhere.or(Some(why)),
                files => return Ok(files),
            }
            if let Some(id) = &earlier.resumed_from {
                next = self.persistently(|_| runner.store.get(id))?.it;
            }
        }
        Ok(elsewhere.map_or(Left::Nothing, Left::Elsewhere))
    }

    fn left_by_one(&self, earlier: &Record, url: Option<&RepoUrl>) -> Left {
        let (runner, id) = (self.runner, earlier.id.short());
        let saved = runner.shown_kept(&earlier.id).filter(|(_, kept)| kept.bytes > 0);
        let also = saved.as_ref().and_then(|(directory, kept)| kept.bundle(directory));
        let also = also.map(|path| format!("; a copy is in {}", path.display())).unwrap_or_default();
        let branch = earlier.branch.as_deref().filter(|_| earlier.pushed);
        let at = earlier.repo_url.as_deref();
        if !is_in(earlier, url) {
            let with_base = branch.map(|branch| format!(" and base_ref (--base-ref) {branch}")).unwrap_or_default();
            let has_work = branch.is_some() || saved.is_some() || earlier.worktree_path.is_some();
            return match at {
                Some(at) if has_work => Left::Elsewhere(format!(
                    "job {id} worked in {at}; a job with that as repo_url (--repo){with_base} begins with them{also}"
                )),
                None => {
                    let directory = runner.config.job_dirs_root.join(earlier.id.as_str());
                    let told = || Left::Elsewhere(format!("job {id} left them in {}", directory.display()));
                    if has_files(&directory) { told() } else { Left::Nothing }
                }
                Some(_) => Left::Nothing,
            };
        }
        let asks_for_another = self.record.base_ref.is_some() && self.record.base_ref != earlier.base_ref;
        if let Some(branch) = branch {
            let why =
                format!("job {id} left them on the branch {branch}; give base_ref (--base-ref) {branch} for them");
            // Who names where to begin, knows.
            return if asks_for_another { Left::Nothing } else { Left::Elsewhere(why) };
        }
        match saved {
            Some(_) if asks_for_another => {
                Left::Elsewhere(format!("job {id} began at another base_ref; a job without one begins with them{also}"))
            }
            Some((directory, kept)) if Some(kept.repo_url.as_str()) == at => {
                Left::Files(Box::new(GoesOn { kept, directory, is_own: false }))
            }
            _ => earlier.worktree_path.as_ref().map_or(Left::Nothing, |path| {
                let on = earlier.worktree_on.as_deref().map(|pod| format!(" on {pod}")).unwrap_or_default();
                Left::Elsewhere(format!("job {id} left them in {path}{on}, and they were not saved"))
            }),
        }
    }

    /// A job without a repository that resumes a conversation: says so where its files are missing.
    pub fn say_no_files(&mut self) -> Result<(), Halt> {
        let Some(session) = self.record.resume_session.clone() else { return Ok(()) };
        match self.left_by(&session, None)? {
            Left::Elsewhere(why) => self.remark_on(format!("the conversation goes on without its files: {why}")),
            _ => Ok(()),
        }
    }

    fn remark_on(&mut self, why: String) -> Result<(), Halt> {
        self.remark = Some(why.clone());
        self.say(Kind::AgentNotice, why)
    }

    /// The directory of a job without a repository is as an earlier attempt left it, and its agent goes on in it.
    pub fn goes_on_in_directory(&mut self, job_dir: &Path) -> Result<bool, Halt> {
        let id = &self.record.id;
        let kept = self.runner.kept_of(id).filter(|kept| !kept.used && kept.repo_url.is_empty());
        let Some(kept) = kept.filter(|kept| kept.session.is_some() && job_dir.is_dir()) else { return Ok(false) };
        let directory = self.runner.kept_directory(id);
        let used = Kept { used: true, ..kept.clone() };
        used.write(&directory).map_err(|error| Halt::Failed(format!("{}: {error}", directory.display())))?;
        // Cut off before its agent begins, it is noted again.
        self.is_in_place = true;
        self.goes_on = kept.session;
        self.say(Kind::WorktreeReady, "the files are as the earlier attempt left them")?;
        Ok(true)
    }

    /// The worktree of an earlier attempt, whose work could not be saved whole, is on this disk: it is gone on in. The
    /// path of it.
    pub fn go_on_in_place(&mut self, worktree: &Worktree) -> Result<Option<PathBuf>, Halt> {
        let record = &self.record;
        let is_here = record.worktree_on == self.runner.pod && record.base_commit.is_some();
        if !is_here || !worktree.is_unsaved() {
            return Ok(None);
        }
        let (path, session) = (worktree.path(), record.session_id.clone());
        self.runner.spaces.hold(&record.id).map_err(|error| Halt::Failed(format!("{}: {error}", path.display())))?;
        // Its conversation is where the attempt had it, which is made anew for this one; else with what was saved.
        let saved = self.runner.kept_directory(&self.record.id).join(CONVERSATION);
        if let Some((session, from)) = session.as_deref().zip(self.record.job_config_dir.as_deref()) {
            let kept = keep_newest(session, Path::new(from), &saved);
            kept.map_err(|error| Halt::Failed(format!("cannot bring the conversation from {from}: {error}")))?;
        }
        self.is_in_place = true;
        if let Some(kept) = self.runner.kept_of(&self.record.id).filter(|kept| !kept.used) {
            let directory = self.runner.kept_directory(&self.record.id);
            let used = Kept { used: true, ..kept };
            used.write(&directory).map_err(|error| Halt::Failed(format!("{}: {error}", directory.display())))?;
        }
        self.goes_on = session;
        let text =
            format!("{} is as the earlier attempt left it, which could not save all of its work", path.display());
        self.say(Kind::WorktreeReady, text)?;
        Ok(Some(path))
    }

    /// Brings what an agent that was judged had done, where another server has its worktree. False: it was not saved.
    pub fn bring_work(&mut self, url: &RepoUrl) -> Result<bool, Halt> {
        let id = self.record.id.clone();
        let is_whole = |kept: &Kept| kept.repo_url == url.as_str() && kept.lacks.is_none() && kept.bytes > 0;
        let Some(kept) = self.runner.kept_of(&id).filter(is_whole).filter(|_| self.record.commit.is_none()) else {
            return Ok(false);
        };
        let profile =
            self.runner.profiles.find(&self.record.profile).map_err(|error| Halt::Failed(error.to_string()))?;
        let goes_on = GoesOn { kept, directory: self.runner.kept_directory(&id), is_own: false };
        let (_, is_there) =
            self.make_worktree_from(url, self.record.branch.is_some(), profile.submodules, Some(goes_on))?;
        Ok(is_there)
    }

    /// Brings the conversation that the agent goes on with, if it goes on.
    pub fn bring_own_session(&mut self, config_dir: &Path) -> Result<(), Halt> {
        let Some(session) = &self.goes_on else { return Ok(()) };
        let from = self.runner.kept_directory(&self.record.id).join(CONVERSATION);
        match home::bring_session(session, &from, config_dir) {
            Ok(true) => Ok(()),
            // It begins anew, with the files as they are.
            Ok(false) => {
                self.goes_on = None;
                Ok(())
            }
            Err(error) => Err(Halt::Failed(format!("cannot bring the conversation from {}: {error}", from.display()))),
        }
    }

    /// Puts it into the worktree that was made just now. False: it cannot be used.
    pub fn go_on_from(&mut self, worktree: &Worktree, goes_on: &GoesOn) -> Result<bool, Halt> {
        if let Err(error) = worktree.restore(&goes_on.kept, &goes_on.directory, self.stop) {
            if let cache::Error::Stopped(reason) = error {
                return Err(Halt::Stopped(reason));
            }
            self.say(
                Kind::Cloning,
                format!("what was kept of the earlier work cannot be used, it is begun anew: {error}"),
            )?;
            return Ok(false);
        }
        if goes_on.is_own {
            // An attempt that is cut off without having saved is not gone on from what is older than its conversation.
            let used = Kept { used: true, ..goes_on.kept.clone() };
            used.write(&goes_on.directory)
                .map_err(|error| Halt::Failed(format!("{}: {error}", goes_on.directory.display())))?;
            self.goes_on = goes_on.kept.session.clone();
        }
        let but_for = goes_on.kept.lacks.as_ref().map(|lacks| format!("; what was kept of them does not hold {lacks}"));
        let text = format!("the files are as the earlier attempt or job left them{}", but_for.unwrap_or_default());
        self.say(Kind::WorktreeReady, text)?;
        Ok(true)
    }
}
