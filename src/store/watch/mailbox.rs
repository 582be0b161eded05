//! Boxes for messages to somebody who is connected to this server: MCP's older transport takes messages on other
//! connections than it answers on. A box that nobody holds any more is gone, with what is in it.

use super::{Hub, Waker, lock};
use std::sync::{Arc, Mutex};

/// The most messages that wait in a box, and the most bytes.
pub const MESSAGES_LIMIT: usize = 256;
pub const BYTES_LIMIT: usize = 4 << 20;
/// Boxes whose end is still to be told elsewhere, at most; the others are noticed by their time.
const ENDED_LIMIT: usize = 1_000;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Posted {
    Taken,
    /// There is no such box.
    Unknown,
    /// Too much waits in the box: whoever holds it does not keep up.
    Full,
}

#[derive(Default)]
pub struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    messages: Vec<String>,
    /// There may be messages that are kept elsewhere.
    has_mail: bool,
    waker: Option<Waker>,
}

/// One that is emptied here.
pub struct Mailbox {
    hub: Arc<Hub>,
    id: String,
    shared: Arc<Shared>,
}

impl Hub {
    pub fn open_mailbox(self: &Arc<Self>, id: &str) -> Mailbox {
        let shared = Arc::<Shared>::default();
        lock(&self.watched).mailboxes.insert(id.to_owned(), shared.clone());
        self.changed.notify_all();
        Mailbox { hub: self.clone(), id: id.to_owned(), shared }
    }

    /// Puts a message into a box that is here.
    pub fn put_mail(&self, id: &str, message: &str) -> Posted {
        let Some(mailbox) = lock(&self.watched).mailboxes.get(id).cloned() else { return Posted::Unknown };
        mailbox.change(|state| {
            let bytes: usize = state.messages.iter().map(String::len).sum();
            if state.messages.len() >= MESSAGES_LIMIT || bytes + message.len() > BYTES_LIMIT {
                return Posted::Full;
            }
            state.messages.push(message.to_owned());
            Posted::Taken
        })
    }

    /// The boxes that were closed here, to be told elsewhere; each once.
    pub fn take_closed_mailboxes(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.watched).closed_mailboxes)
    }

    /// There may be something elsewhere for this box; None: for each.
    pub fn tell_mail(&self, id: Option<&str>) {
        let told: Vec<Arc<Shared>> = {
            let watched = lock(&self.watched);
            let is_meant = |(known, _): &(&String, &Arc<Shared>)| id.is_none_or(|id| id == *known);
            watched.mailboxes.iter().filter(is_meant).map(|(_, mailbox)| mailbox.clone()).collect()
        };
        told.iter().for_each(|mailbox| mailbox.change(|_| ()));
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (said, waker) = {
            let mut state = lock(&self.0);
            state.has_mail = true;
            (change(&mut state), state.waker.clone())
        };
        if let Some(waker) = waker {
            waker();
        }
        said
    }
}

impl Mailbox {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn has_mail(&self) -> bool {
        lock(&self.shared.0).has_mail
    }

    /// From now on `waker` is called when there is mail; at once, if there is some.
    pub fn on_mail(&self, waker: Waker) {
        let has_mail = {
            let mut state = lock(&self.shared.0);
            state.waker = Some(waker.clone());
            state.has_mail
        };
        if has_mail {
            waker();
        }
    }

    /// What is kept elsewhere could not be read.
    pub fn look_again(&self) {
        self.shared.change(|_| ());
    }

    /// What was put in here. To be called *before* looking elsewhere: what is told from here on counts again.
    pub fn take(&self) -> Vec<String> {
        let mut state = lock(&self.shared.0);
        state.has_mail = false;
        std::mem::take(&mut state.messages)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut watched = lock(&self.hub.watched);
        watched.mailboxes.remove(&self.id);
        if watched.closed_mailboxes.len() < ENDED_LIMIT {
            watched.closed_mailboxes.push(self.id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_holds_what_comes_until_it_is_gone() {
        let hub = Arc::new(Hub::default());
        assert_eq!(hub.put_mail("a", "nobody"), Posted::Unknown);
        let mailbox = hub.open_mailbox("a");
        let woken = Arc::new(Mutex::new(0));
        let counter = woken.clone();
        mailbox.on_mail(Arc::new(move || *lock(&counter) += 1));
        assert!(!mailbox.has_mail());
        assert_eq!((hub.put_mail("a", "1"), hub.put_mail("a", "2")), (Posted::Taken, Posted::Taken));
        hub.tell_mail(Some("b"));
        assert_eq!((*lock(&woken), mailbox.take(), mailbox.has_mail()), (2, vec!["1".into(), "2".into()], false));
        hub.tell_mail(None);
        assert!(mailbox.has_mail());
        for _ in 0..MESSAGES_LIMIT {
            assert_eq!(hub.put_mail("a", "x"), Posted::Taken);
        }
        assert_eq!(hub.put_mail("a", "too many"), Posted::Full);
        mailbox.take();
        assert_eq!(hub.put_mail("a", &"x".repeat(BYTES_LIMIT)), Posted::Taken);
        assert_eq!(hub.put_mail("a", "too much"), Posted::Full);
        drop(mailbox);
        assert_eq!(hub.put_mail("a", "gone"), Posted::Unknown);
        assert_eq!((hub.take_closed_mailboxes(), hub.take_closed_mailboxes()), (vec!["a".into()], vec![]));
    }
}
