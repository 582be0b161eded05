//! Processes: starting them, limiting them, ending them with everything they started.
//!
//! Knows nothing of jobs, git or Claude.

pub mod children;
pub mod identity;
pub mod init;
pub mod limited;
pub mod proc_table;
pub mod stop;
pub mod supervise;
pub mod supervised;
pub mod sys;
pub mod warden;
