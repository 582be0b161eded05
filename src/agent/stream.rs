//! Claude's `stream-json`: bytes → lines → what was said. Pure.
//!
//! Takes whatever a line holds: megabytes, invalid UTF-8, half a line at the end, an event nobody
//! has seen before. What is no event is kept as what it is: output.

use crate::job::cut;
use serde_json::Value;

/// The longest line that is looked into. The largest one seen was 3 MB; a Read of a large file
/// may answer tens of them.
const LINE_LIMIT: usize = 64 << 20;
/// The most values that a line may hold: each takes memory, whatever it says. A long conversation's
/// events have thousands.
const VALUES_LIMIT: usize = 500_000;
/// The most of one text that is kept: as much as a record takes.
const TEXT_LIMIT: usize = crate::job::OUTPUT_LIMIT;

/// The most of a `usage` object, and of one name or error in a list; the largest seen had 1 KB.
const USAGE_LIMIT: usize = 16 * 1024;
/// The most denied tools that are named.
const NAMES_LIMIT: usize = 100;

/// Cuts a stream of bytes into lines.
#[derive(Default)]
pub struct Lines {
    unfinished: Vec<u8>,
    /// Bytes of the present line that were dropped because it is too long.
    dropped: usize,
}

#[derive(Debug, PartialEq)]
pub enum Line {
    Whole(Vec<u8>),
    TooLong(usize),
}

impl Lines {
    pub fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Line)) {
        while let Some(at) = bytes.iter().position(|&b| b == b'\n') {
            self.keep(&bytes[..at]);
            bytes = &bytes[at + 1..];
            if let Some(line) = self.finish() {
                take(line);
            }
        }
        self.keep(bytes);
    }

    /// What is left at the end of the stream, if anything.
    pub fn finish(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.unfinished);
        let dropped = std::mem::take(&mut self.dropped);
        match (line.is_empty(), dropped) {
            (true, 0) => None,
            (_, 0) => Some(Line::Whole(line)),
            (_, dropped) => Some(Line::TooLong(line.len() + dropped)),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_LIMIT - self.unfinished.len();
        self.unfinished.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.dropped += bytes.len().saturating_sub(room);
    }
}

/// What one line told.
#[derive(Debug, PartialEq)]
pub enum Output {
    Session(String),
    Text(String),
    Tool {
        name: String,
        input: String,
    },
    ToolResult {
        text: String,
        is_error: bool,
    },
    Notice(String),
    /// The API answered with an error: Claude tries again, or gave up.
    ApiError(ApiError),
    /// A limit of the account holds until then, in seconds since 1970.
    LimitUntil(i64),
    Result(Box<Report>),
    /// Not an event at all.
    Garbage(String),
}

/// An error of the API, as Claude tells of it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct ApiError {
    /// The answer's HTTP status.
    pub status: Option<i64>,
    /// Claude's word for it: `rate_limit`, `billing_error`, `authentication_failed`, …
    pub kind: String,
    /// What Claude says about it; empty while it tries again.
    pub text: String,
    /// How many times it was asked again so far; None: it gave up.
    pub retries: Option<u64>,
}

/// A `result` event.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Report {
    pub is_error: bool,
    pub subtype: String,
    pub text: Option<String>,
    pub errors: Vec<String>,
    pub terminal_reason: Option<String>,
    /// The HTTP status of the API's error that ended the run.
    pub api_status: Option<i64>,
    pub session_cost_usd: Option<f64>,
    pub turns: Option<u64>,
    pub usage: Option<Value>,
    pub denied_tools: Vec<String>,
}

/// What a line told. One that is no event is kept as output.
///
/// ```
/// use agenticore::judges::stream::{Line, Output, read};
/// let said = br#"{"type":"assistant","message":{"content":[{"type":"text","text":"hi"}]}}"#;
/// assert_eq!(read(&Line::Whole(said.to_vec())), [Output::Text("hi".into())]);
/// assert_eq!(read(&Line::Whole(b"oops".to_vec())), [Output::Garbage("oops".into())]);
/// ```
pub fn read(line: &Line) -> Vec<Output> {
    let bytes = match line {
        Line::Whole(bytes) => bytes,
        Line::TooLong(length) => {
            return vec![Output::Notice(format!("a line of {length} bytes was too long to be read"))];
        }
    };
    if has_too_many_values(bytes) {
        return vec![Output::Notice(format!("a line of {} bytes holds too many values to be read", bytes.len()))];
    }
    let parsed =
        serde_json::from_slice(bytes).or_else(|_| serde_json::from_str(&mended(&String::from_utf8_lossy(bytes))));
    match parsed {
        Ok(Value::Object(event)) if event.contains_key("type") => of_event(&Value::Object(event)),
        _ => {
            let text = cut(String::from_utf8_lossy(bytes).trim().to_owned(), TEXT_LIMIT);
            if text.is_empty() { Vec::new() } else { vec![Output::Garbage(text)] }
        }
    }
}

/// JSON as strict readers want it: what other writers let pass (half of a surrogate pair, a control character in a
/// text, a number that is none or too large, a byte order mark) is replaced.
fn mended(line: &str) -> String {
    let line = line.trim_start_matches('\u{feff}');
    let (mut out, mut rest, mut in_text) = (String::with_capacity(line.len()), line, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        if !in_text && (c.is_ascii_alphanumeric() || c == '-') {
            // A number, or a word.
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-+.".contains(c))).unwrap_or(rest.len());
            let word = &rest[..end];
            let is_number =
                word.parse::<f64>().is_ok_and(f64::is_finite) && serde_json::from_str::<Value>(word).is_ok();
            out += if is_number || ["true", "false"].contains(&word) { word } else { "null" };
            rest = &rest[end..];
            continue;
        }
        if in_text && c == '\\' {
            let (escape, left) = escape_of(rest);
            out += &escape;
            rest = left;
            continue;
        }
        match c {
            '"' => {
                in_text = !in_text;
                out.push(c);
            }
            c if in_text && (c as u32) < 0x20 => out += &format!("\\u{:04x}", c as u32),
            c => out.push(c),
        }
        rest = after;
    }
    out
}

/// The escape that `rest` begins with, made one that stands for a character, and what follows.
fn escape_of(rest: &str) -> (String, &str) {
    const UNKNOWN: &str = "\\ufffd";
    let unit = |text: &str| {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        // A sign is no digit.
        let digits = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, 16).ok()
    };
    match (rest.chars().nth(1), unit(rest)) {
        (Some('u'), Some(0xd800..=0xdbff)) => match rest.get(6..).and_then(unit) {
            Some(0xdc00..=0xdfff) => (rest[..12].to_owned(), &rest[12..]),
            _ => (UNKNOWN.to_owned(), &rest[6..]),
        },
        (Some('u'), Some(0xdc00..=0xdfff)) => (UNKNOWN.to_owned(), &rest[6..]),
        (Some('u'), Some(_)) => (rest[..6].to_owned(), &rest[6..]),
        (Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't'), _) => (rest[..2].to_owned(), &rest[2..]),
        // It is no escape: the backslash stands for itself.
        _ => ("\\\\".to_owned(), &rest[1..]),
    }
}

/// Counts what separates values, outside of texts.
fn has_too_many_values(bytes: &[u8]) -> bool {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count > VALUES_LIMIT
}

fn of_event(event: &Value) -> Vec<Output> {
    let mut said = match (text(event, "type").as_str(), text(event, "subtype").as_str()) {
        ("system", "init") => Vec::new(),
        ("system", "api_retry") => {
            let (attempt, most) = (&event["attempt"], &event["max_retries"]);
            let status = event["error_status"].as_i64();
            let shown = status.map(|status| format!(" ({status})")).unwrap_or_default();
            let (kind, retries) = (text(event, "error"), attempt.as_u64());
            vec![
                Output::Notice(format!("the API failed{shown}: retry {attempt} of {most}")),
                Output::ApiError(ApiError { status, kind, text: String::new(), retries }),
            ]
        }
        ("system", "permission_denied") => vec![Output::Notice(format!("denied: {}", text(event, "message")))],
        ("system", "model_fallback" | "informational") => vec![Output::Notice(text(event, "content"))],
        ("assistant", _) => {
            let mut said: Vec<Output> = blocks(event).iter().filter_map(of_assistant).collect();
            said.extend(api_error(event));
            said
        }
        ("rate_limit_event", _) if event["rate_limit_info"]["status"] == "rejected" => {
            event["rate_limit_info"]["resetsAt"].as_i64().map(Output::LimitUntil).into_iter().collect()
        }
        ("user", _) => blocks(event).iter().filter_map(of_user).collect(),
        ("result", _) => vec![Output::Result(Box::new(report(event)))],
        _ => Vec::new(),
    };
    // Every event carries the session; the first one that does tells it.
    if let Some(session) = event["session_id"].as_str().filter(|session| uuid::Uuid::try_parse(session).is_ok()) {
        said.insert(0, Output::Session(session.to_owned()));
    }
    said
}

fn blocks(event: &Value) -> Vec<Value> {
    event["message"]["content"].as_array().cloned().unwrap_or_default()
}

fn of_assistant(block: &Value) -> Option<Output> {
    match block["type"].as_str()? {
        "text" => Some(Output::Text(text(block, "text"))).filter(|said| *said != Output::Text(String::new())),
        "tool_use" => Some(Output::Tool { name: text(block, "name"), input: summary(&block["input"]) }),
        _ => None,
    }
}

/// A message that Claude made itself, because the API gave none.
fn api_error(event: &Value) -> Option<Output> {
    let words = || blocks(event).iter().map(|block| text(block, "text")).collect::<Vec<_>>().join(" ");
    (event["is_api_error_message"] == true).then(|| {
        let (status, kind) = (event["api_error_status"].as_i64(), text(event, "error"));
        Output::ApiError(ApiError { status, kind, text: words(), retries: None })
    })
}

fn of_user(block: &Value) -> Option<Output> {
    (block["type"] == "tool_result").then(|| {
        let content = &block["content"];
        let parts =
            content.as_array().map(|parts| parts.iter().map(|part| text(part, "text")).collect::<Vec<_>>().join("\n"));
        let text = cut(parts.unwrap_or_else(|| content.as_str().unwrap_or_default().to_owned()), TEXT_LIMIT);
        Output::ToolResult { text, is_error: block["is_error"] == true }
    })
}

/// What a tool was asked to do, in the words that tell most.
fn summary(input: &Value) -> String {
    let telling = ["command", "file_path", "notebook_path", "path", "pattern", "url", "query", "description", "prompt"];
    match telling.iter().find_map(|key| input[*key].as_str()) {
        Some(text) => cut(text.to_owned(), TEXT_LIMIT),
        None => cut(input.to_string(), TEXT_LIMIT),
    }
}

fn report(event: &Value) -> Report {
    let names = |list: &Value, key: &str| {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |item: &Value| Some(cut(item.get(key).unwrap_or(item).as_str()?.to_owned(), USAGE_LIMIT));
        items.iter().take(10 * NAMES_LIMIT).filter_map(name).collect::<Vec<_>>()
    };
    let mut denied_tools = names(&event["permission_denials"], "tool_name");
    denied_tools.dedup();
    denied_tools.truncate(NAMES_LIMIT);
    Report {
        is_error: event["is_error"] == true,
        subtype: text(event, "subtype"),
        text: event["result"].as_str().map(|text| cut(text.to_owned(), TEXT_LIMIT)),
        errors: names(&event["errors"], "message"),
        terminal_reason: event["terminal_reason"].as_str().map(str::to_owned),
        api_status: event["api_error_status"].as_i64(),
        session_cost_usd: event["total_cost_usd"].as_f64(),
        turns: event["num_turns"].as_u64(),
        usage: event.get("usage").filter(|usage| usage.is_object() && usage.to_string().len() <= USAGE_LIMIT).cloned(),
        denied_tools,
    }
}

fn text(value: &Value, key: &str) -> String {
    cut(value[key].as_str().unwrap_or_default().to_owned(), TEXT_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &[u8], piece: usize) -> Vec<Output> {
        let (mut lines, mut said) = (Lines::default(), Vec::new());
        for bytes in stream.chunks(piece) {
            lines.feed(bytes, |line| said.extend(read(&line)));
        }
        said.extend(lines.finish().iter().flat_map(read));
        said
    }

    const RUN: &str = concat!(
        r#"{"type":"system","subtype":"init","session_id":"613d26fb-a63f-460b-9dee-1de47cf66177","cwd":"/w"}"#,
        "\n",
        r#"{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"I will"}]}}"#,
        "\n",
        r#"{"type":"assistant","message":{"content":[{"type":"tool_use","name":"Bash","input":{"command":"ls","description":"d"}}]}}"#,
        "\n\n",
        r#"{"type":"user","message":{"content":[{"type":"tool_result","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"is_error":true}]}}"#,
        "\n",
        r#"{"type":"brand_new","payload":[1,2,{"x":null}]}"#,
        "\n",
        r#"{"is_error":false,"num_turns":3,"result":"done","type":"result","subtype":"success","total_cost_usd":0.25,"usage":{"input_tokens":1},"permission_denials":[{"tool_name":"Write"},{"tool_name":"Write"}]}"#,
    );

    #[test]
    fn a_run_is_understood_however_it_is_cut() {
        let whole = all(RUN.as_bytes(), usize::MAX);
        assert_eq!(
            whole[..4],
            [
                Output::Session("613d26fb-a63f-460b-9dee-1de47cf66177".into()),
                Output::Text("I will".into()),
                Output::Tool { name: "Bash".into(), input: "ls".into() },
                Output::ToolResult { text: "a\nb".into(), is_error: true },
            ]
        );
        let Output::Result(report) = &whole[4] else { panic!("{whole:?}") };
        assert_eq!(
            (report.text.as_deref(), report.turns, report.session_cost_usd),
            (Some("done"), Some(3), Some(0.25))
        );
        assert_eq!((report.is_error, &report.denied_tools[..]), (false, &["Write".to_owned()][..]));
        assert_eq!(whole.len(), 5);
        for piece in [1, 2, 7, 64] {
            assert_eq!(all(RUN.as_bytes(), piece), whole);
        }
    }

    #[test]
    fn hostile_lines_are_no_event_and_no_panic() {
        assert_eq!(all(b"hello\nworld", 3), [Output::Garbage("hello".into()), Output::Garbage("world".into())]);
        assert_eq!(all(b"[1]\n{}\n\"x\"\nnull\n  \n", 9).len(), 4);
        let half = all(br#"{"type":"result","is_err"#, 5);
        assert!(matches!(&half[..], [Output::Garbage(_)]));
        let invalid = all(
            b"{\"type\":\"assistant\",\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"\xff\xfe\"}]}}\n",
            4096,
        );
        assert_eq!(invalid, [Output::Text("\u{fffd}\u{fffd}".into())]);
        let deep = format!("{}{}\n", "[".repeat(100_000), "]".repeat(100_000));
        assert!(matches!(&all(deep.as_bytes(), 4096)[..], [Output::Garbage(_)]));
        for odd in [
            r#"{"type":"assistant","message":{"content":"text"}}"#,
            r#"{"type":"assistant","message":null}"#,
            r#"{"type":7}"#,
            r#"{"type":"user","message":{"content":[7,null,{"type":"tool_result"}]}}"#,
            r#"{"type":"result","usage":"none","permission_denials":7,"errors":{"a":1},"total_cost_usd":"x"}"#,
        ] {
            read(&Line::Whole(odd.into()));
        }
    }

    #[test]
    fn a_line_of_fifty_megabytes_is_read_and_a_longer_one_is_passed_over() {
        let long = format!(r#"{{"type":"result","result":"{}"}}"#, "x".repeat(50 << 20));
        let said = all(format!("{long}\n").as_bytes(), 1 << 16);
        assert!(matches!(&said[..], [Output::Result(report)] if report.text.as_ref().unwrap().len() == TEXT_LIMIT));
        let intricate = format!("{{\"type\":\"assistant\",\"x\":[{}0]}}\n", "0,".repeat(VALUES_LIMIT));
        assert!(matches!(
            &all(intricate.as_bytes(), 1 << 16)[..],
            [Output::Notice(text)] if text.contains("too many values")
        ));
        let longer = vec![b'x'; LINE_LIMIT + 10];
        let mut stream = longer.clone();
        stream.extend_from_slice(b"\nafter\n");
        let said = all(&stream, 1 << 16);
        assert!(
            matches!(&said[..], [Output::Notice(text), Output::Garbage(_)] if text.contains(&longer.len().to_string()))
        );
    }

    #[test]
    fn what_other_writers_let_pass_is_read() {
        let result = |text: &str| {
            let line = format!(r#"{{"type":"result","subtype":"success","is_error":false,"result":{text}}}"#);
            let Some(Output::Result(report)) = read(&Line::Whole(line.into_bytes())).pop() else { panic!("{text}") };
            report.text
        };
        for (text, meant) in [
            (r#""done \ud83d""#, "done \u{fffd}"),
            (r#""\ude00 \ud83d\ude00 \ud83dx""#, "\u{fffd} \u{1f600} \u{fffd}x"),
            (r#""a\u+12f""#, "a\\u+12f"),
            ("\"a\tb\u{1}\"", "a\tb\u{1}"),
            (r#""C:\qx \u12""#, "C:\\qx \\u12"),
            (r#""x","cost":NaN,"more":[1e999,-Infinity,-1.5e3,undefined,true]"#, "x"),
        ] {
            assert_eq!(result(text).as_deref(), Some(meant), "{text}");
        }
        let marked = "\u{feff}{\"type\":\"result\",\"subtype\":\"success\",\"result\":\"x\"}";
        assert!(matches!(read(&Line::Whole(marked.into()))[..], [Output::Result(_)]));
        assert!(matches!(read(&Line::Whole(b"{not json".to_vec()))[..], [Output::Garbage(_)]));
    }
}
