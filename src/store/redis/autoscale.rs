//! How much each pod has to do: what the autoscaler reads, and who lets whom go first.
//!
//! `{p}:busy` is a list as long as the highest ordinal that runs a job, and one: a StatefulSet removes its
//! highest ordinal first, so a fleet must not be smaller than that. It is made anew each second from what the
//! pods said lately, never counted up and down, so it is right a few seconds after whatever happened.

use super::claims::Gate;
use super::context::Access;
use super::held::Attempts;
use super::own_state::OwnState;
use super::pop::Precedence;
use super::scripts;
use super::tail::Tail;
use crate::log;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a pod says how much it has to do.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// For how long that is believed: a pod that was killed is not counted any more after this.
const BELIEVED: Duration = Duration::from_millis(3500);
/// No fleet is as large as this: a name that ends in such a number has no ordinal.
const NO_ORDINAL: u32 = 1000;

/// The ordinal in the name of a StatefulSet's pod: 7 of `agenticore-7`.
fn ordinal(pod: &str) -> Option<u32> {
    let (_, digits) = pod.rsplit_once('-')?;
    let is_canonical = digits == "0" || !digits.starts_with('0');
    if is_canonical && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok().filter(|ordinal| *ordinal < NO_ORDINAL)
    } else {
        None
    }
}

pub struct Load {
    /// Should what an autoscaler reads not work, everything else does.
    pub access: Access,
    pub attempts: Arc<Attempts>,
    pub gate: Arc<Gate>,
    pub precedence: Arc<Precedence>,
    pub own: Arc<OwnState>,
    pub tail: Arc<Tail>,
    /// How many jobs this pod may run at once.
    pub workers: usize,
}

impl Load {
    /// On a thread of its own: nothing waits for it.
    pub fn keep_saying(&self) {
        let mut was_well = true;
        let mut said_at = None;
        while !self.access.ctx.ends() {
            let said = self.say(said_at);
            // That Redis is away is said where leases are renewed.
            if let Err(why) = &said
                && was_well
                && self.access.link.trouble().is_none()
            {
                log::warn(&format!(
                    "what an autoscaler reads ({}) cannot be written: {why}; should that be a key of another type, \
                     delete it",
                    self.access.ctx.keys.busy()
                ));
            }
            was_well = said.is_ok();
            if was_well {
                said_at = Some(Instant::now());
            }
            self.access.ctx.pause(SAY_EVERY);
        }
    }

    /// Says how much there is to do here, and notes how many pods of lower ordinals stand idle. `said_at`: when it
    /// was said last.
    fn say(&self, said_at: Option<Instant>) -> Result<(), String> {
        let ctx = &self.access.ctx;
        let running = self.attempts.all().len();
        // A pod that leaves keeps nobody from being removed, and takes nothing.
        let takes = self.precedence.takes_any.load(Ordering::SeqCst) && self.gate.is_open() && self.workers > 0;
        let ordinal = ordinal(&ctx.pod).map(|number| number.to_string()).unwrap_or_default();
        let flag = |truth: bool| if truth { "1" } else { "0" };
        let (idle_below, is_new) = self.access.link.with(|connection| {
            let mut call = scripts::AUTOSCALE.prepare_invoke();
            call.key(ctx.keys.pods()).key(ctx.keys.busy());
            call.arg(&ctx.pod).arg(&ordinal).arg(running).arg(flag(takes)).arg(flag(!self.own.is_draining()));
            call.arg(BELIEVED.as_millis() as u64);
            call.invoke::<(u64, bool)>(connection)
        })?;
        self.precedence.idle_below.store(idle_below, Ordering::SeqCst);
        if is_new && said_at.is_some_and(|at| at.elapsed() < BELIEVED) {
            // It should still have been there: Redis was emptied, and its streams with it.
            self.tail.compare();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ordinal;

    #[test]
    fn the_ordinal_is_at_the_end_of_the_name() {
        for (pod, number) in [
            ("agenticore-0", Some(0)),
            ("my-release-agenticore-12", Some(12)),
            ("laptop", None),
            ("agenticore-", None),
            ("agenticore-07", None),
            ("node-1a", None),
            ("agenticore-7d9f-99999999999", None),
            ("vm-20261126", None),
        ] {
            assert_eq!(ordinal(pod), number, "{pod}");
        }
    }
}
