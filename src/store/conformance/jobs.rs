//! Jobs come in, wait, are found, and are forgotten.

use super::*;
use crate::job::{Note, Purpose, Status};
use crate::store::{Cancelled, Place, Which};

pub fn first_in_first_out_also_over_a_restart(bench: &mut dyn Bench) {
    let ids: Vec<_> = (0..5).map(|n| submit(&*bench.store(), &n.to_string())).collect();
    bench.restart();
    let store = bench.store();
    let late = submit(&*store, "late");
    let taken: Vec<JobId> = (0..6).map(|_| claim(&*store).record.id).collect();
    assert_eq!(taken, [ids, vec![late]].concat());
    assert!(store.claim(NOW, None).unwrap().is_none());
}

pub fn a_submission_that_is_sent_again_is_the_same_job(bench: &mut dyn Bench) {
    let key = key("k", "r");
    let first = bench.store().submit(task("t"), Some(&key)).unwrap();
    assert_eq!(bench.store().submit(task("t"), Some(&key)).unwrap().id, first.id);
    bench.restart();
    let store = bench.store();
    assert_eq!(store.submit(task("t"), Some(&key)).unwrap().id, first.id);
    end_well(&claim(&*store));
    assert_eq!(store.submit(task("t"), Some(&key)).unwrap().status(), Status::Succeeded);
    assert!(store.claim(NOW, None).unwrap().is_none(), "it was one job");
}

pub fn a_key_for_another_request_is_refused(bench: &mut dyn Bench) {
    let store = bench.store();
    store.submit(task("t"), Some(&key("k", "one"))).unwrap();
    assert_eq!(store.submit(task("u"), Some(&key("k", "two"))).unwrap_err(), Error::OtherRequest);
    assert_eq!(store.list(10, Which::All).unwrap().it.len(), 1);
}

pub fn a_key_is_free_again_once_its_job_is_forgotten(bench: &mut dyn Bench) {
    let store = bench.store();
    let first = store.submit(task("t"), Some(&key("k", "one"))).unwrap().id;
    end_well(&claim(&*store));
    store.remove(&first).unwrap();
    assert!(get(&*store, &first).is_none());
    assert_ne!(store.submit(task("u"), Some(&key("k", "two"))).unwrap().id, first);
}

pub fn a_queued_job_that_is_cancelled_is_never_claimed(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    assert!(matches!(store.cancel(&id, None), Ok(Cancelled::Done { was_running: false, .. })));
    assert!(store.claim(NOW, None).unwrap().is_none());
    assert_eq!(get(&*store, &id).unwrap().status(), Status::Cancelled);
}

pub fn cancelling_twice_is_cancelling_once(bench: &mut dyn Bench) {
    let id = submit(&*bench.store(), "t");
    let Ok(Cancelled::Done { record, .. }) = bench.store().cancel(&id, None) else { panic!() };
    bench.restart();
    let Ok(Cancelled::Ended(again)) = bench.store().cancel(&id, None) else { panic!() };
    assert_eq!((again.status(), again.ended_at), (Status::Cancelled, record.ended_at));
    assert!(matches!(bench.store().cancel(&JobId::random(), None), Ok(Cancelled::Unknown)));
}

pub fn a_queued_job_has_a_place_in_the_line(bench: &mut dyn Bench) {
    let store = bench.store();
    let ids: Vec<JobId> = ["a", "b", "c"].iter().map(|text| submit(&*store, text)).collect();
    let ahead = |id: &JobId| store.ahead(&get(&*store, id).unwrap()).unwrap();
    assert_eq!(ids.iter().map(ahead).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)]);
    let first = claim(&*store);
    assert_eq!(ids.iter().map(ahead).collect::<Vec<_>>(), [None, Some(0), Some(1)]);
    first.attempt.hand_back(leaves("it goes away")).unwrap();
    assert_eq!(ids.iter().map(ahead).collect::<Vec<_>>(), [Some(0), Some(1), Some(2)], "at the head again");
}

pub fn a_list_goes_on_behind_a_place_whatever_comes_and_goes(bench: &mut dyn Bench) {
    let store = bench.store();
    let ids: Vec<JobId> = (0..7).map(|_| submit(&*store, "t")).collect();
    store.cancel(&ids[1], None).unwrap();
    let all: Vec<Record> = store.list(10, Which::All).unwrap().it;
    assert!(all.windows(2).all(|two| Place::of(&two[0]) > Place::of(&two[1])), "newest first");
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_after(2, Which::All, after.as_ref()).unwrap().it;
        let Some(last) = page.last() else { break };
        after = Some(Place::of(last));
        seen.extend(page.into_iter().map(|record| record.id));
        // Nobody has seen it; it is newer than the place.
        submit(&*store, "came meanwhile");
    }
    assert_eq!(seen, all.iter().map(|record| record.id.clone()).collect::<Vec<_>>());
    let behind = Place::of(&all[3]);
    let queued = store.list_after(10, Which::Of(Status::Queued), Some(&behind)).unwrap().it;
    let older: Vec<&JobId> = all[4..].iter().filter(|r| r.status() == Status::Queued).map(|r| &r.id).collect();
    assert_eq!(queued.iter().map(|record| &record.id).collect::<Vec<_>>(), older);
    assert_eq!(store.list(10, Which::Of(Status::Cancelled)).unwrap().it.len(), 1);
}

pub fn a_retry_is_noted_in_the_record_of_the_job_that_ended(bench: &mut dyn Bench) {
    let (first, second) = (JobId::random(), JobId::random());
    let store = bench.store();
    let id = submit(&*store, "t");
    store.note(&id, Note::RetriedAs(first.clone())).unwrap();
    assert_eq!(get(&*store, &id).unwrap().retried_as, None, "a job that lives is not to be changed");
    let ended = end_well(&claim(&*store));
    for retry in [&first, &second] {
        store.note(&id, Note::RetriedAs(retry.clone())).unwrap();
        let noted = get(&*store, &id).unwrap();
        assert_eq!(
            (noted.retried_as.as_ref(), noted.status(), noted.ended_at),
            (Some(retry), ended.status(), ended.ended_at)
        );
    }
    store.note(&JobId::random(), Note::RetriedAs(first.clone())).unwrap();
    drop(store);
    bench.restart();
    assert_eq!(get(&*bench.store(), &id).unwrap().retried_as, Some(second));
    let Ok(Cancelled::Ended(again)) = bench.store().cancel(&id, None) else { panic!() };
    assert_eq!(again.ended_at, ended.ended_at, "its outcome stands");
    let soon = bench.store().submit(Spec { ttl_seconds: 1, ..task("soon forgotten") }, None).unwrap().id;
    bench.store().cancel(&soon, None).unwrap();
    bench.store().note(&soon, Note::RetriedAs(first.clone())).unwrap();
    assert_eq!(get(&*bench.store(), &soon).and_then(|record| record.retried_as), None);
}

pub fn overdue_jobs_expire_and_ended_ones_are_forgotten(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = store.submit(Spec { ttl_seconds: 0, ..task("t") }, None).unwrap().id;
    let until = Instant::now() + PATIENCE;
    let over = loop {
        std::thread::sleep(Duration::from_millis(20));
        let over = store.tend(&|_| None).unwrap();
        if !over.is_empty() {
            break over;
        }
        assert!(Instant::now() < until);
    };
    assert_eq!((over[0].id.clone(), over[0].status()), (id.clone(), Status::Expired));
    store.remove(&id).unwrap();
    assert!(get(&*store, &id).is_none() && store.list(10, Which::All).unwrap().it.is_empty());
    assert!(store.matching(&id.as_str()[..8]).unwrap().is_empty());
    drop(store);
    bench.restart();
    assert!(get(&*bench.store(), &id).is_none(), "nothing brings it back");
}

pub fn listings_are_newest_first_and_survive_a_restart(bench: &mut dyn Bench) {
    let mut ids = Vec::new();
    for n in 0..4 {
        std::thread::sleep(Duration::from_millis(3));
        ids.push(submit(&*bench.store(), &n.to_string()));
    }
    end_well(&claim(&*bench.store()));
    bench.restart();
    let store = bench.store();
    let listed: Vec<_> = store.list(3, Which::All).unwrap().it.into_iter().map(|record| record.id).collect();
    assert_eq!(listed, [&ids[3], &ids[2], &ids[1]].map(Clone::clone));
    let succeeded = store.list(10, Which::Of(Status::Succeeded)).unwrap().it;
    assert_eq!((succeeded.len(), &succeeded[0].id), (1, &ids[0]));
    assert_eq!(store.list(10, Which::Of(Status::Queued)).unwrap().it.len(), 3);
    assert_eq!(store.matching(&ids[2].as_str()[..13]).unwrap(), [ids[2].clone()]);
}

pub fn the_newest_job_of_a_session_is_found(bench: &mut dyn Bench) {
    let store = bench.store();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(3));
        submit(&*store, "t");
        let claim = claim(&*store);
        claim.attempt.mark(Mark::Directory("/d".into()), None).unwrap();
        claim.attempt.mark(Mark::Session("s-1".into()), None).unwrap();
        end_well(&claim);
    }
    let newest = store.list(1, Which::All).unwrap().it[0].id.clone();
    // One that was to resume it, and whose agent never began, had nothing of it.
    let never = store.submit(Spec { session_id: Some("s-1".into()), ..task("t") }, None).unwrap().id;
    store.cancel(&never, None).unwrap();
    assert_eq!(store.with_session("s-1").unwrap().unwrap().id, newest);
    assert!(store.with_session("s-2").unwrap().is_none());
}

pub fn a_claim_may_want_one_profile_alone(bench: &mut dyn Bench) {
    let store = bench.store();
    submit(&*store, "first");
    let other = store.submit(Spec { profile: "self-test".into(), ..task("second") }, None).unwrap().id;
    assert_eq!(store.claim(NOW, Some("self-test")).unwrap().unwrap().record.id, other);
    assert!(store.claim(NOW, Some("self-test")).unwrap().is_none());
    assert_eq!(claim(&*store).record.task, "first");
}

pub fn nothing_is_claimed_while_claims_are_closed(bench: &mut dyn Bench) {
    let store = bench.store();
    let id = submit(&*store, "t");
    store.open_claims(false);
    assert!(store.claim(NOW, None).unwrap().is_none());
    store.open_claims(true);
    assert_eq!(claim(&*store).record.id, id);
}

fn submit_for(store: &dyn Store, purpose: Purpose) -> JobId {
    store.submit(Spec { purpose, ..task("t") }, None).unwrap().id
}

fn listed(store: &dyn Store, which: Which) -> Vec<JobId> {
    store.list(10, which).unwrap().it.into_iter().map(|record| record.id).collect()
}

pub fn plans_and_worktrees_have_lists_of_their_own(bench: &mut dyn Bench) {
    let store = bench.store();
    let plan = submit_for(&*store, Purpose::Plan);
    let worktree = submit_for(&*store, Purpose::Worktree);
    let job = submit(&*store, "a task");
    let claimed = claim(&*store);
    assert_eq!(claimed.record.id, plan);
    end_well(&claimed);
    drop((claimed, store));
    bench.restart();
    let store = bench.store();
    assert_eq!(listed(&*store, Which::For(Purpose::Plan)), std::slice::from_ref(&plan));
    assert_eq!(listed(&*store, Which::For(Purpose::Worktree)), [worktree]);
    assert_eq!(listed(&*store, Which::All).len(), 3);
    assert_eq!(listed(&*store, Which::Of(Status::Succeeded)), std::slice::from_ref(&plan));
    assert!(listed(&*store, Which::Of(Status::Queued)).contains(&job));
    store.note(&plan, Note::ExecutedAs(job.clone())).unwrap();
    assert_eq!(get(&*store, &plan).unwrap().executed_as, Some(job));
    store.remove(&plan).unwrap();
    assert_eq!(listed(&*store, Which::For(Purpose::Plan)), []);
}

pub fn a_worktree_that_was_made_stays_until_it_is_removed(bench: &mut dyn Bench) {
    let store = bench.store();
    // Of these two the times to live are over soon.
    let spec = |purpose| Spec { purpose, ttl_seconds: 5, ..task("t") };
    let [made, other] = [Purpose::Worktree, Purpose::Task].map(|purpose| {
        let id = store.submit(spec(purpose), None).unwrap().id;
        end_well(&claim(&*store));
        id
    });
    let until = Instant::now() + PATIENCE;
    loop {
        let over: Vec<JobId> = store.tend(&|_| None).unwrap().into_iter().map(|record| record.id).collect();
        assert!(!over.contains(&made));
        if over.contains(&other) {
            break;
        }
        assert!(Instant::now() < until, "the other one is not over");
        std::thread::sleep(NOW);
    }
    store.note(&made, Note::Published("c0".into())).unwrap();
    assert_eq!(get(&*store, &made).unwrap().commit.as_deref(), Some("c0"));
    store.remove(&made).unwrap();
    assert!(get(&*store, &made).is_none() && listed(&*store, Which::For(Purpose::Worktree)).is_empty());
}
