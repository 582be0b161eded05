//! Submodules: each has a repository of its own inside the job's, at the commit that the job's repository names, and
//! borrows the objects of a clone cache of its own.
//!
//! ```text
//! {key}/jobs/{id}/git/modules/{name}   its repository, where git looks for it
//! {key}/jobs/{id}/submodules/{n}       its first index, and whatever else a worktree has beside it
//! {key}/jobs/{id}/submodules/made      which there are
//! {key of its own}/jobs/{id}           says that the job borrows from there
//! ```
//!
//! Never publishes what is made in one: work in it keeps the worktree.

use super::cache::{Error, Locked};
use super::fetch::Base;
use super::git::{self, Call};
use super::own_repository::{OwnRepository, quoted};
use super::private_git_dir::PrivateGitDir;
use super::url::{self, RepoUrl};
use super::worktree::{Places, Worktree, explain_filter, gitdir};
use super::{lfs, refs, regular_file, remove};
use crate::process::stop::Stop;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// Which of them a profile wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    None,
    /// Those of the repository itself.
    #[default]
    Own,
    /// And those of theirs.
    Recursive,
}

/// What a commit says of one.
#[derive(Debug, PartialEq)]
pub struct Named {
    pub name: String,
    /// In the repository that names it.
    pub path: String,
    pub url: String,
    pub commit: String,
}

/// One that was made, as it is noted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submodule {
    pub name: String,
    /// In the repository that names it.
    pub path: String,
    /// Where it was fetched from.
    pub url: String,
    pub commit: String,
}

impl Submodule {
    /// It was accepted when it was made.
    pub fn url(&self) -> Option<RepoUrl> {
        url::judge(&self.url, url::Policy { allow_local: true, allow_http: true }).ok()
    }
}

impl<'a> Worktree<'a> {
    /// The submodules that `commit` names, in the order of their paths.
    pub fn named_submodules(&self, commit: &str) -> Result<Vec<Named>, Error> {
        // Nearly no repository has any.
        if fs::symlink_metadata(self.path().join(".gitmodules")).is_err() {
            return Ok(Vec::new());
        }
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir()?, commit)?;
        let blob = format!("{commit}:.gitmodules");
        let told = match ours.run(&["config", "--blob", &blob, "--null", "--list"], Call::default()) {
            Ok(told) => String::from_utf8_lossy(&told.stdout).into_owned(),
            // It is none that git understands.
            Err(git::Error::Failed { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let said = said_of(&told);
        if said.is_empty() {
            return Ok(Vec::new());
        }
        let arguments: Vec<&str> = ["--literal-pathspecs", "ls-tree", "-z", commit, "--"]
            .into_iter()
            .chain(said.keys().map(String::as_str))
            .collect();
        let listed = String::from_utf8_lossy(&ours.run(&arguments, Call::default())?.stdout).into_owned();
        let link = |entry: &str| {
            let (meta, path) = entry.split_once('\t')?;
            let (name, url) = said.get(path)?;
            let commit = meta.strip_prefix("160000 commit ")?.to_owned();
            Some(Named { name: name.clone(), path: path.to_owned(), url: url.clone(), commit })
        };
        Ok(listed.split('\0').filter_map(link).collect())
    }

    /// Those that were made in it.
    pub fn submodules(&self) -> Vec<Submodule> {
        let noted = regular_file::read(&self.submodules_directory().join("made"), 1 << 20).unwrap_or_default();
        serde_json::from_slice(&noted).unwrap_or_default()
    }

    /// The worktree of one. `url`: its own.
    pub fn submodule<'b>(&'b self, submodule: &Submodule, url: &'b RepoUrl) -> Worktree<'b> {
        let number = self.submodules().iter().position(|made| made.path == submodule.path).unwrap_or(usize::MAX);
        let within = Places {
            path: self.path().join(&submodule.path),
            repository: self.repository().join("modules").join(&submodule.name),
            registration: self.submodules_directory().join(number.to_string()),
        };
        Worktree { spaces: self.spaces, url, id: self.id, branch: None, within: Some(within) }
    }

    fn submodules_directory(&self) -> PathBuf {
        self.registration().join("submodules")
    }

    /// Notes one that is about to be made.
    pub fn note_submodule(&self, submodule: &Submodule) -> Result<(), Error> {
        let made = [self.submodules(), vec![submodule.clone()]].concat();
        self.note_submodules(&made)
            .map_err(|error| Error::Final(format!("cannot note the submodule `{}`: {error}", submodule.path)))
    }

    fn note_submodules(&self, made: &[Submodule]) -> io::Result<()> {
        let directory = self.submodules_directory();
        fs::create_dir_all(&directory)?;
        regular_file::write(&directory.join("made"), &serde_json::to_vec(made)?)
    }

    /// Leaves an empty directory of one that could not be made, the last that was noted.
    pub fn unmake_submodule(&self, submodule: &Submodule, url: &RepoUrl) -> Result<(), Error> {
        let inner = self.submodule(submodule, url);
        let unmake = || -> io::Result<()> {
            for path in [inner.path(), inner.repository(), inner.registration()] {
                remove::tree(&path)?;
            }
            fs::create_dir_all(inner.path())?;
            self.return_one(submodule);
            let mut made = self.submodules();
            made.retain(|made| made.path != submodule.path);
            self.note_submodules(&made)
        };
        unmake().map_err(|error| Error::Final(format!("cannot remove {}: {error}", inner.path().display())))
    }

    /// Makes this submodule, which was noted: `locked` is its own cache. What of it lies there without a note of its
    /// files is removed with the job.
    pub fn make_within(
        &self,
        above: &Worktree,
        name: &str,
        locked: Locked,
        base: &Base,
        lfs: &lfs::Contents,
        stop: &Stop,
    ) -> Result<(), Error> {
        let own = OwnRepository { path: &self.repository(), branch: None, files: Some(&self.path()), lfs };
        let write = || -> io::Result<()> {
            // Before it borrows anything.
            fs::create_dir_all(locked.directory.join("jobs").join(self.id.as_str()))?;
            own.lay_out(&locked.git_dir, self.url, base)?;
            fs::create_dir_all(self.registration())?;
            fs::create_dir_all(self.path())?;
            fs::write(self.path().join(".git"), format!("{}\n", gitdir(own.path)))?;
            let known = format!("[submodule {}]\n\tactive = true\n\turl = {}\n", quoted(name), self.url);
            OpenOptions::new().append(true).open(above.repository().join("config"))?.write_all(known.as_bytes())
        };
        write().map_err(|error| Error::Final(format!("{}: {error}", self.path().display())))?;
        let git_dir = locked.git_dir.clone();
        drop(locked);
        self.fill(&git_dir, base, lfs, stop).map_err(explain_filter)
    }

    /// Of all below it: the job borrows no more.
    pub(super) fn return_borrowed(&self) {
        self.submodules().iter().for_each(|submodule| self.return_one(submodule));
    }

    fn return_one(&self, submodule: &Submodule) {
        let Some(url) = submodule.url() else { return };
        self.submodule(submodule, &url).return_borrowed();
        let borrowed = self.spaces.directory_of(&url).join("jobs").join(self.id.as_str());
        // With anything in it it is a worktree of this name, of the repository itself.
        let _ = fs::remove_dir(borrowed);
    }

    fn has_pushed(&self, commit: &str) -> bool {
        refs::of_remote(&self.repository()).values().any(|known| known == commit)
    }

    /// The paths of those that hold work.
    pub(super) fn submodules_with_work(&self, of_remote: &[String]) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for submodule in self.submodules() {
            let Some(url) = submodule.url() else { continue };
            let inner = self.submodule(&submodule, &url);
            match inner.inspect(&submodule.commit, of_remote) {
                Ok(inspection) if !inspection.has_work() => {}
                // Its agent pushed that itself.
                Ok(found) if !found.is_dirty && found.hidden.is_none() && inner.has_pushed(&found.head) => {}
                Err(Error::Stopped(reason)) => return Err(Error::Stopped(reason)),
                // What cannot be looked into may be work.
                Ok(_) | Err(_) => found.push(submodule.path),
            }
        }
        Ok(found)
    }
}

/// Path → name and URL, of what `git config --list --null` printed of a `.gitmodules`.
fn said_of(told: &str) -> BTreeMap<String, (String, String)> {
    let (mut paths, mut urls) = (BTreeMap::new(), BTreeMap::new());
    for entry in told.split('\0') {
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let Some((name, what)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        match what {
            "path" => drop(paths.insert(name.to_owned(), value.trim_end_matches('/').to_owned())),
            "url" => drop(urls.insert(name.to_owned(), value.to_owned())),
            _ => {}
        }
    }
    let both = paths.into_iter().filter_map(|(name, path)| {
        let url = urls.remove(&name)?;
        (is_harmless(&name) && is_harmless(&path)).then_some((path, (name, url)))
    });
    both.collect()
}

/// The paths in what `git config --list --null` printed of a `.gitmodules`.
pub(super) fn paths_in(told: &str) -> HashSet<String> {
    let entries = told.split('\0').filter_map(|entry| entry.split_once('\n'));
    let paths = entries.filter(|(key, _)| key.starts_with("submodule.") && key.ends_with(".path"));
    paths.map(|(_, path)| path.trim_end_matches('/').to_owned()).collect()
}

/// Names and paths become paths on our disk.
fn is_harmless(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.eq_ignore_ascii_case(".git");
    !path.is_empty() && path.len() < 1000 && path.split('/').all(is_part) && !path.contains(char::is_control)
}

/// The URL that a `.gitmodules` means: one that begins with `./` or `../` begins at the repository's own, as
/// git-submodule(1) says.
pub fn resolve(above: &RepoUrl, named: &str) -> Result<String, String> {
    if !(named.starts_with("./") || named.starts_with("../")) {
        return Ok(named.to_owned());
    }
    let (mut begin, mut rest) = (above.as_str().trim_end_matches('/').to_owned(), named);
    let mut joint = '/';
    loop {
        if let Some(left) = rest.strip_prefix("./") {
            rest = left;
        } else if let Some(left) = rest.strip_prefix("../") {
            rest = left;
            let after_host = begin.find("://").map_or(0, |at| at + 3);
            match (begin.rfind('/').filter(|at| *at > after_host), begin.rfind(':').filter(|at| *at > after_host)) {
                (Some(slash), _) => (begin, joint) = (begin[..slash].to_owned(), '/'),
                (None, Some(colon)) if after_host == 0 => (begin, joint) = (begin[..colon].to_owned(), ':'),
                _ => return Err(format!("its URL {named} leads out of {above}")),
            }
        } else {
            return Ok(format!("{begin}{joint}{rest}").trim_end_matches('/').to_owned());
        }
    }
}

/// Both are on one host, as far as a name tells.
pub fn on_one_host(one: &RepoUrl, other: &RepoUrl) -> bool {
    let is_ssh = one.transport == url::Transport::Ssh || other.transport == url::Transport::Ssh;
    // The port of ssh says nothing about the port of the web.
    let name = |url: &RepoUrl| match is_ssh {
        true => url.host.split(':').next().unwrap_or_default().to_ascii_lowercase(),
        false => url.host.to_ascii_lowercase(),
    };
    name(one) == name(other)
}

impl Locked<'_> {
    /// Where a submodule begins. Asks the remote only if the commit is not there.
    pub fn base_at(
        &mut self,
        commit: &str,
        request: &super::fetch::FetchRequest,
        progress: &dyn Fn(&str),
    ) -> Result<Base, Error> {
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir, super::private_git_dir::NOWHERE)?;
        if ours.commit_of(commit, Call::default())?.is_none() {
            return self.base(request, progress);
        }
        let default = self.default_branch();
        let pr_base = default.clone().unwrap_or_else(|| "main".into());
        Ok(Base { name: commit.to_owned(), commit: commit.to_owned(), pr_base, default })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::url::Policy;

    fn judged(text: &str) -> RepoUrl {
        url::judge(text, Policy { allow_local: true, allow_http: true }).unwrap()
    }

    #[test]
    fn a_relative_url_begins_at_the_repository() {
        for (above, named, meant) in [
            ("https://h/o/r.git", "../other.git", Some("https://h/o/other.git")),
            ("https://h/o/r", "../../p/other", Some("https://h/p/other")),
            ("https://h/o/r/", "./sub", Some("https://h/o/r/sub")),
            ("git@h:o/r", "../other", Some("git@h:o/other")),
            ("git@h:o/r", "../../p/other", Some("git@h:p/other")),
            ("ssh://git@h:22/o/r", "../x", Some("ssh://git@h:22/o/x")),
            ("/srv/git/r", "../other", Some("/srv/git/other")),
            ("https://h/o/r", "https://k/x", Some("https://k/x")),
            ("https://h/o/r", "../../../x", None),
            ("https://h/r", "../../evil.example/x", None),
        ] {
            assert_eq!(resolve(&judged(above), named).ok().as_deref(), meant, "{above} {named}");
        }
    }

    #[test]
    fn only_harmless_names_are_taken() {
        let told = "submodule.a/b.path\nvendor/a\0submodule.a/b.url\n../a\0submodule.a/b.update\n!rm\0\
                    submodule.../../x.path\nx\0submodule.../../x.url\nu\0submodule.c.path\n../c\0submodule.c.url\nu\0\
                    submodule.d.path\nd\0submodule.e.url\nu\0submodule.f.path\n.git/hooks\0submodule.f.url\nu\0";
        let said = said_of(told);
        assert_eq!(said.into_iter().collect::<Vec<_>>(), [("vendor/a".into(), ("a/b".into(), "../a".into()))]);
    }

    #[test]
    fn hosts_are_compared_by_name() {
        for (one, other, same) in [
            ("https://h/o/r", "https://H/x/y", true),
            ("https://h/o/r", "https://h:444/x/y", false),
            ("https://h/o/r", "git@h:x/y", true),
            ("https://h/o/r", "https://k/x/y", false),
            ("/srv/r", "/srv/x", true),
            ("https://h/o/r", "/srv/x", false),
        ] {
            assert_eq!(on_one_host(&judged(one), &judged(other)), same, "{one} {other}");
        }
    }
}
