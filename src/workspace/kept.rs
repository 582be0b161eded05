//! Work that is nowhere else, saved apart from its worktree: as a git bundle, with what no commit holds in a commit of
//! its own. And put into a fresh worktree again.
//!
//! ```text
//! {directory}/state.json    what it is of
//! {directory}/work.bundle   refs/kept/head, refs/kept/work, refs/kept/heads/NAME, refs/kept/other/N
//! ```
//!
//! It needs the commit that the job began at, which the remote has. It never holds what is ignored, nor the contents of
//! Git LFS files, nor what lies in other repositories below the worktree.

use super::cache::Error;
use super::diff::{self, Diff};
use super::git::{self, Call};
use super::inspect::Inspection;
use super::looking::leave;
use super::private_git_dir::PrivateGitDir;
use super::worktree::Worktree;
use super::{refname, refs, regular_file, remove};
use crate::process::stop::Stop;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The format of `state.json`.
const FORMAT: u32 = 1;
const BUNDLE: &str = "work.bundle";
const STATE: &str = "state.json";
/// The longest of it; it has some hundred bytes for each branch.
const STATE_LIMIT: u64 = 1 << 20;

/// What was saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub format: u32,
    pub repo_url: String,
    /// The commit that it was begun at.
    pub base: String,
    /// The commit that was checked out; the base, if nothing was committed there.
    pub head: String,
    /// The branch that was checked out; None: none was.
    pub branch: Option<String>,
    /// The job's own branch.
    pub own_branch: Option<String>,
    /// What was stashed last.
    pub stash: Option<String>,
    /// Commits that no branch holds: in stashes, at tags, on a HEAD that was detached.
    pub others: Vec<String>,
    /// A commit on top of `head`, with what was not committed.
    pub work: Option<String>,
    /// Other branches, by their names.
    pub heads: BTreeMap<String, String>,
    /// The bundle's size in bytes; 0: there is none, because nothing was changed or it would be too large.
    pub bytes: u64,
    /// The agent's conversation.
    #[serde(default)]
    pub session: Option<String>,
    /// What is not in it, a sentence's end.
    pub lacks: Option<String>,
    /// An attempt went on from it.
    #[serde(default)]
    pub used: bool,
    /// What was changed, for people; None: that is not known, or was taken already.
    #[serde(skip)]
    pub diff: Option<Diff>,
}

impl Kept {
    /// What was saved in this directory. None: nothing, or by a later version.
    pub fn read(directory: &Path) -> Option<Self> {
        let bytes = regular_file::read(&directory.join(STATE), STATE_LIMIT).ok()?;
        serde_json::from_slice::<Self>(&bytes).ok().filter(|kept| kept.format <= FORMAT)
    }

    /// Of a job without a repository: its files are where they were.
    pub fn of_conversation(session: &str) -> Self {
        Self {
            format: FORMAT,
            repo_url: String::new(),
            base: String::new(),
            head: String::new(),
            branch: None,
            own_branch: None,
            stash: None,
            others: Vec::new(),
            work: None,
            heads: BTreeMap::new(),
            bytes: 0,
            session: Some(session.to_owned()),
            lacks: None,
            used: false,
            diff: None,
        }
    }

    pub fn write(&self, directory: &Path) -> io::Result<()> {
        regular_file::write(&directory.join(STATE), &serde_json::to_vec(self)?)
    }

    pub fn bundle(&self, directory: &Path) -> Option<PathBuf> {
        (self.bytes > 0).then(|| directory.join(BUNDLE))
    }
}

impl Worktree<'_> {
    /// Saves the work in it into `directory`, in place of what is there. `limit`: of the bundle, in bytes.
    pub fn save(&self, base: &str, directory: &Path, limit: u64, stop: &Stop) -> Result<Kept, Error> {
        let found = self.inspect(base, &[])?;
        let mut kept = Kept {
            format: FORMAT,
            repo_url: self.url.to_string(),
            base: base.to_owned(),
            head: found.head.clone(),
            branch: refs::checked_out_branch(&self.repository()),
            own_branch: self.branch.clone(),
            stash: refs::read_any(&self.repository(), "refs/stash"),
            others: Vec::new(),
            work: None,
            heads: BTreeMap::new(),
            bytes: 0,
            session: None,
            lacks: found.hidden.clone().filter(|_| !found.hidden_is_in_refs),
            used: false,
            diff: None,
        };
        let cannot = |error: io::Error| Error::Final(format!("cannot save into {}: {error}", directory.display()));
        remove::tree(directory).map_err(cannot)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(cannot)?;
        if found.has_work() {
            let ours = self.private_git_dir(base)?;
            leave(&ours, &found.untouched)?;
            let objects = ours.path("new-objects");
            fs::create_dir_all(&objects).map_err(cannot)?;
            let ours = ours.writing_to(&objects);
            kept.work = if self.is_on_disk() { self.commit_of_files(&ours, &found, stop)? } else { None };
            self.note_refs(&ours, &mut kept)?;
            // The commit that was made for it is nowhere but in there.
            let files = kept.work.clone().unwrap_or_else(|| found.head.clone());
            let link = self.unknown_link(&ours, base, &files)?;
            let left = self.left_beside(&ours, &files)?;
            let lost = [link.or(left), found.staged.lost(&[]), found.unfinished.clone(), kept.lacks.take()];
            let lost: Vec<String> = lost.into_iter().flatten().collect();
            kept.lacks = (!lost.is_empty()).then(|| format!("some of it: {}", lost.join("; ")));
            // It is for people: work that cannot be shown is saved all the same.
            kept.diff = diff::between(&ours, base, &files, stop).ok();
            self.write_bundle(&ours, &mut kept, &directory.join(BUNDLE), limit, stop)?;
        }
        kept.write(directory).map_err(cannot)?;
        Ok(kept)
    }

    /// A commit of all files, on top of the head that was found. None: they are those of that.
    fn commit_of_files(&self, ours: &PrivateGitDir, found: &Inspection, stop: &Stop) -> Result<Option<String>, Error> {
        let head = found.head.as_str();
        let call = || Call { login: None, stop: Some(stop) };
        let links = super::links::links_in(ours)?;
        self.hold_links(ours, &links, &HashSet::new())?;
        self.add_all(ours, &HashSet::new(), stop)?;
        self.add_staged(ours, head, &found.staged, &HashSet::new())?;
        let text = |told: crate::process::limited::Finished| String::from_utf8_lossy(&told.stdout).trim().to_owned();
        let tree = text(ours.run(&["write-tree"], call())?);
        let of_head = text(ours.run(&["rev-parse", &format!("{head}^{{tree}}")], call())?);
        if tree == of_head {
            return Ok(None);
        }
        let (name, address) = (self.spaces.settings.author_name.as_str(), self.spaces.settings.author_email.as_str());
        let author = [
            ("GIT_AUTHOR_NAME", name),
            ("GIT_AUTHOR_EMAIL", address),
            ("GIT_COMMITTER_NAME", name),
            ("GIT_COMMITTER_EMAIL", address),
        ];
        let commit = ["commit-tree", &tree, "-p", head, "-m", "What was not committed when the job was interrupted"];
        Ok(Some(text(ours.run_as(&commit, &author, call())?)))
    }

    /// Gives all that is to be saved a name in `ours`.
    fn note_refs(&self, ours: &PrivateGitDir, kept: &mut Kept) -> Result<(), Error> {
        let own = self.repository();
        kept.heads = refs::branches(&own);
        kept.heads.retain(|name, _| refname::judge(name).is_ok());
        let mut named: Vec<(String, &str)> = vec![("head".into(), &kept.head)];
        named.extend(kept.work.iter().map(|work| ("work".to_owned(), work.as_str())));
        named.extend(kept.heads.iter().map(|(name, hash)| (format!("heads/{name}"), hash.as_str())));
        let tips = refs::tips(&own).unwrap_or_default();
        let others = tips.iter().filter(|tip| !named.iter().any(|(_, hash)| hash == tip)).enumerate();
        let others: Vec<_> = others.map(|(number, tip)| (format!("other/{number}"), tip.as_str())).collect();
        kept.others = others.iter().map(|(_, tip)| tip.to_string()).collect();
        for (name, hash) in named.into_iter().chain(others) {
            // One that is damaged, or no commit, keeps the others from nothing.
            match ours.run(&["update-ref", &format!("refs/kept/{name}"), hash], Call::default()) {
                Ok(_) | Err(git::Error::Failed { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_bundle(
        &self,
        ours: &PrivateGitDir,
        kept: &mut Kept,
        bundle: &Path,
        limit: u64,
        stop: &Stop,
    ) -> Result<(), Error> {
        let call = || Call { login: None, stop: Some(stop) };
        let not_base = format!("^{}", kept.base);
        let counted = ["rev-list", "--objects", "--disk-usage", "--glob=refs/kept/*", &not_base];
        let bytes = String::from_utf8_lossy(&ours.run(&counted, call())?.stdout).trim().parse::<u64>().unwrap_or(0);
        if bytes == 0 {
            return Ok(());
        }
        if bytes > limit {
            let what = if kept.work.is_some() { "what was not committed" } else { "the work" };
            let (found, most) = (bytes >> 20, limit >> 20);
            let told = format!("{what}: all together takes {found} MiB, and AGENTICORE_KEPT_LIMIT is {most} MiB");
            kept.lacks = Some(told);
            if kept.work.take().is_none() {
                return Ok(());
            }
            // What was committed may fit.
            ours.run(&["update-ref", "-d", "refs/kept/work"], Call::default())?;
            return self.write_bundle(ours, kept, bundle, limit, stop);
        }
        let path = bundle.display().to_string();
        ours.run(&["bundle", "create", "--quiet", &path, "--glob=refs/kept/*", &not_base], call())?;
        kept.bytes = fs::metadata(bundle).map(|found| found.len()).unwrap_or(0);
        Ok(())
    }

    /// Puts what was saved in `directory` into this worktree, which was made at its base just now.
    pub fn restore(&self, kept: &Kept, directory: &Path, stop: &Stop) -> Result<(), Error> {
        let Some(bundle) = kept.bundle(directory) else { return Ok(()) };
        let call = || Call { login: None, stop: Some(stop) };
        let own = self.repository();
        let cannot = |error: io::Error| Error::Final(format!("{}: {error}", own.display()));
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, &kept.base)?;
        let ours = ours.writing_to(&own.join("objects"));
        ours.run(&["bundle", "unbundle", &bundle.display().to_string()], call())?;
        let index = own.join("index");
        let ours = self.with_files(self.view(&kept.head)?, &index);
        let files = kept.work.as_deref().unwrap_or(&kept.head);
        ours.run(&["read-tree", "--reset", "-u", files], call())?;
        ours.run(&["read-tree", &kept.head], call())?;
        // Another job's own branch is this one's then.
        let named_here = |name: &String| match &self.branch {
            Some(branch) if Some(name) == kept.own_branch.as_ref() => branch.clone(),
            _ => name.clone(),
        };
        for (name, hash) in &kept.heads {
            if refname::judge(name).is_ok() && refs::is_hash(hash) {
                refs::write_branch(&own, &named_here(name), hash).map_err(cannot)?;
            }
        }
        for (number, hash) in kept.others.iter().enumerate().filter(|(_, hash)| refs::is_hash(hash)) {
            let path = own.join(format!("refs/kept/other/{number}"));
            let line = format!("{hash}\n");
            fs::create_dir_all(path.parent().unwrap_or(&own)).map_err(cannot)?;
            regular_file::write(&path, line.as_bytes()).map_err(cannot)?;
        }
        if let Some(stash) = kept.stash.as_ref().filter(|hash| refs::is_hash(hash)) {
            refs::write_stash(&own, stash).map_err(cannot)?;
        }
        let head = match &kept.branch {
            Some(name) if refname::judge(name).is_ok() => {
                let branch = named_here(name);
                refs::write_branch(&own, &branch, &kept.head).map_err(cannot)?;
                format!("ref: refs/heads/{branch}\n")
            }
            _ => format!("{}\n", kept.head),
        };
        regular_file::write(&own.join("HEAD"), head.as_bytes()).map_err(cannot)
    }
}
