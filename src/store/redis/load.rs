//! How much each pod has to do: what the autoscaler reads, and who lets whom go first.
//!
//! `{p}:busy` is a list as long as the highest ordinal that runs a job, and one: a StatefulSet removes its
//! highest ordinal first, so a fleet must not be smaller than that. It is made anew each second from what the
//! pods said lately, never counted up and down, so it is right a few seconds after whatever happened.

use super::Redis;
use super::scripts;
use crate::log;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a pod says how much it has to do.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// For how long that is believed: a pod that was killed is not counted any more after this.
const BELIEVED: Duration = Duration::from_millis(3500);
/// No fleet is as large as this: a name that ends in such a number has no ordinal.
const NO_ORDINAL: u32 = 1000;

/// The ordinal in the name of a StatefulSet's pod: 7 of `agenticore-7`.
pub(super) fn ordinal(pod: &str) -> Option<u32> {
    let (_, digits) = pod.rsplit_once('-')?;
    let is_canonical = digits == "0" || !digits.starts_with('0');
    if is_canonical && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok().filter(|ordinal| *ordinal < NO_ORDINAL)
    } else {
        None
    }
}

impl Redis {
    /// On a thread of its own: nothing waits for it.
    pub(super) fn keep_saying_load(&self) {
        let mut was_well = true;
        while !self.ends() {
            let said = self.say_load();
            // That Redis is away is said where leases are renewed.
            if let Err(why) = &said
                && was_well
                && self.renewals.trouble().is_none()
            {
                log::warn(&format!(
                    "what an autoscaler reads ({}) cannot be written: {why}; should that be a key of another type, delete it",
                    self.keys.busy()
                ));
            }
            was_well = said.is_ok();
            self.pause(SAY_EVERY);
        }
    }

    /// Says how much there is to do here, and notes how many pods of lower ordinals stand idle.
    fn say_load(&self) -> Result<(), String> {
        let running = self.table.all().len();
        let is_draining = self.draining.load(Ordering::SeqCst);
        // A pod that leaves keeps nobody from being removed, and takes nothing.
        let takes = self.takes_any.load(Ordering::SeqCst) && self.may_claim.load(Ordering::SeqCst) && self.workers > 0;
        let ordinal = ordinal(&self.pod).map(|number| number.to_string()).unwrap_or_default();
        let flag = |truth: bool| if truth { "1" } else { "0" };
        let idle_below = self.loads.with(|connection| {
            let mut call = scripts::LOAD.prepare_invoke();
            call.key(self.keys.pods()).key(self.keys.busy());
            call.arg(&self.pod).arg(&ordinal).arg(running).arg(flag(takes)).arg(flag(!is_draining));
            call.arg(BELIEVED.as_millis() as u64);
            call.invoke::<u64>(connection)
        })?;
        self.idle_below.store(idle_below, Ordering::SeqCst);
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
