//! A job's own repository, as a fresh clone would be: the remote's branches, the job's branch checked out, nothing of
//! another job. It borrows the objects of the clone cache; what its agent makes is its own.
//!
//! Laid out by hand (gitrepository-layout(5)): a few small files, whatever the repository's size.

use super::fetch::Base;
use super::url::RepoUrl;
use super::{lfs, refs};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

pub struct OwnRepository<'a> {
    pub path: &'a Path,
    /// None: a detached HEAD.
    pub branch: Option<&'a str>,
    /// Where its files are, if a submodule's: git starts in there too.
    pub files: Option<&'a Path>,
    pub lfs: &'a lfs::Contents,
}

impl OwnRepository<'_> {
    /// To be called under the lock of `cache`, whose references it takes.
    pub fn lay_out(&self, cache: &Path, url: &RepoUrl, base: &Base) -> io::Result<()> {
        for directory in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "refs/remotes/origin", "info"] {
            fs::create_dir_all(self.path.join(directory))?;
        }
        let write = |name: &str, text: String| fs::write(self.path.join(name), text);
        let filters = if matches!(self.lfs, lfs::Contents::There { .. }) { lfs::CONFIG } else { "" };
        let files = self.files.map(|files| format!("[core]\n\tworktree = {}\n", quoted(&files.display().to_string())));
        write("config", config(url) + &files.unwrap_or_default() + filters)?;
        write("objects/info/alternates", format!("{}\n", cache.join("objects").display()))?;
        write("packed-refs", packed(&refs::of_remote(cache)))?;
        write("refs/remotes/origin/HEAD", format!("ref: refs/remotes/origin/{}\n", base.default_branch()))?;
        // Of a cache that is a shallow clone's: where its history ends.
        match fs::copy(cache.join("shallow"), self.path.join("shallow")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match self.branch {
            Some(branch) => {
                write(&format!("refs/heads/{branch}"), format!("{}\n", base.commit))?;
                write("HEAD", format!("ref: refs/heads/{branch}\n"))
            }
            None => write("HEAD", format!("{}\n", base.commit)),
        }
    }
}

/// What the agent's git reads; ours never does.
fn config(url: &RepoUrl) -> String {
    format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogAllRefUpdates = true\n\
         [gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n\
         [remote \"origin\"]\n\turl = {url}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
    )
}

/// A value, or the name of a subsection, of a configuration file: git-config(1), syntax.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn packed(references: &BTreeMap<String, String>) -> String {
    let lines = references.iter().map(|(name, hash)| format!("{hash} {name}\n"));
    std::iter::once("# pack-refs with: sorted \n".to_owned()).chain(lines).collect()
}
