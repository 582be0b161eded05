//! Ends, or stops, the process at a named point, so that tests can ask what that costs.
//!
//! Debug builds only; a release build holds none of it. The point is named in
//! `AGENTICORE_TEST_CRASH_AT` (SIGKILL) or `AGENTICORE_TEST_STOP_AT` (SIGSTOP, once), for instance
//! `claimed:after-record`.

#[cfg(debug_assertions)]
pub fn point(kind: crate::event::Kind, moment: &str) {
    use crate::process::sys;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, Ordering};
    static CRASH: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("AGENTICORE_TEST_CRASH_AT").ok());
    static STOP: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("AGENTICORE_TEST_STOP_AT").ok());
    static STOPPED: AtomicBool = AtomicBool::new(false);
    if CRASH.is_none() && STOP.is_none() {
        return;
    }
    let here = format!("{}:{moment}", kind.as_str());
    let me = std::process::id() as i32;
    if CRASH.as_ref() == Some(&here) {
        sys::kill(me, sys::SIGKILL);
        loop {
            std::thread::park();
        }
    }
    if STOP.as_ref() == Some(&here) && !STOPPED.swap(true, Ordering::SeqCst) {
        sys::kill(me, sys::SIGSTOP);
    }
}

#[cfg(not(debug_assertions))]
pub fn point(_kind: crate::event::Kind, _moment: &str) {}
