//! Where an agent works: clone caches, worktrees, and the git that makes them.
//!
//! The agent shares the runner's uid and can write the cache's configuration, so no git that the
//! runner starts ever reads it: see `private_git_dir.rs`.

mod agent_index;
pub mod askpass;
pub mod cache;
pub mod cause;
pub mod commit_push;
mod committed;
pub mod credentials;
pub mod diff;
mod encrypted;
pub mod fetch;
pub mod git;
pub mod hosts;
pub mod inspect;
pub mod kept;
pub mod lfs;
mod links;
pub mod lock;
mod looking;
pub mod new_objects;
mod own_repository;
pub mod ownership;
pub mod private_git_dir;
mod progress;
pub mod refname;
mod refs;
pub mod regular_file;
pub mod remove;
mod staging;
pub mod submodules;
mod take_over;
pub mod unsaved;
pub mod url;
pub mod worktree;
