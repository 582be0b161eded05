//! What a server locks for as long as it lives: its pod's name on this machine, and its share of the volume, beside
//! those that use the same Redis.

use crate::config::Config;
use fs2::FileExt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a start waits for another one to lock the shared volume.
const SHARE_LIMIT: Duration = Duration::from_secs(3);

/// One server per pod name and machine: the runtime directory is made from both.
pub fn lock_pod(config: &Config) -> Result<(File, PathBuf), String> {
    let explain = |path: &PathBuf, error: std::io::Error| format!("cannot write {}: {error}", path.display());
    let path = config.runtime_dir.with_extension("lock");
    let open = || OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open().map_err(|error| explain(&path, error))?;
    if FileExt::try_lock_exclusive(&file).is_err() {
        return Err(format!(
            "another server runs here as the pod {}: give this one its own AGENTICORE_POD_NAME",
            config.pod_name
        ));
    }
    let agents = config.runtime_dir.with_extension("agents");
    File::create(&agents).map_err(|error| explain(&agents, error))?;
    Ok((file, agents))
}

/// The servers of a fleet (`identity`: of their Redis) share the volume; one without Redis has to be alone
/// on it. All who share it use the same Redis: another one would know none of their jobs.
pub fn lock_volume(root: &Path, identity: Option<&str>) -> Result<File, String> {
    let path = root.join(".agenticore.lock");
    let explain = |error: io::Error| format!("AGENTICORE_SHARED_FS_ROOT: cannot write {}: {error}", path.display());
    let mut file =
        OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(explain)?;
    let until = Instant::now() + SHARE_LIMIT;
    loop {
        if FileExt::try_lock_exclusive(&file).is_ok() {
            let written = file.set_len(0).and_then(|()| file.write_all(identity.unwrap_or("no Redis").as_bytes()));
            written.and_then(|()| file.sync_all()).map_err(explain)?;
            // From exclusive to shared: nobody else can have written in between, but one who may be alone.
            return match identity {
                Some(_) => FileExt::try_lock_shared(&file).map(|()| file).map_err(explain),
                None => Ok(file),
            };
        }
        if let Some(identity) = identity
            && FileExt::try_lock_shared(&file).is_ok()
        {
            let mut theirs = String::new();
            file.read_to_string(&mut theirs).map_err(explain)?;
            if theirs == identity {
                return Ok(file);
            }
            return Err(format!(
                "the shared volume {} is used with another Redis ({theirs}) than this server's ({identity}): all \
                 servers that \
                 share a volume need the same REDIS_URL and REDIS_KEY_PREFIX",
                root.display()
            ));
        }
        // Somebody who starts just now holds it for a moment.
        if Instant::now() >= until {
            return Err(format!(
                "AGENTICORE_SHARED_FS_ROOT is {}, which another server uses: servers that share a volume need the \
                 same REDIS_URL",
                root.display()
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
