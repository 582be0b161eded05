//! Files that a repository keeps encrypted, by a filter like git-crypt's: never published as plain text.
//!
//! The runner runs no such filter. What an agent commits without the key is plain text.

use super::cache::Error;
use super::git::{self, Call};
use super::new_objects::NewFile;
use super::staging::filters_of;
use super::worktree::Worktree;
use std::collections::HashMap;

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
    /// An error if one of `new` has a filter that encrypts, by the attributes of the base or by those of now, and is
    /// plain text.
    pub(super) fn refuse_plain_text(&self, base: &str, commit: &str, new: &[NewFile]) -> Result<(), Error> {
        let paths: Vec<u8> = new.iter().flat_map(|file| file.path.bytes().chain([0])).collect();
        if paths.is_empty() || !self.names_filters(base, commit)? {
            return Ok(());
        }
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
        if filters.is_empty() {
            return Ok(());
        }
        let view = self.view(commit)?;
        for file in new {
            let Some(filter) = filters.get(file.path.as_bytes()) else { continue };
            if file.size == 0 {
                // That is what git-crypt makes of an empty file.
                continue;
            }
            // One that is too long to be kept whole is kept as far as it matters here; one that is not there is empty.
            let text_of = |object: &str| -> Result<Vec<u8>, Error> {
                match view.run(&["cat-file", "blob", object], Call::default()) {
                    Ok(told) => Ok(told.stdout),
                    Err(git::Error::Failed { .. }) => Ok(Vec::new()),
                    Err(error) => Err(error.into()),
                }
            };
            let seal = match seal_of(filter) {
                Some(seal) => Some(seal),
                // Of another filter it is told by what the base has there.
                None => {
                    let before = text_of(&format!("{base}:{}", file.path))?;
                    SEALS.into_iter().find(|seal| before.starts_with(seal))
                }
            };
            if let Some(seal) = seal
                && !text_of(&file.hash)?.starts_with(seal)
            {
                return Err(Error::Final(format!(
                    "`{}` would be published as plain text, and the filter `{filter}` of its .gitattributes encrypts \
                     it: nothing is published; encrypt it in the worktree, with the key, and push it by hand",
                    file.path
                )));
            }
        }
        Ok(())
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
