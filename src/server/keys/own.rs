//! A key of this very process, for the commands of its own pod: `status`, and `drain` in a PreStop hook, work also
//! where only hashes of keys are known.
//!
//! It lies in a file that the server's user alone can read. Agents run as that user; so it may look, and empty this
//! pod, which whoever can end the server's process can do anyhow, and no more.

use super::{hash, same};
use crate::config::Config;
use crate::service::{Caller, Scope};
use ring::rand::{SecureRandom, SystemRandom};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// What a caller with such a key is called.
pub const NAME: &str = "own-pod";

pub struct OwnKey {
    path: PathBuf,
    hash: [u8; 32],
}

pub fn caller() -> Caller {
    Caller { name: Some(NAME.into()), scope: Scope::Read, is_own_pod: true, ..Caller::anybody() }
}

/// One for each server of this user, on whichever port.
fn path_of(config: &Config) -> PathBuf {
    config.own_dir.join("own-keys").join(format!("{}-{}", config.pod_name, config.port))
}

/// A new one, in place of what an earlier server left.
pub fn make(config: &Config) -> std::io::Result<OwnKey> {
    let (path, key) = (path_of(config), new()?);
    let directory = path.parent().unwrap_or(&config.own_dir);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(key.as_bytes())?;
    fs::rename(&beside, &path)?;
    Ok(OwnKey { path, hash: hash(key.as_bytes()) })
}

/// The one of the server that these settings mean, for a command beside it.
pub fn read(config: &Config) -> Option<String> {
    fs::read_to_string(path_of(config)).ok().map(|key| key.trim().to_owned()).filter(|key| !key.is_empty())
}

/// 256 random bits, as text that needs no quoting anywhere.
pub fn new() -> std::io::Result<String> {
    use base64::Engine;
    let mut bytes = [0_u8; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| std::io::Error::other("the system gives no random numbers"))?;
    Ok(format!("agk_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

impl OwnKey {
    pub(super) fn is(&self, offered: &[u8; 32]) -> bool {
        same(&self.hash, offered)
    }

    pub(super) fn remove(&self) {
        // Another server's, if one began meanwhile, is left alone.
        let is_ours = fs::read(&self.path).is_ok_and(|key| same(&hash(&key), &self.hash));
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
