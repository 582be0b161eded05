//! An answer that waits, for as long as the key that asked for it is good.

use super::http::{EndsEarly, Flow, Next, Resumed, Waker};
use super::keys::Keys;
use crate::job::Time;
use crate::service::Caller;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the key is looked up.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub struct KeyedFlow {
    pub inner: Box<dyn Flow>,
    pub keys: Arc<Keys>,
    pub caller: Caller,
    pub looked: Instant,
}

impl Flow for KeyedFlow {
    fn content_type(&self) -> &'static str {
        self.inner.content_type()
    }

    fn heartbeat(&self) -> &'static [u8] {
        self.inner.heartbeat()
    }

    fn opening(&self) -> Vec<u8> {
        self.inner.opening()
    }

    fn on_news(&mut self, waker: Waker) {
        self.inner.on_news(waker);
    }

    fn next(&mut self) -> Next {
        self.inner.next()
    }

    fn until(&self) -> Option<Instant> {
        self.inner.until()
    }

    fn resume(self: Box<Self>) -> (Vec<u8>, Resumed) {
        let Self { inner, keys, caller, looked } = *self;
        match inner.resume() {
            (said, Resumed::GoesOn(inner)) => (said, Resumed::GoesOn(Box::new(Self { inner, keys, caller, looked }))),
            (said, Resumed::Done) => (said, Resumed::Done),
        }
    }

    fn last_words(&mut self, early: EndsEarly) -> Vec<u8> {
        self.inner.last_words(early)
    }

    fn ends_now(&mut self) -> Option<Vec<u8>> {
        if self.looked.elapsed() < LOOK_AGAIN {
            return None;
        }
        self.looked = Instant::now();
        self.keys.again(&self.caller, Time::now()).err()?;
        // Whoever reads events comes again, and is told then.
        Some(self.inner.last_words(EndsEarly::KeyIsGone))
    }
}
