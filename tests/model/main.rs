//! The fleet's transitions as a model, explored exhaustively: one job, two workers of one pod or of two, with and without
//! a second copy; somebody who cancels, a reaper, a sweep, a keeper; with crashes, pauses, stalled reads, lost calls and
//! replies, a wrong clock, and a Redis that comes back empty or older. Each guard is then taken out in turn, and the
//! explorer has to find what it prevents.
//!
//! With one fault in a history it takes seconds, and CI does that; `make model` takes two faults and
//! optimized code. AGENTICORE_MODEL_FAULTS sets another number.
//!
//! One step of the model is one script, one file operation or one request to the outside: what is
//! atomic in `src/store/redis` is atomic here, and in the same order. Time is abstract: a lease may run
//! out at any moment, but in Redis only after its holder stopped relying on it.

mod attempt;
mod faults;
mod others;
mod state;

use state::{FLEETS, Fleet, GUARDS, Guard, NO_COPY, ONE_POD, State, TWO_PODS, WORKERS, check, check_rest};
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

type Add<'a> = &'a mut dyn FnMut(&dyn Fn(&mut State));

/// All states that one step leads to.
fn next(state: &State, without: Guard) -> Vec<State> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut State)| {
        let mut next = state.clone();
        change(&mut next);
        all.push(next);
    };
    others::submit(state, without, &mut add);
    others::cancel(state, without, &mut add);
    for worker in 0..WORKERS {
        if !state.pod(worker).asleep && !state.workers[worker].stalled {
            attempt::work(state, worker, without, &mut add);
        }
        others::clock(state, worker, without, &mut add);
    }
    if state.pulls == 1 && !state.closed {
        add(&|s| s.closed = true);
    }
    others::reap(state, without, &mut add);
    others::sweep(state, without, &mut add);
    others::keep(state, without, &mut add);
    if state.faults > 0 {
        faults::faults(state, without, &mut add);
    }
    all
}

/// What of a state is kept, to know it again. That two of 50 million states have one mark happens once in 10 000 runs.
fn mark(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.hash(&mut hasher);
    hasher.finish()
}

/// How many states there are, or the first fault found.
fn explore(fleet: Fleet, without: Guard, faults: u8) -> Result<usize, (&'static str, Box<State>)> {
    let first = State::new(fleet, faults);
    let (mut seen, mut line) = (HashSet::from([mark(&first)]), VecDeque::from([first]));
    while let Some(state) = line.pop_front() {
        if let Some(wrong) = check(&state) {
            return Err((wrong, Box::new(state)));
        }
        // Without further faults, is there anything left to happen? That somebody cancels, or time passes, ends a job
        // that nothing else would.
        let calm = State { faults: 0, ..state.clone() };
        let goes_on = next(&calm, without).into_iter().chain(faults::wake(&calm)).filter(|s| *s != calm);
        let helps = |s: &State| s.cancel == calm.cancel && s.is_due == calm.is_due && s.expiring == calm.expiring;
        let is_at_rest = !goes_on.into_iter().any(|s| helps(&s));
        if is_at_rest
            && state.cancel != 1
            && state.expiring.is_none()
            && let Some(wrong) = check_rest(&state)
        {
            return Err((wrong, Box::new(state)));
        }
        for found in next(&state, without).into_iter().chain(faults::wake(&state)) {
            if found != state && seen.insert(mark(&found)) {
                line.push_back(found);
            }
        }
        assert!(seen.len() < 100_000_000, "the model has outgrown its bounds");
    }
    Ok(seen.len())
}

#[test]
fn with_all_guards_every_promise_is_kept() {
    let faults = std::env::var("AGENTICORE_MODEL_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for fleet in FLEETS {
        match explore(fleet, Guard::None, faults) {
            Ok(states) => println!("{fleet:?}: {states} states with up to {faults} faults"),
            Err((wrong, state)) => panic!("{wrong}: {state:#?}"),
        }
    }
}

#[test]
fn without_any_one_guard_a_fault_is_found() {
    for guard in GUARDS {
        // Where it shows soonest.
        let (fleet, faults) = match guard {
            Guard::OneAttemptPerToken => (ONE_POD, 1),
            Guard::ClaimOnlyWhatWasRead => (NO_COPY, 2),
            _ => (TWO_PODS, 1),
        };
        match explore(fleet, guard, faults) {
            Err((wrong, _)) => println!("without {guard:?}, up to {faults} faults: {wrong}"),
            Ok(_) => panic!("without {guard:?} nothing goes wrong that the model sees"),
        }
    }
}
