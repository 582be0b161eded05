//! To hear of a job without asking for it: its end, or everything that happens to it.

use super::jobs::page;
use super::{Refusal, Service};
use crate::api::{Event, EventPage, EventsRequest, Job};
use crate::event::Cursor;
use crate::job::JobId;
use crate::store::watch::{Interest, News, Waker, Watcher};
use crate::store::{Jobs, Seen, Store};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many events are read at once: of 16 KiB each at most.
const AT_ONCE: usize = 32;
/// How soon is read again what could not be read, or is on its way to the volume still.
const READ_AGAIN: Duration = Duration::from_millis(300);

/// One on the server's own store.
pub type ServerEventWatch = EventWatch<dyn Store>;

impl Service {
    /// Waits for the end of a job without asking for it: see [`EndWatch`].
    pub fn watch_end(&self, job: Job) -> EndWatch {
        let watcher = self.runner.store.watch(&job.id, Interest::End, Cursor::START);
        EndWatch { store: self.runner.store.clone(), watcher, job }
    }

    /// Follows what happens to a job, from a cursor on: see [`EventWatch`].
    pub fn watch_events(&self, id: &str, after: Cursor) -> Result<ServerEventWatch, Refusal> {
        Ok(self.watch_job(&self.find(id)?.it.id, after))
    }

    /// Waits for a page of events, for as long as the request says: see [`PageWatch`].
    pub fn watch_page(&self, id: &str, request: EventsRequest) -> Result<PageWatch, Refusal> {
        let id = self.find_record(id)?.it.id;
        let store = self.runner.store.clone();
        // Watched before anything is read, so that nothing falls between.
        let watcher = store.watch(&id, Interest::Events, request.after);
        let until = Instant::now() + request.wait;
        Ok(PageWatch { store, watcher, request, until, has_news: true })
    }

    /// The same for a job that is known to be there.
    pub fn watch_job(&self, id: &JobId, after: Cursor) -> ServerEventWatch {
        EventWatch::new(self.runner.store.clone(), id.clone(), after)
    }
}

/// One who waits for a job's end. Dropping it ends the waiting, never the job.
pub struct EndWatch {
    store: Arc<dyn Store>,
    watcher: Watcher,
    job: Job,
}

/// What became of a job that somebody waits for.
pub enum Look {
    NotYet,
    Ended(Box<Job>),
    /// It was forgotten: how it ended is not known any more.
    Gone,
}

impl EndWatch {
    /// Never blocks. True: [`look`](Self::look) will tell more.
    pub fn has_news(&self) -> bool {
        self.watcher.has_ended()
    }

    /// From now on `waker` is called when there is news.
    pub fn on_news(&self, waker: Waker) {
        self.watcher.on_news(waker);
    }

    /// Reads the job once; it may block for as long as the store does.
    pub fn look(&mut self) -> Look {
        match self.store.get(self.watcher.id()) {
            Ok(Seen { it: Some(record), .. }) if record.status().has_ended() => {
                Look::Ended(Box::new(Job::new(&record, None)))
            }
            // Its time to live was over before anybody looked.
            Ok(Seen { it: None, stale: false }) if self.has_news() => Look::Gone,
            _ => {
                if self.has_news() {
                    // It has ended, and cannot be read just now.
                    std::thread::sleep(READ_AGAIN);
                }
                Look::NotYet
            }
        }
    }

    /// As it was when the waiting began.
    pub fn last_seen(&self) -> &Job {
        &self.job
    }
}

/// One who waits for a page that is not empty, for a while.
pub struct PageWatch {
    store: Arc<dyn Store>,
    watcher: Watcher,
    request: EventsRequest,
    until: Instant,
    /// There is, or was, a reason to look.
    has_news: bool,
}

/// One who waits for a page, of whatever kind.
pub trait WaitsForPage: Send {
    type Page: Serialize;

    /// When an empty page is a page as well.
    fn until(&self) -> Instant;

    fn on_news(&self, waker: Waker);

    /// Never blocks. True: [`look`](Self::look) may tell more.
    fn has_news(&mut self) -> bool;

    /// Reads once; it may block for as long as the store does. None: go on waiting.
    fn look(&mut self) -> Result<Option<Self::Page>, Refusal>;

    /// What is said of a page that cannot be waited for any longer.
    fn empty(&self) -> Self::Page;
}

impl WaitsForPage for PageWatch {
    type Page = EventPage;

    fn until(&self) -> Instant {
        self.until
    }

    fn on_news(&self, waker: Waker) {
        self.watcher.on_news(waker);
    }

    fn has_news(&mut self) -> bool {
        self.has_news |= self.watcher.next().is_some();
        self.has_news
    }

    fn look(&mut self) -> Result<Option<EventPage>, Refusal> {
        let had_news = std::mem::take(&mut self.has_news);
        self.watcher.catch_up();
        let Seen { it: Some(record), .. } = self.store.get(self.watcher.id())? else {
            return Err(Refusal::Unknown(self.watcher.id().to_string()));
        };
        let page = page(&*self.store, &record, &self.request)?;
        if !page.events.is_empty() || page.ended || self.until <= Instant::now() {
            return Ok(Some(page));
        }
        if had_news {
            // What is on its way comes within a second.
            std::thread::sleep(READ_AGAIN);
        }
        Ok(None)
    }

    fn empty(&self) -> EventPage {
        let after = self.request.after;
        let next = (after != Cursor::START).then(|| after.to_string());
        EventPage { success: true, events: Vec::new(), next, ended: false }
    }
}

/// What an [`EventWatch`] has at hand.
pub enum Heard {
    Nothing,
    Event(Event),
    /// It has to [`read`](EventWatch::read).
    More,
}

/// One who follows what happens to a job. Nothing is missed and nothing comes twice, wherever it is told from.
pub struct EventWatch<S: Jobs + ?Sized> {
    store: Arc<S>,
    watcher: Watcher,
    /// Up to where it was told.
    cursor: Cursor,
    /// The last reading found something: there may be more.
    has_more: bool,
    /// The last reading found nothing.
    is_at_a_gap: bool,
}

impl<S: Jobs + ?Sized> EventWatch<S> {
    pub fn new(store: Arc<S>, id: JobId, after: Cursor) -> Self {
        // Watched before anything is read, so that nothing falls between.
        let watcher = store.watch(&id, Interest::Events, after);
        Self { store, watcher, cursor: after, has_more: true, is_at_a_gap: false }
    }

    pub fn on_news(&self, waker: Waker) {
        self.watcher.on_news(waker);
    }

    /// Never blocks.
    pub fn next(&mut self) -> Heard {
        if self.has_more {
            return Heard::More;
        }
        let news = self.watcher.next();
        self.heard(news)
    }

    /// The same, waiting for `limit` at most.
    pub fn wait(&mut self, limit: Duration) -> Heard {
        if self.has_more {
            return Heard::More;
        }
        let news = self.watcher.wait(limit);
        self.heard(news)
    }

    fn heard(&mut self, news: Option<News>) -> Heard {
        match news {
            None => Heard::Nothing,
            Some(News::Event(event)) => {
                self.cursor = event.cursor();
                Heard::Event(Event::from(&*event))
            }
            Some(News::Behind | News::Ended) => Heard::More,
        }
    }

    /// Tells some of what happened and was not told yet; it may block for as long as the store does. The job, once it
    /// has ended and everything was told.
    pub fn read(&mut self, tell: &mut dyn FnMut(&Event)) -> Result<Option<Job>, Refusal> {
        let was_ended = self.watcher.has_ended();
        self.watcher.catch_up();
        let record = match self.store.get(self.watcher.id())? {
            Seen { it: Some(record), .. } => record,
            _ => return Err(Refusal::Unknown(self.watcher.id().to_string())),
        };
        let events = self.store.events(&record, self.cursor, AT_ONCE)?;
        events.iter().for_each(|event| tell(&Event::from(event)));
        self.has_more = !events.is_empty();
        if let Some(last) = events.last() {
            self.cursor = last.cursor();
            self.watcher.has_read(self.cursor);
        } else if record.status().has_ended() {
            return Ok(Some(Job::new(&record, None)));
        } else if was_ended || self.is_at_a_gap {
            // What is on its way comes within a second.
            std::thread::sleep(READ_AGAIN);
        }
        self.is_at_a_gap = events.is_empty();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Kind;
    use crate::job::tests::queued;
    use crate::job::{Record, Time};
    use crate::store::unconfigured::Unconfigured;
    use crate::store::watch::Hub;
    use crate::store::{Cancelled, Error, Key};
    use std::sync::Mutex;

    /// A job that runs, and what of its events can be read just now.
    struct Forgetful {
        record: Record,
        hub: Arc<Hub>,
        readable: Mutex<Vec<crate::event::Event>>,
    }

    impl Jobs for Forgetful {
        fn submit(&self, _: crate::job::Spec, _: Option<&Key>) -> Result<Record, Error> {
            Err(Error::Lost)
        }
        fn submitted(&self, _: &Key) -> Result<Option<Record>, Error> {
            Err(Error::Lost)
        }
        fn waiting_in(&self, _: &Record) -> Result<Option<JobId>, Error> {
            Err(Error::Lost)
        }
        fn cancel(&self, _: &JobId, _: Option<&str>) -> Result<Cancelled, Error> {
            Err(Error::Lost)
        }
        fn note(&self, _: &JobId, _: crate::job::Note) -> Result<(), Error> {
            Err(Error::Lost)
        }
        fn get(&self, _: &JobId) -> Result<Seen<Option<Record>>, Error> {
            Ok(Seen::fresh(Some(self.record.clone())))
        }
        fn matching(&self, _: &str) -> Result<Vec<JobId>, Error> {
            Err(Error::Lost)
        }
        fn list_after(
            &self,
            _: usize,
            _: crate::store::Which,
            _: Option<&crate::store::Place>,
        ) -> Result<Seen<Vec<Record>>, Error> {
            Err(Error::Lost)
        }
        fn waiting(&self) -> Result<(usize, Option<crate::job::Time>), Error> {
            unreachable!()
        }
        fn ahead(&self, _: &Record) -> Result<Option<usize>, Error> {
            unreachable!()
        }

        fn with_session(&self, _: &str) -> Result<Option<Record>, Error> {
            Err(Error::Lost)
        }
        fn events(&self, _: &Record, after: Cursor, _: usize) -> Result<Vec<crate::event::Event>, Error> {
            let readable = self.readable.lock().unwrap();
            Ok(readable.iter().filter(|event| event.cursor() > after).cloned().collect())
        }
        fn watch(&self, id: &JobId, interest: Interest, after: Cursor) -> Watcher {
            self.hub.watch(id, interest, after)
        }
        fn changes(&self, _: crate::change::Moment, _: usize) -> Result<Vec<crate::change::Change>, Error> {
            Err(Error::Lost)
        }
        fn watch_changes(&self) -> crate::store::watch::ChangeWatcher {
            Unconfigured::new(String::new()).watch_changes()
        }
    }

    /// Redis was emptied when an event had been told and was not on the volume yet: reading took what was told, found
    /// nothing, and the event after it passed for the next.
    #[test]
    fn reading_takes_nothing_of_what_is_told() {
        let event = |number: u32| crate::event::Event {
            number,
            time: Time(0),
            attempt: 1,
            kind: Kind::AgentText,
            text: number.to_string(),
            tool: None,
            cut: false,
        };
        let record: Record = queued().claim("a", Time(1)).into();
        let (id, hub) = (record.id.clone(), Arc::new(Hub::default()));
        let store = Arc::new(Forgetful { record, hub: hub.clone(), readable: Mutex::default() });
        let mut watch = EventWatch::new(store, id.clone(), Cursor { attempt: 1, number: 0 });
        let mut heard = Vec::new();
        hub.tell(&id, &event(1));
        watch.read(&mut |event| heard.push(event.text.clone())).unwrap();
        hub.tell(&id, &event(2));
        while let Heard::Event(event) = watch.next() {
            heard.push(event.text);
        }
        assert_eq!(heard, ["1", "2"]);
    }
}
