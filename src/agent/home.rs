//! The places of one attempt: a HOME and a TMPDIR of its own, the login, an earlier conversation.
//!
//! Everything but the job's directory is gone after the attempt.

use crate::workspace::{regular_file, remove};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

const CREDENTIALS: &str = ".credentials.json";

/// The longest conversation that is brought along; a trivial one has 140 KB.
const TRANSCRIPT_LIMIT: u64 = 256 << 20;
/// No credentials file is as long as this.
const CREDENTIALS_LIMIT: u64 = 1 << 20;

/// `HOME`, `TMPDIR` and the prompt's file. Short paths: Claude makes sockets below TMPDIR.
pub struct Home {
    root: PathBuf,
}

impl Home {
    pub fn make(runtime_dir: &Path, name: &str) -> io::Result<Self> {
        let root = runtime_dir.join(name);
        remove::tree(&root)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join("home"))?;
        fs::create_dir(root.join("tmp"))?;
        Ok(Self { root })
    }

    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Writes the prompt where it becomes standard input.
    pub fn write_prompt(&self, prompt: &str) -> io::Result<PathBuf> {
        let path = self.root.join("prompt");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(prompt.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = remove::tree(&self.root) {
            crate::log::warn(&format!("cannot remove {}: {error}", self.root.display()));
        }
    }
}

/// This machine's login, lent to one job: the credentials file alone, as a link, so that a token
/// that Claude renews is renewed for everybody.
pub struct Login {
    link: PathBuf,
    original: PathBuf,
    /// What was copied, where the volume has no links.
    copied: Option<Vec<u8>>,
}

impl Login {
    /// None when nobody is logged in.
    pub fn lend(login_dir: Option<&Path>, config_dir: &Path) -> io::Result<Option<Self>> {
        let Some(original) = login_dir.map(|dir| dir.join(CREDENTIALS)).filter(|path| path.is_file()) else {
            return Ok(None);
        };
        let link = config_dir.join(CREDENTIALS);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Not every volume has links. A copy does as well: what Claude renews in it goes back, see `drop`.
        let mut copied = None;
        if symlink(&original, &link).is_err() {
            let bytes = regular_file::read(&original, CREDENTIALS_LIMIT)?;
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&link)?.write_all(&bytes)?;
            copied = Some(bytes);
        }
        Ok(Some(Self { link, original, copied }))
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        // Claude may have replaced the link by a file with a renewed token; the old token would be
        // of no use to anybody.
        if let Ok(bytes) = regular_file::read(&self.link, CREDENTIALS_LIMIT) {
            let kept = fs::read(&self.original).unwrap_or_default();
            let beside = self.original.with_extension(format!("json.{}", uuid::Uuid::new_v4().simple()));
            let write = || -> io::Result<()> {
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?.write_all(&bytes)?;
                fs::rename(&beside, &self.original)
            };
            // A copy that nobody renewed is older than what another job may have renewed meanwhile.
            let is_new = self.copied.as_ref() != Some(&bytes);
            if is_new
                && is_newer(&bytes, &kept)
                && let Err(error) = write()
            {
                let _ = fs::remove_file(&beside);
                crate::log::warn(&format!("a renewed login could not be kept: {error}"));
            }
        }
        let _ = fs::remove_file(&self.link);
    }
}

/// Whether a login may take the place of the one that is kept: another job may have renewed that meanwhile, and an
/// empty one is none.
fn is_newer(login: &[u8], kept: &[u8]) -> bool {
    let parsed = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    let Some(serde_json::Value::Object(login)) = parsed(login).filter(|value| value.is_object()) else { return false };
    if login.is_empty() {
        return false;
    }
    // The time of each kind of login in it, in milliseconds since 1970.
    let expires = |value: &serde_json::Value| value["expiresAt"].as_f64();
    let newest =
        |login: &serde_json::Map<String, serde_json::Value>| login.values().filter_map(expires).reduce(f64::max);
    let kept = parsed(kept).and_then(|kept| newest(kept.as_object()?));
    match (newest(&login), kept) {
        (Some(own), Some(kept)) => own > kept,
        (None, Some(_)) => false,
        (_, None) => true,
    }
}

/// Copies the conversation `session` from an earlier job's configuration directory.
/// False when it is not there.
pub fn bring_session(session: &str, from: &Path, to: &Path) -> io::Result<bool> {
    let name = format!("{session}.jsonl");
    let Ok(projects) = fs::read_dir(from.join("projects")) else { return Ok(false) };
    for project in projects.flatten() {
        let file = project.path().join(&name);
        if fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
            let target = to.join("projects").join(project.file_name());
            fs::create_dir_all(&target)?;
            regular_file::copy(&file, &target.join(&name), TRANSCRIPT_LIMIT)?;
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_login_goes_back_to_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (login, config) = (dir.path().join("login"), dir.path().join("config"));
        fs::create_dir(&login).unwrap();
        fs::create_dir(&config).unwrap();
        assert!(Login::lend(Some(&login), &config).unwrap().is_none());
        fs::write(login.join(CREDENTIALS), r#"{"t":1}"#).unwrap();
        let of = |at: u64| format!(r#"{{"claudeAiOauth":{{"accessToken":"t{at}","expiresAt":{at}}}}}"#);
        for (said, kept) in [
            (r#"{"t":2}"#, r#"{"t":2}"#),
            ("garbage", r#"{"t":2}"#),
            ("{}", r#"{"t":2}"#),
            (&of(5), &of(5)),
            // Another job's was renewed later.
            (&of(4), &of(5)),
            (r#"{"t":3}"#, &of(5)),
            (&of(6), &of(6)),
        ] {
            let lent = Login::lend(Some(&login), &config).unwrap();
            assert!(fs::read_to_string(config.join(CREDENTIALS)).unwrap().contains('t'));
            fs::remove_file(config.join(CREDENTIALS)).unwrap();
            fs::write(config.join(CREDENTIALS), said).unwrap();
            drop(lent);
            assert_eq!(fs::read_to_string(login.join(CREDENTIALS)).unwrap(), kept);
            assert!(!config.join(CREDENTIALS).exists());
        }
    }
}
