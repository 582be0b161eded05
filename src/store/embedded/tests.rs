//! What the embedded store promises, over restarts, full disks and old leases.

use super::*;
use crate::job::{Mode, Verdict};

const NOW: Duration = Duration::ZERO;

fn spec(task: &str) -> Spec {
    Spec {
        task: task.into(),
        profile: "coding".into(),
        repo_url: None,
        base_ref: None,
        session_id: None,
        file_path: None,
        create_repo: false,
        private: true,
        mode: Mode::FireAndForget,
        ttl_seconds: 60,
        key: None,
    }
}

fn store(dir: &tempfile::TempDir) -> Arc<Embedded> {
    open(dir.path(), "pod").unwrap()
}

/// As after a SIGKILL: the files stay, the lock goes.
fn restart(store: Arc<Embedded>, dir: &tempfile::TempDir) -> Arc<Embedded> {
    store.whole_index().map(drop).unwrap(); // its reader thread has let go
    while Arc::strong_count(&store) > 1 {
        std::thread::yield_now();
    }
    drop(store);
    self::store(dir)
}

fn end_well(store: &Embedded, record: &Record) {
    let verdict = Verdict { succeeded: true, exit_code: Some(0), output: None, error: None };
    let mark = Mark::AgentEnded { verdict, spent: Default::default() };
    store.mark(&Lease::of(record), mark, Some(Draft::new(Kind::AgentEnded, ""))).unwrap();
    store.finish(&Lease::of(record), End::Verdict).unwrap();
}

#[test]
fn first_in_first_out_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(&dir);
    let ids: Vec<_> = (0..5).map(|n| first.submit(spec(&n.to_string()), None).unwrap().id).collect();
    assert_eq!(first.claim(NOW, None).unwrap().unwrap().record.id, ids[0]);
    let second = restart(first, &dir);
    let late = second.submit(spec("late"), None).unwrap().id;
    assert_eq!(second.recover(NOW).unwrap(), 1);
    let taken: Vec<_> = std::iter::from_fn(|| second.claim(NOW, None).unwrap().map(|claim| claim.record)).collect();
    let order: Vec<_> = taken.iter().map(|r| &r.id).collect();
    assert_eq!(order, ids.iter().chain([&late]).collect::<Vec<_>>());
    assert_eq!((taken[0].attempt, taken[0].deaths), (2, 1));
    assert_eq!((taken[1].attempt, taken[1].deaths), (1, 0));
}

#[test]
fn an_old_lease_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    store.submit(spec("t"), None).unwrap();
    let old = Lease::of(&store.claim(NOW, None).unwrap().unwrap().record);
    store.hand_back(&old, "drain").unwrap();
    let record = store.claim(NOW, None).unwrap().unwrap().record;
    assert_eq!((record.attempt, record.deaths), (2, 0));
    assert_eq!(store.mark(&old, Mark::Pushed, None).err(), Some(Error::Lost));
    assert_eq!(store.say(&old, Draft::new(Kind::AgentText, "zombie")), Err(Error::Lost));
    assert!(store.finish(&old, End::Failed("zombie".into())).is_err());
    end_well(&store, &record);
    let events = store.events(&record.id, 0, 100).unwrap();
    assert!(events.iter().all(|e| e.text != "zombie"));
    assert_eq!(events.last().unwrap().kind, Kind::Ended);
}

#[test]
fn cancel_and_finish_have_one_winner() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    store.submit(spec("t"), None).unwrap();
    let record = store.claim(NOW, None).unwrap().unwrap().record;
    assert!(matches!(store.cancel(&record.id), Ok(Cancelled::Done { was_running: true, .. })));
    assert_eq!(store.finish(&Lease::of(&record), End::Verdict).unwrap_err(), Error::Lost);
    assert_eq!(store.get(&record.id).unwrap().it.unwrap().status(), Status::Cancelled);
    assert!(store.paths.open(&record.id).exists(), "its attempt has not been tidied away");
    let again = restart(store, &dir);
    assert_eq!(again.leftovers().len(), 1);
    again.release(&Lease::of(&record)).unwrap();
    assert!(again.leftovers().is_empty() && !again.paths.open(&record.id).exists());
    assert!(matches!(again.cancel(&record.id), Ok(Cancelled::Ended(r)) if r.status() == Status::Cancelled));
    assert!(matches!(again.cancel(&JobId::random()), Ok(Cancelled::Unknown)));
}

#[test]
fn a_queued_job_that_is_cancelled_is_never_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let id = store.submit(spec("t"), None).unwrap().id;
    assert!(matches!(store.cancel(&id), Ok(Cancelled::Done { was_running: false, .. })));
    assert!(store.claim(NOW, None).unwrap().is_none());
    assert!(store.index().queued().is_empty());
}

#[test]
fn overdue_jobs_expire_and_ended_ones_leave() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let id = store.submit(Spec { ttl_seconds: 0, ..spec("t") }, None).unwrap().id;
    std::thread::sleep(Duration::from_millis(3));
    assert!(store.tend().unwrap().is_empty());
    assert_eq!(store.get(&id).unwrap().it.unwrap().status(), Status::Expired);
    std::thread::sleep(Duration::from_millis(3));
    let over = store.tend().unwrap();
    assert_eq!(over.len(), 1);
    store.remove(&id).unwrap();
    assert!(store.get(&id).unwrap().it.is_none() && store.list(10, None).unwrap().it.is_empty());
    assert!(store.events(&id, 0, 10).unwrap().is_empty());
}

#[test]
fn listings_are_newest_first_and_know_ended_jobs_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(&dir);
    let ids: Vec<_> = (0..4)
        .map(|n| {
            std::thread::sleep(Duration::from_millis(2));
            first.submit(spec(&n.to_string()), None).unwrap().id
        })
        .collect();
    let record = first.claim(NOW, None).unwrap().unwrap().record;
    first.mark(&Lease::of(&record), Mark::Session("s-1".into()), None).unwrap();
    end_well(&first, &record);
    let second = restart(first, &dir);
    let listed: Vec<_> = second.list(3, None).unwrap().it.into_iter().map(|r| r.id).collect();
    assert_eq!(listed, [&ids[3], &ids[2], &ids[1]].map(Clone::clone));
    let succeeded = second.list(10, Some(Status::Succeeded)).unwrap().it;
    assert_eq!(succeeded[0].id, ids[0]);
    assert_eq!(second.with_session("s-1").unwrap().unwrap().id, ids[0]);
    assert_eq!(second.matching(&ids[2].as_str()[..13]).unwrap(), [ids[2].clone()]);
}

#[test]
fn one_server_per_directory() {
    let dir = tempfile::tempdir().unwrap();
    let _first = store(&dir);
    let error = open(dir.path(), "pod").err().unwrap();
    assert!(error.contains("another server") && error.contains(&std::process::id().to_string()), "{error}");
}

#[test]
fn a_disk_that_refuses_loses_no_job_and_accepts_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let id = store.submit(spec("t"), None).unwrap().id;
    // A directory in the file's place: writes fail even for root.
    let (in_the_way, aside) = (store.paths.open(&id), dir.path().join("aside"));
    std::fs::rename(&in_the_way, &aside).unwrap();
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(store.claim(NOW, None), Err(Error::Unavailable(why)) if why.contains(id.as_str())));
    std::fs::remove_dir(&in_the_way).unwrap();
    std::fs::rename(&aside, &in_the_way).unwrap();
    assert_eq!(store.claim(NOW, None).unwrap().unwrap().record.id, id);
}
