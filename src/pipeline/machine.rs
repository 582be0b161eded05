//! What is measured of this machine every now and then, because an answer may take long or never come: the room on its
//! disks, and the versions of its programs. Changes nothing.

use crate::api::{Check, Stops};
use crate::config::Config;
use crate::process::limited::{self, Limits};
use crate::process::sys::{self, Space};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// A disk is full with less room than this, in bytes, or than a hundredth of its size.
const FULL: u64 = 16 << 20;
/// What asking a program for its version may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// A program behind a wrapper may change without its file.
const VERSION_AGE: Duration = Duration::from_secs(600);
/// A disk that did not answer for so long does not answer.
const STUCK: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Machine(Mutex<Found>);

#[derive(Default)]
struct Found {
    disks: Vec<Check>,
    /// Which disk is looked at just now, and since when.
    looking: Option<(PathBuf, Instant)>,
    versions: HashMap<String, Version>,
}

struct Version {
    of: Stamp,
    asked: Instant,
    /// The error is a sentence's end.
    told: Result<String, String>,
}

/// Changes when the program's file does.
type Stamp = (PathBuf, u64, u64, Option<SystemTime>);

impl Machine {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures. Takes as long as the slowest disk, and up to 10 s for a program that is new.
    pub fn measure(&self, config: &Config) {
        let places = [
            ("disk_worktrees", &config.repos.worktree_root),
            ("disk_repos", &config.repos.root),
            ("disk_jobs", &config.jobs_dir),
            ("disk_temporary", &config.runtime_dir),
        ];
        let mut disks = Vec::new();
        for (name, path) in places {
            self.lock().looking = Some((path.clone(), Instant::now()));
            disks.push(disk(name, path));
        }
        {
            let mut found = self.lock();
            found.looking = None;
            found.disks = disks;
        }
        for program in ["git", &config.claude.binary] {
            self.ask_version(config, program);
        }
    }

    fn ask_version(&self, config: &Config, program: &str) {
        let Some(stamp) = config.program(program).and_then(|path| stamp(&path)) else {
            self.lock().versions.remove(program);
            return;
        };
        let is_known = |known: &Version| known.of == stamp && known.asked.elapsed() < VERSION_AGE;
        if self.lock().versions.get(program).is_some_and(is_known) {
            return;
        }
        let told = version_of(&stamp.0, config.variables.get("PATH").map(String::as_str));
        self.lock().versions.insert(program.to_owned(), Version { of: stamp, asked: Instant::now(), told });
    }

    /// The disks as they were found last.
    pub fn disks(&self) -> Vec<Check> {
        let found = self.lock();
        match &found.looking {
            Some((path, since)) if since.elapsed() > STUCK => {
                let why = format!("{} has not answered for {} s", path.display(), since.elapsed().as_secs());
                vec![wrong("disks", why, "see whether its volume is there").stopping(Stops::Requests)]
            }
            _ => found.disks.clone(),
        }
    }

    /// What a program told of its version. None: it was not asked yet.
    pub fn version(&self, program: &str) -> Option<Result<String, String>> {
        self.lock().versions.get(program).map(|version| version.told.clone())
    }
}

pub fn well(name: &str, why: impl Into<String>) -> Check {
    Check { name: name.into(), ok: true, why: why.into(), what_to_do: None, stops: Stops::Nothing }
}

pub fn wrong(name: &str, why: impl Into<String>, what_to_do: impl Into<String>) -> Check {
    Check { ok: false, what_to_do: Some(what_to_do.into()), ..well(name, why) }
}

impl Check {
    pub fn shown(&self) -> String {
        format!("{}: {}", self.name, self.why)
    }

    pub fn stopping(self, stops: Stops) -> Self {
        Self { stops, ..self }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some((path.to_owned(), found.ino(), found.len(), found.modified().ok()))
}

fn disk(name: &str, path: &Path) -> Check {
    // What is not there yet will be made in what is. Not asked beforehand: it may come and go meanwhile.
    let look = |there: &Path| sys::may_write(there).and_then(|()| sys::space(there));
    let is_there = |found: &io::Result<Space>| !matches!(found, Err(error) if error.kind() == io::ErrorKind::NotFound);
    let found = path.ancestors().map(look).find(is_there).unwrap_or_else(|| look(path));
    let shown = path.display();
    match found {
        Err(error) => wrong(
            name,
            format!("{shown} cannot be written: {error}"),
            "mount it writable for this user, or name another",
        )
        .stopping(Stops::Requests),
        Ok(space) if space.is_out_of_files => {
            wrong(name, format!("{shown} has no room for more files (inodes)"), "make room there")
                .stopping(Stops::Requests)
        }
        Ok(Space { free, size, .. }) if free < FULL.min(size / 100) => wrong(
            name,
            format!("{shown} is full: {} KiB of {} MiB are free", free >> 10, size >> 20),
            "make room there",
        )
        .stopping(Stops::Requests),
        Ok(Space { free, size, .. }) => {
            let used = 100 - (free as u128 * 100 / size.max(1) as u128).min(100);
            well(name, format!("{} MiB are free at {shown}, {used} % are used", free >> 20))
        }
    }
}

/// The first line that a program says of its version.
fn version_of(program: &Path, path: Option<&str>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--version").env_clear().env("HOME", "/nonexistent").env("LC_ALL", "C");
    command.env("PATH", path.unwrap_or("/usr/local/bin:/usr/bin:/bin")).current_dir("/");
    sys::die_with_parent(&mut command);
    let limits = Limits { total: VERSION_LIMIT, silence: VERSION_LIMIT, heard: &mut |_| {} };
    let told =
        limited::run(&mut command, Stdio::null(), limits, None).map_err(|_| "it could not be asked".to_owned())?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    match text.lines().next().map(str::trim) {
        Some(line) if told.code == 0 && !line.is_empty() => Ok(crate::job::cut(line.to_owned(), 100)),
        _ => Err(format!("exit code {}", told.code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_well_full_or_not_to_be_written() {
        let here = tempfile::tempdir().unwrap();
        let below = disk("disk_jobs", &here.path().join("not/yet"));
        assert!(below.ok && below.why.contains("MiB are free"), "{below:?}");
        let gone = disk("disk_jobs", Path::new("/proc/1/nothing"));
        assert!(!gone.ok && gone.stops == Stops::Requests, "{gone:?}");
    }

    #[test]
    fn a_disk_that_does_not_answer_is_said() {
        let machine = Machine::default();
        machine.lock().disks = vec![well("disk_jobs", "room")];
        machine.lock().looking = Some(("/shared".into(), Instant::now()));
        assert!(machine.disks()[0].ok);
        let Some(since) = Instant::now().checked_sub(STUCK * 2) else { return };
        machine.lock().looking = Some(("/shared".into(), since));
        let told = machine.disks();
        assert!(told[0].why.contains("/shared has not answered for 40 s") && told[0].stops == Stops::Requests);
    }

    #[test]
    fn a_version_is_asked_once_for_each_file() {
        let here = tempfile::tempdir().unwrap();
        let (program, asked) = (here.path().join("agent"), here.path().join("asked"));
        let write = |version: &str| {
            let script = format!("#!/bin/sh\necho x >>{}\necho {version}\n", asked.display());
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        };
        let name = program.to_str().unwrap().to_owned();
        let variables = [("HOME", "/nonexistent"), ("AGENTICORE_CLAUDE_BINARY", &name)];
        let config = Config::from(variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into()).unwrap();
        let machine = Machine::default();
        assert_eq!(machine.version(&name), None);
        write("1");
        (0..3).for_each(|_| machine.ask_version(&config, &name));
        assert_eq!(machine.version(&name), Some(Ok("1".into())));
        write("1.2");
        machine.ask_version(&config, &name);
        assert_eq!(machine.version(&name), Some(Ok("1.2".into())));
        assert_eq!(std::fs::read_to_string(&asked).unwrap().lines().count(), 2);
        std::fs::remove_file(&program).unwrap();
        machine.ask_version(&config, &name);
        assert_eq!(machine.version(&name), None);
    }
}
