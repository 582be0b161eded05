//! The fleet's side of one server: what is accepted, who works, how it goes away.

pub mod drain;
pub mod pool;
pub mod submit;
