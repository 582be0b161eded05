//! What every store has to do: one suite, run against each of them.
//!
//! A third store is one that passes this: give it a [`Bench`] and a line in `suites!`. What differs between stores is
//! asked of the bench, and says why.

mod attempts;
mod benches;
mod jobs;
mod watching;

use super::{Back, Claim, End, Error, Key, Store};
use crate::event::{Cursor, Draft, Event, Kind};
use crate::job::tests::spec;
use crate::job::{JobId, Mark, Record, Spec, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A store under test, which can be closed and opened again as after a crash.
pub trait Bench {
    fn store(&self) -> Arc<dyn Store>;

    /// The server is gone and another one begins, on what the first one left.
    fn restart(&mut self);

    /// A restart takes over what ran: the server is the only one. In a fleet the others do so, when the lease is
    /// over, which their own tests show.
    fn takes_over_at_start(&self) -> bool;

    /// A cancelled attempt's leftovers are listed after a restart. In a fleet each pod finds them on its own disk.
    fn lists_leftovers(&self) -> bool;
}

macro_rules! suites {
    ($($module:ident: $($test:ident)*;)*) => {
        mod embedded_store {
            $($(#[test] fn $test() {
                super::$module::$test(&mut super::benches::Embedded::new());
            })*)*
        }
        mod redis_store {
            $($(#[test] fn $test() {
                if let Some(mut bench) = super::benches::Redis::new() {
                    super::$module::$test(&mut bench);
                }
            })*)*
        }
    };
}

suites! {
    jobs:
        first_in_first_out_also_over_a_restart
        a_queued_job_has_a_place_in_the_line
        a_submission_that_is_sent_again_is_the_same_job
        a_key_for_another_request_is_refused
        a_key_is_free_again_once_its_job_is_forgotten
        a_queued_job_that_is_cancelled_is_never_claimed
        cancelling_twice_is_cancelling_once
        a_retry_is_noted_in_the_record_of_the_job_that_ended
        overdue_jobs_expire_and_ended_ones_are_forgotten
        listings_are_newest_first_and_survive_a_restart
        a_list_goes_on_behind_a_place_whatever_comes_and_goes
        plans_and_worktrees_have_lists_of_their_own
        a_worktree_that_was_made_stays_until_it_is_removed
        the_newest_job_of_a_session_is_found
        a_claim_may_want_one_profile_alone
        nothing_is_claimed_while_claims_are_closed;
    attempts:
        an_attempt_that_lost_its_job_writes_nothing
        cancel_and_finish_have_one_winner
        what_was_achieved_is_kept
        handing_back_puts_a_job_first_and_counts_no_death
        a_lost_worker_is_a_death_and_the_next_attempt_goes_on
        an_attempt_that_is_over_is_released;
    watching:
        events_have_rising_cursors_and_pages_go_on
        events_of_all_attempts_are_kept_in_order
        the_end_is_heard_without_asking
        a_watcher_hears_everything_once
        an_end_before_the_watch_is_found_by_reading
        chatter_beyond_the_limit_is_cut_and_said
        events_survive_a_restart;
}

/// Long enough for whatever is awaited; reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::from_millis(300);

fn leaves(why: &str) -> Back {
    Back::Leaves(why.into())
}

fn task(text: &str) -> Spec {
    Spec { task: text.into(), ttl_seconds: 60, ..spec() }
}

fn submit(store: &dyn Store, text: &str) -> JobId {
    store.submit(task(text), None).unwrap().id
}

fn claim(store: &dyn Store) -> Claim {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(claim) = store.claim(NOW, None).unwrap() {
            return claim;
        }
        assert!(Instant::now() < until, "nothing to claim");
    }
}

fn get(store: &dyn Store, id: &JobId) -> Option<Record> {
    store.get(id).unwrap().it
}

fn end_well(claim: &Claim) -> Record {
    let verdict = Verdict { succeeded: true, exit_code: Some(0), output: Some("done".into()), error: None };
    let mark = Mark::AgentEnded { verdict, spent: Default::default() };
    claim.attempt.mark(mark, Some(Draft::new(Kind::AgentEnded, "succeeded"))).unwrap();
    claim.attempt.finish(End::Verdict).unwrap()
}

fn all_events(store: &dyn Store, id: &JobId) -> Vec<Event> {
    store.events(&get(store, id).unwrap(), Cursor::START, 10_000).unwrap()
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

fn key(name: &str, request: &str) -> Key {
    Key { name: name.into(), request: request.into() }
}

fn is_lost<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Lost))
}
