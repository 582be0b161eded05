//! End-to-end tests: the real binary, real git, real processes; stand-ins only for what lies outside
//! this machine, and for Claude where its part does not matter.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod agent_limits;
mod cache;
mod changes;
mod claude;
mod cli;
mod crash;
mod doctor;
mod filters;
mod fleet;
mod fleet_crash;
mod fleet_doctor;
mod fleet_drain;
mod fleet_redis;
mod fleet_scale;
mod fleet_takeover;
mod habits;
mod hostile;
mod input;
mod install;
mod jobs;
mod left_behind;
mod lfs;
mod mcp;
mod mcp_clients;
mod nginx;
mod own_repository;
mod parking;
mod plans;
mod publish;
mod readers;
mod regressions;
mod retry;
mod roaming;
mod secrets;
mod soak;
mod sse;
mod stdio;
mod submodules;
mod tidy;
mod watching;
mod wire;
mod worktrees;
