//! The lock that every supervisor of a server holds, and its tree with it: as long as it is held,
//! agents of an earlier server of this place still live.

use super::{Error, files};
use crate::process::{proc_table, sys};
use fs2::FileExt;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

/// What supervisors of a dead server get for ending their trees, which they give 2 s.
const SUPERVISORS_LIMIT: Duration = Duration::from_secs(4);

/// Supervisors of a dead server end their trees within seconds; nothing is taken over before.
pub fn wait(path: &Path, limit: Duration) -> Result<(), Error> {
    let unavailable = |error: std::io::Error| Error::Unavailable(files::explain("lock", path, &error));
    let file = File::open(path).map_err(unavailable)?;
    let real = path.canonicalize().map_err(unavailable)?;
    let began = Instant::now();
    while FileExt::try_lock_exclusive(&file).is_err() {
        if began.elapsed() >= limit {
            let why = format!("agents of an earlier server still run after {} s", limit.as_secs());
            return Err(Error::Unavailable(why));
        }
        if began.elapsed() >= SUPERVISORS_LIMIT {
            // Their supervisor is gone, or does not do its work: nobody else ends them.
            for pid in proc_table::holders(&real) {
                sys::kill(pid, sys::SIGKILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    FileExt::unlock(&file).map_err(unavailable)
}
