//! A job that cannot be run here at present, for a reason that is not its own: it goes back to the line, and this
//! server is parked.

use super::parking::{Kind, Trouble};
use super::{Execution, Halt, Runner};
use crate::store::{Back, End};
use crate::workspace::cause;
use std::fs;
use std::io;
use std::path::Path;

/// So often a job is given back because it fills a disk that has room for others; then it fails.
const REFUSALS_LIMIT: u32 = 3;
/// What has to fit on a disk for a job to begin there, in bytes.
const ROOM: usize = 1 << 20;

impl Execution<'_> {
    /// Whether the error that an attempt ended with is this machine's. What the agent did is judged already.
    pub fn is_trouble(&self, why: &str) -> bool {
        self.record.verdict.is_none() && cause::is_of_machine(why)
    }

    pub fn set_aside(&mut self, trouble: Trouble) -> Result<(), Halt> {
        let runner = self.runner;
        let why = self.redactor.clean(trouble.why.as_str());
        if !runner.waits_out_trouble {
            return self.end(End::Failed(why));
        }
        let mut back = Back::Cannot(why.clone());
        if trouble.kind == Kind::Machine && cause::is_of_full_disk(&trouble.why) {
            // It may have been this very job that filled it.
            let _ = self.discard_work();
            if runner.has_room() {
                if self.record.refusals + 1 >= REFUSALS_LIMIT {
                    let tried = self.record.refusals + 1;
                    let why = format!("{why} (given up after {tried} tries: the job needs more disk than there is)");
                    return self.end(End::Failed(why));
                }
                back = Back::TooLarge(why.clone());
            }
        }
        runner.parking.park(Trouble { why, ..trouble });
        self.hand_back(back);
        Ok(())
    }
}

impl Runner {
    /// Whether the disks that a job begins on can be written.
    fn has_room(&self) -> bool {
        let config = &self.config;
        let places = [&config.repos.worktree_root, &config.repos.root, &config.job_dirs_root, &config.runtime_dir];
        places.into_iter().all(|place| can_write(place).is_ok())
    }
}

/// Writes a file below `place`, and removes it.
fn can_write(place: &Path) -> io::Result<()> {
    fs::create_dir_all(place)?;
    let path = place.join(format!(".room-{}", uuid::Uuid::new_v4().simple()));
    let written = fs::write(&path, vec![0_u8; ROOM]).and_then(|()| fs::File::open(&path)?.sync_all());
    let _ = fs::remove_file(&path);
    written
}
