//! The one thread of a pod that follows streams in Redis, for all who watch here.
//!
//! It reads the stream of all jobs' changes, the streams of the jobs whose events somebody here watches, and one that
//! wakes it and names mailboxes. Each event is fetched and parsed once. It asks for the jobs themselves only after it
//! may have missed something: a connection that was lost, a Redis that was emptied. Without a watcher it asks for
//! nothing.

use super::context::Access;
use super::mail::WAKE_LIMIT;
use super::reads::{read_change, read_event};
use super::scripts::{has_ended, stream_id};
use crate::event::Cursor;
use crate::job::JobId;
use crate::store::Error;
use ::redis::streams::{StreamRangeReply, StreamReadReply};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long one read blocks at most.
pub const BLOCK: Duration = Duration::from_secs(1);
/// How much of a stream is read at once.
const AT_ONCE: usize = 500;
/// Jobs that are asked for in one call.
const CHUNK: usize = 500;
/// How often the watched jobs are asked for although nothing hints at a change: a server of version 0.2 ends jobs
/// without saying so in the stream of changes.
const COMPARE_EVERY: Duration = Duration::from_secs(300);

pub struct Tail {
    /// It blocks.
    access: Access,
    /// For waking it.
    waking: Arc<Access>,
    compares: AtomicBool,
}

/// Up to where the streams were read.
#[derive(Default)]
struct Position {
    changes: String,
    wake: String,
    jobs: HashMap<JobId, String>,
    version: u64,
}

impl Tail {
    pub fn new(access: Access, waking: Arc<Access>) -> Self {
        Self { access, waking, compares: AtomicBool::new(false) }
    }

    /// Something may have been missed: what is watched is compared with Redis.
    pub fn compare(&self) {
        self.compares.store(true, Ordering::SeqCst);
    }

    /// Somebody begins to watch something: it is read from now on.
    pub fn begin_to_read(&self) {
        let ctx = &self.access.ctx;
        let key = ctx.keys.wake(&ctx.pod);
        let woken = self.waking.link.with(|connection| {
            let mut add = ::redis::cmd("XADD");
            add.arg(&key).arg("MAXLEN").arg(WAKE_LIMIT).arg("*").arg("mail").arg("");
            add.exec(connection)
        });
        // Redis is away: once it is back, everything is compared.
        drop(woken);
    }

    pub fn follow(&self) {
        let ctx = &self.access.ctx;
        let (mut position, mut compare_at): (Option<Position>, _) = (None, Instant::now());
        while !ctx.ends() {
            let closed = ctx.hub.take_closed_mailboxes();
            if !closed.is_empty() {
                // Where that cannot be said now, their time tells it.
                let _ = self.access.end_mailboxes(&closed);
            }
            if !ctx.hub.wait_for_watchers(BLOCK) {
                position = None;
                continue;
            }
            let step = match &mut position {
                None => self.begin().map(|begun| {
                    position = Some(begun);
                    compare_at = Instant::now();
                }),
                Some(position) => self.read(position),
            };
            let is_due = Instant::now() >= compare_at || self.compares.swap(false, Ordering::SeqCst);
            let step = step.and_then(|()| if is_due { self.ask_for_all() } else { Ok(()) });
            match step {
                Ok(()) if is_due => compare_at = Instant::now() + COMPARE_EVERY,
                Ok(()) => {}
                Err(_) => {
                    // That Redis is away is said where leases are renewed.
                    position = None;
                    ctx.pause(Duration::from_millis(200));
                }
            }
        }
    }

    /// Where the streams end now. What happened before is compared afterwards.
    fn begin(&self) -> Result<Position, Error> {
        let keys = &self.access.ctx.keys;
        let (changes, wake) = (keys.changes(), keys.wake(&self.access.ctx.pod));
        let ends = self.access.link.with(|connection| {
            let mut pipe = ::redis::pipe();
            for key in [&changes, &wake] {
                pipe.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
            }
            pipe.query::<Vec<StreamRangeReply>>(connection)
        });
        let mut ends = ends
            .map_err(Error::Unavailable)?
            .into_iter()
            .map(|reply| reply.ids.into_iter().next().map_or_else(|| "0-0".to_owned(), |last| last.id));
        let mut next = || ends.next().unwrap_or_else(|| "0-0".to_owned());
        Ok(Position { changes: next(), wake: next(), jobs: HashMap::new(), version: u64::MAX })
    }

    fn read(&self, position: &mut Position) -> Result<(), Error> {
        let ctx = &self.access.ctx;
        self.heed_watchers(position);
        let jobs: Vec<(JobId, String)> = position.jobs.iter().map(|(id, at)| (id.clone(), at.clone())).collect();
        let (changes, wake) = (ctx.keys.changes(), ctx.keys.wake(&ctx.pod));
        let reply = self.access.link.with(|connection| {
            let mut read = ::redis::cmd("XREAD");
            read.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS");
            read.arg(&wake).arg(&changes);
            for (id, _) in &jobs {
                read.arg(ctx.keys.events(id));
            }
            read.arg(&position.wake).arg(&position.changes);
            for (_, at) in &jobs {
                read.arg(at);
            }
            read.query::<Option<StreamReadReply>>(connection)
        });
        let Some(reply) = reply.map_err(Error::Unavailable)? else { return Ok(()) };
        for stream in reply.keys {
            let Some(last) = stream.ids.last().map(|entry| entry.id.clone()) else { continue };
            if stream.key == wake {
                position.wake = last;
                // A mailbox that there may be something in; one that was cut before it was read is looked into as well.
                if stream.ids.len() >= WAKE_LIMIT {
                    ctx.hub.tell_mail(None);
                }
                stream
                    .ids
                    .iter()
                    .filter_map(|entry| entry.get::<String>("mail"))
                    .for_each(|id| ctx.hub.tell_mail(Some(&id)));
            } else if stream.key == changes {
                position.changes = last;
                for entry in &stream.ids {
                    let (id, status) = (entry.get::<String>("id"), entry.get::<String>("status"));
                    if let (Some(id), Some(status)) = (id.as_deref().and_then(JobId::parse), status)
                        && has_ended(&status)
                    {
                        ctx.hub.tell_end(&id);
                    }
                    read_change(entry).iter().for_each(|change| ctx.hub.tell_change(change));
                }
            } else if let Some((id, _)) = jobs.iter().find(|(id, _)| ctx.keys.events(id) == stream.key) {
                let events = stream.ids.iter().filter_map(|entry| read_event(&entry.id, &entry.get::<String>("e")?));
                events.for_each(|event| ctx.hub.tell(id, &event));
                position.jobs.insert(id.clone(), last);
            }
        }
        Ok(())
    }

    /// Which jobs' events are watched may have changed. One that is new is read from the end of its stream on, and
    /// whoever watches it reads what was before.
    fn heed_watchers(&self, position: &mut Position) {
        let (jobs, version) = self.access.ctx.hub.jobs_with_events();
        if version == position.version {
            return;
        }
        position.version = version;
        position.jobs.retain(|id, _| jobs.contains(id));
        for id in jobs.into_iter().filter(|id| !position.jobs.contains_key(id)).collect::<Vec<_>>() {
            let at = self.end_of(&id);
            self.access.ctx.hub.tell_behind(&id);
            position.jobs.insert(id, at);
        }
    }

    fn end_of(&self, id: &JobId) -> String {
        let key = self.access.ctx.keys.events(id);
        let last = self.access.link.with(|connection| {
            let mut range = ::redis::cmd("XREVRANGE");
            range.arg(&key).arg("+").arg("-").arg("COUNT").arg(1).query::<StreamRangeReply>(connection)
        });
        let last = last.ok().and_then(|reply| reply.ids.into_iter().next());
        last.map_or_else(|| stream_id(Cursor::START), |entry| entry.id)
    }

    /// Which of the watched jobs do not live any more; the others may have said something.
    fn ask_for_all(&self) -> Result<(), Error> {
        let hub = &self.access.ctx.hub;
        hub.tell_mail(None);
        hub.tell_changes_behind();
        for chunk in hub.jobs().chunks(CHUNK) {
            let gone = self.access.steps().not_living(chunk)?;
            for (id, is_gone) in chunk.iter().zip(gone) {
                match is_gone && self.has_ended(id)? {
                    true => hub.tell_end(id),
                    false => hub.tell_behind(id),
                }
            }
        }
        Ok(())
    }

    /// Redis may have lost a job that lives, or not have heard of one yet; what the files say counts then. Where there
    /// are none, its holder puts it back: a job that nobody knows is gone only if files say so too.
    fn has_ended(&self, id: &JobId) -> Result<bool, Error> {
        Ok(match self.access.read(id)?.it {
            Some(record) => record.status().has_ended(),
            None => self.access.ctx.has_copy,
        })
    }
}
