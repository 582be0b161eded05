//! A login for one host, answered to git over a socket that only that one call of git holds.
//!
//! The secret stands in no URL, argument, environment or file. A question about any other host
//! gets no answer.

use super::askpass;
use crate::process::sys;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What GitHub expects beside a token.
pub const TOKEN_USER: &str = "x-access-token";

/// One call has no more questions than this answered: git-lfs asks again without end where a login is refused. It has
/// two questions for each of its eight connections, and asks some of them twice.
const QUESTIONS_MOST: usize = 100;

#[derive(Clone)]
pub struct Login {
    /// `https://host[:port]`: all that the answer is for.
    pub origin: String,
    pub password: String,
}

/// Answers git's questions while it lives.
pub struct Answering {
    ours: Arc<OwnedFd>,
    /// Stays open until git was started and holds it itself.
    _theirs: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

/// Has `command` ask us, through the program `askpass`, whatever it wants to know.
pub fn answer(command: &mut Command, askpass: &File, login: Login) -> io::Result<Answering> {
    let (ours, theirs) = sys::message_pair()?;
    sys::pass_on(command, theirs.as_raw_fd());
    sys::pass_on(command, askpass.as_raw_fd());
    command.env("GIT_ASKPASS", format!("/proc/self/fd/{}", askpass.as_raw_fd()));
    command.env(askpass::VARIABLE, theirs.as_raw_fd().to_string());
    let ours = Arc::new(ours);
    let socket = ours.clone();
    // Answers the questions of one git call; ends when the socket is shut down after it.
    let thread = std::thread::Builder::new().name("credentials".into()).spawn(move || {
        let mut question = [0; 1024];
        let mut asked = 0;
        while let Ok(length @ 1..) = sys::receive(&socket, &mut question) {
            asked += 1;
            let said = reply(&String::from_utf8_lossy(&question[..length]), &login);
            let said = said.filter(|_| asked <= QUESTIONS_MOST).unwrap_or_default();
            if sys::send(&socket, said.as_bytes()).is_err() {
                return;
            }
        }
    })?;
    Ok(Answering { ours, _theirs: theirs, thread: Some(thread) })
}

impl Drop for Answering {
    fn drop(&mut self) {
        sys::shut_down(&self.ours);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The answer to `Username for 'ORIGIN': ` or `Password for 'SCHEME://USER@HOST': `. git-lfs asks with `"`, and without
/// a colon.
fn reply(question: &str, login: &Login) -> Option<String> {
    let (what, rest) = question.split_once(" for ")?;
    let rest = rest.trim_end_matches([':', ' ']);
    let in_quotes = |quote: char| rest.strip_prefix(quote)?.strip_suffix(quote);
    let asked = in_quotes('\'').or_else(|| in_quotes('"'))?;
    let (scheme, host) = login.origin.split_once("://")?;
    let with_user = format!("{scheme}://{TOKEN_USER}@{host}");
    match what {
        "Username" if asked == login.origin => Some(TOKEN_USER.into()),
        "Password" if asked == with_user || asked == login.origin => Some(login.password.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_expected_host_only() {
        let login = Login { origin: "https://github.com".into(), password: "s3cret".into() };
        let ask = |question: &str| reply(question, &login);
        assert_eq!(ask("Username for 'https://github.com': ").as_deref(), Some("x-access-token"));
        assert_eq!(ask("Password for 'https://x-access-token@github.com': ").as_deref(), Some("s3cret"));
        assert_eq!(ask("Username for \"https://github.com\"").as_deref(), Some("x-access-token"));
        assert_eq!(ask("Password for \"https://x-access-token@github.com\"").as_deref(), Some("s3cret"));
        for other in [
            "Password for \"https://github.com.evil.com\"",
            "Password for 'https://github.com\"",
            "Password for 'https://x-access-token@evil.com': ",
            "Password for 'http://x-access-token@github.com': ",
            "Password for 'https://x-access-token@github.com.evil.com': ",
            "Password for 'https://x-access-token@github.com:444': ",
            "Password for 'https://evil@github.com': ",
            "Enter passphrase for key '/k': ",
            "",
        ] {
            assert_eq!(ask(other), None, "{other}");
        }
    }
}
