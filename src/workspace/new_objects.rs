//! The files that a push would bring to the remote: of every commit that is new there, not of the last one alone.

use super::cache::Error;
use super::git::Call;
use super::private_git_dir::PrivateGitDir;
use super::staging::run_with;
use std::collections::HashMap;

/// A file's content that the remote has not.
#[derive(Debug, PartialEq)]
pub struct NewFile {
    pub hash: String,
    /// In bytes.
    pub size: u64,
    /// Where it is, or the first of the places.
    pub path: String,
}

/// Those of `commit` that neither `base` nor a branch of the remote has.
pub fn new_files(ours: &PrivateGitDir, base: &str, commit: &str) -> Result<Vec<NewFile>, Error> {
    let arguments = ["rev-list", "--objects", commit, "--not", base, "--remotes"];
    let told = ours.run(&arguments, Call::default())?.stdout;
    let told = String::from_utf8_lossy(&told);
    // Commits have no path.
    let named: HashMap<&str, &str> = told.lines().filter_map(|line| line.split_once(' ')).collect();
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let list: String = named.keys().map(|hash| format!("{hash}\n")).collect();
    let check = "--batch-check=%(objectname) %(objecttype) %(objectsize)";
    let told = run_with(ours, "new", list.as_bytes(), &["cat-file", check])?;
    let told = String::from_utf8_lossy(&told);
    let file = |line: &str| {
        let (hash, rest) = line.split_once(' ')?;
        let size = rest.strip_prefix("blob ")?.parse().ok()?;
        Some(NewFile { hash: hash.to_owned(), size, path: (*named.get(hash)?).to_owned() })
    };
    Ok(told.lines().filter_map(file).collect())
}
