//! What is still to be told of jobs by webhooks, a file each, so that nobody's death loses it:
//!
//! ```text
//! webhooks/waiting/ID-EVENT.json   not told to everybody yet
//! webhooks/failed/ID-EVENT.json    somebody was not told in a day
//! webhooks/done/ID-EVENT.json      told
//! ```
//!
//! That an end is to be told is written before the end itself: a file whose job has not ended says nothing yet. Whom
//! to tell, and how, is not decided here.

use super::files::{self, Made};
use crate::job::{JobId, Record, Time, cut};
use fs2::FileExt;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Its lock is held by the server that tells.
const TELLER: &str = ".teller";
/// What was begun to be written so long ago nobody writes any more.
const ABANDONED_AFTER: Duration = Duration::from_secs(600);
/// The most of a text in a noted record, in bytes.
const TEXT_LIMIT: usize = 3_000;
/// How long another process may change a notice, and how soon it is asked again.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// The format of such a file.
const FORMAT: u32 = 1;

/// What is told of a job.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    Started,
    Ended,
}

impl About {
    pub const ALL: [About; 2] = [About::Started, About::Ended];

    pub fn as_str(self) -> &'static str {
        match self {
            About::Started => "started",
            About::Ended => "ended",
        }
    }
}

/// Something that is to be told, and how far that is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notice {
    format: u32,
    pub job: JobId,
    pub about: About,
    pub made_at: Time,
    /// How the job stood when this was noted, its texts cut: it may be forgotten before somebody looks.
    #[serde(default)]
    pub record: Option<Box<Record>>,
    /// What is told, the same on each try; None until somebody looked at whom to tell.
    #[serde(default)]
    pub body: Option<String>,
    #[serde(default)]
    pub deliveries: Vec<Delivery>,
}

/// The same for one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub url: String,
    /// It is the job's own, not the operator's.
    #[serde(default)]
    pub is_of_job: bool,
    pub tries: u32,
    /// When it is tried next. None: it is told, or given up.
    pub next_at: Option<Time>,
    pub told_at: Option<Time>,
    /// What came of the last try.
    pub last: Option<String>,
    /// The receiver said that it wants to hear no more of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_unwanted: bool,
}

impl Delivery {
    /// Not tried yet, nor to be.
    pub fn to(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            is_of_job: false,
            tries: 0,
            next_at: None,
            told_at: None,
            last: None,
            is_unwanted: false,
        }
    }
}

/// Where a notice lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shelf {
    Waiting,
    Failed,
    Done,
}

impl Shelf {
    const ALL: [Shelf; 3] = [Shelf::Waiting, Shelf::Failed, Shelf::Done];

    fn directory(self) -> &'static str {
        match self {
            Shelf::Waiting => "waiting",
            Shelf::Failed => "failed",
            Shelf::Done => "done",
        }
    }
}

pub struct Outbox {
    directory: PathBuf,
    tells_all: AtomicBool,
}

impl Outbox {
    /// Below a jobs directory.
    pub fn new(jobs: &Path) -> Self {
        Self { directory: jobs.join("webhooks"), tells_all: AtomicBool::new(false) }
    }

    /// From now on every job's end is to be told, not only that of a job with a URL of its own.
    pub fn tell_all(&self) {
        self.tells_all.store(true, Ordering::SeqCst);
    }

    fn path(&self, shelf: Shelf, job: &JobId, about: About) -> PathBuf {
        self.directory.join(shelf.directory()).join(format!("{job}-{}.json", about.as_str()))
    }

    fn is_wanted(&self, record: &Record) -> bool {
        record.webhook_url.is_some() || self.tells_all.load(Ordering::SeqCst)
    }

    /// To be told, if anybody wants to hear of it. Asked twice, it is noted once. To be called before it happens, as
    /// far as others can know. True: by this call.
    pub fn note(&self, record: &Record, about: About) -> Result<bool, String> {
        if !self.is_wanted(record) || self.find(&record.id, about)?.is_some() {
            return Ok(false);
        }
        let (job, made_at, kept) = (record.id.clone(), Time::now(), Some(Box::new(with_short_texts(record))));
        let notice = Notice { format: FORMAT, job, about, made_at, record: kept, body: None, deliveries: Vec::new() };
        let path = self.path(Shelf::Waiting, &notice.job, about);
        make_directory_of(&path)?;
        // Another server may have noted it since, and told it: what stands there stays.
        Ok(files::make_once(&path, &bytes_of(&notice)?)? == Made::Here)
    }

    /// What is noted of a job, and where it stands.
    pub fn find(&self, job: &JobId, about: About) -> Result<Option<(Shelf, Notice)>, String> {
        if !self.directory.is_dir() {
            return Ok(None);
        }
        for shelf in Shelf::ALL {
            if let Some(bytes) = files::read(&self.path(shelf, job, about))? {
                return Ok(parse(&bytes).map(|notice| (shelf, notice)));
            }
        }
        Ok(None)
    }

    fn write(&self, shelf: Shelf, notice: &Notice) -> Result<(), String> {
        let path = self.path(shelf, &notice.job, notice.about);
        make_directory_of(&path)?;
        files::replace(&path, &bytes_of(notice)?)
    }

    /// What stands there, in no order; what cannot be read is passed over.
    pub fn names(&self, shelf: Shelf) -> Vec<(JobId, About)> {
        let found = files::list(&self.directory.join(shelf.directory())).unwrap_or_default();
        let name = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned();
            let (id, about) = name.rsplit_once('-')?;
            Some((JobId::parse(id)?, About::ALL.into_iter().find(|known| known.as_str() == about)?))
        };
        found.iter().filter_map(name).collect()
    }

    pub fn read(&self, shelf: Shelf, job: &JobId, about: About) -> Option<Notice> {
        parse(&files::read(&self.path(shelf, job, about)).ok()??)
    }

    /// Changes a notice, wherever it stands, and puts it where it belongs then; no other process does meanwhile. What
    /// is gone stays so.
    pub fn change(&self, job: &JobId, about: About, change: impl FnOnce(&mut Notice)) -> Result<(), String> {
        let _alone = self.lock(".changes", LOCK_LIMIT)?;
        let Some((shelf, mut notice)) = self.find(job, about)? else { return Ok(()) };
        change(&mut notice);
        let wanted = match () {
            () if notice.deliveries.is_empty() || notice.deliveries.iter().any(|one| one.next_at.is_some()) => {
                Shelf::Waiting
            }
            () if notice.deliveries.iter().all(|one| one.told_at.is_some()) => Shelf::Done,
            () => Shelf::Failed,
        };
        self.write(wanted, &notice)?;
        if wanted != shelf {
            files::remove(&self.path(shelf, job, about))?;
        }
        Ok(())
    }

    /// The job is forgotten. What somebody is still to be told stays until that is done.
    pub fn forget(&self, job: &JobId) -> Result<(), String> {
        let is_waiting = |about| self.path(Shelf::Waiting, job, about).exists();
        if self.directory.is_dir() && About::ALL.into_iter().any(is_waiting) {
            return Ok(());
        }
        About::ALL.into_iter().try_for_each(|about| self.remove(job, about))
    }

    /// Nobody is to be told of this, after all.
    pub fn remove(&self, job: &JobId, about: About) -> Result<(), String> {
        if !self.directory.is_dir() {
            return Ok(());
        }
        Shelf::ALL.into_iter().try_for_each(|shelf| files::remove(&self.path(shelf, job, about)))
    }

    /// Nothing of it is to be told any more: it was told, or given up, already.
    pub fn is_settled(&self, job: &JobId, about: About) -> bool {
        [Shelf::Done, Shelf::Failed].into_iter().any(|shelf| self.path(shelf, job, about).exists())
    }

    /// Nobody looks at this notice any more; what stands elsewhere of it stays.
    pub fn drop_waiting(&self, job: &JobId, about: About) -> Result<(), String> {
        files::remove(&self.path(Shelf::Waiting, job, about))
    }

    /// Of all servers that share the directory one tells. None: another one does.
    pub fn become_teller(&self) -> Option<File> {
        fs::create_dir_all(&self.directory).ok()?;
        let teller = self.lock(TELLER, Duration::ZERO).ok()?;
        if !self.is_teller(&teller) {
            return None;
        }
        for shelf in Shelf::ALL {
            // What a server that was killed had begun to write.
            let _ = files::remove_abandoned(&self.directory.join(shelf.directory()), ABANDONED_AFTER);
        }
        Some(teller)
    }

    /// Whether this lock is still the one that counts: its file may have been put aside while this server was frozen.
    pub fn is_teller(&self, teller: &File) -> bool {
        let of = |found: fs::Metadata| (found.dev(), found.ino());
        let there = fs::metadata(self.directory.join(TELLER)).map(of);
        there.is_ok_and(|there| teller.metadata().map(of).is_ok_and(|own| own == there))
    }

    /// The teller says that it lives.
    pub fn beat(&self, teller: &File) {
        // Nobody else writes there; where it cannot be written others take over, and each is told twice at most.
        let _ = teller.write_all_at(format!("{:>20}", Time::now().0).as_bytes(), 0);
    }

    /// What the teller said last of itself.
    pub fn heard(&self) -> Option<Vec<u8>> {
        files::read(&self.directory.join(TELLER)).ok().flatten()
    }

    /// Puts the lock of a teller aside that has said nothing new since this: another may tell then. What it has under
    /// way when it comes back it tells with the same ids.
    pub fn oust(&self, heard: &[u8]) -> Result<(), String> {
        let _alone = self.lock(".changes", LOCK_LIMIT)?;
        match self.heard() {
            Some(now) if now == heard => files::remove(&self.directory.join(TELLER)),
            _ => Ok(()),
        }
    }

    fn lock(&self, name: &str, limit: Duration) -> Result<File, String> {
        let path = self.directory.join(name);
        let open = || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = open().map_err(|error| files::explain("open", &path, &error))?;
        let until = Instant::now() + limit;
        // Whoever holds it may be frozen: it is not waited for without end.
        while let Err(error) = FileExt::try_lock_exclusive(&file) {
            if Instant::now() >= until {
                return Err(files::explain("lock", &path, &error));
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Ok(file)
    }
}

fn make_directory_of(path: &Path) -> Result<(), String> {
    let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) else { return Ok(()) };
    fs::create_dir_all(directory).map_err(|error| files::explain("make", directory, &error))
}

fn bytes_of(notice: &Notice) -> Result<Vec<u8>, String> {
    serde_json::to_vec(notice).map_err(|error| error.to_string())
}

fn with_short_texts(record: &Record) -> Record {
    let mut record = record.clone();
    record.task = cut(record.task, TEXT_LIMIT);
    for text in [&mut record.output, &mut record.error, &mut record.note, &mut record.kept_because] {
        *text = text.take().map(|text| cut(text, TEXT_LIMIT));
    }
    record
}

/// None: it is no notice, or a later version's.
fn parse(bytes: &[u8]) -> Option<Notice> {
    serde_json::from_slice::<Notice>(bytes).ok().filter(|notice| notice.format <= FORMAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::{queued, spec};
    use crate::job::{Queued, Spec};

    #[test]
    fn a_notice_goes_from_shelf_to_shelf() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(directory.path());
        let plain: Record = queued().into();
        outbox.note(&plain, About::Ended).unwrap();
        assert!(outbox.find(&plain.id, About::Ended).unwrap().is_none(), "nobody wants to hear of it");
        let url = Some("https://a.example/".to_owned());
        let wants: Record = Queued::new(JobId::random(), Spec { webhook_url: url, ..spec() }, Time(1)).into();
        outbox.note(&wants, About::Ended).unwrap();
        let (shelf, notice) = outbox.find(&wants.id, About::Ended).unwrap().unwrap();
        assert_eq!((shelf, outbox.names(Shelf::Waiting)), (Shelf::Waiting, vec![(wants.id.clone(), About::Ended)]));
        outbox.note(&wants, About::Ended).unwrap();
        assert_eq!(outbox.read(Shelf::Waiting, &wants.id, About::Ended).unwrap().made_at, notice.made_at);
        let delivery = |next_at, told_at| Delivery { next_at, told_at, tries: 1, ..Delivery::to("u") };
        for (one, shelf) in [
            (delivery(Some(Time(5)), None), Shelf::Waiting),
            (delivery(None, None), Shelf::Failed),
            (delivery(None, Some(Time(9))), Shelf::Done),
        ] {
            outbox.change(&wants.id, About::Ended, |notice| notice.deliveries = vec![one]).unwrap();
            assert_eq!(outbox.find(&wants.id, About::Ended).unwrap().unwrap().0, shelf);
            outbox.note(&wants, About::Ended).unwrap();
            assert_eq!(Shelf::ALL.iter().map(|shelf| outbox.names(*shelf).len()).sum::<usize>(), 1);
        }
        outbox.forget(&wants.id).unwrap();
        assert!(outbox.find(&wants.id, About::Ended).unwrap().is_none());
        outbox.note(&wants, About::Ended).unwrap();
        outbox.forget(&wants.id).unwrap();
        assert!(outbox.find(&wants.id, About::Ended).unwrap().is_some(), "what is to be told outlives its job");
    }

    #[test]
    fn a_teller_that_says_nothing_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let outbox = Outbox::new(directory.path());
        let frozen = outbox.become_teller().unwrap();
        assert!(outbox.become_teller().is_none() && outbox.is_teller(&frozen));
        outbox.beat(&frozen);
        let heard = outbox.heard().unwrap();
        outbox.oust(b"something older").unwrap();
        assert!(outbox.become_teller().is_none(), "it said something since");
        outbox.oust(&heard).unwrap();
        let next = outbox.become_teller().unwrap();
        assert!(outbox.is_teller(&next) && !outbox.is_teller(&frozen), "it notices when it comes back");
        drop(next);
        assert!(outbox.become_teller().is_some());
    }
}
