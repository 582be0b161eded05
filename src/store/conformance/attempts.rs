//! Attempts: who may write, what is kept, who ends a job.

use super::*;
use crate::job::Status;
use crate::store::Cancelled;

pub fn an_attempt_that_lost_its_job_writes_nothing(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    let old = claim(&*store);
    old.attempt.hand_back(leaves("drain")).unwrap();
    let new = claim(&*store);
    assert_eq!((new.record.attempt, new.record.deaths), (2, 0));
    assert!(is_lost(old.attempt.mark(Mark::Pushed, None)) && is_lost(old.attempt.prove()));
    assert!(is_lost(old.attempt.say(Draft::new(Kind::AgentText, "zombie"))));
    assert!(
        is_lost(old.attempt.finish(End::Failed("zombie".into()))) && is_lost(old.attempt.hand_back(leaves("again")))
    );
    new.attempt.prove().unwrap();
    end_well(&new);
    let events = all_events(&*store, &id);
    assert!(events.iter().all(|event| event.text != "zombie"));
    assert_eq!(events.last().unwrap().kind, Kind::Ended);
    assert!(is_lost(new.attempt.say(Draft::new(Kind::AgentText, "late"))), "it has ended");
}

pub fn cancel_and_finish_have_one_winner(bench: &mut dyn Bench) {
    let id = submit(&*bench.store(), "t");
    let running = claim(&*bench.store());
    assert!(matches!(bench.store().cancel(&id, None), Ok(Cancelled::Done { was_running: true, .. })));
    assert!(is_lost(running.attempt.finish(End::Verdict)));
    assert_eq!(get(&*bench.store(), &id).unwrap().status(), Status::Cancelled);
    let record = running.record.clone();
    drop(running);
    bench.restart();
    let store = bench.store();
    assert_eq!(get(&*store, &id).unwrap().status(), Status::Cancelled);
    if bench.lists_leftovers() {
        assert_eq!(store.leftovers().len(), 1);
        store.release(&record).unwrap();
    }
    assert!(store.leftovers().is_empty());
    let late = submit(&*store, "u");
    end_well(&claim(&*store));
    assert!(matches!(store.cancel(&late, None), Ok(Cancelled::Ended(record)) if record.status() == Status::Succeeded));
}

pub fn what_was_achieved_is_kept(bench: &mut dyn Bench) {
    let id = submit(&*bench.store(), "t");
    let running = claim(&*bench.store());
    let record = running.attempt.mark(Mark::Committed("c1".into()), Some(Draft::new(Kind::Committed, "c1"))).unwrap();
    assert_eq!((record.commit.as_deref(), record.status()), (Some("c1"), Status::Running));
    // One that may wait is kept with the next that does not.
    running.attempt.mark(Mark::Session("s".into()), None).unwrap();
    running.attempt.mark(Mark::Pushed, None).unwrap();
    drop(running);
    bench.restart();
    let record = get(&*bench.store(), &id).unwrap();
    assert_eq!((record.commit.as_deref(), record.pushed, record.session_id.as_deref()), (Some("c1"), true, Some("s")));
}

pub fn handing_back_puts_a_job_first_and_counts_no_death(bench: &mut dyn Bench) {
    let store = bench.store();
    let (first, second) = (submit(&*store, "1"), submit(&*store, "2"));
    for attempt in 1..=3 {
        let taken = claim(&*store);
        assert_eq!((&taken.record.id, taken.record.attempt, taken.record.deaths), (&first, attempt, 0));
        taken.attempt.hand_back(leaves("drain")).unwrap();
        assert_eq!(get(&*store, &first).unwrap().status(), Status::Queued);
    }
    end_well(&claim(&*store));
    assert_eq!(claim(&*store).record.id, second);
    assert_eq!(kinds(&all_events(&*store, &first)).iter().filter(|kind| **kind == "handed_back").count(), 3);
}

pub fn a_lost_worker_is_a_death_and_the_next_attempt_goes_on(bench: &mut dyn Bench) {
    if !bench.takes_over_at_start() {
        // In a fleet it is not the restart that takes over: tests/it/fleet_takeover.rs.
        return;
    }
    let id = submit(&*bench.store(), "t");
    for death in 1..=3 {
        drop(claim(&*bench.store()));
        bench.restart();
        let record = get(&*bench.store(), &id).unwrap();
        assert_eq!(record.deaths, death);
    }
    let record = get(&*bench.store(), &id).unwrap();
    assert!(record.status() == Status::Failed && record.error.unwrap().contains("poison"));
    let events = all_events(&*bench.store(), &id);
    assert_eq!(
        kinds(&events),
        ["queued", "claimed", "worker_lost", "claimed", "worker_lost", "claimed", "worker_lost", "ended"]
    );
}

pub fn an_attempt_that_is_over_is_released(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    let running = claim(&*store);
    store.cancel(&id, None).unwrap();
    running.attempt.release().unwrap();
    assert!(is_lost(running.attempt.prove()) && store.leftovers().is_empty());
}
