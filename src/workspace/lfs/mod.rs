//! Git LFS: files of which git itself has a pointer only. Their contents are moved by git-lfs, where that is installed
//! and AGENTICORE_LFS is `auto`; else pointers stay pointers.
//!
//! ```text
//! {cache}/lfs                  what was fetched or published of a repository, written by the runner alone
//! {key}/jobs/{id}/lfs          contents of files that a job's agent left and did not commit
//! {key}/jobs/{id}/git/lfs      the agent's own store
//! ```
//!
//! Never believes an agent's store: what is uploaded of it is read as plain files, and has to hash to its name.

mod download;
mod pointer;
mod store;
mod upload;

pub use download::Contents;
pub(super) use pointer::{Pointer, in_objects};
pub(super) use store::store_of;

use super::cache::Workspaces;
use super::git::{self, Call};
use super::private_git_dir::PrivateGitDir;
use super::url::{RepoUrl, Transport};
use std::path::Path;

/// An address that nobody can be reached at: what is not in the store is not fetched by the way.
const NOWHERE: &str = "http://127.0.0.1:0/";

impl Workspaces {
    /// Contents are moved here.
    pub(super) fn moves_lfs(&self) -> bool {
        self.settings.lfs && self.git.has_lfs()
    }
}

/// What has git turn pointers into contents and back, with those in `store` alone.
pub(super) fn filters(store: &Path) -> Vec<String> {
    let set = |name: &str, value: &str| format!("{name}={value}");
    vec![
        set("filter.lfs.process", "git-lfs filter-process"),
        set("filter.lfs.clean", "git-lfs clean -- %f"),
        set("filter.lfs.smudge", "git-lfs smudge -- %f"),
        set("filter.lfs.required", "true"),
        set("lfs.storage", &store.display().to_string()),
        set("lfs.url", NOWHERE),
        set("lfs.pushurl", NOWHERE),
        // Of what is not there the pointer is written.
        set("lfs.skipdownloaderrors", "true"),
        set("lfs.transfer.maxretries", "1"),
    ]
}

/// What an agent's own repository is told of git-lfs, for a `config` file.
pub(super) const CONFIG: &str = "[filter \"lfs\"]\n\tprocess = git-lfs filter-process\n\tclean = git-lfs clean -- %f\n\
                                 \tsmudge = git-lfs smudge -- %f\n\trequired = true\n";

/// What is the same for every transfer: only between `store` and `endpoint`, and said as it goes. In a file, because a
/// remote on this machine would take the store for its own.
fn transfer_settings(store: &Path, endpoint: &str) -> Vec<(&'static str, String)> {
    vec![
        ("lfs.storage", store.display().to_string()),
        ("lfs.url", endpoint.to_owned()),
        ("lfs.pushurl", endpoint.to_owned()),
        ("lfs.forceprogress", "true".into()),
        ("lfs.locksverify", "false".into()),
        // With what it guesses some servers refuse an upload, and git-lfs takes that for success.
        ("lfs.contenttype", "false".into()),
        ("lfs.activitytimeout", "60".into()),
        ("lfs.dialtimeout", "20".into()),
        ("lfs.transfer.maxretries", "3".into()),
    ]
}

/// Where the contents of a commit's files are; or why they are not asked for.
fn endpoint(ours: &PrivateGitDir, commit: &str, url: &RepoUrl) -> Result<Result<String, String>, git::Error> {
    Ok(match said_in_commit(ours, commit, "lfs.url")? {
        None => Ok(endpoint_of(url)),
        Some(named) => named_endpoint(&named, url),
    })
}

/// What a commit's `.lfsconfig` says of one setting, if it says anything that git understands.
fn said_in_commit(ours: &PrivateGitDir, commit: &str, name: &str) -> Result<Option<String>, git::Error> {
    let blob = format!("{commit}:.lfsconfig");
    match ours.run(&["config", "--blob", &blob, "--get", name], Call::default()) {
        Ok(found) => {
            let text = String::from_utf8_lossy(&found.stdout).trim().to_owned();
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        Err(git::Error::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a repository's contents are if it says nothing else: the Git LFS specification, server discovery.
fn endpoint_of(url: &RepoUrl) -> String {
    let text = url.as_str().trim_end_matches('/');
    match url.transport {
        Transport::Https | Transport::Http => {
            let end = if text.ends_with(".git") { "" } else { ".git" };
            format!("{text}{end}/info/lfs")
        }
        // git-lfs asks over ssh where to go.
        Transport::Ssh => text.to_owned(),
        Transport::Local if text.starts_with('/') => format!("file://{text}"),
        Transport::Local => text.to_owned(),
    }
}

/// The endpoint that a repository's `.lfsconfig` names, if it is on the repository's own host: no login goes to
/// another, and no request either.
fn named_endpoint(named: &str, url: &RepoUrl) -> Result<String, String> {
    let host_of = |text: &str| {
        let (scheme, rest) = text.split_once("://")?;
        let is_web = scheme == "https" || (scheme == "http" && url.transport != Transport::Https);
        let host = rest.split(['/', '?', '#']).next()?;
        (is_web && !host.contains('@')).then(|| host.to_ascii_lowercase())
    };
    let without_port = |host: &str| host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let is_own = match (host_of(named), &url.transport) {
        (Some(host), Transport::Ssh) => without_port(&host) == without_port(&url.host),
        (Some(host), _) => host == url.host.to_ascii_lowercase(),
        (None, _) => false,
    };
    match is_own && named.chars().all(|c| c.is_ascii_graphic()) {
        true => Ok(named.to_owned()),
        false => Err(format!("its .lfsconfig names a server on another host, {named:?}, which is not asked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::url::{Policy, judge};

    #[test]
    fn an_endpoint_is_on_the_repositorys_own_host() {
        let policy = Policy { allow_local: true, allow_http: true };
        for (url, endpoint) in [
            ("https://h/o/r", "https://h/o/r.git/info/lfs"),
            ("https://h/o/r.git/", "https://h/o/r.git/info/lfs"),
            ("git@h:o/r.git", "git@h:o/r.git"),
            ("/srv/r", "file:///srv/r"),
        ] {
            assert_eq!(endpoint_of(&judge(url, policy).unwrap()), endpoint);
        }
        for (named, url, is_taken) in [
            ("https://H/lfs/x", "https://h/o/r", true),
            ("http://h/lfs/x", "https://h/o/r", false),
            ("https://h:444/lfs", "https://h/o/r", false),
            ("https://h.evil/lfs", "https://h/o/r", false),
            ("https://u@h/lfs", "https://h/o/r", false),
            ("file:///etc", "https://h/o/r", false),
            ("https://h/lfs", "ssh://git@h:22/o/r", true),
            ("ssh://h/lfs", "ssh://git@h/o/r", false),
        ] {
            assert_eq!(named_endpoint(named, &judge(url, policy).unwrap()).is_ok(), is_taken, "{named} {url}");
        }
    }
}
