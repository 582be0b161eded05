//! A TCP proxy that can cut connections off half-way through an answer, or accept and keep silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    Pass,
    /// What is asked reaches the server; no answer ever comes back.
    Silent,
    /// Every so many-th answer is cut off after a few bytes, and its connection with it.
    CutEvery(usize),
    /// The next request that holds these words reaches the server; its answer is lost, and its connection with it.
    LosesAnswerTo(&'static str),
}

pub struct Proxy {
    pub port: u16,
    mode: Arc<Mutex<Mode>>,
}

impl Proxy {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let mode = Arc::new(Mutex::new(Mode::Pass));
        let (of_thread, answers) = (mode.clone(), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (mode, answers) = (of_thread.clone(), answers.clone());
                let (of_requests, loses) = (mode.clone(), Arc::new(AtomicBool::new(false)));
                let is_asked = loses.clone();
                std::thread::spawn(move || {
                    forward(from, to, |piece| {
                        let mut mode = of_requests.lock().unwrap();
                        if let Mode::LosesAnswerTo(words) = *mode
                            && piece.windows(words.len()).any(|window| window == words.as_bytes())
                        {
                            is_asked.store(true, Ordering::SeqCst);
                            *mode = Mode::Pass;
                        }
                        Some(usize::MAX)
                    });
                });
                std::thread::spawn(move || {
                    forward(server, client, |_| match *mode.lock().unwrap() {
                        _ if loses.load(Ordering::SeqCst) => None,
                        Mode::Pass | Mode::LosesAnswerTo(_) => Some(usize::MAX),
                        Mode::Silent => Some(0),
                        Mode::CutEvery(n) => {
                            let count = answers.fetch_add(1, Ordering::SeqCst) + 1;
                            if count % n == 0 { None } else { Some(usize::MAX) }
                        }
                    })
                });
            }
        });
        Self { port: own, mode }
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }
}

/// Passes on as many bytes of each piece as `judge` says; None: three of them, and then the end.
fn forward(mut from: TcpStream, mut to: TcpStream, judge: impl Fn(&[u8]) -> Option<usize>) {
    let mut buffer = vec![0; 64 * 1024];
    let _ = to.set_write_timeout(Some(Duration::from_secs(30)));
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let passed = judge(&buffer[..count]);
        if to.write_all(&buffer[..count.min(passed.unwrap_or(3))]).is_err() || passed.is_none() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
