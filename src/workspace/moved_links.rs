//! Whether an agent moved a submodule: what is checked out in it may be a wish, or what a merge left behind: git checks
//! nothing out in a submodule when it merges a commit that moves it.

use super::cache::Error;
use super::git::Call;
use super::looking::leave;
use super::private_git_dir::PrivateGitDir;
use super::refs;
use super::staging::links_in;
use super::submodules::Submodule;
use super::worktree::Worktree;
use std::collections::HashSet;

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
}
