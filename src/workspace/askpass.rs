//! The role that git starts to ask for a user name or a password.
//!
//! Passes git's question to the server over the socket of this one call and prints the answer.
//! Has no secret of its own; whether to answer is decided by `credentials.rs`.

use crate::process::sys;

/// Names the descriptor of the socket; its presence makes the binary an askpass.
pub const VARIABLE: &str = "AGENTICORE_ASKPASS_FD";

pub fn main(question: &str) -> i32 {
    let number = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    let Some(socket) = number.and_then(sys::adopt) else { return 1 };
    let mut answer = vec![0; 8192];
    let asked = sys::send(&socket, question.as_bytes()).and_then(|()| sys::receive(&socket, &mut answer));
    match asked {
        Ok(length) if length > 0 => {
            println!("{}", String::from_utf8_lossy(&answer[..length]));
            0
        }
        _ => 1,
    }
}
