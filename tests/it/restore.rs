//! A fleet that is put together again from a volume and a Redis of different minutes, by the scripts that
//! docs/operations.md names: what the volume knows is not lost, and nothing ends twice.

use crate::support::fleet::Fleet;
use crate::support::{Server, eventually};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script(name: &str, words: &[&str]) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)).args(words).output().unwrap()
}

fn back_up(fleet: &Fleet, to: &str) -> PathBuf {
    let (volume, to, url) = (fleet.lab.path("shared"), fleet.lab.path(to), fleet.redis.url());
    let words = ["--volume", volume.to_str().unwrap(), "--to", to.to_str().unwrap(), "--redis", &url];
    let done = script("backup.sh", &words);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().into()
}

fn restore(fleet: &Fleet, from: &Path) -> Result<String, String> {
    let (volume, url) = (fleet.lab.path("shared"), fleet.redis.url());
    let done = script(
        "restore.sh",
        &["--from", from.to_str().unwrap(), "--volume", volume.to_str().unwrap(), "--redis", &url],
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

/// What happened by the first and by the second minute, and the pod that was there.
struct Minutes {
    fleet: Fleet,
    pod: Server,
    first: PathBuf,
    second: PathBuf,
    /// Accepted before the first one; the last two do not end by themselves.
    early: Vec<String>,
    /// Accepted between both.
    late: Vec<String>,
}

fn minutes() -> Option<Minutes> {
    let fleet = Fleet::new()?;
    let gate = fleet.lab.path("gate");
    let pod = fleet.pod_with("pod-0", &[("AGENTICORE_MAX_PARALLEL_JOBS", "2")]);
    let ended = pod.submit(fleet.job("[[write one.txt 1]] [[say one]]"));
    pod.wait(&ended);
    let waits = |n: u8| {
        let started = fleet.lab.path(&format!("started-{n}"));
        format!("[[count {}]] [[write {n}.txt 1]] [[wait-for {}]]", started.display(), gate.display())
    };
    let runs = pod.submit(fleet.job(waits(1)));
    eventually("it runs", || fleet.lab.path("started-1").exists().then_some(()));
    let also = pod.submit(fleet.job(waits(2)));
    eventually("it runs", || fleet.lab.path("started-2").exists().then_some(()));
    let queued = pod.submit(fleet.job("[[write queued.txt 1]] [[say queued]]"));
    let first = back_up(&fleet, "first");
    // Then one of them is cancelled, and more come.
    assert_eq!(pod.cancel(&also).0, 200);
    assert_eq!(pod.wait(&queued)["status"], "succeeded");
    let late = vec![pod.submit(fleet.job("[[write late.txt 1]] [[say late]]"))];
    pod.wait(&late[0]);
    let second = back_up(&fleet, "second");
    Some(Minutes { fleet, pod, first, second, early: vec![ended, queued, runs, also], late })
}

/// Everything is lost; the volume comes back as of one minute, Redis as of another, or empty.
fn comes_back(volume_of: fn(&Minutes) -> &PathBuf, redis_of: fn(&Minutes) -> Option<PathBuf>, is_newest: bool) {
    let Some(lost) = minutes() else { return };
    let refused = restore(&lost.fleet, volume_of(&lost)).unwrap_err();
    assert!(refused.contains("servers are alive, or were a minute ago: pod-0 "), "{refused}");
    let redis = redis_of(&lost).map(|backup| backup.join("redis.rdb"));
    let volume = volume_of(&lost).clone();
    let Minutes { mut fleet, pod, early, late, .. } = lost;
    pod.kill();
    std::fs::write(fleet.lab.path("gate"), "").unwrap();
    fleet.redis.kill();
    fleet.redis.come_back_with(redis.as_deref());
    fleet.lab.path("shared").join("job-state").is_dir().then(|| {
        std::fs::remove_dir_all(fleet.lab.path("shared/job-state")).unwrap();
        std::fs::remove_dir_all(fleet.lab.path("shared/repos")).unwrap();
        std::fs::create_dir_all(fleet.lab.path("shared/repos")).unwrap();
    });
    let told = eventually("the dead pod is not taken for alive", || restore(&fleet, &volume).ok());
    assert!(told.contains("restored"), "{told}");
    let pod = fleet.pod("pod-1");
    let expected = if is_newest { [early, late].concat() } else { early };
    for id in &expected {
        let job: Value = pod.wait(id);
        let status = job["status"].as_str().unwrap();
        assert!(status == "succeeded" || status == "cancelled", "{job:#}");
    }
    if is_newest {
        fleet.check_ledger(&pod, &expected);
    }
    // It is a fleet as before.
    assert_eq!(pod.run(fleet.job("[[write after.txt 1]] [[say after]]"))["status"], "succeeded");
    pod.stop();
}

#[test]
fn with_an_empty_redis() {
    comes_back(|lost| &lost.second, |_| None, true);
}

/// What waited then has been published since: its branch is taken up, not refused.
#[test]
fn with_both_from_before() {
    comes_back(|lost| &lost.first, |_| None, false);
}

#[test]
fn with_both_of_the_first_minute() {
    comes_back(|lost| &lost.first, |lost| Some(lost.first.clone()), false);
}

#[test]
fn with_an_older_redis() {
    comes_back(|lost| &lost.second, |lost| Some(lost.first.clone()), true);
}

#[test]
fn with_a_newer_redis_than_the_volume() {
    comes_back(|lost| &lost.first, |lost| Some(lost.second.clone()), false);
}

#[test]
fn what_is_no_backup_or_is_damaged_is_refused_and_nothing_moved() {
    let Some(fleet) = Fleet::new() else { return };
    let pod = fleet.pod("pod-0");
    pod.run(fleet.job("[[say x]]"));
    let backup = back_up(&fleet, "to");
    pod.stop();
    let archive = backup.join("volume.tar.gz");
    let mut bytes = std::fs::read(&archive).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&archive, bytes).unwrap();
    let why =
        eventually("the pod is gone", || restore(&fleet, &backup).err().filter(|why| why.contains("checksum differs")));
    assert!(why.starts_with("restore.sh: "), "{why}");
    assert!(restore(&fleet, &fleet.lab.path("nowhere")).unwrap_err().contains("expected volume.tar.gz"));
    assert!(fleet.lab.path("shared/job-state").is_dir());
}

/// One part cannot be moved aside, because it is mounted by itself: all of them are as they were.
#[test]
fn a_restore_that_fails_in_the_middle_leaves_the_volume_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path().join("volume");
    let file = |path: &str| volume.join(path);
    for path in ["agentihooks-bundle/b", "job-state/a.json", "profiles/p"] {
        std::fs::create_dir_all(file(path).parent().unwrap()).unwrap();
        std::fs::write(file(path), "then").unwrap();
    }
    let to = dir.path().join("to");
    let done = script("backup.sh", &["--volume", volume.to_str().unwrap(), "--to", to.to_str().unwrap()]);
    let backup = String::from_utf8(done.stdout).unwrap();
    for path in ["agentihooks-bundle/b", "job-state/a.json", "profiles/p"] {
        std::fs::write(file(path), "now").unwrap();
    }
    let restore = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/restore.sh");
    let done = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$1/profiles\" \"$1/profiles\" && exec \"$0\" --from \"$2\" --volume \"$1\"")
        .arg(&restore)
        .args([volume.to_str().unwrap(), backup.trim()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot move") && said.contains("is as it was"), "{said}");
    for path in ["agentihooks-bundle/b", "job-state/a.json", "profiles/p"] {
        assert_eq!(std::fs::read_to_string(file(path)).unwrap(), "now", "{path}");
    }
    assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 3, "nothing is left beside them");
}
