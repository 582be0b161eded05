//! What a worker does: it claims the job, runs the agent, publishes, and ends the job or gives it back.

use crate::state::*;
use crate::{Add, Guard};

pub fn work(state: &State, worker: usize, without: Guard, add: Add) {
    let me = state.workers[worker];
    // The stop is looked at between any two steps: an attempt that cannot rely on its lease is over.
    let over = |attempt: u8| {
        move |s: &mut State| {
            s.workers[worker].at = At::GiveBack(attempt);
            s.workers[worker].agent = false;
        }
    };
    let go = |to: At| move |s: &mut State| s.workers[worker].at = to;
    let leave = |s: &mut State| s.leave(worker);
    match me.at {
        At::Idle | At::Popped | At::Read(_) => take(state, worker, without, add),
        At::Claimed(attempt) => {
            if state.ended.is_some() && without != Guard::ClaimLooksForEnded {
                add(&|s| {
                    let outcome = s.ended.unwrap_or_default();
                    s.close(outcome);
                    s.leave(worker);
                });
            } else {
                let ended_before = state.ended.is_some();
                add(&|s| {
                    if ended_before {
                        s.wrong = Some("an attempt began on a job that had ended before it was claimed");
                    }
                    s.workers[worker].at = At::Checked(attempt);
                });
            }
        }
        // Its open file is gone: it ended since, and was forgotten.
        At::Checked(attempt)
            if state.fleet.has_copy && state.open.is_none() && without != Guard::ClaimNeedsOpenFile =>
        {
            add(&over(attempt));
        }
        At::Checked(attempt) => add(&|s| {
            let deaths = s.redis.record.map_or(0, |record| record.deaths);
            let runs_alone = s.redis.record.is_some_and(|record| record.runs_alone);
            s.write_open(Open { queued: false, attempt, deaths, runs_alone, holder: me.token });
            s.workers[worker].at = At::Ready(attempt);
        }),
        At::Ready(attempt) if !me.relies => add(&over(attempt)),
        At::Ready(attempt) => add(&|s| {
            if s.branch.is_some() && attempt > 1 {
                // An earlier attempt had published: adopted.
                s.workers[worker].at = At::Pushed(attempt);
                return;
            }
            s.workers[worker].agent = true;
            s.workers[worker].at = At::Agent(attempt);
            if s.workers.iter().filter(|worker| worker.agent).count() > 1 && !s.redis_lost {
                s.wrong = Some("two agents at once");
            }
        }),
        At::Agent(attempt) if !me.relies => add(&over(attempt)),
        At::Agent(attempt) => add(&|s| {
            s.workers[worker].agent = false;
            s.workers[worker].at = At::Publish(attempt);
        }),
        At::Publish(attempt) | At::Push(attempt) if !me.relies && without != Guard::ClockBeforePush => {
            add(&over(attempt));
        }
        At::Publish(_) | At::Push(_) => publish(state, worker, without, add),
        At::Pushed(attempt) | At::Open(attempt) if !me.relies => add(&over(attempt)),
        At::Pushed(attempt) => {
            if state.ended.is_some() || state.is_others(me.token) {
                add(&leave);
            } else if state.holds(me.token) {
                let found = state.pulls > 0 && without != Guard::LookBeforeOpening;
                add(&go(if found { At::Finish(attempt) } else { At::Open(attempt) }));
            }
        }
        At::Open(attempt) => add(&|s| {
            // GitHub refuses a second one for the same branch while the first is open, and that is success.
            if s.pulls == 0 || s.closed {
                s.pulls += 1;
            }
            if s.pulls > 1 && !s.redis_lost {
                s.wrong = Some("two pull requests");
            }
            s.workers[worker].at = At::Finish(attempt);
        }),
        At::Finish(attempt) if !me.relies && without != Guard::SealOnlyByHolder => add(&over(attempt)),
        At::Finish(_) | At::Sealed(_) | At::Linked(_) => finish(state, worker, without, add),
        At::GiveBack(attempt) => give_back(state, worker, attempt, without, add),
    }
}

/// From the line to a claim.
fn take(state: &State, worker: usize, without: Guard, add: Add) {
    match state.workers[worker].at {
        At::Idle if state.redis.queue > 0 => {
            add(&|s| {
                s.redis.queue -= 1;
                s.redis.running += 1;
                s.workers[worker].at = At::Popped;
            });
            // The reply is lost: the id is in `running`, and nobody knows.
            if state.faults > 0 {
                add(&|s| {
                    s.redis.queue -= 1;
                    s.redis.running += 1;
                    s.faults -= 1;
                });
            }
        }
        At::Popped => {
            let pod = state.fleet.pod_of[worker];
            let is_busy = |other: usize| other != worker && state.fleet.pod_of[other] == pod;
            let is_ours = (0..WORKERS).any(|other| is_busy(other) && state.workers[other].at != At::Idle);
            match state.redis.record {
                // Redis forgot that this pod has it: it goes back, and our attempt learns of that.
                Some(record) if is_ours && without != Guard::OneAttemptPerToken => add(&|s| {
                    if record.status == Status::Queued {
                        (s.redis.queue, s.redis.running) = (1, 0);
                    }
                    s.workers[worker].at = At::Idle;
                }),
                // Unknown: put back from its file.
                None => add(&|s| {
                    s.redis.running = 0;
                    if s.ended.is_none() {
                        s.put_back_from_file();
                    }
                    s.workers[worker].at = At::Idle;
                }),
                Some(record) if record.status == Status::Ended => add(&|s| {
                    (s.redis.queue, s.redis.running) = (0, 0);
                    s.workers[worker].at = At::Idle;
                }),
                Some(record) => add(&|s| {
                    // Somebody removed its file, and Redis knows that it waits.
                    if s.open.is_none() && record.status == Status::Queued {
                        let Record { attempt, deaths, runs_alone, .. } = record;
                        s.write_open(Open { queued: true, attempt, deaths, runs_alone, holder: None });
                    }
                    s.workers[worker].at = At::Read(record);
                }),
            }
        }
        At::Read(record) => {
            add(&|s| claim(s, worker, record, without));
            if state.faults > 0 {
                // The script ran, its reply is lost: the record names us for what we do not run.
                add(&|s| {
                    claim(s, worker, record, without);
                    s.leave(worker);
                    s.faults -= 1;
                });
            }
        }
        _ => {}
    }
}

/// The claim's script, with what was read before.
fn claim(s: &mut State, worker: usize, read: Record, without: Guard) {
    let in_file = s.open.map_or(0, |open| open.attempt);
    let before = if without == Guard::HigherAttemptOfBoth { read.attempt } else { read.attempt.max(in_file) };
    let attempt = before + 1;
    let nonce = if without == Guard::OneAttemptPerToken { 0 } else { s.claims };
    let token = Token { of: s.run_of(s.fleet.pod_of[worker]), attempt, nonce };
    let Some(record) = s.redis.record else {
        s.workers[worker].at = At::Popped;
        return;
    };
    // It ran before, and its answer was lost.
    let is_done = record.status == Status::Running && record.holder == Some(token) && s.redis.lease == Some(token);
    if !is_done {
        if record.status == Status::Ended {
            (s.redis.queue, s.redis.running) = (0, 0);
            return s.leave(worker);
        }
        if without != Guard::ClaimOnlyQueued && (record.status != Status::Queued || s.redis.running == 0) {
            s.redis.running = u8::from(record.status != Status::Queued);
            return s.leave(worker);
        }
        if record != read && without != Guard::ClaimOnlyWhatWasRead {
            s.workers[worker].at = At::Popped;
            return;
        }
        if attempt <= in_file {
            s.wrong = Some("an attempt got a number that another one had");
        }
        s.claims += 1;
        s.redis.record = Some(Record { status: Status::Running, attempt, holder: Some(token), ..read });
        if read.deaths < record.deaths {
            s.wrong = Some("a death was forgotten");
        }
        s.redis.lease = Some(token);
        s.put_among_running();
    }
    let me = &mut s.workers[worker];
    (me.at, me.token, me.relies) = (At::Claimed(attempt), Some(token), true);
}

fn publish(state: &State, worker: usize, without: Guard, add: Add) {
    let me = state.workers[worker];
    match me.at {
        At::Publish(attempt) => {
            if state.ended.is_some() && without != Guard::LookForEndedBeforePush {
                add(&|s| s.leave(worker));
            } else if state.holds(me.token) || without == Guard::ProveBeforePush {
                let (has_ended, holds) = (state.ended.is_some(), state.holds(me.token));
                add(&|s| {
                    if has_ended {
                        s.wrong = Some("a push is about to begin for a job that has ended");
                    }
                    if !holds {
                        s.wrong = Some("a push is about to begin that Redis would not allow");
                    }
                    s.workers[worker].at = At::Push(attempt);
                });
            } else if state.is_others(me.token) {
                add(&|s| s.leave(worker));
            }
        }
        At::Push(attempt) => add(&|s| {
            if !me.relies {
                s.wrong = Some("a push began without a lease to rely on");
            }
            let is_others = s.redis.record.is_some_and(|r| r.status == Status::Running && r.holder != me.token);
            if is_others && !s.redis_lost {
                s.wrong = Some("a push began for a job that was another attempt's");
            }
            match s.branch {
                None => s.branch = Some(attempt),
                Some(_) if without == Guard::PushOnlyCreates => {
                    s.branch = Some(attempt);
                    s.wrong = Some("a branch was overwritten");
                }
                Some(_) => {}
            }
            s.workers[worker].at = At::Pushed(attempt);
        }),
        _ => {}
    }
}

fn finish(state: &State, worker: usize, without: Guard, add: Add) {
    let me = state.workers[worker];
    match me.at {
        At::Finish(attempt) => {
            let Some(record) = state.redis.record else { return };
            let may = state.holds(me.token) || without == Guard::SealOnlyByHolder;
            if matches!(record.status, Status::Sealed | Status::Ended) {
                add(&|s| {
                    let outcome = record.outcome.unwrap_or_default();
                    s.conclude(outcome, without);
                    s.leave(worker);
                });
            } else if may {
                let is_others = record.holder != me.token || state.redis.lease != me.token;
                add(&|s| {
                    if is_others && !s.redis_lost {
                        s.wrong = Some("an attempt without its lease decided the outcome");
                    }
                    s.redis.record = Some(Record { status: Status::Sealed, outcome: Some(attempt), ..record });
                    s.put_among_running();
                    s.workers[worker].at = At::Sealed(attempt);
                });
            } else if record.holder != me.token {
                add(&|s| s.leave(worker));
            }
        }
        At::Sealed(attempt) => add(&|s| {
            s.link(attempt, without);
            s.workers[worker].at = At::Linked(attempt);
        }),
        At::Linked(attempt) => add(&|s| {
            let is_sealed = s.redis.record.is_some_and(|record| record.status == Status::Sealed);
            if let Some(outcome) = s.ended.or((!s.fleet.has_copy && is_sealed).then_some(attempt)) {
                s.close(outcome);
            }
            s.leave(worker);
        }),
        _ => {}
    }
}

/// The file says that it waits, then the script; refused, it is somebody else's.
fn give_back(state: &State, worker: usize, attempt: u8, without: Guard, add: Add) {
    let token = state.workers[worker].token;
    let record = state.redis.record;
    let is_ours = record.is_some_and(|record| record.status == Status::Running && record.holder == token);
    if is_ours || without == Guard::GivenBackByHolder {
        add(&|s| {
            let Some(record) = s.redis.record else { return };
            if record.holder != token && record.status != Status::Queued && !s.redis_lost {
                s.wrong = Some("somebody else's attempt was given back");
            }
            if s.open.is_some() {
                let Record { deaths, runs_alone, .. } = record;
                s.write_open(Open { queued: true, attempt, deaths, runs_alone, holder: None });
            }
            s.redis.record = Some(Record { status: Status::Queued, holder: None, ..record });
            (s.redis.lease, s.redis.running, s.redis.queue) = (None, 0, 1);
            s.leave(worker);
        });
    } else {
        add(&|s| {
            if s.redis.record.is_none() && s.ended.is_none() {
                s.put_back_from_file();
            }
            s.leave(worker);
        });
    }
}
