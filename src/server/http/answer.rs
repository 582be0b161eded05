//! Answers, written: whole ones, and the frames of those that flow.

use super::WRITE_TIME;
use super::flows::Flow;
use std::io::{self, Cursor, Write};
use std::net::TcpStream;
use std::time::Instant;
use tiny_http::{HTTPVersion, Header, Response};

pub struct Answer {
    pub status: u16,
    /// Empty: there is none.
    pub body: String,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub fn json(status: u16, body: &impl serde::Serialize) -> Self {
        // Text, numbers and names: there is nothing in an answer that JSON cannot hold.
        let body = serde_json::to_string(body).unwrap_or_default();
        Self { status, body, content_type: "application/json", headers: Vec::new() }
    }

    pub fn text(content_type: &'static str, body: String) -> Self {
        Self { status: 200, body, content_type, headers: Vec::new() }
    }

    pub fn empty(status: u16) -> Self {
        Self { status, body: String::new(), content_type: "", headers: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub enum Reply {
    Whole(Answer),
    /// The answer begins now with status 200, and goes on as the flow does.
    Flow(Box<dyn Flow>),
}

impl Reply {
    pub fn status(&self) -> u16 {
        match self {
            Reply::Whole(answer) => answer.status,
            Reply::Flow(_) => 200,
        }
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Reply::Whole(answer)
    }
}

/// How an answer is written.
#[derive(Clone, Copy)]
pub struct How {
    pub keep_alive: bool,
    pub without_body: bool,
    /// By then the client has to have taken it.
    pub until: Instant,
}

impl How {
    /// The last one of its connection, and small.
    pub fn closing() -> Self {
        Self { keep_alive: false, without_body: false, until: Instant::now() + WRITE_TIME }
    }
}

/// Writes a whole answer. tiny_http writes head and body; a Connection header it does not.
pub fn write(stream: &TcpStream, answer: &Answer, how: How) -> io::Result<()> {
    write_all(stream, &bytes(answer, how)?, how.until)
}

/// The answer as it is sent.
pub fn bytes(answer: &Answer, how: How) -> io::Result<Vec<u8>> {
    let mut headers = vec![("Server", "agenticore")];
    headers.extend((!answer.body.is_empty()).then_some(("Content-Type", answer.content_type)));
    headers.extend(answer.headers.iter().map(|(name, value)| (*name, value.as_str())));
    let headers = headers.iter().filter_map(|(name, value)| Header::from_bytes(*name, *value).ok()).collect();
    let body = answer.body.as_bytes();
    let response = Response::new(answer.status.into(), headers, Cursor::new(body), Some(body.len()), None)
        .with_chunked_threshold(usize::MAX);
    // One write instead of one per header.
    let mut bytes = Vec::with_capacity(body.len() + 256);
    response.raw_print(&mut bytes, HTTPVersion(1, 1), &[], how.without_body, None)?;
    if !how.keep_alive
        && let Some(at) = bytes.windows(2).position(|end| end == b"\r\n")
    {
        bytes.splice(at..at, b"\r\nConnection: close".iter().copied());
    }
    Ok(bytes)
}

/// A client that takes a byte now and then holds up its connection's thread no longer than that.
fn write_all(mut stream: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now()).min(WRITE_TIME);
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        stream.set_write_timeout(Some(left))?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.set_write_timeout(Some(WRITE_TIME))
}

/// How the body of an answer that flows is cut into frames. The connection is closed at its end in either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// HTTP/1.1: chunks, so that an end that came too soon is noticed.
    Chunked,
    /// HTTP/1.0: whatever comes until the end of the connection.
    Plain,
}

impl Framing {
    pub fn head(self, content_type: &str, more: &[(&'static str, String)]) -> Vec<u8> {
        let chunked = if self == Framing::Chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
        let more: String = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nServer: agenticore\r\n\
             Cache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\nConnection: close\r\n{more}{chunked}\r\n"
        )
        .into_bytes()
    }

    pub fn frame(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Framing::Plain => bytes.to_vec(),
            Framing::Chunked if bytes.is_empty() => Vec::new(),
            Framing::Chunked => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
        }
    }

    pub fn end(self) -> &'static [u8] {
        match self {
            Framing::Plain => b"",
            Framing::Chunked => b"0\r\n\r\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_chunks_where_the_client_knows_them() {
        assert_eq!(Framing::Chunked.frame(b"0123456789abcdef!"), b"11\r\n0123456789abcdef!\r\n");
        assert_eq!((Framing::Chunked.frame(b""), Framing::Plain.frame(b"x")), (Vec::new(), b"x".to_vec()));
        let head = |framing: Framing| String::from_utf8(framing.head("text/plain", &[])).unwrap();
        assert!(head(Framing::Chunked).contains("Transfer-Encoding") && !head(Framing::Plain).contains("Transfer"));
    }
}
