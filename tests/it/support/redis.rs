//! A real Redis of the test's own, which can be killed, paused, emptied, and brought back as it was
//! earlier.

use super::eventually;
use fs2::FileExt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub struct Redis {
    pub port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

/// One that nobody listens on, and that no other test is given while this one runs: each test has a process of its own,
/// and holds a lock on the file of the port's name. From below the range that outgoing connections are given ports of,
/// or one of those might take it before it is used.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let locks = std::env::temp_dir().join("agenticore-test-ports");
    std::fs::create_dir_all(&locks).unwrap();
    loop {
        let number = std::process::id().wrapping_mul(7_919).wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst));
        let port = 20_000 + (number % 12_000) as u16;
        let lock = std::fs::File::create(locks.join(port.to_string())).unwrap();
        if FileExt::try_lock_exclusive(&lock).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Held until this process ends.
            std::mem::forget(lock);
            return port;
        }
    }
}

impl Redis {
    pub fn start_with(directory: &Path, arguments: &[&str]) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let arguments = arguments.iter().map(|argument| argument.to_string()).collect();
        let mut redis = Self { port: free_port(), directory: directory.to_owned(), arguments, child: None };
        redis.come_back();
        redis
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again on the same port, with whatever data it has.
    pub fn come_back(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
            .arg(&self.directory)
            .args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut start = || command.spawn().expect("redis-server is needed: scripts/test-tools.sh installs it");
        self.child = Some(start());
        eventually("Redis answers", || {
            // It ends at once while something else has its port.
            if self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
                self.child = Some(start());
            }
            self.try_ask::<String>(&["PING"]).ok()
        });
    }

    /// Starts it with the data of an RDB file, or with none. It must not be running.
    pub fn come_back_with(&mut self, rdb: Option<&Path>) {
        self.set_state(None);
        let Some(rdb) = rdb else { return self.come_back() };
        std::fs::copy(rdb, self.directory.join("dump.rdb")).unwrap();
        // As docs/operations.md says: with appendonly it would begin empty, without a word.
        self.arguments.extend(["--appendonly".to_owned(), "no".to_owned()]);
        self.come_back();
        let _: String = self.ask(&["CONFIG", "SET", "appendonly", "yes"]);
        self.arguments.truncate(self.arguments.len() - 2);
    }

    pub fn connection(&self) -> redis::RedisResult<redis::Connection> {
        let client = redis::Client::open(self.url())?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(connection)
    }

    pub fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connection()?)
    }

    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).unwrap()
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A copy of what it has written so far.
    pub fn keep_state(&self) -> PathBuf {
        let kept = self.directory.join("kept");
        let _ = std::fs::remove_dir_all(&kept);
        copy(&self.directory.join("appendonlydir"), &kept);
        kept
    }

    /// What it has on disk becomes `kept`, or nothing. It must not be running.
    pub fn set_state(&self, kept: Option<&Path>) {
        assert!(self.child.is_none());
        let data = self.directory.join("appendonlydir");
        std::fs::remove_dir_all(&data).unwrap();
        kept.inspect(|kept| copy(kept, &data));
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
