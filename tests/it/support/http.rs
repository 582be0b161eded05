//! A small HTTP server for stand-ins: a thread per connection, one request each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Clone)]
pub struct Told {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Told {
    pub fn json(status: u16, body: serde_json::Value) -> Self {
        Self {
            status,
            headers: vec![("content-type".into(), "application/json".into())],
            body: body.to_string().into(),
        }
    }
}

pub struct StandIn {
    pub address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

impl StandIn {
    pub fn start(answer: impl Fn(Asked) -> Told + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, stopping) = (Arc::new(answer), Arc::new(AtomicBool::new(false)));
        let is_over = stopping.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let answer = answer.clone();
                std::thread::spawn(move || {
                    if let Some(asked) = read(&stream) {
                        write(stream, answer(asked));
                    }
                });
            }
        });
        Self { address, stopping }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn read(mut stream: &TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let (mut asked, mut at) = loop {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let httparse::Status::Complete(at) = request.parse(&bytes).ok()? {
            let (path, query) = request.path?.split_once('?').unwrap_or((request.path?, ""));
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let headers = request.headers.iter().map(|h| (h.name.to_lowercase(), text(h.value))).collect();
            let asked = Asked {
                method: request.method?.into(),
                path: path.into(),
                query: query.into(),
                headers,
                body: Vec::new(),
            };
            break (asked, at);
        }
    };
    if asked.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut more = |bytes: &mut Vec<u8>| {
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        Some(())
    };
    if asked.header("transfer-encoding").is_some() {
        loop {
            match httparse::parse_chunk_size(&bytes[at..]).ok()? {
                httparse::Status::Partial => more(&mut bytes)?,
                httparse::Status::Complete((head, length)) => {
                    let (from, to) = (at + head, at + head + length as usize);
                    while bytes.len() < to + 2 {
                        more(&mut bytes)?;
                    }
                    asked.body.extend_from_slice(&bytes[from..to]);
                    at = to + 2;
                    if length == 0 {
                        return Some(asked);
                    }
                }
            }
        }
    }
    let length: usize = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
    while bytes.len() < at + length {
        more(&mut bytes)?;
    }
    asked.body = bytes[at..at + length].to_vec();
    Some(asked)
}

fn write(mut stream: TcpStream, told: Told) {
    let mut head =
        format!("HTTP/1.1 {} Told\r\nconnection: close\r\ncontent-length: {}\r\n", told.status, told.body.len());
    for (name, value) in &told.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&told.body));
}
