//! What goes wrong: pods that crash or sleep, a volume that stalls, a clock, a Redis that forgets. Lost replies are
//! with the steps whose replies they are.

use crate::Add;
use crate::state::*;

pub fn faults(state: &State, without: Guard, add: Add) {
    for pod in 0..WORKERS {
        let of_pod = |worker: &usize| state.fleet.pod_of[*worker] == pod;
        let is_busy = (0..WORKERS).filter(of_pod).any(|worker| state.workers[worker].at != At::Idle);
        if is_busy {
            // A crash: the supervisor ends the agent, and the pod comes back as another run.
            let crash = |s: &mut State| {
                s.pods[pod] = Pod { incarnation: s.pods[pod].incarnation + 1, asleep: false };
                (0..WORKERS).filter(of_pod).for_each(|worker| s.leave(worker));
                s.faults -= 1;
            };
            add(&|s| {
                crash(s);
                s.crashes += 1;
            });
            // The same with other jobs beside it.
            if state.redis.record.is_some_and(|record| record.status == Status::Running && !record.runs_alone) {
                add(&|s| {
                    crash(s);
                    s.died_beside_others = true;
                });
            }
        }
        if is_busy && !state.pods[pod].asleep {
            add(&|s| {
                s.pods[pod].asleep = true;
                s.faults -= 1;
                // A pod that sleeps past its lease is lost as one that crashed is.
                s.crashes += 1;
            });
        }
    }
    for worker in 0..WORKERS {
        let me = state.workers[worker];
        if matches!(me.at, At::Popped | At::Read(_)) && !me.stalled {
            // A read of the volume takes longer than the reaper waits.
            add(&|s| {
                s.workers[worker].stalled = true;
                s.faults -= 1;
            });
        }
    }
    // Nobody looks at it, unless the guard is out.
    if !state.wrong_clock && without == Guard::TimeIsRedis {
        add(&|s| {
            s.wrong_clock = true;
            s.faults -= 1;
        });
    }
    if state.kept.is_none() && state.redis.record.is_some() {
        // Not a fault yet: the state that Redis may come back with.
        add(&|s| s.kept = Some(s.redis));
    }
    // Nobody is helped by a Redis that comes back older than a job's whole time to live.
    if state.redis.record.is_some() && state.forgotten == 0 {
        add(&|s| {
            s.redis = Redis::default();
            s.faults -= 1;
            s.redis_lost = true;
        });
    }
    if let Some(kept) = state.kept.filter(|kept| *kept != state.redis && state.forgotten == 0) {
        add(&|s| {
            s.redis = kept;
            s.faults -= 1;
            s.redis_lost = true;
        });
    }
}

/// Those that sleep wake up when nothing else is left to happen, or before.
pub fn wake(state: &State) -> Vec<State> {
    let pods = (0..WORKERS).filter(|pod| state.pods[*pod].asleep).map(|pod| {
        let mut awake = state.clone();
        awake.pods[pod].asleep = false;
        awake
    });
    let workers = (0..WORKERS).filter(|worker| state.workers[*worker].stalled).map(|worker| {
        let mut awake = state.clone();
        awake.workers[worker].stalled = false;
        awake
    });
    pods.chain(workers).collect()
}
