//! What a job takes on its disk, counted while its agent runs. Never removes anything.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is counted what a job takes on its disk: that reads all its directories.
const DISK_TICK: Duration = Duration::from_secs(10);

/// Counts, beside the run, what these directories take.
pub struct DiskWatch {
    places: Vec<PathBuf>,
    limit: u64,
    next: Instant,
    counting: Option<JoinHandle<u64>>,
}

impl DiskWatch {
    /// `limit`: in bytes; 0: none.
    pub fn new(places: &[PathBuf], limit: u64) -> Self {
        Self { places: places.to_vec(), limit, next: Instant::now(), counting: None }
    }

    /// What they take, if that is more than they may.
    pub fn excess(&mut self) -> Option<u64> {
        if self.limit == 0 {
            return None;
        }
        if let Some(counted) = self.counting.take_if(|counting| counting.is_finished()) {
            let taken = counted.join().unwrap_or(0);
            if taken > self.limit {
                return Some(taken);
            }
        }
        if self.counting.is_none() && Instant::now() >= self.next {
            let places = self.places.clone();
            self.next = Instant::now() + DISK_TICK;
            // Counts once; ends when it has.
            let counting = std::thread::Builder::new().name("disk-usage".into());
            self.counting = counting.spawn(move || places.iter().map(|place| disk_usage(place)).sum()).ok();
        }
        None
    }
}

/// The bytes that a directory takes on its disk. What cannot be read takes nothing.
fn disk_usage(place: &Path) -> u64 {
    let (mut waiting, mut taken) = (vec![place.to_owned()], 0);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            taken += found.blocks() * 512;
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    taken
}
