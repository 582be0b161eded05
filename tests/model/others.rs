//! What others do: who submits and who cancels, the reaper, the sweep, the keeper that expires and forgets, and time.

use crate::state::*;
use crate::{Add, Guard};

pub fn submit(state: &State, without: Guard, add: Add) {
    let file = Open { queued: true, attempt: 0, deaths: 0, runs_alone: false, holder: None };
    let record =
        Record { status: Status::Queued, attempt: 0, deaths: 0, runs_alone: false, holder: None, outcome: None };
    let enqueue = |s: &mut State| {
        if s.redis.record.is_none() && s.ended.is_none() {
            s.redis.record = Some(record);
            s.redis.queue = 1;
        }
        s.submitted = 2;
    };
    match (state.submitted, without == Guard::FileBeforeScript || !state.fleet.has_copy) {
        (0, false) => add(&|s| (s.open, s.submitted) = (Some(file), 1)),
        (1, false) => add(&enqueue),
        // Accepted without a file: what Redis loses then is lost.
        (0, true) => add(&enqueue),
        _ => {}
    }
}

/// Links the ended file, then closes; in between everything may happen. Without a second copy Redis decides.
pub fn cancel(state: &State, without: Guard, add: Add) {
    let is_known = state.redis.record.is_some_and(|record| record.status != Status::Ended);
    match state.cancel {
        0 if state.submitted > 0 && state.forgotten == 0 && state.fleet.has_copy => add(&|s| {
            s.cancel = 1;
            let outcome = s.link(0, without);
            s.answer(outcome);
        }),
        0 if state.submitted > 0 && is_known && !state.fleet.has_copy => add(&|s| {
            s.cancel = 2;
            let sealed = s.redis.record.and_then(|record| record.outcome);
            s.close(sealed.unwrap_or(0));
        }),
        1 => add(&|s| {
            s.cancel = 2;
            if let Some(outcome) = s.ended.filter(|_| s.forgotten == 0) {
                s.close(outcome);
            }
        }),
        _ => {}
    }
}

/// What time does: a lease that is not renewed is relied on no more, and only then runs out.
pub fn clock(state: &State, worker: usize, without: Guard, add: Add) {
    let (me, asleep) = (state.workers[worker], state.pod(worker).asleep);
    if me.token.is_none() {
        return;
    }
    let names_us = state.redis.record.is_some_and(|record| record.holder == me.token);
    // Renewing: an absent lease is taken again while the record names us.
    if !asleep && me.relies && names_us && state.redis.lease.is_none() {
        add(&|s| s.redis.lease = me.token);
    }
    // Redis lost the record: the holder puts it back, as long as its open file is there.
    if !asleep && me.relies && state.redis.record.is_none() && state.ended.is_none() && state.open.is_some() {
        add(&|s| s.put_back_from_file());
    }
    // It learns that the job is somebody else's, or has ended, or is not known any more.
    let is_unknown = state.redis.record.is_none() && state.open.is_none();
    if !asleep && me.relies && ((state.redis.record.is_some() && !names_us) || is_unknown) {
        add(&|s| {
            s.workers[worker].relies = false;
            s.workers[worker].agent = false;
        });
    }
    // It cannot renew, because it sleeps or is cut off.
    if me.relies && asleep {
        add(&|s| {
            s.workers[worker].relies = false;
            if without != Guard::AgentEndsWithLease {
                s.workers[worker].agent = false;
            }
        });
    }
}

pub fn reap(state: &State, without: Guard, add: Add) {
    let Some(record) = state.redis.record else { return };
    if state.redis.running == 0 {
        return;
    }
    let holder = state.worker_of(record.holder);
    // In Redis a lease runs out only when its holder relies on it no more.
    let relied_on = holder.is_some_and(|worker| state.workers[worker].relies);
    if state.redis.lease.is_some() && !relied_on && record.status != Status::Ended {
        add(&|s| s.redis.lease = None);
    }
    // Seen without one for a whole grace: whoever relied on it would have renewed by then.
    if (state.redis.lease.is_some() || relied_on) && without != Guard::ReapOnlyWithoutLease {
        return;
    }
    if let Some(outcome) = state.ended {
        return add(&|s| s.close(outcome));
    }
    // A claim under way takes less than the grace, unless its pod sleeps or its volume does.
    let popping = (0..WORKERS).any(|worker| {
        let me = state.workers[worker];
        matches!(me.at, At::Popped | At::Read(_)) && !state.pod(worker).asleep && !me.stalled
    });
    match record.status {
        Status::Queued if without != Guard::ReaperReturnsPops && !popping => {
            add(&|s| (s.redis.running, s.redis.queue) = (0, 1));
        }
        Status::Sealed if without == Guard::NoReapAfterSeal => add(&|s| {
            s.redis.record = Some(Record { status: Status::Queued, holder: None, outcome: None, ..record });
            (s.redis.running, s.redis.queue) = (0, 1);
            s.wrong = Some("a job whose outcome was sealed went back to the queue");
        }),
        Status::Sealed if without != Guard::ReaperCompletesSeals => {
            add(&|s| s.conclude(record.outcome.unwrap_or_default(), without));
        }
        Status::Running => reap_running(state, record, holder, without, add),
        _ => {}
    }
}

fn reap_running(state: &State, record: Record, holder: Option<usize>, without: Guard, add: Add) {
    let lives = (0..WORKERS).any(|pod| record.holder.is_some_and(|token| token.of == state.run_of(pod)));
    let sleeps = holder.is_some_and(|worker| state.pod(worker).asleep);
    let is_stray = lives && holder.is_none();
    // A pod that lives gives back what names it and what it does not run, before the grace is over.
    if is_stray && without != Guard::StraysAreGivenBack {
        return add(&|s| requeue(s, record, false));
    }
    if lives && !sleeps && !is_stray && without != Guard::ReapOnlyWithoutLease {
        return;
    }
    let given_back = state.open.is_some_and(|open| open.queued && open.attempt == record.attempt);
    // Of jobs that were lost together nobody knows which one it was: each runs alone next.
    let counts = !state.died_beside_others || without == Guard::CountOnlyDeathsAlone;
    add(&|s| requeue(s, record, !given_back && counts));
}

fn requeue(s: &mut State, record: Record, is_death: bool) {
    let deaths = record.deaths + u8::from(is_death);
    let runs_alone = record.runs_alone || is_death || s.died_beside_others;
    s.died_beside_others = false;
    s.redis.record = Some(Record { status: Status::Queued, deaths, runs_alone, holder: None, ..record });
    (s.redis.lease, s.redis.running, s.redis.queue) = (None, 0, 1);
    s.write_open(Open { queued: true, attempt: record.attempt, deaths, runs_alone, holder: None });
    if deaths > s.crashes && !s.redis_lost {
        s.wrong = Some("a death was counted that was none");
    }
}

pub fn sweep(state: &State, without: Guard, add: Add) {
    let Some(_) = state.open else { return };
    if let Some(outcome) = state.ended
        && without != Guard::SweepLooksForEnded
    {
        return add(&|s| s.close(outcome));
    }
    if state.redis.record.is_none() || without == Guard::PutBackOnlyUnknown {
        let was_known = state.redis.record;
        if without != Guard::SweepPutsBack {
            add(&|s| {
                s.put_back_from_file();
                if s.ended.is_some() {
                    s.wrong = Some("an ended job was put back");
                }
                let is_other = was_known.is_some_and(|record| s.redis.record.is_some_and(|now| now != record));
                if is_other {
                    s.wrong = Some("what Redis knew was overwritten");
                }
            });
        }
    } else if state.redis.queue + state.redis.running == 0
        && state.redis.record.is_some_and(|record| record.status != Status::Ended)
    {
        add(&|s| match s.redis.record.map(|record| record.status) {
            Some(Status::Queued) => s.redis.queue = 1,
            _ => s.redis.running = 1,
        });
    }
}

/// Expires what was never claimed, and forgets what has ended, each in its time.
pub fn keep(state: &State, without: Guard, add: Add) {
    let Some(record) = state.redis.record else { return finish_forgetting(state, add) };
    let is_wrong = state.wrong_clock && without == Guard::TimeIsRedis;
    // Time passes. What of it does not matter is left out.
    if record.status == Status::Queued && record.attempt == 0 && !state.is_due && state.submitted == 2 {
        add(&|s| s.is_due = true);
    }
    // A submission takes seconds, a time to live at least as long.
    let is_at_rest = record.status == Status::Ended && state.open.is_none() && state.submitted == 2;
    if is_at_rest && !state.is_over && state.cancel != 1 {
        add(&|s| s.is_over = true);
    }
    match state.expiring {
        None if record.status == Status::Queued && record.attempt == 0 && (state.is_due || is_wrong) => {
            add(&|s| s.expiring = Some(record));
        }
        Some(read) => add(&|s| {
            s.expiring = None;
            if record != read && without != Guard::ExpireOnlyWhatWasRead {
                return;
            }
            if record.status != Status::Queued {
                s.wrong = Some("a job expired that somebody had claimed");
            }
            if !s.is_due {
                s.wrong = Some("a job expired before its time");
            }
            s.redis.record = Some(Record { status: Status::Sealed, outcome: Some(EXPIRED), ..record });
            s.redis.queue = 0;
            s.put_among_running();
        }),
        None => {}
    }
    if is_at_rest && (state.is_over || is_wrong) && !state.redis_lost {
        add(&|s| {
            if !s.is_over {
                s.wrong = Some("a job was forgotten before its time");
            }
            (s.redis, s.kept, s.forgotten) = (Redis::default(), None, 1);
        });
    }
}

fn finish_forgetting(state: &State, add: Add) {
    if state.forgotten == 1 {
        add(&|s| (s.open, s.ended, s.answered, s.forgotten) = (None, None, None, 2));
    }
}
