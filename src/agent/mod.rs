//! Claude Code: how it is called, what it says, how it went.
//!
//! `command` and `outcome` and `stream` are pure; `run` alone starts anything. Knows no store, no
//! repository, no forge.

pub mod account;
pub mod command;
mod disk_usage;
pub mod home;
pub mod memory;
pub mod outcome;
pub mod run;
pub mod self_test;
pub mod stream;
