//! The workers of one server: who works, what runs, how it drains and goes away.

pub mod drain;
pub mod pool;
mod running;
mod solo;
