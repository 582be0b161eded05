//! The fleet's transitions as a model, explored exhaustively: one job, two pods, somebody who cancels,
//! a reaper, a sweep; with crashes, pauses, lost calls and replies, and a Redis that comes back
//! empty or older. Each guard is then taken out in turn, and the explorer has to find what it prevents.
//!
//! With one fault in a history it takes seconds, and CI does that; `make model` takes two faults and
//! optimized code. AGENTICORE_MODEL_FAULTS sets another number.
//!
//! One step of the model is one script, one file operation or one request to the outside: what is
//! atomic in `src/store/redis` is atomic here, and in the same order. Time is abstract: a lease may run
//! out at any moment, but in Redis only after its holder stopped relying on it.

use std::collections::{HashSet, VecDeque};

const PODS: usize = 2;
/// Faults in one history, all kinds together, that a missing guard is looked for with.
const FAULTS_TO_FIND: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Status {
    Queued,
    Running,
    Sealed,
    Ended,
}

/// How the job ended: by which attempt, or 0 for a cancel.
type Outcome = u8;
/// Pod and incarnation packed, and attempt.
type Token = (u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Record {
    status: Status,
    attempt: u8,
    deaths: u8,
    holder: Option<Token>,
    outcome: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Redis {
    record: Option<Record>,
    lease: Option<Token>,
    queue: u8,
    running: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Open {
    queued: bool,
    attempt: u8,
    deaths: u8,
    holder: Option<Token>,
}

/// Where a pod is with the job; the number is its attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Idle,
    Popped,
    /// The claim's script is done: look for the ended file, then write the open one.
    Claimed(u8),
    Checked(u8),
    /// The agent may start.
    Ready(u8),
    Agent(u8),
    /// The agent has ended; the lease is to be proved, and the ended file looked for.
    Publish(u8),
    /// Proved: the push is about to be sent.
    Push(u8),
    Pushed(u8),
    /// Proved again, and no pull request was found.
    Open(u8),
    /// Published; to be sealed.
    Finish(u8),
    Sealed(u8),
    Linked(u8),
    /// Lost its lease or was cut off: the attempt is over here, and is to be given back.
    GiveBack(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Pod {
    at: At,
    incarnation: u8,
    /// It may rely on its lease: the clock says so.
    relies: bool,
    asleep: bool,
    /// Its agent lives (its supervisor ends it with the lease, or with the server).
    agent: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    redis: Redis,
    kept: Option<Redis>,
    open: Option<Open>,
    ended: Option<Outcome>,
    pods: [Pod; PODS],
    branch: Option<u8>,
    pulls: u8,
    /// Somebody closed the pull request: then GitHub takes another one for the same branch.
    closed: bool,
    /// Submission: 0 not yet, 1 file written, 2 queued.
    submitted: u8,
    cancel: u8,
    faults: u8,
    // What happened, for the invariants.
    crashes: u8,
    redis_lost: bool,
    answered: Option<Outcome>,
    wrong: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guard {
    None,
    FileBeforeScript,
    ClaimOnlyQueued,
    ClaimLooksForEnded,
    HigherAttemptOfBoth,
    ProveBeforePush,
    LookForEndedBeforePush,
    ClockBeforePush,
    PushOnlyCreates,
    LookBeforeOpening,
    SealOnlyByHolder,
    LinkIsExclusive,
    ReapOnlyWithoutLease,
    NoReapAfterSeal,
    ReaperReturnsPops,
    ReaperCompletesSeals,
    PutBackOnlyUnknown,
    SweepLooksForEnded,
    SweepPutsBack,
    StraysAreGivenBack,
    GivenBackByHolder,
    AgentEndsWithLease,
}

const GUARDS: [Guard; 21] = [
    Guard::FileBeforeScript,
    Guard::ClaimOnlyQueued,
    Guard::ClaimLooksForEnded,
    Guard::HigherAttemptOfBoth,
    Guard::ProveBeforePush,
    Guard::LookForEndedBeforePush,
    Guard::ClockBeforePush,
    Guard::PushOnlyCreates,
    Guard::LookBeforeOpening,
    Guard::SealOnlyByHolder,
    Guard::LinkIsExclusive,
    Guard::ReapOnlyWithoutLease,
    Guard::NoReapAfterSeal,
    Guard::ReaperReturnsPops,
    Guard::ReaperCompletesSeals,
    Guard::PutBackOnlyUnknown,
    Guard::SweepLooksForEnded,
    Guard::SweepPutsBack,
    Guard::StraysAreGivenBack,
    Guard::GivenBackByHolder,
    Guard::AgentEndsWithLease,
];

impl State {
    fn new(faults: u8) -> Self {
        let pod = Pod { at: At::Idle, incarnation: 0, relies: false, asleep: false, agent: false };
        Self {
            redis: Redis::default(),
            kept: None,
            open: None,
            ended: None,
            pods: [pod; PODS],
            branch: None,
            pulls: 0,
            closed: false,
            submitted: 0,
            cancel: 0,
            faults,
            crashes: 0,
            redis_lost: false,
            answered: None,
            wrong: None,
        }
    }

    fn token(&self, pod: usize, attempt: u8) -> Token {
        (pod as u8 * 8 + self.pods[pod].incarnation, attempt)
    }

    fn put_among_running(&mut self) {
        self.redis.running = 1;
    }

    fn close(&mut self, outcome: Outcome) {
        let attempt = self.redis.record.map_or(0, |record| record.attempt);
        let deaths = self.redis.record.map_or(0, |record| record.deaths);
        let was_ended = self.redis.record.is_some_and(|record| record.status == Status::Ended);
        if !was_ended {
            self.redis.record =
                Some(Record { status: Status::Ended, attempt, deaths, holder: None, outcome: Some(outcome) });
        }
        (self.redis.lease, self.redis.queue, self.redis.running) = (None, 0, 0);
        self.open = None;
        self.answer(outcome);
    }

    /// Somebody was told, or can read, that the job ended so.
    fn answer(&mut self, outcome: Outcome) {
        if self.answered.is_some_and(|earlier| earlier != outcome) {
            self.wrong = Some("two outcomes were told");
        }
        self.answered = Some(outcome);
    }

    fn link(&mut self, outcome: Outcome, without: Guard) -> Outcome {
        if self.ended.is_none() || without == Guard::LinkIsExclusive {
            self.ended = Some(outcome);
        }
        self.ended.unwrap_or(outcome)
    }

    fn conclude(&mut self, outcome: Outcome, without: Guard) {
        let outcome = self.link(outcome, without);
        self.close(outcome);
    }

    fn write_open(&mut self, open: Open) {
        if self.ended.is_none() && self.open.is_none_or(|there| there.attempt <= open.attempt) {
            self.open = Some(open);
        }
    }

    fn put_back_from_file(&mut self) {
        let Some(open) = self.open else { return };
        let status = if open.queued { Status::Queued } else { Status::Running };
        self.redis.record =
            Some(Record { status, attempt: open.attempt, deaths: open.deaths, holder: open.holder, outcome: None });
        (self.redis.queue, self.redis.running) = if open.queued { (1, 0) } else { (0, 1) };
    }

    /// Why the holder of this token may not write; the renewal takes an absent lease again.
    fn holds(&self, token: Token) -> bool {
        self.redis.record.is_some_and(|record| record.status == Status::Running && record.holder == Some(token))
            && self.redis.lease == Some(token)
    }
}

/// All states that one step leads to.
fn next(state: &State, without: Guard) -> Vec<State> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut State)| {
        let mut next = state.clone();
        change(&mut next);
        all.push(next);
    };
    submit(state, without, &mut add);
    cancel(state, without, &mut add);
    for pod in 0..PODS {
        if !state.pods[pod].asleep {
            work(state, pod, without, &mut add);
        }
        clock(state, pod, without, &mut add);
    }
    if state.pulls == 1 && !state.closed {
        add(&|s| s.closed = true);
    }
    reap(state, without, &mut add);
    sweep(state, without, &mut add);
    if state.faults > 0 {
        faults(state, &mut add);
    }
    all
}

type Add<'a> = &'a mut dyn FnMut(&dyn Fn(&mut State));

fn submit(state: &State, without: Guard, add: Add) {
    let file = Open { queued: true, attempt: 0, deaths: 0, holder: None };
    let enqueue = |s: &mut State| {
        if s.redis.record.is_none() && s.ended.is_none() {
            s.redis.record =
                Some(Record { status: Status::Queued, attempt: 0, deaths: 0, holder: None, outcome: None });
            s.redis.queue = 1;
        }
    };
    match (state.submitted, without == Guard::FileBeforeScript) {
        (0, false) => add(&|s| (s.open, s.submitted) = (Some(file), 1)),
        (1, false) => add(&|s| {
            enqueue(s);
            s.submitted = 2;
        }),
        // Accepted without a file: what Redis loses then is lost.
        (0, true) => add(&|s| {
            enqueue(s);
            s.submitted = 2;
        }),
        _ => {}
    }
}

/// Links the ended file, then closes; in between everything may happen.
fn cancel(state: &State, without: Guard, add: Add) {
    match state.cancel {
        0 if state.submitted > 0 => add(&|s| {
            s.cancel = 1;
            let outcome = s.link(0, without);
            s.answer(outcome);
        }),
        1 => add(&|s| {
            s.cancel = 2;
            if let Some(outcome) = s.ended {
                s.close(outcome);
            }
        }),
        _ => {}
    }
}

fn work(state: &State, pod: usize, without: Guard, add: Add) {
    let me = state.pods[pod];
    // The stop is looked at between any two steps: an attempt that cannot rely on its lease is over.
    let over = |attempt: u8| {
        move |s: &mut State| {
            s.pods[pod].at = At::GiveBack(attempt);
            s.pods[pod].agent = false;
        }
    };
    let go = |to: At| move |s: &mut State| s.pods[pod].at = to;
    match me.at {
        At::Idle => {
            if state.redis.queue > 0 {
                add(&|s| {
                    s.redis.queue -= 1;
                    s.redis.running += 1;
                    s.pods[pod].at = At::Popped;
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
        }
        At::Popped => {
            add(&|s| claim(s, pod, without));
            if state.faults > 0 {
                // The script ran, its reply is lost: the record names us for what we do not run.
                add(&|s| {
                    claim(s, pod, without);
                    s.pods[pod].at = At::Idle;
                    s.pods[pod].relies = false;
                    s.faults -= 1;
                });
            }
        }
        At::Claimed(attempt) => {
            if state.ended.is_some() && without != Guard::ClaimLooksForEnded {
                add(&|s| {
                    let outcome = s.ended.unwrap_or_default();
                    s.close(outcome);
                    s.pods[pod].at = At::Idle;
                });
            } else {
                let ended_before = state.ended.is_some();
                add(&|s| {
                    if ended_before {
                        s.wrong = Some("an attempt began on a job that had ended before it was claimed");
                    }
                    s.pods[pod].at = At::Checked(attempt);
                });
            }
        }
        At::Checked(attempt) => add(&|s| {
            let deaths = s.redis.record.map_or(0, |record| record.deaths);
            let holder = Some(s.token(pod, attempt));
            s.write_open(Open { queued: false, attempt, deaths, holder });
            s.pods[pod].at = At::Ready(attempt);
        }),
        At::Ready(attempt) if !me.relies => add(&over(attempt)),
        At::Ready(attempt) => add(&|s| {
            if s.branch.is_some() && attempt > 1 {
                // An earlier attempt had published: adopted.
                s.pods[pod].at = At::Pushed(attempt);
                return;
            }
            s.pods[pod].agent = true;
            s.pods[pod].at = At::Agent(attempt);
            if s.pods.iter().filter(|pod| pod.agent).count() > 1 && !s.redis_lost {
                s.wrong = Some("two agents at once");
            }
        }),
        At::Agent(attempt) if !me.relies => add(&over(attempt)),
        At::Agent(attempt) => add(&|s| {
            s.pods[pod].agent = false;
            s.pods[pod].at = At::Publish(attempt);
        }),
        At::Publish(attempt) if !me.relies => add(&over(attempt)),
        At::Publish(attempt) => {
            let token = state.token(pod, attempt);
            if state.ended.is_some() && without != Guard::LookForEndedBeforePush {
                add(&go(At::Idle));
            } else if state.holds(token) || without == Guard::ProveBeforePush {
                let (has_ended, holds) = (state.ended.is_some(), state.holds(token));
                add(&|s| {
                    if has_ended {
                        s.wrong = Some("a push is about to begin for a job that has ended");
                    }
                    if !holds {
                        s.wrong = Some("a push is about to begin that Redis would not allow");
                    }
                    s.pods[pod].at = At::Push(attempt);
                });
            } else if state.redis.record.is_some_and(|record| record.holder != Some(token)) {
                add(&go(At::Idle));
            }
        }
        At::Push(attempt) if !me.relies && without != Guard::ClockBeforePush => add(&over(attempt)),
        At::Push(attempt) => {
            let (relies, token) = (me.relies, state.token(pod, attempt));
            add(&|s| {
                if !relies {
                    s.wrong = Some("a push began without a lease to rely on");
                }
                let is_others = s.redis.record.is_some_and(|r| r.status == Status::Running && r.holder != Some(token));
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
                s.pods[pod].at = At::Pushed(attempt);
            });
        }
        At::Pushed(attempt) if !me.relies => add(&over(attempt)),
        At::Pushed(attempt) => {
            let token = state.token(pod, attempt);
            if state.ended.is_some() {
                add(&go(At::Idle));
            } else if state.holds(token) {
                let found = state.pulls > 0 && without != Guard::LookBeforeOpening;
                add(&go(if found { At::Finish(attempt) } else { At::Open(attempt) }));
            } else if state.redis.record.is_some_and(|record| record.holder != Some(token)) {
                add(&go(At::Idle));
            }
        }
        At::Open(attempt) if !me.relies => add(&over(attempt)),
        At::Open(attempt) => add(&|s| {
            // GitHub refuses a second one for the same branch while the first is open, and that is success.
            if s.pulls == 0 || s.closed {
                s.pulls += 1;
            }
            if s.pulls > 1 && !s.redis_lost {
                s.wrong = Some("two pull requests");
            }
            s.pods[pod].at = At::Finish(attempt);
        }),
        At::Finish(attempt) if !me.relies && without != Guard::SealOnlyByHolder => add(&over(attempt)),
        At::Finish(attempt) => {
            let token = state.token(pod, attempt);
            let Some(record) = state.redis.record else { return };
            let may = state.holds(token) || without == Guard::SealOnlyByHolder;
            if matches!(record.status, Status::Sealed | Status::Ended) {
                add(&|s| {
                    let outcome = record.outcome.unwrap_or_default();
                    s.conclude(outcome, without);
                    s.pods[pod].at = At::Idle;
                });
            } else if may {
                let is_others = record.holder != Some(token) || state.redis.lease != Some(token);
                add(&|s| {
                    if is_others && !s.redis_lost {
                        s.wrong = Some("an attempt without its lease decided the outcome");
                    }
                    s.redis.record = Some(Record { status: Status::Sealed, outcome: Some(attempt), ..record });
                    s.put_among_running();
                    s.pods[pod].at = At::Sealed(attempt);
                });
            } else if record.holder != Some(token) {
                add(&go(At::Idle));
            }
        }
        At::Sealed(attempt) => add(&|s| {
            s.link(attempt, without);
            s.pods[pod].at = At::Linked(attempt);
        }),
        At::Linked(_) => add(&|s| {
            if let Some(outcome) = s.ended {
                s.close(outcome);
            }
            s.pods[pod].at = At::Idle;
        }),
        At::GiveBack(attempt) => give_back(state, pod, attempt, without, add),
    }
}

fn claim(s: &mut State, pod: usize, without: Guard) {
    s.pods[pod].at = At::Idle;
    let Some(record) = s.redis.record else {
        // Unknown: put back from its file.
        s.redis.running = 0;
        if s.ended.is_none() {
            s.put_back_from_file();
        }
        return;
    };
    if record.status == Status::Ended {
        (s.redis.queue, s.redis.running) = (0, 0);
        return;
    }
    if without != Guard::ClaimOnlyQueued && (record.status != Status::Queued || s.redis.running == 0) {
        s.redis.running = u8::from(record.status != Status::Queued);
        return;
    }
    let in_file = s.open.map_or(0, |open| open.attempt);
    let before = if without == Guard::HigherAttemptOfBoth { record.attempt } else { record.attempt.max(in_file) };
    let attempt = before + 1;
    if attempt <= in_file {
        s.wrong = Some("an attempt got a number that another one had");
    }
    let token = s.token(pod, attempt);
    s.redis.record = Some(Record { status: Status::Running, attempt, holder: Some(token), ..record });
    s.redis.lease = Some(token);
    s.put_among_running();
    s.pods[pod].at = At::Claimed(attempt);
    s.pods[pod].relies = true;
}

/// The file says that it waits, then the script; refused, it is somebody else's.
fn give_back(state: &State, pod: usize, attempt: u8, without: Guard, add: Add) {
    let token = state.token(pod, attempt);
    let record = state.redis.record;
    let is_ours = record.is_some_and(|record| record.status == Status::Running && record.holder == Some(token));
    if is_ours || without == Guard::GivenBackByHolder {
        add(&|s| {
            let Some(record) = s.redis.record else { return };
            if record.holder != Some(token) && record.status != Status::Queued && !s.redis_lost {
                s.wrong = Some("somebody else's attempt was given back");
            }
            s.write_open(Open { queued: true, attempt, deaths: record.deaths, holder: None });
            s.redis.record = Some(Record { status: Status::Queued, holder: None, ..record });
            (s.redis.lease, s.redis.running, s.redis.queue) = (None, 0, 1);
            s.pods[pod].at = At::Idle;
        });
    } else {
        add(&|s| {
            if s.redis.record.is_none() && s.ended.is_none() {
                s.put_back_from_file();
            }
            s.pods[pod].at = At::Idle;
        });
    }
}

/// What time does: a lease that is not renewed is relied on no more, and only then runs out.
fn clock(state: &State, pod: usize, without: Guard, add: Add) {
    let me = state.pods[pod];
    let attempt = match me.at {
        At::Claimed(n)
        | At::Checked(n)
        | At::Ready(n)
        | At::Agent(n)
        | At::Publish(n)
        | At::Push(n)
        | At::Pushed(n)
        | At::Open(n)
        | At::Finish(n)
        | At::Sealed(n)
        | At::Linked(n)
        | At::GiveBack(n) => n,
        At::Idle | At::Popped => 0,
    };
    if attempt == 0 {
        return;
    }
    let token = state.token(pod, attempt);
    let names_us = state.redis.record.is_some_and(|record| record.holder == Some(token));
    // Renewing: an absent lease is taken again while the record names us.
    if !me.asleep && me.relies && names_us && state.redis.lease.is_none() {
        add(&|s| s.redis.lease = Some(token));
    }
    // Redis lost the record: the holder puts it back.
    if !me.asleep && me.relies && state.redis.record.is_none() && state.ended.is_none() && state.open.is_some() {
        add(&|s| s.put_back_from_file());
    }
    // It learns that the job is somebody else's, or has ended.
    if !me.asleep && me.relies && state.redis.record.is_some() && !names_us {
        add(&|s| {
            s.pods[pod].relies = false;
            s.pods[pod].agent = false;
        });
    }
    // It cannot renew, because it sleeps or is cut off.
    if me.relies && me.asleep {
        add(&|s| {
            s.pods[pod].relies = false;
            if without != Guard::AgentEndsWithLease {
                s.pods[pod].agent = false;
            }
        });
    }
}

fn reap(state: &State, without: Guard, add: Add) {
    let Some(record) = state.redis.record else { return };
    if state.redis.running == 0 {
        return;
    }
    let holder = (0..PODS).find(|pod| {
        let at = state.pods[*pod].at;
        record.holder.is_some_and(|token| (0..8).any(|n| state.token(*pod, n) == token)) && !matches!(at, At::Idle)
    });
    // In Redis a lease runs out only when its holder relies on it no more.
    let relied_on = holder.is_some_and(|pod| state.pods[pod].relies);
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
    // A claim under way takes less than the grace, unless its pod sleeps.
    let popping = state.pods.iter().any(|pod| pod.at == At::Popped && !pod.asleep);
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
        Status::Running => {
            let lives = (0..PODS).any(|pod| record.holder.is_some_and(|(of, _)| of == state.token(pod, 0).0));
            let sleeps = holder.is_some_and(|pod| state.pods[pod].asleep);
            let is_stray = lives && holder.is_none();
            // A pod that lives gives back what names it and what it does not run, before the grace is over.
            if is_stray && without != Guard::StraysAreGivenBack {
                return add(&|s| requeue(s, record, 0));
            }
            if lives && !sleeps && !is_stray && without != Guard::ReapOnlyWithoutLease {
                return;
            }
            let given_back = state.open.is_some_and(|open| open.queued && open.attempt == record.attempt);
            add(&|s| requeue(s, record, u8::from(!given_back)));
        }
        _ => {}
    }
}

fn requeue(s: &mut State, record: Record, deaths: u8) {
    let deaths = record.deaths + deaths;
    s.redis.record = Some(Record { status: Status::Queued, deaths, holder: None, ..record });
    (s.redis.lease, s.redis.running, s.redis.queue) = (None, 0, 1);
    s.write_open(Open { queued: true, attempt: record.attempt, deaths, holder: None });
    if deaths > s.crashes && !s.redis_lost {
        s.wrong = Some("a death was counted that was none");
    }
}

fn sweep(state: &State, without: Guard, add: Add) {
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

fn faults(state: &State, add: Add) {
    for pod in 0..PODS {
        let me = state.pods[pod];
        if me.at != At::Idle {
            // A crash: the supervisor ends the agent, and the pod comes back as another run.
            add(&|s| {
                let incarnation = s.pods[pod].incarnation + 1;
                s.pods[pod] = Pod { at: At::Idle, incarnation, relies: false, asleep: false, agent: false };
                s.faults -= 1;
                s.crashes += 1;
            });
        }
        if !me.asleep && me.at != At::Idle {
            add(&|s| {
                s.pods[pod].asleep = true;
                s.faults -= 1;
                // A pod that sleeps past its lease is lost as one that crashed is.
                s.crashes += 1;
            });
        }
    }
    if state.kept.is_none() && state.redis.record.is_some() {
        // Not a fault yet: the state that Redis may come back with.
        add(&|s| s.kept = Some(s.redis));
    }
    if state.redis.record.is_some() {
        add(&|s| {
            s.redis = Redis::default();
            s.faults -= 1;
            s.redis_lost = true;
        });
    }
    if let Some(kept) = state.kept.filter(|kept| *kept != state.redis) {
        add(&|s| {
            s.redis = kept;
            s.faults -= 1;
            s.redis_lost = true;
        });
    }
}

/// What must be true in every state.
fn check(state: &State) -> Option<&'static str> {
    if state.wrong.is_some() {
        return state.wrong;
    }
    let accepted = state.submitted > 0;
    if accepted && state.open.is_none() && state.ended.is_none() {
        let known = state.redis.record.is_some();
        // The file may be written later than the script says so, never not at all.
        if !known || state.redis_lost {
            return Some("an accepted job is nowhere");
        }
    }
    if let (Some(told), Some(file)) = (state.answered, state.ended)
        && told != file
    {
        return Some("what was told is not what the ended file says");
    }
    None
}

/// Nothing but faults can happen any more: then the job has ended, everywhere.
fn check_rest(state: &State) -> Option<&'static str> {
    let closed =
        state.redis.record.is_some_and(|record| record.status == Status::Ended) || state.redis.record.is_none();
    let ended = state.ended.is_some() && closed && state.open.is_none();
    if state.submitted > 0 && !ended {
        return Some("the job does not end");
    }
    if state.ended.is_some_and(|outcome| outcome > 0) && (state.branch.is_none() || state.pulls == 0) {
        return Some("it succeeded, and its work is not published");
    }
    None
}

/// Those that sleep wake up when nothing else is left to happen, or before.
fn wake(state: &State) -> Vec<State> {
    (0..PODS)
        .filter(|pod| state.pods[*pod].asleep)
        .map(|pod| {
            let mut awake = state.clone();
            awake.pods[pod].asleep = false;
            awake
        })
        .collect()
}

/// How many states there are, or the first fault found.
fn explore(without: Guard, faults: u8) -> Result<usize, (&'static str, Box<State>)> {
    let (mut seen, mut line) = (HashSet::new(), VecDeque::from([State::new(faults)]));
    seen.insert(State::new(faults));
    while let Some(state) = line.pop_front() {
        if let Some(wrong) = check(&state) {
            return Err((wrong, Box::new(state)));
        }
        // Without further faults, is there anything left to happen?
        let calm = State { faults: 0, ..state.clone() };
        let goes_on: Vec<State> = next(&calm, without).into_iter().chain(wake(&calm)).filter(|s| *s != calm).collect();
        let is_cancelled_only_later = goes_on.iter().all(|s| s.cancel != calm.cancel);
        if is_cancelled_only_later
            && state.cancel == 0
            && let Some(wrong) = check_rest(&state)
        {
            return Err((wrong, Box::new(state)));
        }
        if goes_on.is_empty()
            && let Some(wrong) = check_rest(&state)
        {
            return Err((wrong, Box::new(state)));
        }
        for found in next(&state, without).into_iter().chain(wake(&state)) {
            if found != state && !seen.contains(&found) {
                seen.insert(found.clone());
                line.push_back(found);
            }
        }
        assert!(seen.len() < 30_000_000, "the model has outgrown its bounds");
    }
    Ok(seen.len())
}

#[test]
fn with_all_guards_every_promise_is_kept() {
    let faults = std::env::var("AGENTICORE_MODEL_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    match explore(Guard::None, faults) {
        Ok(states) => println!("{states} states with up to {faults} faults"),
        Err((wrong, state)) => panic!("{wrong}: {state:#?}"),
    }
}

#[test]
fn without_any_one_guard_a_fault_is_found() {
    for guard in GUARDS {
        let found = (0..=FAULTS_TO_FIND).find_map(|faults| Some((faults, explore(guard, faults).err()?)));
        match found {
            Some((faults, (wrong, _))) => println!("without {guard:?}, {faults} faults: {wrong}"),
            None => panic!("without {guard:?} nothing goes wrong that the model sees"),
        }
    }
}
