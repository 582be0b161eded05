//! What keeps this server from running jobs for a while, though it is set up well: a limit of its account, a full disk.
//!
//! It is parked then: it takes no job until a time, and afterwards one, as a probe. Where that goes well the others
//! follow; else it is parked again, for longer. Jobs that met the trouble went back to the line, where another server
//! may take them. Never looks at a job, and ends none.

use crate::job::Time;
use crate::log;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The account that agents log in with. What needs no agent is run all the same.
    Account,
    /// This machine: its disk, its memory, a program that is not there.
    Machine,
}

impl Kind {
    /// The first pause, and the longest. A limit of an account lasts for minutes at least; a disk may be emptied soon.
    fn pauses(self) -> (Duration, Duration) {
        match self {
            Kind::Account => (Duration::from_secs(10), Duration::from_secs(600)),
            Kind::Machine => (Duration::from_secs(5), Duration::from_secs(300)),
        }
    }
}

/// Why a job could not be run here, whosever job it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Trouble {
    pub kind: Kind,
    /// What is wrong and what to do, the end of a sentence.
    pub why: String,
    /// When it will be over, if that is known.
    pub until: Option<Time>,
}

impl Trouble {
    pub fn of_machine(why: impl Into<String>) -> Self {
        Self { kind: Kind::Machine, why: why.into(), until: None }
    }
}

struct Parked {
    trouble: Trouble,
    until: Instant,
    /// How long it is parked this time.
    pause: Duration,
    is_probing: bool,
}

#[derive(Default)]
pub struct Parking(Mutex<Option<Parked>>);

/// What may be claimed.
pub enum Permit<'a> {
    Everything,
    /// One job, whose end says whether it works again.
    Probe {
        _turn: Probe<'a>,
    },
    /// Nothing (`all`), or nothing that needs an agent, for so long.
    Parked {
        all: bool,
        left: Duration,
    },
}

/// While it is held, nobody else probes.
pub struct Probe<'a>(&'a Parking);

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(parked) = &mut *self.0.lock() {
            parked.is_probing = false;
        }
    }
}

impl Parking {
    fn lock(&self) -> MutexGuard<'_, Option<Parked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn permit(&self) -> Permit<'_> {
        let mut found = self.lock();
        let Some(parked) = &mut *found else { return Permit::Everything };
        let all = parked.trouble.kind == Kind::Machine;
        let left = parked.until.saturating_duration_since(Instant::now());
        if left.is_zero() && !parked.is_probing {
            parked.is_probing = true;
            return Permit::Probe { _turn: Probe(self) };
        }
        Permit::Parked { all, left }
    }

    /// A job met `trouble`. Those that run beside it may meet the same: it is parked once for all of them.
    pub fn park(&self, trouble: Trouble) {
        let mut found = self.lock();
        let (first, longest) = trouble.kind.pauses();
        let pause = match &*found {
            // It was parked already when this job ended.
            Some(parked) if !parked.is_probing && parked.until > Instant::now() => parked.pause,
            Some(parked) if parked.trouble.kind == trouble.kind => (parked.pause * 2).min(longest),
            _ => first,
        };
        let told = trouble.until.map(|until| Duration::from_millis(until.since(Time::now()).max(0) as u64));
        let wait = told.filter(|wait| !wait.is_zero()).unwrap_or(pause);
        let is_probing = found.as_ref().is_some_and(|parked| parked.is_probing);
        let until = Instant::now() + wait;
        let seconds = wait.as_secs();
        log::warn(&format!("jobs cannot be run here: {}; none is begun for {seconds} s, then one", trouble.why));
        *found = Some(Parked { trouble, until, pause, is_probing });
    }

    /// It was seen to work.
    pub fn works(&self, kind: Kind) {
        let mut found = self.lock();
        if found.as_ref().is_some_and(|parked| parked.trouble.kind == kind && parked.is_probing) {
            *found = None;
            log::info("jobs can be run here again");
        }
    }

    /// Why nothing is begun here, and for how much longer.
    pub fn trouble(&self) -> Option<(Trouble, Duration)> {
        let found = self.lock();
        let parked = found.as_ref()?;
        Some((parked.trouble.clone(), parked.until.saturating_duration_since(Instant::now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_parked(parking: &Parking) -> bool {
        matches!(parking.permit(), Permit::Parked { .. })
    }

    fn pass_time(parking: &Parking) {
        parking.lock().as_mut().unwrap().until = Instant::now();
    }

    fn pause(parking: &Parking) -> Duration {
        parking.lock().as_ref().unwrap().pause
    }

    #[test]
    fn one_job_probes_and_the_others_follow_when_it_went_well() {
        let parking = Parking::default();
        assert!(matches!(parking.permit(), Permit::Everything));
        parking.park(Trouble::of_machine("the disk is full"));
        assert!(is_parked(&parking));
        // Others that ran beside it meet the same: it is the same trouble.
        parking.park(Trouble::of_machine("the disk is full"));
        assert_eq!(pause(&parking), Kind::Machine.pauses().0);
        parking.works(Kind::Machine);
        assert!(is_parked(&parking), "one that began before says nothing");
        pass_time(&parking);
        let Permit::Probe { _turn: probe } = parking.permit() else { panic!("a probe") };
        assert!(is_parked(&parking), "one at a time");
        parking.park(Trouble::of_machine("the disk is full"));
        assert_eq!(pause(&parking), Kind::Machine.pauses().0 * 2);
        drop(probe);
        pass_time(&parking);
        // A probe that found no job leaves it to the next one.
        drop(parking.permit());
        let Permit::Probe { _turn: _probe } = parking.permit() else { panic!("a probe") };
        parking.works(Kind::Machine);
        assert!(matches!(parking.permit(), Permit::Everything) && parking.trouble().is_none());
    }

    #[test]
    fn it_is_parked_until_the_time_that_was_told() {
        let parking = Parking::default();
        let until = Some(Time::now().plus_seconds(3600));
        parking.park(Trouble { kind: Kind::Account, why: "limit".into(), until });
        let Permit::Parked { all: false, left } = parking.permit() else { panic!("agents alone are parked") };
        assert!(left > Duration::from_secs(3500));
        // A time that is over already says nothing.
        let parking = Parking::default();
        parking.park(Trouble { kind: Kind::Account, why: "limit".into(), until: Some(Time(1)) });
        assert!(parking.trouble().unwrap().1 > Duration::from_secs(5));
    }
}
