//! Runs one agent to its end: reads what it says as it comes, holds it to its limits, and returns
//! when nothing of it is left.

use super::account;
use super::disk_usage::DiskWatch;
use super::outcome::{EndedBy, Evidence};
use super::stream::{self, Lines, Output};
use crate::job::cut;
use crate::process::stop::{Reason, Stop};
use crate::process::supervised::{self, Ender, Message, Supervised};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often limits and stops are looked at while an agent is silent.
const TICK: Duration = Duration::from_millis(50);
/// Lines that may wait for the store before the agent is held up.
const BACKLOG: usize = 64;
/// What a tree may take to be gone after SIGKILL, before its supervisor is ended too.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How much of its complaints is kept.
const COMPLAINT_LIMIT: usize = 8 * 1024;

#[derive(Clone, Copy)]
pub struct Limits {
    pub timeout: Duration,
    pub stall: Duration,
    pub result_grace: Duration,
    pub kill_grace: Duration,
    /// What `places` may take together, in bytes; 0: no limit.
    pub disk: u64,
}

/// What the caller hears of the run, as it happens.
pub enum Heard<'a> {
    Started(u32),
    Output(&'a Output),
}

pub enum RunEnd {
    ByItself(Box<Evidence>),
    Stopped(Reason),
}

/// Runs `spec`. `places`: what counts for its limit on the disk. `hear` may return false to have the agent ended at
/// once: its job is no longer ours.
pub fn run(
    spec: &supervised::Spec,
    limits: Limits,
    places: &[PathBuf],
    stop: &Stop,
    hear: &mut dyn FnMut(Heard) -> bool,
) -> io::Result<RunEnd> {
    let (send_message, messages) = mpsc::channel();
    let (supervised, outputs) = supervised::start(spec, move |message| drop(send_message.send(message)))?;
    let (send_line, lines) = mpsc::sync_channel(BACKLOG);
    let readers = [
        // Reads the agent's events; ends with its standard output.
        reader("agent-events", outputs.stdout, send_line)?,
        // Keeps the end of what it complains of; ends with its standard error.
        complaints("agent-errors", outputs.stderr)?,
    ];
    let mut watch = Watch::new(&supervised, limits, places)?;
    watch.pass_on_lease(stop);
    watch.follow(&lines, &messages, stop, hear);
    drop(lines); // A reader that still has lines to hand over ends.
    if supervised.finish() {
        watch.evidence.complaint.push_str("the supervisor was lost or had to be ended\n");
    }
    for reader in readers {
        watch.evidence.complaint.push_str(&collect(reader));
    }
    Ok(watch.ended())
}

/// What a reader has to say. Its pipe has no writer left, unless the kernel holds a process that
/// cannot be killed: then nobody waits for it.
fn collect(reader: Reader) -> String {
    let until = Instant::now() + Duration::from_secs(2);
    while !reader.is_finished() {
        if Instant::now() >= until {
            return "an output was still held open by a process that cannot be ended\n".into();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    reader.join().unwrap_or_default()
}

type Reader = JoinHandle<String>;

fn reader(name: &str, mut from: impl Read + Send + 'static, to: SyncSender<Vec<Output>>) -> io::Result<Reader> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let (mut lines, mut buffer) = (Lines::default(), vec![0; 64 * 1024]);
        let mut is_heard = true;
        while is_heard && let Some(count) = read_some(&mut from, &mut buffer) {
            lines.feed(&buffer[..count], |line| is_heard &= to.send(stream::read(&line)).is_ok());
        }
        if let Some(line) = lines.finish() {
            let _ = to.send(stream::read(&line));
        }
        String::new()
    })
}

fn complaints(name: &str, mut from: impl Read + Send + 'static) -> io::Result<Reader> {
    std::thread::Builder::new().name(name.into()).spawn(move || {
        let (mut kept, mut buffer) = (VecDeque::new(), [0; 4096]);
        while let Some(count) = read_some(&mut from, &mut buffer) {
            kept.extend(&buffer[..count]);
            let excess = kept.len().saturating_sub(COMPLAINT_LIMIT);
            kept.drain(..excess);
        }
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    })
}

/// None at the end, or when reading fails, which for a pipe is the same.
fn read_some(from: &mut impl Read, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match from.read(buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Everything known of a run while it goes on.
struct Watch {
    limits: Limits,
    disk: DiskWatch,
    ender: Ender,
    evidence: Evidence,
    began: Instant,
    last_word: Instant,
    /// Set with the first request to end, when waiting for the tree's end is given up.
    give_up_at: Option<Instant>,
    stopped: Option<Reason>,
    /// The end of the job's lease, as the supervisor knows it.
    told_until: Option<Duration>,
    is_gone: bool,
    is_started: bool,
}

impl Watch {
    fn new(supervised: &Supervised, limits: Limits, places: &[PathBuf]) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            limits,
            disk: DiskWatch::new(places, limits.disk),
            ender: supervised.ender()?,
            evidence: Evidence::default(),
            began: now,
            last_word: now,
            give_up_at: None,
            stopped: None,
            told_until: None,
            is_gone: false,
            is_started: false,
        })
    }

    fn follow(
        &mut self,
        lines: &Receiver<Vec<Output>>,
        messages: &Receiver<Message>,
        stop: &Stop,
        hear: &mut dyn FnMut(Heard) -> bool,
    ) {
        let mut lines_are_open = true;
        // Both ends are waited for: the outputs' and the tree's.
        while lines_are_open || !self.is_gone {
            if lines_are_open {
                match lines.recv_timeout(TICK) {
                    Ok(said) => {
                        self.wait_for_start(messages, hear);
                        self.listen(&said, hear);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => lines_are_open = false,
                }
                messages.try_iter().for_each(|message| self.learn(message, hear));
            } else if let Ok(message) = messages.recv_timeout(TICK) {
                self.learn(message, hear);
            }
            self.hold_to_limits(stop);
            if self.give_up_at.is_some_and(|at| at <= Instant::now()) {
                return;
            }
        }
    }

    /// Its first words may be here before the word that it was started: they are told in order.
    fn wait_for_start(&mut self, messages: &Receiver<Message>, hear: &mut dyn FnMut(Heard) -> bool) {
        while !self.is_started {
            match messages.recv_timeout(KILL_LIMIT) {
                Ok(message) => self.learn(message, hear),
                Err(_) => self.is_started = true,
            }
        }
    }

    fn listen(&mut self, all: &[Output], hear: &mut dyn FnMut(Heard) -> bool) {
        self.last_word = Instant::now();
        for said in all {
            match said {
                Output::Text(text) => {
                    self.evidence.last_text = Some(cut(text.clone(), crate::job::OUTPUT_LIMIT));
                    self.evidence.api_error = None;
                }
                Output::Tool { .. } => self.evidence.api_error = None,
                Output::ApiError(error) => {
                    self.evidence.api_error = Some(error.clone());
                    if account::is_hopeless(error) && self.give_up_at.is_none() {
                        self.evidence.ended_by = Some(EndedBy::Refused);
                        self.end();
                    }
                }
                Output::LimitUntil(until) => self.evidence.limit_until = Some(*until),
                Output::Result(report) => self.evidence.report = Some((**report).clone()),
                Output::Garbage(text) if self.evidence.complaint.len() < COMPLAINT_LIMIT => {
                    self.evidence.complaint.push_str(&cut(text.clone(), 2000));
                    self.evidence.complaint.push('\n');
                }
                _ => {}
            }
            self.tell(Heard::Output(said), hear);
        }
    }

    fn learn(&mut self, message: Message, hear: &mut dyn FnMut(Heard) -> bool) {
        self.is_started = true;
        match message {
            Message::Started(pid) => self.tell(Heard::Started(pid), hear),
            Message::Refused(why) => self.evidence.refused = Some(why),
            Message::Exited(exit) => self.evidence.exit = Some(exit),
            Message::Overdue => self.stopped = self.stopped.or(Some(Reason::Lost)),
            Message::Gone => self.is_gone = true,
            Message::Lost => {
                self.is_gone = true;
                // Its outputs may be held open by strays, which are ended by `finish`.
                self.give_up_at = Some(Instant::now());
            }
        }
    }

    fn tell(&mut self, heard: Heard, hear: &mut dyn FnMut(Heard) -> bool) {
        if self.stopped.is_none() && !hear(heard) {
            self.end_for(Reason::Cancelled);
        }
    }

    fn hold_to_limits(&mut self, stop: &Stop) {
        if self.give_up_at.is_some() {
            return;
        }
        if let Some(reason) = stop.reason() {
            return self.end_for(reason);
        }
        self.pass_on_lease(stop);
        let silent = self.last_word.elapsed();
        let ended_by = if self.began.elapsed() >= self.limits.timeout {
            EndedBy::Timeout(self.limits.timeout)
        } else if self.evidence.report.is_some() && silent >= self.limits.result_grace {
            EndedBy::Lingering
        } else if silent >= self.limits.stall {
            EndedBy::Stall(self.limits.stall)
        } else if let Some(taken) = self.disk.excess() {
            EndedBy::Disk { taken, limit: self.limits.disk }
        } else {
            return;
        };
        self.evidence.ended_by = Some(ended_by);
        self.end();
    }

    fn pass_on_lease(&mut self, stop: &Stop) {
        let until = stop.until();
        if until != self.told_until {
            self.told_until = until;
            until.inspect(|until| self.ender.end_by(*until));
        }
    }

    fn end_for(&mut self, reason: Reason) {
        self.stopped = Some(reason);
        self.end();
    }

    fn end(&mut self) {
        self.ender.end(self.limits.kill_grace);
        self.give_up_at = Some(Instant::now() + self.limits.kill_grace + KILL_LIMIT);
    }

    fn ended(self) -> RunEnd {
        match self.stopped {
            Some(reason) => RunEnd::Stopped(reason),
            None => RunEnd::ByItself(Box::new(self.evidence)),
        }
    }
}
