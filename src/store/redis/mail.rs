//! Mail between pods: a box is held by one, and filled by any. The box's pod is woken by its own stream.

use super::context::Access;
use crate::store::watch::{BYTES_LIMIT, MESSAGES_LIMIT, Mailbox, Posted};
use crate::store::{Error, KEEP_MAILBOX};
use ::redis::pipe;

/// The most entries of a pod's stream that wakes it. One that was cut before it was read is made up for: all boxes
/// are looked into.
pub const WAKE_LIMIT: usize = 256;
/// How long a box and what is in it stay when nobody says that it is still there, in seconds.
const STAYS: u64 = 3 * KEEP_MAILBOX.as_secs();

impl Access {
    pub fn keep_mailbox(&self, id: &str) -> Result<(), Error> {
        let (key, pod) = (self.ctx.keys.mailbox(id), &self.ctx.pod);
        let set =
            self.link.with(|connection| ::redis::cmd("SET").arg(&key).arg(pod).arg("EX").arg(STAYS).exec(connection));
        set.map_err(Error::Unavailable)
    }

    /// Says that boxes are gone, so that nobody takes a message for them any more.
    pub fn end_mailboxes(&self, ids: &[String]) -> Result<(), Error> {
        let ended = self.link.with(|connection| {
            let mut delete = ::redis::cmd("DEL");
            ids.iter().for_each(|id| {
                delete.arg(&self.names_of(id)[..]);
            });
            delete.exec(connection)
        });
        ended.map_err(Error::Unavailable)
    }

    /// Whose box it is, what is in it, and how many bytes that is.
    fn names_of(&self, id: &str) -> [String; 3] {
        let keys = &self.ctx.keys;
        [keys.mailbox(id), keys.mailbox(&format!("{id}:in")), keys.mailbox(&format!("{id}:bytes"))]
    }

    pub fn post(&self, id: &str, message: &str) -> Result<Posted, Error> {
        let [key, inside, bytes] = self.names_of(id);
        let state = self.link.with(|connection| {
            let mut ask = pipe();
            ask.cmd("GET").arg(&key).cmd("LLEN").arg(&inside).cmd("GET").arg(&bytes);
            ask.query::<(Option<String>, usize, Option<usize>)>(connection)
        });
        let (Some(pod), waiting, size) = state.map_err(Error::Unavailable)? else { return Ok(Posted::Unknown) };
        if waiting >= MESSAGES_LIMIT || size.unwrap_or(0) + message.len() > BYTES_LIMIT {
            return Ok(Posted::Full);
        }
        let wake = self.ctx.keys.wake(&pod);
        let posted = self.link.with(|connection| {
            let mut post = pipe();
            post.atomic().cmd("RPUSH").arg(&inside).arg(message).ignore();
            post.cmd("INCRBY").arg(&bytes).arg(message.len()).ignore();
            for key in [&inside, &bytes] {
                post.cmd("EXPIRE").arg(key).arg(STAYS).ignore();
            }
            post.cmd("XADD").arg(&wake).arg("MAXLEN").arg(WAKE_LIMIT).arg("*").arg("mail").arg(id).ignore();
            post.exec(connection)
        });
        posted.map(|()| Posted::Taken).map_err(Error::Unavailable)
    }

    pub fn take_mail(&self, mailbox: &Mailbox) -> Result<Vec<String>, Error> {
        // Before Redis is asked, so that what comes meanwhile is looked for again.
        mailbox.take();
        let [_, inside, bytes] = self.names_of(mailbox.id());
        let taken = self.link.with(|connection| {
            let mut take = pipe();
            take.atomic().cmd("LRANGE").arg(&inside).arg(0).arg(-1).cmd("DEL").arg(&inside).arg(&bytes).ignore();
            take.query::<(Vec<String>,)>(connection)
        });
        taken.map(|(messages,)| messages).map_err(Error::Unavailable)
    }
}
