//! One attempt's events in a file: a line that says what the file is, then a line each, numbered without gaps.
//!
//! The attempt's holder is the only one who writes. Half a line at the end (a crash, a full disk) is cut off and
//! never read as an event. Readers find their place by halving, not by reading from the begin.

use super::files::explain;
use crate::event::Event;
use crate::job::JobId;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FORMAT: u32 = 1;
/// What is held back at most before it is written, in bytes and in time.
const BATCH_BYTES: usize = 64 * 1024;
pub const BATCH_TIME: Duration = Duration::from_secs(1);

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    job: JobId,
}

/// How the events that are chatter are written. What the runner reports is always written and synced at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chatter {
    /// One by one: the reader is in the same process.
    AtOnce,
    /// Several at once: the volume may be far away, and readers have another source.
    InBatches,
}

pub struct Journal {
    path: PathBuf,
    job: JobId,
    chatter: Chatter,
    /// Open while the attempt writes one by one.
    file: Option<File>,
    /// Of what is whole in the file.
    length: u64,
    last: u32,
    held_back: Vec<u8>,
    held_since: Option<Instant>,
    /// It was said that it cannot be used.
    is_broken: bool,
}

impl Journal {
    /// Finds what is there; a journal that is not there is empty. One that cannot be read is said, and no reason not
    /// to run the job: its events are told as they come, and nowhere later.
    pub fn open(path: PathBuf, job: JobId, chatter: Chatter) -> Self {
        let (held_back, held_since) = (Vec::new(), None);
        let mut journal =
            Self { path, job, chatter, file: None, length: 0, last: 0, held_back, held_since, is_broken: false };
        if let Err(error) = journal.scan() {
            journal.report(&error);
        }
        journal
    }

    /// Once: an agent may say a thousand things.
    fn report(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_broken, true) {
            let why = explain("keep events in", &self.path, error);
            crate::log::job(&self.job).warn(format!("{why}; the job goes on without"));
        }
    }

    fn scan(&mut self) -> io::Result<()> {
        let mut reader = match open_regular(&self.path, OpenOptions::new().read(true)) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut line = Vec::new();
        while read_line(&mut reader, &mut line)? > 0 {
            match (self.length, parse(&line)) {
                (0, _) if is_head(&line) => {}
                (_, Some(event)) => self.last = event.number,
                _ => break,
            }
            self.length += line.len() as u64;
            line.clear();
        }
        Ok(())
    }

    /// The number of the last event; 0: there is none.
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Adds an event, whose number follows the last one's.
    pub fn append(&mut self, event: &Event) {
        let (is_first, chatter) = (self.length == 0 && self.held_back.is_empty(), event.kind.is_chatter());
        if is_first {
            let head = Head { format: FORMAT, job: self.job.clone() };
            self.held_back.extend(serde_json::to_string(&head).unwrap_or_default().bytes().chain([b'\n']));
        }
        self.held_back.extend(event.to_line().bytes().chain([b'\n']));
        self.held_since.get_or_insert_with(Instant::now);
        let may_wait = chatter && self.chatter == Chatter::InBatches && self.held_back.len() < BATCH_BYTES;
        self.last = event.number;
        if !may_wait || self.is_due() {
            self.write(!chatter);
        }
    }

    /// Something was held back for long enough.
    pub fn is_due(&self) -> bool {
        self.held_since.is_some_and(|since| since.elapsed() >= BATCH_TIME)
    }

    /// Writes what was held back; what cannot be written stays so, up to a bound, and is tried again.
    pub fn flush(&mut self) {
        if !self.held_back.is_empty() {
            self.write(false);
        }
    }

    fn write(&mut self, sync: bool) {
        let length = self.length;
        let written = self.try_write(sync);
        if let Err(error) = &written {
            // A torn line would hide all that follow it.
            if let Some(file) = &mut self.file {
                let _ = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
            }
            self.file = None;
            if self.held_back.len() > 4 * BATCH_BYTES {
                self.held_back.clear();
            }
            self.report(error);
        } else {
            self.is_broken = false;
            self.length += self.held_back.len() as u64;
            self.held_back.clear();
            if self.chatter == Chatter::InBatches {
                // Closing it is what makes other machines see it, over NFS.
                self.file = None;
            }
        }
        self.held_since = (!self.held_back.is_empty()).then(Instant::now);
    }

    fn try_write(&mut self, sync: bool) -> io::Result<()> {
        if self.file.is_none() {
            let mut file = open_regular(&self.path, OpenOptions::new().create(true).truncate(false).write(true))?;
            file.set_len(self.length)?;
            file.seek(SeekFrom::Start(self.length))?;
            self.file = Some(file);
        }
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("no file"))?;
        file.write_all(&self.held_back)?;
        if sync { file.sync_data() } else { Ok(()) }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The events after number `after`, in order, at most `limit`.
pub fn read(path: &Path, after: u32, limit: usize) -> Result<Vec<Event>, String> {
    match open_regular(path, OpenOptions::new().read(true)) {
        Ok(file) => read_after(file, after, limit).map_err(|error| explain("read", path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        // It never was a journal, and never will be: it hides nothing that comes after it.
        Err(error) if is_no_file(&error) => Ok(Vec::new()),
        Err(error) => Err(explain("read", path, &error)),
    }
}

fn read_after(mut file: File, after: u32, limit: usize) -> io::Result<Vec<Event>> {
    let from = find(&mut file, after)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let (mut found, mut line) = (Vec::new(), Vec::new());
    while found.len() < limit {
        line.clear();
        if read_line(&mut reader, &mut line)? == 0 {
            break;
        }
        match parse(&line) {
            Some(event) if event.number > after => found.push(event),
            None if !is_head(&line) => break,
            _ => {}
        }
    }
    Ok(found)
}

/// Where to begin to read: no event after number `after` lies before it, and few others behind it.
fn find(file: &mut File, after: u32) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    while high - low > 64 * 1024 {
        let middle = low + (high - low) / 2;
        match first_whole_line(file, middle)? {
            Some((at, number)) if number <= after && at < high => low = at,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line that begins after `from`: where, and the event's number.
fn first_whole_line(file: &mut File, from: u64) -> io::Result<Option<(u64, u32)>> {
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(8 * 1024, file.take(64 * 1024));
    let (mut part, mut line) = (Vec::new(), Vec::new());
    let skipped = reader.read_until(b'\n', &mut part)? as u64;
    reader.read_until(b'\n', &mut line)?;
    Ok(parse(&line).map(|event| (from + skipped, event.number)))
}

/// A pipe would keep whoever opens it waiting, and a link may lead anywhere: agents can write here.
fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
}

fn is_no_file(error: &io::Error) -> bool {
    let is_link = error.raw_os_error() == Some(libc::ELOOP);
    is_link || matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory)
}

/// The longest line that is read: no event is as long.
const LONGEST_LINE: u64 = 64 * 1024;

/// Adds a line to `line`; one that is too long has no end, and so is no event.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    reader.take(LONGEST_LINE).read_until(b'\n', line)
}

fn parse(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

/// A head in a later format is not read, and nothing after it is.
fn is_head(line: &[u8]) -> bool {
    line.ends_with(b"\n") && serde_json::from_slice::<Head>(line).is_ok_and(|head| head.format <= FORMAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::job::Time;

    fn event(number: u32, kind: Kind, text: &str) -> Event {
        Event { number, time: Time(0), attempt: 1, kind, text: text.into(), tool: None, cut: false }
    }

    fn numbers(path: &Path, after: u32, limit: usize) -> Vec<u32> {
        read(path, after, limit).unwrap().iter().map(|event| event.number).collect()
    }

    #[test]
    fn a_torn_line_is_cut_off_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let open = || Journal::open(path.clone(), JobId::random(), Chatter::AtOnce);
        let mut journal = open();
        journal.append(&event(1, Kind::Claimed, "one"));
        journal.append(&event(2, Kind::AgentText, "two"));
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(br#"{"number":3,"time":"2"#).unwrap();
        assert_eq!(numbers(&path, 0, 10), [1, 2]);
        let mut journal = open();
        assert_eq!(journal.last(), 2);
        journal.append(&event(3, Kind::Pushed, "three"));
        assert_eq!((numbers(&path, 1, 10), numbers(&path, 0, 2)), (vec![2, 3], vec![1, 2]));
    }

    #[test]
    fn chatter_waits_for_company_and_what_the_runner_reports_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let mut journal = Journal::open(path.clone(), JobId::random(), Chatter::InBatches);
        journal.append(&event(1, Kind::AgentText, "a"));
        assert_eq!(numbers(&path, 0, 10), [] as [u32; 0]);
        journal.append(&event(2, Kind::Committed, "b"));
        assert_eq!(numbers(&path, 0, 10), [1, 2]);
        journal.append(&event(3, Kind::AgentText, "c"));
        drop(journal);
        assert_eq!(numbers(&path, 0, 10), [1, 2, 3]);
    }

    #[test]
    fn what_is_no_file_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        for (name, make) in
            [("pipe", "mkfifo \"$0\""), ("directory", "mkdir \"$0\""), ("link", "ln -s /dev/zero \"$0\"")]
        {
            let path = dir.path().join(name);
            assert!(std::process::Command::new("sh").args(["-c", make]).arg(&path).status().unwrap().success());
            assert_eq!(numbers(&path, 0, 10), [] as [u32; 0], "{name}");
            let mut journal = Journal::open(path.clone(), JobId::random(), Chatter::AtOnce);
            journal.append(&event(1, Kind::Claimed, "one"));
            assert_eq!(journal.last(), 1);
        }
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(3 << 30).unwrap();
        assert_eq!(numbers(&huge, 0, 10), [] as [u32; 0]);
    }

    #[test]
    fn a_reader_finds_its_place_in_a_long_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let mut journal = Journal::open(path.clone(), JobId::random(), Chatter::InBatches);
        for number in 1..=3_000 {
            journal.append(&event(number, Kind::AgentText, &"x".repeat(number as usize % 900)));
        }
        drop(journal);
        for after in [0, 1, 2, 500, 1_499, 2_998, 2_999, 3_000, 9_999] {
            let expected: Vec<u32> = (after + 1..=3_000).take(3).collect();
            assert_eq!(numbers(&path, after, 3), expected, "after {after}");
        }
        let mut file = File::open(&path).unwrap();
        assert!(find(&mut file, 2_900).unwrap() > file.metadata().unwrap().len() / 2, "it is not read from its begin");
    }
}
