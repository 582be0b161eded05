//! A request's head: read strictly. Pure; httparse does the parsing.
//!
//! What leaves open where a body ends is refused, so no second request can hide in a first one.

use crate::api::BODY_LIMIT;
use tiny_http::Method;

/// Heads longer than this are refused.
pub const HEAD_LIMIT: usize = 16 * 1024;
const HEADERS_LIMIT: usize = 64;

#[derive(Debug)]
pub struct Head {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub query: String,
    headers: Vec<(String, String)>,
    pub body_length: usize,
    pub keep_alive: bool,
    pub is_http_1_1: bool,
    pub expects_continue: bool,
}

/// A head that is refused: status and reason.
#[derive(Debug, PartialEq)]
pub struct Refused(pub u16, pub String);

fn refused<T>(status: u16, why: &str) -> Result<T, Refused> {
    Err(Refused(status, why.to_owned()))
}

impl Head {
    /// All values of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// The head at the beginning of `bytes`, and its length. None: there is more to come.
///
/// ```
/// use agenticore::judges::head::parse;
/// let bytes = b"GET /jobs?limit=3 HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// let (head, length) = parse(bytes).unwrap().unwrap();
/// assert_eq!((head.path.as_str(), head.query.as_str(), length), ("/jobs", "limit=3", bytes.len()));
/// assert!(parse(&bytes[..20]).unwrap().is_none());
/// let twice = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
/// assert_eq!(parse(twice).unwrap_err().0, 400, "no second request hides in a first one");
/// ```
pub fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Refused> {
    let mut storage = [httparse::EMPTY_HEADER; HEADERS_LIMIT];
    let mut request = httparse::Request::new(&mut storage);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= HEAD_LIMIT => {
            return refused(431, "the request's head is too long");
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return refused(431, "the request has too many headers"),
        Err(error) => return Err(Refused(400, format!("this is no HTTP request: {error}"))),
    };
    if has_bare_line_end(&bytes[..length]) {
        return refused(400, "a line of the request's head does not end with CR LF");
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let is_new = request.version == Some(1);
    let mut headers = Vec::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value) else { return refused(400, "a header is not UTF-8") };
        headers.push((header.name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let Ok(method) = method.parse::<Method>() else { return refused(400, "the request's method is not valid") };
    let body_length = body_length(&headers)?;
    let target = check_host(&mut headers, target, is_new)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let head = Head {
        path: path.to_owned(),
        query: query.to_owned(),
        body_length,
        keep_alive: keeps_alive(&headers, is_new),
        is_http_1_1: is_new,
        expects_continue: is_new && has_word(&headers, "expect", "100-continue"),
        method,
        headers,
    };
    Ok(Some((head, length)))
}

/// What a request is called whose head was refused, as far as that can be read.
pub fn request_id_in(bytes: &[u8]) -> Option<&str> {
    let lines = bytes.split(|byte| *byte == b'\n').take(HEADERS_LIMIT).take_while(|line| !line.trim_ascii().is_empty());
    let mut pairs = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    pairs.find(|(name, _)| name.eq_ignore_ascii_case("x-request-id")).map(|(_, value)| value.trim())
}

/// Some proxies take it for the end of a line, and others do not.
fn has_bare_line_end(head: &[u8]) -> bool {
    let is_bare = |at: usize| head[at] == b'\n' && (at == 0 || head[at - 1] != b'\r');
    // An empty line may come before the request.
    (0..head.len()).any(is_bare)
}

/// One Host, and not two; in the absolute form (RFC 9112, 3.2.2) the target names it instead. Returns what follows it.
fn check_host<'a>(headers: &mut Vec<(String, String)>, target: &'a str, is_new: bool) -> Result<&'a str, Refused> {
    let hosts = headers.iter().filter(|(name, _)| name == "host").count();
    if hosts > 1 {
        return refused(400, "Host is given more than once");
    }
    if hosts == 0 && is_new {
        return refused(400, "the request names no Host");
    }
    let is_absolute =
        |scheme: &&str| target.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    let Some(scheme) = ["http://", "https://"].into_iter().find(is_absolute) else { return Ok(target) };
    let rest = &target[scheme.len()..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    headers.retain(|(name, _)| name != "host");
    headers.push(("host".to_owned(), rest[..end].to_owned()));
    Ok(if rest[end..].starts_with('/') { &rest[end..] } else { "/" })
}

fn body_length(headers: &[(String, String)]) -> Result<usize, Refused> {
    if headers.iter().any(|(name, _)| name == "transfer-encoding") {
        return refused(411, "a body must come with Content-Length, not in chunks");
    }
    let mut lengths = headers.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| value.as_str());
    let Some(length) = lengths.next() else { return Ok(0) };
    if lengths.next().is_some() {
        return refused(400, "Content-Length is given more than once");
    }
    if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
        return refused(400, "Content-Length is not a number");
    }
    match length.parse::<usize>() {
        Ok(length) if length <= BODY_LIMIT => Ok(length),
        _ => Err(Refused(413, format!("the body is larger than {BODY_LIMIT} bytes"))),
    }
}

fn keeps_alive(headers: &[(String, String)], is_new: bool) -> bool {
    if is_new { !has_word(headers, "connection", "close") } else { has_word(headers, "connection", "keep-alive") }
}

fn has_word(headers: &[(String, String)], name: &str, word: &str) -> bool {
    let values = headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
    values.flat_map(|value| value.split(',')).any(|found| found.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(headers: &str) -> Result<Option<(Head, usize)>, Refused> {
        parse(format!("POST /jobs?a=b HTTP/1.1\r\nHost: h\r\n{headers}\r\n").as_bytes())
    }

    #[test]
    fn a_sound_head_is_read() {
        let (head, length) = with("Content-Length: 12\r\nX-Api-Key:  k \r\n").unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.query.as_str(), head.body_length), ("/jobs", "a=b", 12));
        assert_eq!((head.header("x-api-key"), head.keep_alive), (Some("k"), true));
        assert!(length > 40 && head.method == Method::Post);
        let target = |line: &str| {
            let (head, _) = parse(format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).unwrap().unwrap();
            (head.path.clone(), head.query.clone(), head.header("host").unwrap().to_owned())
        };
        let expected = |path: &str, query: &str, host: &str| (path.to_owned(), query.to_owned(), host.to_owned());
        assert_eq!(target("GET http://h:8200/jobs?a=b HTTP/1.1"), expected("/jobs", "a=b", "h:8200"));
        assert_eq!(target("GET HTTP://h HTTP/1.1"), expected("/", "", "h"));
        assert_eq!(target("GET /http://h/ HTTP/1.1"), expected("/http://h/", "", "a"));
        assert!(parse(b"GET / HTTP/1.1\r\nHost:").unwrap().is_none());
        assert!(!parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().unwrap().0.keep_alive);
        assert!(!with("Connection: Close\r\n").unwrap().unwrap().0.keep_alive);
    }

    #[test]
    fn doubtful_framing_is_refused() {
        for (headers, status) in [
            ("Content-Length: 100000000000\r\n", 413),
            ("Content-Length: 99999999999999999999999999\r\n", 413),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: abc\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: -5\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 411),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 411),
            ("X: \u{0}\r\n", 400),
            ("Content-Length : 5\r\n", 400),
        ] {
            let Err(Refused(found, why)) = with(headers) else { panic!("{headers} was accepted") };
            assert_eq!(found, status, "{headers}: {why}");
        }
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\n",
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().0, 400, "{text}");
        }
        assert_eq!(with(&"X: y\r\n".repeat(100)).unwrap_err().0, 431);
        assert_eq!(parse(&[b'G'; HEAD_LIMIT]).unwrap_err().0, 431);
        assert_eq!(parse(b"\x16\x03\x01\x02\x00\x01\r\n\r\n").unwrap_err().0, 400);
    }
}
