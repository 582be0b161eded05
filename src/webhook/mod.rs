//! Tells others of jobs: a signed POST, as Standard Webhooks (1.0.0) has it, tried for a day.
//!
//! What is to be told lies in the store's outbox, so it outlives any server; of those that share it one tells. At least
//! once: the same `webhook-id` on each try lets a receiver know one that it has had. Never holds up a job.

mod message;
mod send;
mod tell;
mod url;

pub use tell::{Teller, receivers};
pub use url::{judge, shown};
