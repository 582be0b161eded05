//! Trying again, with back-off, what may work later.

use super::{Execution, Halt};
use crate::event::Kind;
use crate::forge;
use crate::workspace::cache;
use std::time::Duration;

/// The longest pause between two tries, unless the other side asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How one try went wrong.
pub enum Failure {
    Passing {
        why: String,
        after: Option<Duration>,
    },
    /// The clone cache is another one now: worth another try at once.
    MadeAnew(String),
    Final(String),
    Halt(Halt),
}

impl From<Halt> for Failure {
    fn from(halt: Halt) -> Self {
        Failure::Halt(halt)
    }
}

impl From<forge::Error> for Failure {
    fn from(error: forge::Error) -> Self {
        match error {
            forge::Error::Passing { why, after } => Failure::Passing { why, after },
            forge::Error::Final(why) => Failure::Final(why),
        }
    }
}

impl From<cache::Error> for Failure {
    fn from(error: cache::Error) -> Self {
        match error {
            cache::Error::Passing(why) => Failure::Passing { why, after: None },
            cache::Error::MadeAnew(why) => Failure::MadeAnew(why),
            cache::Error::Final(why) => Failure::Final(why),
            cache::Error::Stopped(reason) => Failure::Halt(Halt::Stopped(reason)),
        }
    }
}

impl Execution<'_> {
    /// Tries `action` as often as the settings say. `Ok(Err(why))`: it did not work, and why.
    pub fn try_again<T>(
        &self,
        what: &str,
        mut action: impl FnMut() -> Result<T, Failure>,
    ) -> Result<Result<T, String>, Halt> {
        let settings = &self.runner.config.repos;
        let mut pause = settings.publish_backoff;
        let mut tried = 1;
        loop {
            let (why, after) = match action() {
                Ok(done) => return Ok(Ok(done)),
                Err(Failure::Halt(halt)) => return Err(halt),
                Err(Failure::Final(why) | Failure::MadeAnew(why)) => return Ok(Err(why)),
                Err(Failure::Passing { why, after }) => (why, after),
            };
            if tried >= settings.publish_tries {
                return Ok(Err(format!("{why} (tried {tried} times)")));
            }
            let wait = after.unwrap_or_default().max(pause);
            self.say(Kind::PublishNotice, format!("{what}: {why}; trying again in {} s", wait.as_secs_f32()))?;
            if let Some(reason) = self.stop.pause(wait) {
                return Err(Halt::Stopped(reason));
            }
            // One that was asked to wait and is refused again waits longer.
            pause = if after.is_some() { wait * 2 } else { (pause * 2).min(LONGEST_PAUSE) };
            tried += 1;
        }
    }
}
