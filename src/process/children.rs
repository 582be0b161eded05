//! The children that this process started on purpose, so that strays can be told from them.
//!
//! A supervisor that is killed leaves its job's processes to the server, which is a subreaper too.
//! [`end_strays`] ends exactly those. The lock is held across spawn and registration, so no
//! child of ours is ever taken for a stray.

use super::{proc_table, sys};
use std::collections::HashSet;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static OURS: LazyLock<Mutex<HashSet<i32>>> = LazyLock::new(Default::default);

fn ours() -> MutexGuard<'static, HashSet<i32>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A registered child. Dropping it without [`wait`](Self::wait) kills and reaps it.
pub struct Registered {
    child: Child,
    reaped: bool,
}

pub fn spawn(command: &mut Command) -> io::Result<Registered> {
    sys::with_limit_of_start(command);
    let mut ours = ours();
    let child = command.spawn()?;
    ours.insert(child.id() as i32);
    Ok(Registered { child, reaped: false })
}

impl Registered {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.child.try_wait()?;
        if status.is_some() {
            self.forget();
        }
        Ok(status)
    }

    /// Waits at most `limit`; None when it still runs then.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + limit;
        let mut nap = Duration::from_micros(200);
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(20));
        }
    }

    fn forget(&mut self) {
        self.reaped = true;
        ours().remove(&self.pid());
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if !self.reaped {
            sys::kill_group(self.pid(), sys::SIGKILL);
            let _ = self.child.kill();
            // A killed process ends at once unless the kernel holds it; then init gets it with us.
            let _ = self.wait(Duration::from_secs(2));
            self.forget();
        }
    }
}

/// Reaps orphans that ended by themselves, such as a detached `git gc` of a remote on this machine.
/// Those that live are left alone.
pub fn reap_strays() {
    if !sys::has_ended_child() {
        return;
    }
    let ours = ours();
    for child in proc_table::children(std::process::id() as i32).into_iter().filter(|child| !ours.contains(child)) {
        sys::reap(child);
    }
}

/// Ends and reaps every process below this one that is neither a registered child nor below one.
/// Returns how many were found. Gives up after `limit`.
pub fn end_strays(limit: Duration) -> usize {
    let until = Instant::now() + limit;
    let mut found = HashSet::new();
    loop {
        let alive = kill_strays(&mut found);
        if alive == 0 || Instant::now() >= until {
            return found.len();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill_strays(found: &mut HashSet<i32>) -> usize {
    let ours = ours();
    let mut alive = 0;
    for child in proc_table::children(std::process::id() as i32) {
        if ours.contains(&child) {
            continue;
        }
        alive += 1;
        found.insert(child);
        for pid in proc_table::descendants(child) {
            found.insert(pid);
            sys::kill(pid, sys::SIGKILL);
        }
        sys::kill(child, sys::SIGKILL);
        sys::reap(child);
    }
    alive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_ended_and_forgotten() {
        let child = spawn(Command::new("sleep").arg("60")).unwrap();
        let pid = child.pid();
        drop(child);
        assert!(!ours().contains(&pid));
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
