//! What the server says while it runs: a line each on standard error, with a time.
//!
//! Never holds a secret: whoever logs a text that came from outside redacts it first.

use crate::job::Time;

pub fn info(text: &str) {
    line("info", text);
}

pub fn warn(text: &str) {
    line("warn", text);
}

fn line(level: &str, text: &str) {
    use std::io::Write;
    // One write per line, so that lines of several threads do not mix. Nobody to read it is no error.
    let line = format!("{} {level:4} {}\n", Time::now(), text.replace('\n', " "));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
