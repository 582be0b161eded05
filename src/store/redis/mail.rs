//! Mail between pods: a box is held by one, and filled by any. The box's pod is woken by its own stream.

use super::context::Access;
use crate::store::watch::{MESSAGES_LIMIT, Mailbox};
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

    pub fn post(&self, id: &str, message: &str) -> Result<bool, Error> {
        let keys = &self.ctx.keys;
        let (key, inside) = (keys.mailbox(id), keys.mailbox(&format!("{id}:in")));
        let state = self.link.with(|connection| {
            pipe().cmd("GET").arg(&key).cmd("LLEN").arg(&inside).query::<(Option<String>, usize)>(connection)
        });
        let (Some(pod), waiting) = state.map_err(Error::Unavailable)? else { return Ok(false) };
        if waiting >= MESSAGES_LIMIT {
            return Ok(false);
        }
        let wake = keys.wake(&pod);
        let posted = self.link.with(|connection| {
            let mut post = pipe();
            post.atomic().cmd("RPUSH").arg(&inside).arg(message).ignore();
            post.cmd("EXPIRE").arg(&inside).arg(STAYS).ignore();
            post.cmd("XADD").arg(&wake).arg("MAXLEN").arg(WAKE_LIMIT).arg("*").arg("mail").arg(id).ignore();
            post.exec(connection)
        });
        posted.map(|()| true).map_err(Error::Unavailable)
    }

    pub fn take_mail(&self, mailbox: &Mailbox) -> Result<Vec<String>, Error> {
        // Before Redis is asked, so that what comes meanwhile is looked for again.
        mailbox.take();
        let inside = self.ctx.keys.mailbox(&format!("{}:in", mailbox.id()));
        let taken = self.link.with(|connection| {
            let mut take = pipe();
            take.atomic().cmd("LRANGE").arg(&inside).arg(0).arg(-1).cmd("DEL").arg(&inside).ignore();
            take.query::<(Vec<String>,)>(connection)
        });
        taken.map(|(messages,)| messages).map_err(Error::Unavailable)
    }
}
