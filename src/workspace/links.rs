//! Submodules as entries of an index, and whether an agent moved one: what is checked out in it may be a wish, or what
//! a merge left behind. Git checks nothing out in a submodule when it merges a commit that moves it.

use super::agent_index::Staged;
use super::cache::Error;
use super::git;
use super::git::Call;
use super::looking::leave;
use super::private_git_dir::PrivateGitDir;
use super::refs;
use super::regular_file;
use super::staging::run_with;
use super::submodules::{Submodule, paths_in};
use super::worktree::Worktree;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

impl Worktree<'_> {
    /// The commit that the agent checked out in the submodule at this path, and wants there. None: nothing was checked
    /// out since the job's beginning, or since a commit of the job named what lies there; its later ones say more.
    pub(super) fn moved_to(&self, path: &[u8]) -> Option<String> {
        let git_dir = self.git_dir_at(path)?;
        let head = refs::head(&git_dir)?;
        let (own, last) = (refs::last_move(&self.repository()), refs::last_move(&git_dir));
        let is_latest = last.is_some_and(|last| own.is_none_or(|own| last > own));
        let is_first = |made: &Submodule| made.path.as_bytes() == path && made.commit == head;
        let is_old = || {
            self.submodules().iter().any(is_first)
                || self.named_by_history(path).is_ok_and(|named| named.contains(&head))
        };
        (is_latest || !is_old()).then_some(head)
    }

    /// The commits of the submodule at this path that any commit named which was checked out in the job.
    fn named_by_history(&self, path: &[u8]) -> Result<HashSet<String>, Error> {
        let mut found = HashSet::new();
        for commit in refs::history_of_head(&self.repository()) {
            let ours = self.view(&commit)?;
            let path = String::from_utf8_lossy(path).into_owned();
            let arguments = ["--literal-pathspecs", "ls-tree", &commit, "--", &path];
            let told = String::from_utf8_lossy(&ours.run(&arguments, Call::default())?.stdout).into_owned();
            let named = told.strip_prefix("160000 commit ").and_then(|rest| rest.split('\t').next());
            found.extend(named.map(str::to_owned));
        }
        Ok(found)
    }

    /// Has git overlook the submodules that lie as they were made, and in which nobody did anything.
    pub(super) fn leave_links(&self, ours: &PrivateGitDir) -> Result<(), Error> {
        let made = self.submodules();
        if made.is_empty() {
            return Ok(());
        }
        let is_left = |made: &&Submodule| {
            let git_dir = self.git_dir_at(made.path.as_bytes());
            git_dir.is_some_and(|git_dir| {
                refs::head(&git_dir).as_ref() == Some(&made.commit) && refs::last_move(&git_dir).is_none()
            })
        };
        let left: Vec<&[u8]> = made.iter().filter(is_left).map(|made| made.path.as_bytes()).collect();
        let links = links_in(ours)?;
        let left = links.iter().filter(|link| left.contains(&link.path.as_slice()));
        let list: Vec<u8> = left.flat_map(|link| link.path.iter().copied().chain([0])).collect();
        leave(ours, &list)
    }

    /// Keeps `git add` from looking into submodules: it would start git there, with a configuration of the agent's.
    /// Returns those that it is kept from.
    pub(super) fn hold_links<'b>(
        &self,
        ours: &PrivateGitDir,
        links: &'b [Link],
        vendored: &HashSet<Vec<u8>>,
    ) -> Result<Vec<&'b Link>, Error> {
        let is_directory = |link: &&Link| {
            fs::symlink_metadata(self.on_disk(&link.path)).is_ok_and(|found| found.is_dir())
                && !vendored.contains(&link.path)
        };
        let held: Vec<&Link> = links.iter().filter(is_directory).collect();
        let list: Vec<u8> = held.iter().flat_map(|link| link.path.iter().copied().chain([0])).collect();
        leave(ours, &list)?;
        Ok(held)
    }

    /// Where the agent moved them to: what it checked out in them, as far as they are where git puts them, or what it
    /// staged. Git checks nothing out in one when it merges a commit that moves it: what is there is no wish then.
    pub(super) fn update_links(
        &self,
        ours: &PrivateGitDir,
        links: &[Link],
        held: &[&Link],
        staged: &[(Vec<u8>, String)],
    ) -> Result<(), Error> {
        let mut list: Vec<u8> = Vec::new();
        for link in links {
            let is_held = held.iter().any(|held| held.path == link.path);
            let moved = is_held.then(|| self.moved_to(&link.path)).flatten();
            let wanted = staged.iter().find(|(path, _)| *path == link.path).map(|(_, commit)| commit.clone());
            if let Some(commit) = moved.or(wanted).filter(|commit| *commit != link.commit) {
                list.extend(format!("160000 {commit}\t").bytes().chain(link.path.iter().copied()).chain([0]));
            }
        }
        if list.is_empty() {
            return Ok(());
        }
        run_with(ours, "links", &list, &["update-index", "-z", "--index-info"]).map(drop)
    }

    /// The paths that `.gitmodules` in the worktree says are submodules.
    pub(super) fn named_in_gitmodules(&self, ours: &PrivateGitDir) -> Result<HashSet<String>, Error> {
        let file = self.path().join(".gitmodules");
        if regular_file::open(&file).is_err() {
            return Ok(HashSet::new());
        }
        let file = file.display().to_string();
        match ours.run(&["config", "--file", &file, "--no-includes", "--null", "--list"], Call::default()) {
            Ok(told) => Ok(paths_in(&String::from_utf8_lossy(&told.stdout))),
            Err(git::Error::Failed { .. }) => Ok(HashSet::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The commit is one of the remote's of the submodule at this path, as far as its repository knows.
    pub(super) fn is_at_its_remote(&self, path: &[u8], commit: &[u8]) -> bool {
        let is_branch = |git_dir: PathBuf| refs::of_remote(&git_dir).values().any(|hash| hash.as_bytes() == commit);
        let made = self.submodules().into_iter().find(|made| made.path.as_bytes() == path);
        let is_below_branch = || {
            let made = made?;
            let url = made.url()?;
            let commit = String::from_utf8_lossy(commit).into_owned();
            let inner = self.submodule(&made, &url);
            let is_known = || inner.is_of_remote(&commit, &made.commit);
            Some(made.commit == commit || is_known().unwrap_or(false))
        };
        self.git_dir_at(path).is_some_and(is_branch) || is_below_branch().unwrap_or(false)
    }

    /// Commits of submodules in what the agent merges and has not committed: somebody else published them.
    pub(super) fn merged_links(&self) -> Result<HashSet<Vec<u8>>, Error> {
        let merged = regular_file::read_text(&self.repository().join("MERGE_HEAD"), 4096).unwrap_or_default();
        let mut found = HashSet::new();
        for commit in merged.lines().filter(|line| refs::is_hash(line)) {
            let told = self.view(commit)?.run(&["ls-tree", "-r", "-z", commit], Call::default())?.stdout;
            let links = told.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"160000 commit "));
            found.extend(links.filter_map(|entry| Some(entry.split(|byte| *byte == b'\t').next()?.to_vec())));
        }
        Ok(found)
    }

    /// The git directory of the repository at this path: in it, or where git puts it, and nowhere else.
    pub(super) fn git_dir_at(&self, path: &[u8]) -> Option<PathBuf> {
        let link = self.on_disk(path).join(".git");
        let Ok(text) = regular_file::read_text(&link, 8192) else {
            return Some(link).filter(|link| fs::symlink_metadata(link).is_ok_and(|found| found.is_dir()));
        };
        let named = self.on_disk(path).join(text.trim_end().trim_start_matches("gitdir: "));
        let own = self.repository().join("modules").canonicalize().ok()?;
        named.canonicalize().ok().filter(|named| named.starts_with(own))
    }
}

/// A submodule in the index.
pub(super) struct Link {
    pub path: Vec<u8>,
    pub commit: String,
}

/// The submodules in the index.
pub(super) fn links_in(ours: &PrivateGitDir) -> Result<Vec<Link>, Error> {
    let told = ours.run(&["ls-files", "-s", "-z"], Call::default())?.stdout;
    let entries = told.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(b"160000 "));
    let link = |entry: &[u8]| {
        let tab = entry.iter().position(|byte| *byte == b'\t')?;
        let commit = String::from_utf8_lossy(entry[..tab].split(|byte| *byte == b' ').next()?).into_owned();
        Some(Link { path: entry[tab + 1..].to_vec(), commit })
    };
    Ok(entries.filter_map(link).collect())
}

/// Takes the submodules out of the index that the agent removed from its own and made plain files of: git adds nothing
/// below a submodule's name.
pub(super) fn remove_vendored(
    ours: &PrivateGitDir,
    staged: &Staged,
    links: &[Link],
) -> Result<HashSet<Vec<u8>>, Error> {
    let is_removed = |link: &&Link| staged.removed.contains(&link.path);
    let vendored: HashSet<Vec<u8>> = links.iter().filter(is_removed).map(|link| link.path.clone()).collect();
    let list: Vec<u8> = vendored.iter().flat_map(|path| path.iter().copied().chain([0])).collect();
    if !list.is_empty() {
        run_with(ours, "vendored", &list, &["update-index", "-z", "--force-remove", "--stdin"])?;
    }
    Ok(vendored)
}

/// Takes the files out of the index in whose place there are submodules now.
pub(super) fn make_room(ours: &PrivateGitDir, links: &[(Vec<u8>, String)]) -> Result<(), Error> {
    if links.is_empty() {
        return Ok(());
    }
    let listed = ours.run(&["ls-files", "-z"], Call::default())?.stdout;
    let is_below = |path: &[u8]| {
        links.iter().any(|(link, _)| path.strip_prefix(link.as_slice()).is_some_and(|rest| rest.starts_with(b"/")))
    };
    let below = listed.split(|byte| *byte == 0).filter(|path| is_below(path));
    let below: Vec<u8> = below.flat_map(|path| path.iter().copied().chain([0])).collect();
    run_with(ours, "below", &below, &["update-index", "-z", "--force-remove", "--stdin"]).map(drop)
}
