//! Files that a repository keeps encrypted, by a filter like git-crypt's: never published as plain text.
//!
//! The runner runs no such filter. What an agent commits without the key is plain text.

use super::cache::Error;
use super::git::{self, Call};
use super::new_objects::NewFile;
use super::private_git_dir::PrivateGitDir;
use super::staging::{Change, changes, filters_of, run_with};
use super::worktree::Worktree;
use std::collections::{BTreeSet, HashMap};

/// How encrypted files begin: git-crypt's, openssl's (transcrypt) in base64 and not, Ansible's, age's, PGP's.
const SEALS: [&[u8]; 6] =
    [b"\0GITCRYPT\0", b"U2FsdGVkX1", b"Salted__", b"$ANSIBLE_VAULT", b"age-encryption.org/", b"-----BEGIN PGP MESSAGE"];

/// What a filter of this name writes begins so.
fn seal_of(filter: &str) -> Option<&'static [u8]> {
    let is = |name: &str| filter == name || filter.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
    match () {
        () if is("git-crypt") => Some(SEALS[0]),
        () if is("crypt") => Some(SEALS[1]),
        () => None,
    }
}

impl Worktree<'_> {
    /// An error if a commit that would be published has plain text where a filter encrypts, by the attributes of the
    /// base or by those of now. `new`: the contents that would be new on the remote; others may be new at their places.
    pub(super) fn refuse_plain_text(&self, base: &str, commit: &str, new: &[NewFile]) -> Result<(), Error> {
        if new.is_empty() && base == commit || !self.names_filters(base, commit)? {
            return Ok(());
        }
        let mut files: BTreeSet<(Vec<u8>, String)> =
            new.iter().map(|file| (file.path.clone().into_bytes(), file.hash.clone())).collect();
        files.extend(self.changed_since(base, commit)?);
        let paths: Vec<u8> = files.iter().flat_map(|(path, _)| path.iter().copied().chain([0])).collect();
        let mut filters: HashMap<Vec<u8>, String> = HashMap::new();
        // Without files an index tells the attributes.
        for of in [base, commit] {
            let view = self.view(of)?;
            let (index, empty) = (view.path("attributes-index"), view.path("empty"));
            std::fs::create_dir(&empty).map_err(|error| Error::Final(format!("{}: {error}", empty.display())))?;
            let view = view.with_work_tree(&empty, &index);
            view.run(&["read-tree", of], Call::default())?;
            filters.extend(filters_of(&view, &paths, &["--cached"])?);
        }
        filters.retain(|_, filter| filter != "lfs");
        let view = self.view(commit)?;
        for (path, hash) in &files {
            let Some(filter) = filters.get(path) else { continue };
            let text = content(&view, hash)?;
            let seal = match seal_of(filter) {
                Some(seal) => Some(seal),
                // Of another filter it is told by what the base has there.
                None => {
                    let before = content_at(&view, base, path)?;
                    SEALS.into_iter().find(|seal| before.starts_with(seal))
                }
            };
            // An empty file is what git-crypt makes of one.
            if !text.is_empty() && seal.is_some_and(|seal| !text.starts_with(seal)) {
                return Err(Error::Final(format!(
                    "`{}` would be published as plain text, and the filter `{filter}` of its .gitattributes encrypts \
                     it: nothing is published; encrypt it in the worktree, with the key, and push it by hand",
                    String::from_utf8_lossy(path)
                )));
            }
        }
        Ok(())
    }

    /// What each new commit puts where, also of contents that the remote has elsewhere.
    fn changed_since(&self, base: &str, commit: &str) -> Result<Vec<(Vec<u8>, String)>, Error> {
        let view = self.view(commit)?;
        let listed = view.run(&["rev-list", "--no-merges", commit, "--not", base, "--remotes"], Call::default())?;
        let arguments =
            ["diff-tree", "--stdin", "--no-commit-id", "--root", "-r", "--raw", "-z", "--no-renames", "--no-abbrev"];
        let told = run_with(&view, "commits", &listed.stdout, &arguments)?;
        let is_file = |change: &Change| change.new_mode.starts_with(b"100");
        let changed = changes(&told).into_iter().filter(is_file);
        Ok(changed
            .map(|change| (change.path.to_vec(), String::from_utf8_lossy(change.new_hash).into_owned()))
            .collect())
    }

    /// A `.gitattributes` of either commit names another filter than Git LFS's.
    fn names_filters(&self, base: &str, commit: &str) -> Result<bool, Error> {
        let arguments = ["grep", "-h", "-e", "filter=", base, commit, "--", ":(glob)**/.gitattributes"];
        match self.view(commit)?.run(&arguments, Call::default()) {
            Ok(told) => {
                let told = String::from_utf8_lossy(&told.stdout).into_owned();
                let words = told.split_ascii_whitespace().filter_map(|word| word.strip_prefix("filter="));
                Ok(words.into_iter().any(|filter| filter != "lfs"))
            }
            Err(git::Error::Failed { code: 1, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn content(view: &PrivateGitDir, object: &str) -> Result<Vec<u8>, Error> {
    match view.run(&["cat-file", "blob", object], Call::default()) {
        Ok(told) => Ok(told.stdout),
        Err(git::Error::Failed { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// What a commit has at a path; nothing if it has no file there.
fn content_at(view: &PrivateGitDir, commit: &str, path: &[u8]) -> Result<Vec<u8>, Error> {
    match std::str::from_utf8(path) {
        Ok(path) => content(view, &format!("{commit}:{path}")),
        Err(_) => Ok(Vec::new()),
    }
}
