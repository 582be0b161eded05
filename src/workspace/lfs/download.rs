//! Before the agent: the contents of a commit's files, from the remote's LFS server into the cache's store.

use super::store::{self, path_in, store_of};
use super::{endpoint, said_in_commit, transfer_settings};
use crate::workspace::cache::{Error, Locked};
use crate::workspace::cause::Cause;
use crate::workspace::fetch::FetchRequest;
use crate::workspace::git::{self, Call};
use crate::workspace::private_git_dir::{NOWHERE, PrivateGitDir};
use crate::workspace::progress::Progress;
use std::sync::PoisonError;

/// So many commits without LFS files are remembered.
const REMEMBERED: usize = 1000;

/// What a job finds in the place of LFS files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// There are none.
    Unused,
    /// The contents, but for those of these files: a list as `lfs.fetchexclude` has it.
    There {
        but_for: String,
    },
    Pointers,
}

impl Locked<'_> {
    /// Brings the contents of `commit`'s LFS files into the cache. `tell`: also what is not brought, and why.
    pub fn fetch_lfs(&self, commit: &str, request: &FetchRequest, tell: &dyn Fn(&str)) -> Result<Contents, Error> {
        // Without a HEAD git-lfs reads no `.lfsconfig` by itself.
        let ours = PrivateGitDir::onto(&self.spaces.git, &self.git_dir, NOWHERE)?;
        let known = || self.spaces.without_lfs.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(commit) {
            return Ok(Contents::Unused);
        }
        if !uses_lfs(&ours, commit)? {
            let mut known = known();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(commit.to_owned());
            return Ok(Contents::Unused);
        }
        let pointers = |why: &str| {
            tell(&format!("Git LFS files are pointers: {why}"));
            Ok(Contents::Pointers)
        };
        if !self.spaces.settings.lfs {
            return pointers("AGENTICORE_LFS is skip");
        }
        if !self.spaces.git.has_lfs() {
            return pointers("git-lfs is not installed on the server");
        }
        let endpoint = match endpoint(&ours, commit, self.url)? {
            Ok(endpoint) => endpoint,
            Err(why) => return pointers(&why),
        };
        let store = store_of(&self.git_dir);
        store::check(&store);
        let mut settings = transfer_settings(&store, &endpoint);
        for name in ["lfs.fetchinclude", "lfs.fetchexclude"] {
            if let Some(said) = said_in_commit(&ours, commit, name)? {
                tell(&format!("some Git LFS files are pointers, because .lfsconfig says {name} = {said}"));
                settings.push((name, said));
            }
        }
        let ours = ours.with_config(&settings)?;
        let is_chosen = settings.iter().any(|(name, _)| name.starts_with("lfs.fetch"));
        match self.persistently(|| self.download(&ours, commit, request, &endpoint, tell)) {
            Ok(()) if !is_chosen => Ok(Contents::There { but_for: String::new() }),
            Ok(()) => self.but_for_missing(&ours, commit, tell),
            Err(git::Error::Failed { said, .. }) if only_some_are_gone(&said) => {
                let some = said.lines().next().unwrap_or_default();
                tell(&format!("some Git LFS files are pointers, because the server has no content of them: {some}"));
                self.but_for_missing(&ours, commit, tell)
            }
            Err(git::Error::Stopped(reason)) => Err(Error::Stopped(reason)),
            Err(error) => {
                let url = self.url;
                let why = match error.cause() {
                    Cause::Login if request.login.is_some() => "the server's credentials were refused",
                    Cause::Login => "they want credentials, and the server has none for that host",
                    _ => "they cannot be fetched",
                };
                let text = format!(
                    "{url} has Git LFS files: {why} ({error}); with AGENTICORE_LFS=skip jobs begin with pointers"
                );
                let passes = error.cause() == Cause::Unreachable;
                Err(if passes { Error::Passing(text) } else { Error::Final(text) })
            }
        }
    }

    /// Git-lfs must not look for what is not there: it would ask for it, and may hang then.
    fn but_for_missing(&self, ours: &PrivateGitDir, commit: &str, tell: &dyn Fn(&str)) -> Result<Contents, Error> {
        let told = ours.run(&["lfs", "ls-files", "--long", commit], Call::default())?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let store = store_of(&self.git_dir);
        let mut but_for = Vec::new();
        for line in told.lines() {
            // `OID - PATH`, and `*` where the file is checked out.
            let entry = line.split_once(' ').and_then(|(oid, rest)| Some((oid, rest.get(2..)?)));
            let entry = entry.filter(|(oid, _)| oid.len() == 64 && oid.bytes().all(|byte| byte.is_ascii_hexdigit()));
            match entry {
                Some((oid, _)) if path_in(&store, oid).exists() => {}
                Some((_, path))
                    if path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._- ".contains(&byte)) =>
                {
                    but_for.push(format!("/{path}"));
                }
                _ => {
                    tell(&format!("all Git LFS files are pointers, because of one that cannot be left out: {line}"));
                    return Ok(Contents::Pointers);
                }
            }
        }
        Ok(Contents::There { but_for: but_for.join(",") })
    }

    fn download(
        &self,
        ours: &PrivateGitDir,
        commit: &str,
        request: &FetchRequest,
        endpoint: &str,
        tell: &dyn Fn(&str),
    ) -> Result<(), git::Error> {
        let mut told = Progress::new(tell);
        let mut heard = |bytes: &[u8]| {
            told.hear(bytes);
            self.get_on();
        };
        let done = ours.transfer(&["lfs", "fetch", endpoint, commit], self.call_for(request), &mut heard);
        let some_came = !matches!(&done, Ok(done) if !String::from_utf8_lossy(&done.stdout).contains("Downloading"));
        if some_came {
            store::seal_new(&store_of(&self.git_dir));
        }
        // What it noted of its errors is in what it said.
        let _ = crate::workspace::remove::tree(&store_of(&self.git_dir).join("logs"));
        done.map(drop)
    }
}

/// Some file's `.gitattributes` names LFS, as `git lfs track` writes it.
fn uses_lfs(ours: &PrivateGitDir, commit: &str) -> Result<bool, git::Error> {
    let arguments = ["grep", "--quiet", "-e", "filter=lfs", commit, "--", ":(glob)**/.gitattributes"];
    match ours.run(&arguments, Call::default()) {
        Ok(_) => Ok(true),
        Err(git::Error::Failed { code: 1, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The server has not got some of the contents, and nothing else was wrong.
fn only_some_are_gone(said: &str) -> bool {
    // The last is what it says of a remote on this machine.
    let is_gone = |line: &str| ["[404]", "[410]", "remote missing object"].iter().any(|words| line.contains(words));
    let is_sum = |line: &str| line.starts_with("error: failed to fetch some objects") || line.starts_with("fetch: ");
    said.lines().any(is_gone) && said.lines().all(|line| line.trim().is_empty() || is_gone(line) || is_sum(line))
}

#[cfg(test)]
mod tests {
    use super::only_some_are_gone;

    #[test]
    fn contents_that_are_gone_are_told_from_a_failure() {
        let gone = "[2396] Object does not exist: [404] Object does not exist\n";
        let sum = "error: failed to fetch some objects from 'http://h/o/r.git/info/lfs'\n";
        assert!(only_some_are_gone(&format!("{gone}{gone}{sum}fetch: Fetching reference f8b7\n")));
        assert!(!only_some_are_gone(&format!("{gone}batch response: Authorization error\n{sum}")));
        assert!(!only_some_are_gone(sum));
    }
}
