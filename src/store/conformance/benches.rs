//! The stores that the suite is run against, each with what it stands on.

use super::{Bench, NOW, leaves};
use crate::config::Config;
use crate::store::{Queue, Store, embedded, redis};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Embedded {
    directory: tempfile::TempDir,
    store: Option<Arc<embedded::Embedded>>,
}

impl Embedded {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Some(embedded::open(directory.path(), "pod").unwrap());
        Self { directory, store }
    }
}

impl Bench for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    fn restart(&mut self) {
        drop(self.store.take());
        // The thread that reads the history may hold the directory's lock for a moment still.
        let until = Instant::now() + Duration::from_secs(10);
        let store = loop {
            match embedded::open(self.directory.path(), "pod") {
                Ok(store) => break store,
                Err(why) => assert!(Instant::now() < until, "{why}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        store.recover(NOW).unwrap();
        self.store = Some(store);
    }

    fn takes_over_at_start(&self) -> bool {
        true
    }

    fn lists_leftovers(&self) -> bool {
        true
    }
}

/// A pod on a Redis of its own, with a shared volume.
pub struct Redis {
    directory: tempfile::TempDir,
    server: Child,
    port: u16,
    pods: usize,
    store: Option<Arc<redis::Redis>>,
}

impl Redis {
    /// None, and a loud word, where there is no redis-server. In CI there is one.
    pub fn new() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
        command.arg(directory.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = match command.spawn() {
            Ok(server) => server,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "CI must have a redis-server: {error}");
                eprintln!("SKIPPED: there is no redis-server ({error}); scripts/test-tools.sh installs it");
                return None;
            }
        };
        let mut bench = Self { directory, server, port, pods: 0, store: None };
        bench.open();
        Some(bench)
    }

    fn open(&mut self) {
        self.pods += 1;
        let path = |name: &str| -> String {
            let path = self.directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path.display().to_string()
        };
        let variables = [
            ("HOME", path("home")),
            ("TMPDIR", path(&format!("tmp-{}", self.pods))),
            ("REDIS_URL", format!("redis://127.0.0.1:{}", self.port)),
            ("AGENTICORE_SHARED_FS_ROOT", path("shared")),
            ("AGENTICORE_JOBS_DIR", path("shared/job-state")),
            ("AGENTICORE_POD_NAME", format!("pod-{}", self.pods)),
        ];
        let config = Config::from(variables.map(|(name, value)| (name.to_owned(), value)).into()).unwrap();
        let store = redis::open(&config, config.redis.as_ref().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while !crate::store::Presence::was_reached(&*store) {
            assert!(Instant::now() < until, "Redis never answered");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.store = Some(store);
    }
}

impl Bench for Redis {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().unwrap()
    }

    /// Another pod of the fleet goes on; the first one is as good as dead.
    fn restart(&mut self) {
        if let Some(store) = self.store.take() {
            crate::store::Presence::shut_down(&*store);
        }
        self.open();
    }

    fn takes_over_at_start(&self) -> bool {
        false
    }

    fn lists_leftovers(&self) -> bool {
        false
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            crate::store::Presence::shut_down(&*store);
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// One server per directory, and a disk that refuses: what only the embedded store has to show.
mod of_the_embedded_store {
    use super::*;
    use crate::store::conformance::{claim, submit};
    use crate::store::{Error, job_files::JobFiles};

    #[test]
    fn one_server_per_directory() {
        let bench = Embedded::new();
        let error = embedded::open(bench.directory.path(), "pod").err().unwrap();
        assert!(error.contains("another server") && error.contains(&std::process::id().to_string()), "{error}");
    }

    /// A directory in the file's way: writes fail even for root.
    fn in_the_way(directory: &Path, path: &Path, test: impl FnOnce()) {
        let aside = directory.join("aside");
        std::fs::rename(path, &aside).unwrap();
        std::fs::create_dir(path).unwrap();
        test();
        std::fs::remove_dir(path).unwrap();
        std::fs::rename(&aside, path).unwrap();
    }

    #[test]
    fn a_disk_that_refuses_loses_no_job_and_accepts_none() {
        let bench = Embedded::new();
        let (store, directory) = (bench.store(), bench.directory.path());
        let id = submit(&*store, "t");
        in_the_way(directory, &JobFiles::new(directory).open(&id), || {
            assert!(matches!(store.claim(NOW, None), Err(Error::Unavailable(why)) if why.contains(id.as_str())));
        });
        assert_eq!(claim(&*store).record.id, id);
    }

    #[test]
    fn what_could_not_be_handed_back_is_tried_again() {
        let bench = Embedded::new();
        let (store, directory) = (bench.store(), bench.directory.path());
        let id = submit(&*store, "t");
        let running = claim(&*store);
        in_the_way(directory, &JobFiles::new(directory).open(&id), || {
            assert!(matches!(running.attempt.hand_back(leaves("drain")), Err(Error::Unavailable(_))));
        });
        store.tend(&|_| None).unwrap();
        let next = claim(&*store).record;
        assert_eq!((next.id, next.attempt, next.deaths), (id, 2, 0));
    }
}
