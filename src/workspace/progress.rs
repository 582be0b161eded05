//! What a long transfer says of itself, told now and then.

use std::time::{Duration, Instant};

/// The longest pause between two lines; the first comes after a second.
const PAUSE_MOST: Duration = Duration::from_secs(30);
/// More than this without the end of a line is no progress.
const LINE_LIMIT: usize = 4096;

/// Reads what git and git-lfs write while they work: lines like `Receiving objects:  45% (9/20), 1.00 MiB`, of which
/// each overwrites the one before.
pub struct Progress<'a> {
    tell: &'a dyn Fn(&str),
    line: Vec<u8>,
    told: Instant,
    pause: Duration,
}

impl<'a> Progress<'a> {
    pub fn new(tell: &'a dyn Fn(&str)) -> Self {
        Self { tell, line: Vec::new(), told: Instant::now(), pause: Duration::from_secs(1) }
    }

    pub fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => self.end_line(),
                _ if self.line.len() < LINE_LIMIT => self.line.push(*byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.contains(&b'%') && self.told.elapsed() >= self.pause {
            (self.tell)(String::from_utf8_lossy(&line).trim());
            self.told = Instant::now();
            self.pause = (self.pause * 2).min(PAUSE_MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn a_line_now_and_then() {
        let told = RefCell::new(Vec::new());
        let tell = |line: &str| told.borrow_mut().push(line.to_owned());
        let mut progress = Progress::new(&tell);
        progress.hear(b"Receiving objects:  10% (1/10)\r");
        assert!(told.borrow().is_empty(), "nothing within the first second");
        progress.told -= Duration::from_secs(1);
        progress.hear(b"hello\nReceiving obj");
        progress.hear(b"ects:  20% (2/10)\rReceiving objects:  30% (3/10)\r");
        assert_eq!(*told.borrow(), ["Receiving objects:  20% (2/10)"]);
    }
}
