//! A client's session that lives on one server and gets its messages from any: for MCP's older transport.

use super::{Refusal, Service};
use crate::store::watch::{Mailbox, Posted, Waker};
use crate::store::{KEEP_MAILBOX, Store};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How soon is read again what could not be read.
const READ_AGAIN: Duration = Duration::from_millis(300);
/// How soon is said again what could not be said.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// Ends when it is dropped; elsewhere that is known within a minute.
pub struct Session {
    store: Arc<dyn Store>,
    mailbox: Mailbox,
    keep_at: Instant,
}

impl Service {
    pub fn open_session(&self) -> Result<Session, Refusal> {
        // Nobody else can guess it: it stands for the key that opened it.
        let id = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let store = self.runner.store.clone();
        let mailbox = store.open_mailbox(&id)?;
        Ok(Session { store, mailbox, keep_at: Instant::now() + KEEP_MAILBOX })
    }

    /// Gives a message to a session, on whichever server it is.
    pub fn post(&self, session: &str, message: &str) -> Result<Posted, Refusal> {
        Ok(self.runner.store.post(session, message)?)
    }
}

impl Session {
    pub fn id(&self) -> &str {
        self.mailbox.id()
    }

    /// Never blocks.
    pub fn has_mail(&self) -> bool {
        self.mailbox.has_mail()
    }

    pub fn on_mail(&self, waker: Waker) {
        self.mailbox.on_mail(waker);
    }

    /// When [`take`](Self::take) is to be called even if there is no mail.
    pub fn keep_at(&self) -> Instant {
        self.keep_at
    }

    /// What came, in order; says that the session is still there, when that is due. May block.
    pub fn take(&mut self) -> Result<Vec<String>, Refusal> {
        let had_mail = self.mailbox.has_mail();
        let taken = if had_mail { self.store.take_mail(&self.mailbox) } else { Ok(Vec::new()) };
        if taken.is_err() {
            std::thread::sleep(READ_AGAIN);
            self.mailbox.look_again();
        }
        // Called to an empty box: whoever keeps it elsewhere may have forgotten that it is here.
        let is_called_in_vain = had_mail && taken.as_ref().is_ok_and(Vec::is_empty);
        if is_called_in_vain || Instant::now() >= self.keep_at {
            let kept = self.store.keep_mailbox(self.mailbox.id());
            self.keep_at = Instant::now() + if kept.is_ok() { KEEP_MAILBOX } else { KEEP_AGAIN };
        }
        Ok(taken?)
    }
}
