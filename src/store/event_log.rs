//! One job's events in a file, a line each, numbered without gaps.
//!
//! Half a line at the end (a crash, a full disk) is cut off and never read as an event.

use super::files::explain;
use crate::event::{Admission, Draft, Event, Kind, admit};
use crate::job::Time;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub struct EventLog {
    path: PathBuf,
    /// Open while the job runs, so that a long queue holds no descriptors.
    file: Option<File>,
    length: u64,
    count: u64,
    has_end: bool,
}

impl EventLog {
    /// Finds what is there; a log that is not there is empty.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let mut log = Self { path, file: None, length: 0, count: 0, has_end: false };
        log.scan().map_err(|error| explain("read", &log.path, &error))?;
        Ok(log)
    }

    fn scan(&mut self) -> io::Result<()> {
        let mut reader = match File::open(&self.path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let Some(event) = parse(&line) else { break };
            self.length += line.len() as u64;
            self.count = event.number;
            self.has_end |= event.kind == Kind::Ended;
            line.clear();
        }
        Ok(())
    }

    pub fn has_end(&self) -> bool {
        self.has_end
    }

    /// Adds an event, unless there are too many already. What the runner reports is synced.
    pub fn append(&mut self, draft: Draft, attempt: u32) -> Result<(), String> {
        let draft = match admit(draft.kind, self.count) {
            Admission::Keep => draft,
            Admission::SayCut => Draft::new(Kind::EventsCut, "the agent said more than is kept of a job's events"),
            Admission::Drop => return Ok(()),
        };
        let (kind, chatter) = (draft.kind, draft.kind.is_chatter());
        let number = self.count + 1;
        let Draft { kind: _, text, tool } = draft;
        let mut line = Event { number, time: Time::now(), attempt, kind, text, tool, cut: false }.to_line();
        line.push('\n');
        self.write(line.as_bytes(), !chatter).map_err(|error| explain("write", &self.path, &error))?;
        self.count = number;
        self.has_end |= kind == Kind::Ended;
        Ok(())
    }

    fn write(&mut self, line: &[u8], sync: bool) -> io::Result<()> {
        let length = self.length;
        let file = self.file()?;
        let written = file.write_all(line).and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // A torn line would hide all that follow it.
            let _ = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
            file.set_len(self.length)?;
            file.seek(SeekFrom::Start(self.length))?;
            self.file = Some(file);
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("no file"))
    }

    /// Gives the descriptor back; the next event opens the file again.
    pub fn rest(&mut self) {
        self.file = None;
    }
}

/// The events after number `after`, at most `limit`.
pub fn read(path: &Path, after: u64, limit: usize) -> Result<Vec<Event>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(explain("read", path, &error)),
    };
    let mut reader = BufReader::new(file);
    let (mut found, mut line) = (Vec::new(), Vec::new());
    while found.len() < limit {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(|error| explain("read", path, &error))? == 0 {
            break;
        }
        match parse(&line) {
            Some(event) if event.number > after => found.push(event),
            Some(_) => {}
            None => break,
        }
    }
    Ok(found)
}

fn parse(line: &[u8]) -> Option<Event> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_cut_off_and_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let mut log = EventLog::open(path.clone()).unwrap();
        log.append(Draft::new(Kind::Queued, "one"), 0).unwrap();
        log.append(Draft::new(Kind::Claimed, "two"), 1).unwrap();
        drop(log);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(br#"{"number":3,"time":"2"#).unwrap();
        assert_eq!(read(&path, 0, 10).unwrap().len(), 2);
        let mut log = EventLog::open(path.clone()).unwrap();
        assert!(!log.has_end());
        log.append(Draft::new(Kind::Ended, "three"), 1).unwrap();
        let events = read(&path, 1, 10).unwrap();
        assert_eq!(
            events.iter().map(|e| (e.number, e.kind)).collect::<Vec<_>>(),
            [(2, Kind::Claimed), (3, Kind::Ended)]
        );
        assert!(EventLog::open(path).unwrap().has_end());
    }

    #[test]
    fn five_thousand_at_most_and_the_end_is_among_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.jsonl");
        let mut log = EventLog::open(path.clone()).unwrap();
        for _ in 0..6_000 {
            log.append(Draft::new(Kind::AgentText, "x"), 1).unwrap();
        }
        log.append(Draft::new(Kind::Ended, ""), 1).unwrap();
        let events = read(&path, 0, usize::MAX).unwrap();
        assert!(events.len() <= 5_000, "{}", events.len());
        let cut = events.iter().filter(|e| e.kind == Kind::EventsCut).count();
        assert_eq!((cut, events.last().unwrap().kind), (1, Kind::Ended));
    }
}
