//! Ends the process by SIGKILL at a named point, so that tests can ask what a death there costs.
//!
//! Debug builds only; a release build holds none of it. The point is named in
//! `AGENTICORE_TEST_CRASH_AT`, for instance `claimed:after-record`.

#[cfg(debug_assertions)]
pub fn point(kind: crate::event::Kind, place: &str) {
    use std::sync::LazyLock;
    static WANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("AGENTICORE_TEST_CRASH_AT").ok());
    let Some(wanted) = WANTED.as_deref() else { return };
    let kind = serde_json::to_string(&kind).unwrap_or_default();
    if wanted == format!("{}:{place}", kind.trim_matches('"')) {
        crate::process::sys::kill(std::process::id() as i32, crate::process::sys::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}

#[cfg(not(debug_assertions))]
pub fn point(_kind: crate::event::Kind, _place: &str) {}
