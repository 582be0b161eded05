//! Messages, one a line, as stdio has them.

use crate::api::BODY_LIMIT;
use std::io::{self, BufRead, Read};

/// What a line holds.
#[derive(Debug, PartialEq)]
pub enum Line {
    Message(Vec<u8>),
    /// It was longer than a message may be: over HTTP it would not be taken either.
    TooLong,
    End,
}

/// What is said of a line that is too long.
pub const TOO_LONG: &str = "a message is longer than 1048576 bytes: send a shorter one";

/// The next line that is not blank. One that is too long is read to its end, and not kept.
pub fn next(input: &mut impl BufRead) -> io::Result<Line> {
    loop {
        let mut line = Vec::new();
        if read_some(input, &mut line)? == 0 {
            return Ok(Line::End);
        }
        let mut is_too_long = false;
        while line.last() != Some(&b'\n') && line.len() > BODY_LIMIT {
            is_too_long = true;
            line.clear();
            if read_some(input, &mut line)? == 0 {
                break;
            }
        }
        if is_too_long {
            return Ok(Line::TooLong);
        }
        if !line.iter().all(u8::is_ascii_whitespace) {
            return Ok(Line::Message(line));
        }
    }
}

fn read_some(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    Read::take(input, BODY_LIMIT as u64 + 1).read_until(b'\n', line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_one_and_the_next_one_is_read() {
        let long = "x".repeat(3 * BODY_LIMIT + 5);
        let text = format!("one\n\n  \n{long}\ntwo\n{}{{}}\nlast", " ".repeat(BODY_LIMIT + 9));
        let mut input = text.as_bytes();
        let mut seen = Vec::new();
        loop {
            match next(&mut input).unwrap() {
                Line::End => break,
                Line::TooLong => seen.push("too long".to_owned()),
                Line::Message(line) => seen.push(String::from_utf8(line).unwrap().trim().to_owned()),
            }
        }
        assert_eq!(seen, ["one", "too long", "two", "too long", "last"]);
        assert!(TOO_LONG.contains(&BODY_LIMIT.to_string()));
    }
}
