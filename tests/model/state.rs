//! What there is: Redis, the volume, GitHub, pods and their workers; and what must be true of it at any moment.

/// Workers, each of a pod.
pub const WORKERS: usize = 2;
/// The outcome of a job that nobody claimed in time. Others: the attempt's number; 0: cancelled.
pub const EXPIRED: Outcome = 99;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Status {
    Queued,
    Running,
    Sealed,
    Ended,
}

/// How the job ended: by which attempt, or 0 for a cancel.
pub type Outcome = u8;

/// Of an attempt: pod and incarnation packed, its number, and what is drawn for each claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    pub of: u8,
    pub attempt: u8,
    pub nonce: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Record {
    pub status: Status,
    pub attempt: u8,
    pub deaths: u8,
    /// Its worker was lost before: it runs beside no other job.
    pub runs_alone: bool,
    pub holder: Option<Token>,
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Redis {
    pub record: Option<Record>,
    pub lease: Option<Token>,
    pub queue: u8,
    pub running: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Open {
    pub queued: bool,
    pub attempt: u8,
    pub deaths: u8,
    pub runs_alone: bool,
    pub holder: Option<Token>,
}

/// Where a worker is with the job; the number is its attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum At {
    Idle,
    Popped,
    /// Record and file are read: the claim's script is to be run.
    Read(Record),
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
pub struct Worker {
    pub at: At,
    /// Of the attempt that it holds.
    pub token: Option<Token>,
    /// It may rely on its lease: the clock says so.
    pub relies: bool,
    /// Its agent lives (its supervisor ends it with the lease, or with the server).
    pub agent: bool,
    /// It waits for the volume; its pod goes on renewing.
    pub stalled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pod {
    pub incarnation: u8,
    pub asleep: bool,
}

/// Which fleet is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Fleet {
    /// The pod of each worker.
    pub pod_of: [usize; WORKERS],
    /// Job files on a shared volume are a second copy; else Redis alone knows.
    pub has_copy: bool,
}

/// A worker in each of two pods.
pub const TWO_PODS: Fleet = Fleet { pod_of: [0, 1], has_copy: true };
/// Two workers of one pod.
pub const ONE_POD: Fleet = Fleet { pod_of: [0, 0], has_copy: true };
/// The same without a shared volume.
pub const NO_COPY: Fleet = Fleet { pod_of: [0, 0], has_copy: false };
/// Two pods without a shared volume.
pub const TWO_PODS_NO_COPY: Fleet = Fleet { pod_of: [0, 1], has_copy: false };
pub const FLEETS: [Fleet; 4] = [TWO_PODS, ONE_POD, NO_COPY, TWO_PODS_NO_COPY];

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub fleet: Fleet,
    pub redis: Redis,
    pub kept: Option<Redis>,
    pub open: Option<Open>,
    pub ended: Option<Outcome>,
    pub pods: [Pod; WORKERS],
    pub workers: [Worker; WORKERS],
    pub branch: Option<u8>,
    pub pulls: u8,
    /// Somebody closed the pull request: then GitHub takes another one for the same branch.
    pub closed: bool,
    /// Submission: 0 not yet, 1 file written, 2 queued.
    pub submitted: u8,
    pub cancel: u8,
    /// Its time in the line is over, by Redis' clock; and its time after the end.
    pub is_due: bool,
    pub is_over: bool,
    /// Some pod's own clock is days ahead.
    pub wrong_clock: bool,
    /// What the pod that expires has read.
    pub expiring: Option<Record>,
    /// 1: its record is gone, 2: its ended file too.
    pub forgotten: u8,
    /// How many claims there were.
    pub claims: u8,
    pub faults: u8,
    /// The pod that had it was lost with other jobs in it.
    pub died_beside_others: bool,
    // What happened, for the invariants.
    /// Of pods that had nothing else.
    pub crashes: u8,
    pub redis_lost: bool,
    pub answered: Option<Outcome>,
    pub wrong: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    None,
    FileBeforeScript,
    ClaimOnlyQueued,
    ClaimOnlyWhatWasRead,
    ClaimLooksForEnded,
    ClaimNeedsOpenFile,
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
    /// A token of its own for each claim, and no second attempt of a job on one pod.
    OneAttemptPerToken,
    TimeIsRedis,
    ExpireOnlyWhatWasRead,
    CountOnlyDeathsAlone,
}

pub const GUARDS: [Guard; 27] = [
    Guard::FileBeforeScript,
    Guard::ClaimOnlyQueued,
    Guard::ClaimOnlyWhatWasRead,
    Guard::ClaimLooksForEnded,
    Guard::ClaimNeedsOpenFile,
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
    Guard::OneAttemptPerToken,
    Guard::TimeIsRedis,
    Guard::ExpireOnlyWhatWasRead,
    Guard::CountOnlyDeathsAlone,
];

impl State {
    pub fn new(fleet: Fleet, faults: u8) -> Self {
        let worker = Worker { at: At::Idle, token: None, relies: false, agent: false, stalled: false };
        Self {
            fleet,
            redis: Redis::default(),
            kept: None,
            open: None,
            ended: None,
            pods: [Pod { incarnation: 0, asleep: false }; WORKERS],
            workers: [worker; WORKERS],
            branch: None,
            pulls: 0,
            closed: false,
            submitted: 0,
            cancel: 0,
            is_due: false,
            is_over: false,
            wrong_clock: false,
            expiring: None,
            forgotten: 0,
            claims: 0,
            faults,
            died_beside_others: false,
            crashes: 0,
            redis_lost: false,
            answered: None,
            wrong: None,
        }
    }

    /// Of the run of this pod that goes on just now.
    pub fn run_of(&self, pod: usize) -> u8 {
        pod as u8 * 8 + self.pods[pod].incarnation
    }

    pub fn pod(&self, worker: usize) -> Pod {
        self.pods[self.fleet.pod_of[worker]]
    }

    pub fn put_among_running(&mut self) {
        self.redis.running = 1;
    }

    pub fn close(&mut self, outcome: Outcome) {
        let attempt = self.redis.record.map_or(0, |record| record.attempt);
        let deaths = self.redis.record.map_or(0, |record| record.deaths);
        let runs_alone = self.redis.record.is_some_and(|record| record.runs_alone);
        let was_ended = self.redis.record.is_some_and(|record| record.status == Status::Ended);
        if !was_ended {
            let outcome = Some(outcome);
            self.redis.record =
                Some(Record { status: Status::Ended, attempt, deaths, runs_alone, holder: None, outcome });
        }
        (self.redis.lease, self.redis.queue, self.redis.running) = (None, 0, 0);
        self.open = None;
        self.answer(outcome);
    }

    /// Somebody was told, or can read, that the job ended so.
    pub fn answer(&mut self, outcome: Outcome) {
        // Without a second copy, Redis takes back with a roll-back what it told.
        let may_differ = self.redis_lost && !self.fleet.has_copy;
        if self.answered.is_some_and(|earlier| earlier != outcome) && !may_differ {
            self.wrong = Some("two outcomes were told");
        }
        self.answered = Some(outcome);
    }

    pub fn link(&mut self, outcome: Outcome, without: Guard) -> Outcome {
        if !self.fleet.has_copy {
            return outcome;
        }
        if self.ended.is_none() || without == Guard::LinkIsExclusive {
            self.ended = Some(outcome);
        }
        self.ended.unwrap_or(outcome)
    }

    pub fn conclude(&mut self, outcome: Outcome, without: Guard) {
        let outcome = self.link(outcome, without);
        self.close(outcome);
    }

    pub fn write_open(&mut self, open: Open) {
        let has_place = self.fleet.has_copy && self.ended.is_none();
        if has_place && self.open.is_none_or(|there| there.attempt <= open.attempt) {
            self.open = Some(open);
        }
    }

    pub fn put_back_from_file(&mut self) {
        let Some(open) = self.open else { return };
        let status = if open.queued { Status::Queued } else { Status::Running };
        let Open { attempt, deaths, runs_alone, holder, .. } = open;
        self.redis.record = Some(Record { status, attempt, deaths, runs_alone, holder, outcome: None });
        (self.redis.queue, self.redis.running) = if open.queued { (1, 0) } else { (0, 1) };
    }

    /// Whether the holder of this token may write; the renewal takes an absent lease again.
    pub fn holds(&self, token: Option<Token>) -> bool {
        token.is_some()
            && self.redis.record.is_some_and(|record| record.status == Status::Running && record.holder == token)
            && self.redis.lease == token
    }

    /// The record names another attempt, or none.
    pub fn is_others(&self, token: Option<Token>) -> bool {
        self.redis.record.is_some_and(|record| record.holder != token)
    }

    /// The worker that has the attempt with this token.
    pub fn worker_of(&self, token: Option<Token>) -> Option<usize> {
        (0..WORKERS).find(|worker| token.is_some() && self.workers[*worker].token == token)
    }

    /// The worker is done with the job.
    pub fn leave(&mut self, worker: usize) {
        self.workers[worker] = Worker { at: At::Idle, token: None, relies: false, agent: false, stalled: false };
    }
}

/// What must be true in every state.
pub fn check(state: &State) -> Option<&'static str> {
    if state.wrong.is_some() {
        return state.wrong;
    }
    let accepted = state.submitted > 0 && state.forgotten == 0;
    if accepted && state.open.is_none() && state.ended.is_none() && state.fleet.has_copy {
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
    let [first, second] = &state.workers;
    if first.relies && second.relies && first.token == second.token {
        return Some("two attempts rely on one lease");
    }
    let is_back = state.redis.record.is_some_and(|record| matches!(record.status, Status::Queued | Status::Running));
    if state.forgotten == 2 && (is_back || state.open.is_some()) {
        return Some("a forgotten job came back");
    }
    None
}

/// Nothing but faults can happen any more: then the job has ended, everywhere.
pub fn check_rest(state: &State) -> Option<&'static str> {
    if state.forgotten > 0 || (state.submitted > 0 && state.redis_lost && !state.fleet.has_copy) {
        // Without a second copy a job is as safe as Redis keeps it.
        return None;
    }
    let record = state.redis.record;
    let closed = record.is_some_and(|record| record.status == Status::Ended) || record.is_none();
    let has_ended = if state.fleet.has_copy { state.ended.is_some() } else { record.is_some() };
    if state.submitted > 0 && !(has_ended && closed && state.open.is_none()) {
        return Some("the job does not end");
    }
    let outcome = if state.fleet.has_copy { state.ended } else { record.and_then(|record| record.outcome) };
    let succeeded = outcome.is_some_and(|outcome| outcome > 0 && outcome != EXPIRED);
    if succeeded && (state.branch.is_none() || state.pulls == 0) {
        return Some("it succeeded, and its work is not published");
    }
    None
}
