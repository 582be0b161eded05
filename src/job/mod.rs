//! What a job is: its id, its record, and the states it can be in.
//!
//! Pure: no clock, no file, no network. Time comes in as an argument. A job is [`Queued`],
//! [`Running`] or [`Ended`], each a type of its own. Nothing outside this module sets `status`.

mod id;
mod record;
mod states;
#[cfg(test)]
pub mod tests;
mod text;
mod time;

pub use id::JobId;
pub use record::{
    DEATHS_LIMIT, ERROR_LIMIT, Handover, Mode, Note, OUTPUT_LIMIT, Overrides, Purpose, Record, Removal, Spec, Spent,
    Status, Verdict,
};
pub use states::{Ended, Job, Mark, Queued, Running};
pub use text::{cut, is_cut};
pub use time::Time;
