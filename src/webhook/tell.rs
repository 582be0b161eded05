//! Works the outbox off: one thread looks what is due, and each try has a thread of its own, so that a receiver that is
//! slow holds up nobody else.

use super::message::{self, Message};
use super::send::{self, Outcome};
use super::url;
use crate::config::Config;
use crate::job::{JobId, Record, Time};
use crate::log;
use crate::metrics;
use crate::store::outbox::{About, Delivery, Notice, Outbox, Shelf};
use crate::store::{self, Seen, Store};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often it is looked what is due.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Who does not tell looks so often whether nobody does.
const STAND_BY: Duration = Duration::from_secs(5);
/// A teller that says nothing for so long is frozen.
const SILENCE: Duration = Duration::from_secs(30);
/// So many notices are read in one look; and what is due later is read again after so many seconds, because somebody
/// may have had it tried again.
const READ_AT_ONCE: usize = 500;
const READ_AGAIN: u64 = 1;
/// After a try the next is looked for so soon, at the earliest.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// So many tries run at once of the operator's receivers, and as many of jobs' own: whoever names one that hangs holds
/// up no other kind; and so many of them to one URL of the operator's, or one host of jobs' own.
const AT_ONCE: usize = 16;
const AT_ONCE_TO_ONE: usize = 4;
/// Pauses from one try to the next, as multiples of the first: with 5 s three tries within 30 s, then 2, 5, 15 and 30
/// minutes, 1, 2, 4, 8 and 8 hours, a day in all.
const PAUSES: [u32; 11] = [1, 4, 24, 60, 180, 360, 720, 1_440, 2_880, 5_760, 5_760];

type Name = (JobId, About);

struct Shared {
    config: Config,
    store: Arc<dyn Store>,
    under_way: Mutex<Vec<UnderWay>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, PartialEq)]
struct UnderWay {
    name: Name,
    url: String,
    is_of_job: bool,
}

impl UnderWay {
    fn of(notice: &Notice, delivery: &Delivery) -> Self {
        let (name, url) = ((notice.job.clone(), notice.about), delivery.url.clone());
        Self { name, url, is_of_job: delivery.is_of_job }
    }
}

fn has_room(under_way: &[UnderWay], entry: &UnderWay) -> bool {
    // The operator's are as many as the settings name. Those of jobs may be many of one host.
    let receiver = |url: &str| if entry.is_of_job { url::host(url) } else { url.to_owned() };
    let (own, of_kind) = (receiver(&entry.url), under_way.iter().filter(|one| one.is_of_job == entry.is_of_job));
    let to_one = of_kind.clone().filter(|one| receiver(&one.url) == own).count();
    !under_way.contains(entry) && of_kind.count() < AT_ONCE && to_one < AT_ONCE_TO_ONE
}

/// A try that is under way until this is dropped, however it ends.
struct Try {
    shared: Arc<Shared>,
    entry: UnderWay,
}

impl Drop for Try {
    fn drop(&mut self) {
        lock(&self.shared.under_way).retain(|one| *one != self.entry);
        lock(&self.shared.state).has_room = true;
        self.shared.changed.notify_all();
    }
}

#[derive(Default)]
struct State {
    ends: bool,
    /// A try is over: there is room for another.
    has_room: bool,
}

/// Whom to tell of a job with this URL of its own. Nobody is told already.
pub fn receivers(config: &Config, own: Option<&str>, now: Time) -> Vec<Delivery> {
    let of_operator = config.webhooks.urls.iter().map(|url| (url.as_str(), false));
    let mut all: Vec<Delivery> = Vec::new();
    for (url, is_of_job) in of_operator.chain(own.map(|url| (url, true))) {
        if all.iter().all(|one| one.url != url) {
            all.push(Delivery { is_of_job, next_at: Some(now), ..Delivery::to(url) });
        }
    }
    all
}

/// Stops telling when it is dropped. A try that is under way then is made again by whoever tells next.
pub struct Teller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    /// None: nothing can be told, because nothing can be signed.
    pub fn start(config: &Config, store: Arc<dyn Store>) -> io::Result<Option<Self>> {
        let Some(outbox) = store.outbox().filter(|_| !config.webhooks.secrets.is_empty()) else { return Ok(None) };
        if !config.webhooks.urls.is_empty() {
            outbox.tell_all();
        }
        let shared = Arc::new(Shared {
            config: config.clone(),
            store,
            under_way: Mutex::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = shared.clone();
        // Looks what is due; ends when the teller is dropped.
        let thread = std::thread::Builder::new().name("webhooks".into()).spawn(move || own.run())?;
        Ok(Some(Self { shared, thread: Some(thread) }))
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        lock(&self.shared.state).ends = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When each notice is due next, as far as it was read: what is far off is not read again each time.
type Due = HashMap<Name, Time>;

impl Shared {
    fn run(self: Arc<Self>) {
        let Some(outbox) = self.store.outbox() else { return };
        let (mut telling, mut due): (Option<File>, Due) = (None, Due::new());
        let mut silent: Option<(Vec<u8>, Instant)> = None;
        loop {
            telling = telling.filter(|teller| outbox.is_teller(teller));
            if telling.is_none() {
                telling = outbox.become_teller();
                due.clear();
            }
            match &telling {
                Some(teller) => {
                    silent = None;
                    outbox.beat(teller);
                    self.look(outbox, &mut due);
                }
                None => self.watch_teller(outbox, &mut silent),
            }
            let pause = if telling.is_some() { LOOK_EVERY } else { STAND_BY };
            let state = lock(&self.state);
            let waits = |state: &mut State| !state.ends && !state.has_room;
            let (mut state, _) =
                self.changed.wait_timeout_while(state, pause, waits).unwrap_or_else(PoisonError::into_inner);
            if state.ends {
                return;
            }
            state.has_room = false;
            drop(state);
            std::thread::sleep(LOOK_AT_MOST_EVERY);
        }
    }

    /// Another server tells. One that is frozen, and so says nothing any more, does not for ever.
    fn watch_teller(&self, outbox: &Outbox, silent: &mut Option<(Vec<u8>, Instant)>) {
        let Some(heard) = outbox.heard() else { return };
        match silent {
            Some((before, since)) if *before == heard => {
                if since.elapsed() >= SILENCE {
                    log::warn("the server that tells webhooks has said nothing for a while: this one does it now");
                    if let Err(why) = outbox.oust(&heard) {
                        log::warn(&why);
                    }
                    *silent = None;
                }
            }
            _ => *silent = Some((heard, Instant::now())),
        }
    }

    fn look(self: &Arc<Self>, outbox: &Outbox, due: &mut Due) {
        let names: HashSet<Name> = outbox.names(Shelf::Waiting).into_iter().collect();
        due.retain(|name, _| names.contains(name));
        let now = Time::now();
        let is_due = |name: &Name| due.get(name).is_none_or(|due| *due <= now);
        // A set has another order each time: none is always the last.
        let names: Vec<Name> = names.iter().filter(|name| is_due(name)).take(READ_AT_ONCE).cloned().collect();
        for name in names {
            if lock(&self.under_way).len() >= 2 * AT_ONCE || lock(&self.state).ends {
                return;
            }
            // Before it is read: a try that ends meanwhile is not in what was read.
            let busy = lock(&self.under_way).clone();
            let Some(notice) = outbox.read(Shelf::Waiting, &name.0, name.1) else { continue };
            let Ok(next) = self.begin(outbox, notice, now, &busy) else {
                // The store cannot be asked: nor for the others.
                return;
            };
            match next {
                Some(next) => due.insert(name, next.min(now.plus_seconds(READ_AGAIN))),
                None => due.remove(&name),
            };
        }
    }

    /// Begins what is due of a notice. When to look at it again; None: at the next look.
    fn begin(
        self: &Arc<Self>,
        outbox: &Outbox,
        notice: Notice,
        now: Time,
        busy: &[UnderWay],
    ) -> Result<Option<Time>, store::Error> {
        if notice.body.is_none() {
            self.address(outbox, &notice, now)?;
            return Ok(None);
        }
        let waiting: Vec<&Delivery> = notice.deliveries.iter().filter(|one| one.next_at.is_some()).collect();
        let mut next = waiting.iter().filter_map(|one| one.next_at).min();
        for delivery in waiting.into_iter().filter(|one| one.next_at.is_some_and(|next| next <= now)) {
            // While it is under way, and until there is room for it, it is looked at each time.
            next = None;
            let entry = UnderWay::of(&notice, delivery);
            if !busy.contains(&entry) {
                self.try_to_tell(&notice, delivery, entry);
            }
        }
        Ok(next)
    }

    /// Notes what is to be told, and to whom, once that has happened. From then on the job's record is not needed.
    fn address(&self, outbox: &Outbox, notice: &Notice, now: Time) -> Result<(), store::Error> {
        if outbox.is_settled(&notice.job, notice.about) {
            // Two ended it at once, and the later one noted what was told already.
            self.warn(&notice.job, outbox.drop_waiting(&notice.job, notice.about));
            return Ok(());
        }
        let has_happened = |record: &Record| notice.about == About::Started || record.status().has_ended();
        let record = match self.store.get(&notice.job)? {
            Seen { it: Some(record), .. } => Some(record),
            // It is forgotten already.
            Seen { it: None, stale: false } => notice.record.as_deref().cloned(),
            Seen { it: None, stale: true } => None,
        };
        let Some(record) = record.filter(has_happened) else { return Ok(()) };
        let deliveries = receivers(&self.config, record.webhook_url.as_deref(), now);
        let written = match deliveries.is_empty() {
            true => {
                let why = "nobody is told of it: the settings name nobody any more (AGENTICORE_WEBHOOK_URLS)";
                log::job(&notice.job).warn(why);
                outbox.remove(&notice.job, notice.about)
            }
            false => outbox.change(&notice.job, notice.about, |notice| {
                notice.deliveries = deliveries;
                notice.body = Some(message::body(&record, notice.about, notice.made_at));
                notice.record = None;
            }),
        };
        self.warn(&notice.job, written);
        Ok(())
    }

    /// In a thread of its own, if there is room.
    fn try_to_tell(self: &Arc<Self>, notice: &Notice, delivery: &Delivery, entry: UnderWay) {
        let mut under_way = lock(&self.under_way);
        if !has_room(&under_way, &entry) {
            return;
        }
        under_way.push(entry.clone());
        drop(under_way);
        let (notice, delivery) = (notice.clone(), delivery.clone());
        let running = Try { shared: self.clone(), entry };
        let tries = std::thread::Builder::new().name("webhook".into());
        // Tells one receiver, within the limits of a request; ends with that.
        if let Err(error) = tries.spawn(move || running.shared.tell(&notice, &delivery)) {
            log::warn(&format!("no thread can be started to tell a receiver: {error}"));
        }
    }

    fn tell(&self, notice: &Notice, delivery: &Delivery) {
        let began = Time::now();
        let message = Message::of(notice);
        let outcome = send::send(&self.config, &delivery.url, delivery.is_of_job, &message);
        let after = after(delivery, outcome, began, self.config.webhooks.backoff);
        let host = url::shown(&delivery.url);
        let job = log::job(&notice.job);
        metrics::event(if after.told_at.is_some() { "webhook_told" } else { "webhook_failed" });
        if let Some(why) = after.last.as_ref().filter(|_| after.told_at.is_none() && after.next_at.is_none()) {
            job.warn(format!("{host} was not told that it {}, and is not tried again: {why}", notice.about.as_str()));
        }
        let Some(outbox) = self.store.outbox() else { return };
        let written = outbox.change(&notice.job, notice.about, |notice| {
            let is_it = |one: &&mut Delivery| one.url == delivery.url;
            // Somebody may have had it tried again meanwhile: what failed does not undo that.
            let stays = |one: &&mut Delivery| one.tries == delivery.tries || after.told_at.is_some();
            for one in notice.deliveries.iter_mut().filter(is_it).filter(stays) {
                *one = after.clone();
            }
        });
        self.warn(&notice.job, written);
        // A job that is forgotten is shown to nobody, nor who was told of it.
        let is_over = outbox.read(Shelf::Waiting, &notice.job, notice.about).is_none();
        if is_over && self.store.get(&notice.job).is_ok_and(|seen| seen.it.is_none() && !seen.stale) {
            self.warn(&notice.job, outbox.forget(&notice.job));
        }
    }

    fn warn(&self, job: &JobId, done: Result<(), String>) {
        if let Err(why) = done {
            log::job(job).warn(format!("what is told of it cannot be noted: {why}"));
        }
    }
}

/// How a delivery stands after a try that began then.
fn after(before: &Delivery, outcome: Outcome, began: Time, backoff: Duration) -> Delivery {
    let tries = before.tries + 1;
    let is_unwanted = matches!(outcome, Outcome::Unwanted(_));
    let (told_at, last, is_over) = match outcome {
        Outcome::Told => (Some(Time::now()), None, true),
        Outcome::Failed(why) => (None, Some(why), false),
        Outcome::Unwanted(why) => (None, Some(why), true),
    };
    // From its begin on: a receiver that never answers takes no longer to be given up.
    let pause = PAUSES.get(tries as usize - 1).filter(|_| !is_over).map(|times| backoff * *times);
    let next_at = pause.map(|pause| Time(began.0 + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2)));
    Delivery { tries, next_at, told_at, last, is_unwanted, ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tries_within_thirty_seconds_and_the_last_after_a_day() {
        let backoff = Duration::from_secs(5);
        let mut delivery = Delivery { next_at: Some(Time(0)), ..Delivery::to("u") };
        let mut began = Vec::new();
        while let Some(next) = delivery.next_at {
            began.push(next.0 / 1000);
            delivery = after(&delivery, Outcome::Failed("no".into()), next, backoff);
        }
        assert!(began[2] <= 30 && began.len() == 12, "{began:?}");
        let hours = began[11] as f64 / 3600.0;
        assert!((23.0..25.0).contains(&hours), "{hours}");
        assert!(delivery.told_at.is_none() && delivery.last.is_some());
        let told = after(&delivery, Outcome::Told, Time(0), backoff);
        assert!(told.told_at.is_some() && told.next_at.is_none() && told.last.is_none());
        let unwanted = after(&Delivery { tries: 0, ..told }, Outcome::Unwanted("410".into()), Time(0), backoff);
        assert!(unwanted.next_at.is_none() && unwanted.told_at.is_none());
    }

    #[test]
    fn a_receiver_that_hangs_leaves_room_for_others() {
        let entry = |url: &str, is_of_job: bool| {
            let name = (JobId::random(), About::Ended);
            UnderWay { name, url: url.into(), is_of_job }
        };
        let hang = |url: &str, is_of_job: bool| -> Vec<UnderWay> {
            (0..AT_ONCE_TO_ONE).map(|_| entry(url, is_of_job)).collect()
        };
        // Of the operator, each URL by itself: also on one host.
        let under_way = hang("http://hooks.example.com:1/slow", false);
        assert!(!has_room(&under_way, &entry("http://hooks.example.com:1/slow", false)));
        assert!(has_room(&under_way, &entry("http://hooks.example.com:1/good", false)));
        assert!(has_room(&under_way, &entry("http://hooks.example.com:1/slow", true)));
        // Of jobs, each host by itself: somebody may name any number of URLs of one.
        let under_way = hang("https://hooks.example.com/a", true);
        assert!(!has_room(&under_way, &entry("https://hooks.example.com/b", true)));
        assert!(has_room(&under_way, &entry("https://other.example.com/b", true)));
        assert!(!has_room(&under_way[..1], &under_way[0]), "one try at once");
    }
}
