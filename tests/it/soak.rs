//! A soak: many short jobs on four pods while pods and Redis are killed, stopped, drained and rolled
//! back. What is done is drawn from a seed; afterwards the ledger has to add up.
//!
//! `make soak` runs the long one. AGENTICORE_SOAK_JOBS, AGENTICORE_SOAK_SEED: how many, and which.

use crate::support::fleet::Fleet;
use crate::support::{Server, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

const PODS: usize = 4;
/// The pod that has a disk of its own, which can be filled, and how large that is in bytes.
const SMALL_DISK: &str = "pod-0";
const DISK_SIZE: usize = 48 << 20;

/// Unmounts what it mounted.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let options = format!("size={DISK_SIZE}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(&at).status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        assert!(is_mounted || std::env::var_os("CI").is_none(), "CI must be able to mount a tmpfs");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

/// xorshift64*: the same numbers for the same seed, everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Soak {
    fleet: RwLock<Fleet>,
    pods: Vec<Mutex<Option<Server>>>,
    /// Where each pod can be reached; they come back on other ports.
    urls: Vec<Mutex<String>>,
    accepted: Mutex<Vec<(String, usize)>>,
    submitted: AtomicBool,
    done: Mutex<BTreeMap<&'static str, usize>>,
}

/// What a job's task does, and whether it changes something.
fn task(n: usize, dice: &mut Dice) -> (String, bool) {
    match dice.roll(10) {
        0 => ("[[error it went wrong]]".into(), false),
        1 => ("[[say nothing to do]]".into(), false),
        2 => (format!("[[write n-{n}.txt {n}]] [[sleep {}]]", 200 + dice.roll(1500)), true),
        3 => (format!("[[write n-{n}.txt {n}]] [[commit by the agent]] [[write m-{n}.txt {n}]]"), true),
        _ => (format!("[[write n-{n}.txt {n}]]"), true),
    }
}

impl Soak {
    fn agent() -> ureq::Agent {
        let limits = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        limits.timeout_global(Some(Duration::from_secs(15))).build().into()
    }

    fn url(&self, pod: usize) -> String {
        self.urls[pod].lock().unwrap().clone()
    }

    /// Until it is accepted, by whatever pod: sent again with the same key it is the same job.
    fn submit(&self, n: usize, dice: &mut Dice) {
        let (task, _) = task(n, dice);
        let body = match dice.roll(6) {
            0 => json!({"task": task}),
            _ => self.fleet.read().unwrap().job(task),
        };
        let key = format!("soak-{n}");
        let id = eventually("it is accepted", || {
            let pod = dice.roll(PODS as u64) as usize;
            let asked = Self::agent().post(format!("{}/jobs", self.url(pod))).header("idempotency-key", &key);
            let mut answer = asked.send(body.to_string()).ok()?;
            let said: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
            match answer.status().as_u16() {
                200 => said["job"]["id"].as_str().map(str::to_owned),
                409 | 503 => {
                    std::thread::sleep(Duration::from_millis(100));
                    None
                }
                status => panic!("{status}: {said}"),
            }
        });
        self.accepted.lock().unwrap().push((id, n));
    }

    fn count(&self, what: &'static str) {
        *self.done.lock().unwrap().entry(what).or_default() += 1;
    }

    fn start_pod(&self, pod: usize) {
        self.start_pod_with(pod, &[]);
    }

    fn start_pod_with(&self, pod: usize, more: &[(&str, &str)]) {
        let name = format!("pod-{pod}");
        let server = self.fleet.read().unwrap().pod_with(&name, more);
        *self.urls[pod].lock().unwrap() = server.url.clone();
        *self.pods[pod].lock().unwrap() = Some(server);
    }

    fn misbehave(&self, dice: &mut Dice, kept: &mut Option<std::path::PathBuf>) {
        let pod = dice.roll(PODS as u64) as usize;
        let server = || self.pods[pod].lock().unwrap().take();
        match dice.roll(100) {
            0..20 => {
                self.count("pods killed");
                server().into_iter().for_each(Server::kill);
                std::thread::sleep(Duration::from_millis(dice.roll(1500)));
                self.start_pod(pod);
            }
            20..35 => {
                self.count("pods stopped in order");
                assert_eq!(server().and_then(Server::stop), Some(0));
                self.start_pod(pod);
            }
            35..45 => {
                self.count("pods asleep");
                let held = self.pods[pod].lock().unwrap();
                held.as_ref().unwrap().signal("STOP");
                std::thread::sleep(Duration::from_millis(1000 + dice.roll(6000)));
                held.as_ref().unwrap().signal("CONT");
            }
            45..55 => {
                self.count("drains");
                let timeout = dice.roll(2);
                let url = self.url(pod);
                let _ = Self::agent().post(format!("{url}/admin/drain?timeout={timeout}")).send_empty();
                std::thread::sleep(Duration::from_millis(dice.roll(2500)));
                let _ = Self::agent().delete(format!("{url}/admin/drain")).call();
            }
            55..59 => {
                self.count("keys of another type");
                let accepted = self.accepted.lock().unwrap().clone();
                if let Some((id, _)) = accepted.len().checked_sub(1 + dice.roll(12) as usize).map(|at| &accepted[at]) {
                    let (fleet, key) = (self.fleet.read().unwrap(), format!("agenticore:job:{id}"));
                    match dice.roll(2) {
                        0 => fleet.redis.ask::<()>(&["SET", &key, "something else"]),
                        _ => drop(fleet.redis.try_ask::<i64>(&["HSET", &key, "record", "{}"])),
                    }
                }
            }
            59..62 => {
                self.count("clocks two days off");
                server().into_iter().for_each(Server::kill);
                let seconds = if dice.roll(2) == 0 { "172800" } else { "-172800" };
                self.start_pod_with(pod, &[("AGENTICORE_TEST_CLOCK", seconds)]);
                std::thread::sleep(Duration::from_millis(dice.roll(4000)));
                let wrong = self.pods[pod].lock().unwrap().take();
                wrong.into_iter().for_each(Server::kill);
                self.start_pod(pod);
            }
            62..65 => {
                self.count("a disk full");
                let ballast = self.fleet.read().unwrap().disk_of(SMALL_DISK).join("ballast");
                let _ = std::fs::write(&ballast, vec![0; DISK_SIZE]);
                std::thread::sleep(Duration::from_millis(500 + dice.roll(4000)));
                let _ = std::fs::remove_file(&ballast);
            }
            65..80 => {
                self.count("cancels");
                let accepted = self.accepted.lock().unwrap().clone();
                if let Some((id, _)) = accepted.len().checked_sub(1 + dice.roll(8) as usize).map(|at| &accepted[at]) {
                    let _ = Self::agent().delete(format!("{}/jobs/{id}", self.url(pod))).call();
                }
            }
            80..86 => {
                self.count("Redis killed");
                let mut fleet = self.fleet.write().unwrap();
                fleet.redis.kill();
                std::thread::sleep(Duration::from_millis(dice.roll(3000)));
                fleet.redis.come_back();
            }
            86..90 => {
                self.count("Redis rolled back");
                let mut fleet = self.fleet.write().unwrap();
                let state = kept.take().unwrap_or_else(|| fleet.redis.keep_state());
                fleet.redis.kill();
                fleet.redis.set_state(Some(&state));
                fleet.redis.come_back();
            }
            90..92 => {
                self.count("Redis emptied");
                self.fleet.read().unwrap().redis.ask::<()>(&["FLUSHALL"]);
            }
            92..96 => {
                self.count("Redis asleep");
                let fleet = self.fleet.read().unwrap();
                fleet.redis.pause();
                std::thread::sleep(Duration::from_millis(dice.roll(5000)));
                fleet.redis.go_on();
            }
            _ => {
                self.count("states kept");
                *kept = Some(self.fleet.read().unwrap().redis.keep_state());
            }
        }
        // A rolled-back state is a second old or so, as an append-only file that is synced each second.
        if dice.roll(3) == 0 {
            *kept = None;
        }
    }
}

#[test]
fn the_ledger_adds_up() {
    let (jobs, seed) = (number("AGENTICORE_SOAK_JOBS", 100) as usize, number("AGENTICORE_SOAK_SEED", 20_261_122));
    let Some(mut fleet) = Fleet::new() else { return };
    fleet.lab.set("AGENTICORE_SHUTDOWN_GRACE", "2");
    let _disk = SmallDisk::mount(fleet.disk_of(SMALL_DISK));
    eprintln!("soak: {jobs} jobs, seed {seed}");
    let soak = Arc::new(Soak {
        fleet: RwLock::new(fleet),
        pods: (0..PODS).map(|_| Mutex::default()).collect(),
        urls: (0..PODS).map(|_| Mutex::default()).collect(),
        accepted: Mutex::default(),
        submitted: AtomicBool::new(false),
        done: Mutex::default(),
    });
    (0..PODS).for_each(|pod| soak.start_pod(pod));
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let submitters: Vec<_> = (0..3)
            .map(|number| {
                let (soak, next) = (&soak, &next);
                scope.spawn(move || {
                    let mut dice = Dice(seed ^ (number + 1));
                    loop {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        if n >= jobs {
                            return;
                        }
                        soak.submit(n, &mut dice);
                        // As fast as they can be done, or a little faster.
                        std::thread::sleep(Duration::from_millis(dice.roll(800)));
                    }
                })
            })
            .collect();
        let (soak, mut dice, mut kept) = (&soak, Dice(seed), None);
        scope.spawn(move || {
            while !soak.submitted.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(dice.roll(500)));
                soak.misbehave(&mut dice, &mut kept);
            }
        });
        let ended: Vec<_> = submitters.into_iter().map(|one| one.join()).collect();
        soak.submitted.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok), "a submission was not accepted");
    });
    let soak = Arc::into_inner(soak).unwrap();
    let servers: Vec<Server> = soak.pods.into_iter().map(|pod| pod.into_inner().unwrap().unwrap()).collect();
    let (fleet, accepted) = (soak.fleet.into_inner().unwrap(), soak.accepted.into_inner().unwrap());
    assert_eq!(accepted.len(), jobs, "accepted once each");
    let ids: Vec<String> = accepted.iter().map(|(id, _)| id.clone()).collect();
    // As long as jobs end, it goes on; the last word is the ledger's.
    let mut left = jobs;
    let mut changed = Instant::now();
    while left > 0 {
        let lives = ids.iter().filter(|id| !fleet.lab.path(&format!("shared/job-state/{id}.json")).exists()).count();
        if lives != left {
            (left, changed) = (lives, Instant::now());
        }
        assert!(changed.elapsed() < Duration::from_secs(120), "{left} jobs do not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    let ended = fleet.check_ledger(&servers[0], &ids);
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for job in &ended {
        *tally.entry(job["status"].as_str().unwrap().to_owned()).or_default() += 1;
        if job["status"] == "failed" {
            let why = job["error"].as_str().unwrap();
            assert!(why.contains("it went wrong") || why.contains("poison"), "an end that nobody caused: {job:#}");
        }
    }
    eprintln!("soak: {tally:?} after {:?} in {:.0} s", soak.done.into_inner().unwrap(), began.elapsed().as_secs_f32());
    fleet.finish(servers);
}
