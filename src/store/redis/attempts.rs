//! The attempts that this server runs: what each may write with, and what it has written.

use super::context::{Access, Context};
use super::held::Attempts;
use super::own_state::OwnState;
use super::scripts::{Answer, StreamEvent, Write, new_stamp};
use crate::event::{Cursor, Draft, Event, Kind};
use crate::job::{JobId, Mark, Record, Running};
use crate::log;
use crate::process::stop::{Reason, Stop};
use crate::process::sys;
use crate::store::journal::{Chatter, Journal};
use crate::store::rules::{self, Numbering};
use crate::store::{Attempt, Back, End, Error, crash};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the events of one attempt take in Redis at most, in bytes. The one before keeps as much at most; where the
/// job files are shared, everything is in the journals too.
const STREAM_LIMIT: usize = 512 * 1024;
/// What an event takes in Redis beyond its line.
const STREAM_OVERHEAD: usize = 64;

/// How many events are held for a Redis that is away. Of more the oldest are on the volume alone, where readers find
/// them.
const UNSENT_MOST: usize = 64;

/// What attempts write with.
pub struct Pen {
    pub access: Arc<Access>,
    pub attempts: Arc<Attempts>,
    pub own: Arc<OwnState>,
}

pub struct RedisAttempt {
    pen: Arc<Pen>,
    pub id: JobId,
    pub number: u32,
    /// `pod/incarnation/attempt.nonce`: who the record names as its holder.
    pub token: String,
    /// Holds the lease's end.
    pub stop: Stop,
    state: Mutex<State>,
}

/// As Redis has it.
pub struct State {
    job: Running,
    /// None where nobody else could read it.
    journal: Option<Journal>,
    numbering: Numbering,
    /// Number and size of the events of this attempt that are in Redis, and their sizes together.
    in_stream: VecDeque<(u32, usize)>,
    in_stream_bytes: usize,
    /// Said while Redis could not take it; it follows as soon as that can.
    unsent: VecDeque<StreamEvent>,
}

impl State {
    pub fn record(&self) -> Record {
        self.job.clone().into()
    }

    /// The event as it goes into the stream, and up to which number the stream is to be cut.
    fn for_stream(&self, event: &Event) -> StreamEvent {
        let line = event.to_line();
        let mut left = self.in_stream_bytes + line.len() + STREAM_OVERHEAD;
        let mut keep_from = None;
        for (number, size) in &self.in_stream {
            if left <= STREAM_LIMIT {
                break;
            }
            left -= size;
            keep_from = Some(Cursor { attempt: event.attempt, number: number + 1 });
        }
        StreamEvent { at: event.cursor(), line, keep_from }
    }

    /// The event is in the stream, as `sent`.
    fn is_in_stream(&mut self, sent: &StreamEvent) {
        let size = sent.line.len() + STREAM_OVERHEAD;
        self.in_stream.push_back((sent.at.number, size));
        self.in_stream_bytes += size;
        while let (Some(from), Some((number, size))) = (sent.keep_from, self.in_stream.front().copied())
            && number < from.number
        {
            self.in_stream.pop_front();
            self.in_stream_bytes -= size;
        }
    }

    fn keep_unsent(&mut self, event: StreamEvent) {
        self.unsent.push_back(event);
        if self.unsent.len() > UNSENT_MOST {
            self.unsent.pop_front();
        }
    }

    /// The event counts from here on. One that the volume does not take Redis has all the same.
    fn write(&mut self, event: &Event) {
        self.numbering.wrote();
        if let Some(journal) = &mut self.journal {
            journal.append(event);
        }
    }

    /// Writes what was held back for long enough.
    pub fn flush_if_due(&mut self) {
        self.flush(Journal::is_due);
    }

    fn flush(&mut self, when: impl Fn(&Journal) -> bool) {
        if let Some(journal) = self.journal.as_mut().filter(|journal| when(journal)) {
            journal.flush();
        }
    }
}

impl RedisAttempt {
    /// Nothing of it is written yet; see [`begin`](Self::begin).
    pub fn new(pen: Arc<Pen>, job: Running, token: String, stop: Stop) -> Self {
        let (id, number, numbering) = (job.id.clone(), job.attempt, Numbering::new(&job, 0));
        let state = State {
            job,
            journal: None,
            numbering,
            in_stream: VecDeque::new(),
            in_stream_bytes: 0,
            unsent: VecDeque::new(),
        };
        Self { pen, id, number, token, stop, state: Mutex::new(state) }
    }

    /// Opens its journal, and writes its first event there.
    pub fn begin(&self, first: Option<&Event>) {
        let ctx = &self.pen.access.ctx;
        let mut state = self.state();
        if ctx.has_copy {
            let path = ctx.files.journal(&self.id, self.number);
            let journal = Journal::open(path, self.id.clone(), Chatter::InBatches);
            state.numbering = Numbering::new(&state.job, journal.last());
            state.journal = Some(journal);
        }
        if let Some(event) = first {
            state.write(event);
        }
    }

    /// The first event, which the claim puts into the stream.
    pub fn first_event(job: &Running) -> Option<Event> {
        Numbering::new(job, 0).next(rules::claimed(job))
    }

    /// None while a write for it is under way.
    pub fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.try_lock().ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This attempt still is the one that this server runs; a later one of the same job may be by now.
    fn check(&self) -> Result<(), Error> {
        if self.pen.attempts.has(self) { Ok(()) } else { Err(Error::Lost) }
    }

    /// What an answer other than "done" to the holder of a job means.
    fn refused(&self, state: &State, answer: Answer) -> Error {
        match answer {
            Answer::Unknown => self.put_back(state),
            Answer::Unleased => Error::Unavailable("the job's lease is being renewed".into()),
            Answer::Ended | Answer::Sealed => {
                self.stop.request(Reason::Cancelled);
                Error::Lost
            }
            _ => {
                self.stop.request(Reason::Lost);
                Error::Lost
            }
        }
    }

    fn send(&self, access: &Access, event: &StreamEvent) -> Result<Answer, Error> {
        access.steps().mark(&self.id, &self.token, None, Some(event))
    }

    /// Sends what Redis could not take before, over the connections of `access`.
    pub fn send_unsent(&self, access: &Access, state: &mut State) -> Result<(), Error> {
        while let Some(event) = state.unsent.pop_front() {
            match self.send(access, &event) {
                Ok(Answer::Done) => state.is_in_stream(&event),
                Ok(answer) => {
                    state.unsent.push_front(event);
                    return Err(self.refused(state, answer));
                }
                Err(error) => {
                    state.unsent.push_front(event);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The job that Redis does not know has not ended, and was not forgotten either: this attempt's open file is there.
    pub fn is_to_be_put_back(&self, ctx: &Context) -> bool {
        if !ctx.has_copy {
            return true;
        }
        let lives = || match ctx.files.read_open(&self.id) {
            Ok(open) => open.is_some_and(|open| open.record.attempt <= self.number),
            // The volume cannot be asked just now.
            Err(_) => true,
        };
        // Past its lease it is another attempt's, or forgotten.
        !self.stop.is_lost() && !matches!(ctx.files.read_ended(&self.id), Ok(Some(_))) && lives()
    }

    /// Redis lost the record of a job that runs here: it gets it back, unless the job has ended.
    fn put_back(&self, state: &State) -> Error {
        let Access { ctx, .. } = &*self.pen.access;
        if !self.is_to_be_put_back(ctx) {
            self.stop.request(Reason::Cancelled);
            return Error::Lost;
        }
        let record = state.record();
        let write = Write { record: &record, stamp: &new_stamp() };
        match self.pen.access.put(&write, &self.token, true) {
            Ok(_) => Error::Unavailable("Redis had lost the job's record, which was put back".into()),
            Err(error) => error,
        }
    }

    /// Redis says that the job goes back to the queue, at the head.
    fn give_back(&self, state: &mut State, back: &Back) -> Result<(), Error> {
        let Access { ctx, .. } = &*self.pen.access;
        let steps = self.pen.access.steps();
        state.flush(|_| true);
        let mut job = state.job.clone();
        let event = state.numbering.next(Draft::new(Kind::HandedBack, back.why()));
        job.count_events(state.numbering.so_far() + 1);
        let queued = Record::from(back.apply(job));
        let write = Write { record: &queued, stamp: &new_stamp() };
        // Nobody else can have it yet. Otherwise Redis is asked first whose it is.
        let is_held = self.stop.until().is_some_and(|at| sys::since_boot() < at);
        if is_held {
            match ctx.write_open("", &queued) {
                // A volume that is full: Redis has the job's place in the line all the same.
                Err(Error::Unavailable(why)) => log::job(&self.id).warn(&why),
                other => other?,
            }
        }
        let answer = match steps.hand_back(&write, &self.token, event.as_ref()) {
            Ok(answer) => answer,
            Err(error) => {
                if !is_held {
                    // The file says that this was no death, unless a later attempt wrote it.
                    ctx.write_open("", &queued)?;
                }
                return Err(error);
            }
        };
        match answer {
            Answer::Done => {
                if !is_held && let Err(Error::Unavailable(why)) = ctx.write_open("", &queued) {
                    log::job(&self.id).warn(&why);
                }
                if let Some(event) = event {
                    state.write(&event);
                }
                crash::point(Kind::HandedBack, "after-record");
                Ok(())
            }
            Answer::Unknown => self.pen.access.put_back(&queued.id, true).map(drop),
            _ => Err(Error::Lost),
        }
    }
}

impl Attempt for RedisAttempt {
    fn mark(&self, mark: Mark, event: Option<Draft>) -> Result<Record, Error> {
        self.check()?;
        let mut state = self.state();
        // Its own order is the stream's: what was said before goes first.
        self.send_unsent(&self.pen.access, &mut state)?;
        let (mut job, waits) = (state.job.clone(), mark.may_wait());
        job.mark(mark);
        let kind = event.as_ref().map(|event| event.kind);
        let event = event.and_then(|draft| state.numbering.next(draft));
        job.count_events(state.numbering.so_far() + u32::from(event.is_some()));
        let sent = event.as_ref().map(|event| state.for_stream(event));
        let record = Record::from(job.clone());
        let write = Write { record: &record, stamp: &new_stamp() };
        match self.pen.access.steps().mark(&self.id, &self.token, Some(&write), sent.as_ref())? {
            Answer::Done => {}
            answer => return Err(self.refused(&state, answer)),
        }
        kind.inspect(|kind| crash::point(*kind, "after-record"));
        if !waits {
            self.pen.access.ctx.write_open(&self.token, &record)?;
        }
        state.job = job;
        if let (Some(event), Some(sent)) = (&event, &sent) {
            state.is_in_stream(sent);
            state.write(event);
        }
        kind.inspect(|kind| crash::point(*kind, "after-event"));
        Ok(record)
    }

    fn prove(&self) -> Result<(), Error> {
        self.check()?;
        let Access { ctx, .. } = &*self.pen.access;
        match self.pen.access.steps().mark(&self.id, &self.token, None, None)? {
            Answer::Done => {}
            answer => return Err(self.refused(&self.state(), answer)),
        }
        if ctx.has_copy && ctx.files.read_ended(&self.id).map_err(Error::Unavailable)?.is_some() {
            self.stop.request(Reason::Cancelled);
            return Err(Error::Lost);
        }
        if self.stop.reason() == Some(Reason::Lost) { Err(Error::Lost) } else { Ok(()) }
    }

    fn say(&self, event: Draft) -> Result<(), Error> {
        self.check()?;
        let mut state = self.state();
        let kind = event.kind;
        let Some(event) = state.numbering.next(event) else { return Ok(()) };
        let sent = state.for_stream(&event);
        let said =
            self.send_unsent(&self.pen.access, &mut state).and_then(|()| match self.send(&self.pen.access, &sent)? {
                Answer::Done => Ok(()),
                answer => Err(self.refused(&state, answer)),
            });
        match said {
            Ok(()) => state.is_in_stream(&sent),
            // Redis is away or was emptied, and the lease is still good: the volume has it, and Redis will.
            Err(Error::Unavailable(_)) if state.journal.is_some() && !self.stop.is_lost() => state.keep_unsent(sent),
            Err(error) => return Err(error),
        }
        state.write(&event);
        crash::point(kind, "after-event");
        Ok(())
    }

    fn finish(&self, end: End) -> Result<Record, Error> {
        self.check()?;
        let mut state = self.state();
        // What is in no event any more is in the journal before the job has ended.
        state.flush(|_| true);
        let mut job = state.job.clone();
        job.count_events(state.numbering.so_far());
        let wanted = Record::from(rules::ended(job, end, self.pen.access.ctx.now()));
        let (answer, sealed) = self.pen.access.steps().seal(&wanted, &self.token, "")?;
        let outcome = match (answer, sealed) {
            (Answer::Sealed | Answer::Ended, Some(outcome)) => outcome,
            (answer, _) => return Err(self.refused(&state, answer)),
        };
        drop(state);
        crash::point(Kind::Ended, "after-seal");
        let ended = self.pen.access.conclude(outcome)?;
        if (ended.status(), ended.ended_at) != (wanted.status(), wanted.ended_at) {
            // Somebody else's end was first: a cancel's.
            self.stop.request(Reason::Cancelled);
            return Err(Error::Lost);
        }
        self.pen.attempts.remove(self);
        Ok(ended)
    }

    /// The attempt is over here, whatever Redis says.
    fn hand_back(&self, back: Back) -> Result<(), Error> {
        self.check()?;
        self.pen.own.note_handed_back(&self.id);
        let done = self.give_back(&mut self.state(), &back);
        // From here on a round finds that the record names us for what we do not run, if that is still so.
        self.pen.attempts.remove(self);
        done
    }

    fn release(&self) -> Result<(), Error> {
        self.pen.attempts.remove(self);
        Ok(())
    }
}
