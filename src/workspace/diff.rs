//! What a job changed, as a text for people: bounded, without colours, and made without running anything of the
//! repository's.

use super::cache::Error;
use super::git::{self, Call};
use super::private_git_dir::PrivateGitDir;
use super::worktree::Worktree;
use crate::job::Time;
use crate::process::stop::Stop;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The most of a diff that is kept, in bytes. A pull request that a person reads whole is smaller.
pub const DIFF_LIMIT: usize = 512 << 10;
/// How long git may take to make one: it is worth no more.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What a job changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    pub made_at: Time,
    /// The commit that the job began at.
    pub base: String,
    /// The commit that holds what it did.
    pub commit: String,
    /// Which files, and how many lines of each.
    pub summary: String,
    pub text: String,
    /// There is more of it than is kept.
    pub is_cut: bool,
    /// What else is not in it as it is in the commit, so that it cannot be applied or applies to something else.
    #[serde(default)]
    pub lacks: Vec<String>,
}

/// Between two commits, both of which `git` sees.
pub fn between(git: &PrivateGitDir, base: &str, commit: &str, stop: &Stop) -> Result<Diff, Error> {
    let run = |what: &[&str]| {
        let plain = ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "--submodule=short", "--find-renames"];
        let arguments: Vec<&str> = plain.iter().chain(what).copied().chain([base, commit, "--"]).collect();
        git.run_within(TIME_LIMIT, &arguments, Call { login: None, stop: Some(stop) })
    };
    // Whole names: what is to be masked in one is not found in a part of it.
    let stat = ["--stat=2000,1900", "--stat-graph-width=20", "--stat-count=500", "--no-renames"];
    let summary = String::from_utf8_lossy(&run(&stat)?.stdout).into_owned();
    let (bytes, is_cut) = match run(&["--patch"]) {
        Ok(told) => whole_lines(told.stdout),
        Err(git::Error::TooMuch { .. }) => (Vec::new(), true),
        Err(error) => return Err(error.into()),
    };
    let (base, commit, lacks) = (base.to_owned(), commit.to_owned(), lacks(&bytes));
    let (text, summary) = (String::from_utf8_lossy(&bytes).into_owned(), crate::job::cut(summary, DIFF_LIMIT));
    Ok(Diff { made_at: Time::now(), base, commit, summary, text, is_cut, lacks })
}

fn lacks(bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    // Each line of a file has a sign before it: this is git's own.
    if bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"Binary files ")) {
        all.push("binary files".to_owned());
    }
    if std::str::from_utf8(bytes).is_err() {
        all.push("bytes that are no UTF-8".to_owned());
    }
    all
}

/// As much of it as is kept; true: there is more.
fn whole_lines(mut bytes: Vec<u8>) -> (Vec<u8>, bool) {
    if bytes.len() <= DIFF_LIMIT {
        return (bytes, false);
    }
    bytes.truncate(DIFF_LIMIT);
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    (bytes, true)
}

impl Worktree<'_> {
    /// Between the commit that the job began at and one that was made of its work.
    pub fn diff(&self, base: &str, commit: &str, stop: &Stop) -> Result<Diff, Error> {
        between(&self.view(commit)?, base, commit, stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_ends_with_a_whole_line() {
        assert_eq!(whole_lines(b"+a\n".to_vec()), (b"+a\n".to_vec(), false));
        let (bytes, is_cut) = whole_lines("+line\n".repeat(DIFF_LIMIT / 5).into_bytes());
        assert!(is_cut && bytes.len() <= DIFF_LIMIT && bytes.ends_with(b"+line\n"));
    }
}
