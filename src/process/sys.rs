//! The system calls that std does not have, each behind a safe function. The only `unsafe` there is.
//!
//! Never decides anything: no retries beyond EINTR, no policy; no state but the limit that it was started with.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

#[cfg(debug_assertions)]
pub use libc::SIGSTOP;
pub use libc::{SIGKILL, SIGTERM};

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Orphans below this process become its children instead of init's.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: prctl with integer arguments touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Other processes of this uid can read neither this one's memory nor its environment.
/// An exec resets it. Root is not refused.
pub fn become_unreadable() -> io::Result<()> {
    // SAFETY: as above.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

pub fn effective_uid() -> u32 {
    // SAFETY: geteuid cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

pub fn effective_gid() -> u32 {
    // SAFETY: getegid cannot fail and touches no memory.
    unsafe { libc::getegid() }
}

/// In a container: the user is nobody in particular, and group 0 is what all containers of an image have. What one
/// of them makes on a volume, the next one may have to write, perhaps as another user.
pub fn shares_by_group() -> bool {
    effective_gid() == 0 && effective_uid() != 0
}

/// What this process and its children make can be written by their group.
pub fn let_group_write() {
    // SAFETY: umask cannot fail and touches no memory.
    unsafe { libc::umask(0o002) };
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Asks the kernel (over NFS, the server) whether this process may write to `path`.
pub fn may_write(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: a string that ends with a zero and outlives the call.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK, libc::AT_EACCESS) }).map(drop)
}

/// Renames unless `to` is there already. Not every file system can.
pub fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let (here, flag) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: two strings that end with a zero and outlive the call; the rest are integers.
    let done = unsafe { libc::syscall(libc::SYS_renameat2, here, from.as_ptr(), here, to.as_ptr(), flag) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How much room a file system has, in bytes.
pub struct Space {
    pub free: u64,
    pub size: u64,
    /// It has no room for the name of another file.
    pub is_out_of_files: bool,
}

/// The room of the file system of `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    let path = c_path(path)?;
    // SAFETY: all-zero bytes are a valid statvfs, which outlives the call, as does the string.
    let found = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        check(libc::statvfs(path.as_ptr(), &mut found))?;
        found
    };
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize as u64);
    Ok(Space {
        free: bytes(found.f_bavail as u64),
        size: bytes(found.f_blocks as u64),
        // Some file systems have no limit, and say so by having none at all.
        is_out_of_files: found.f_files > 0 && found.f_favail == 0,
    })
}

/// CLOCK_BOOTTIME: time since the machine started, its sleep included. One clock for all processes.
pub fn since_boot() -> Duration {
    // SAFETY: all-zero bytes are a valid timespec, which outlives the call. This clock is always there.
    unsafe {
        let mut now: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }
}

/// Sends `signal`. A process that is gone is no error.
pub fn kill(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: integers only.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends `signal` to the process group led by `leader`.
pub fn kill_group(leader: i32, signal: i32) {
    if leader > 1 {
        // SAFETY: integers only.
        unsafe { libc::kill(-leader, signal) };
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

#[derive(PartialEq, Eq, Debug)]
pub enum Reaped {
    /// This child ended, and so.
    Child(i32, Exit),
    /// There are children, and all of them live.
    NoneEnded,
    /// There is no child at all.
    NoChildren,
}

/// Reaps one ended child without waiting: `pid`, or any with -1.
pub fn reap(pid: i32) -> Reaped {
    let mut status = 0;
    loop {
        // SAFETY: status outlives the call.
        let found = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
        return match found {
            0 => Reaped::NoneEnded,
            found if found > 0 && libc::WIFSIGNALED(status) => {
                Reaped::Child(found, Exit::Signal(libc::WTERMSIG(status)))
            }
            found if found > 0 => Reaped::Child(found, Exit::Code(libc::WEXITSTATUS(status))),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => continue,
            _ => Reaped::NoChildren,
        };
    }
}

/// Some child has ended and was not reaped yet. Reaps none.
pub fn has_ended_child() -> bool {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all-zero bytes are a valid siginfo_t, which outlives the call.
    unsafe {
        let mut found: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &mut found, flags) == 0 && found.si_pid() != 0
    }
}

/// Waits until one of `fds` can be read (or has ended), or `limit` is over; tells which.
pub fn wait_readable(fds: &[BorrowedFd], limit: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    // Rounded up: a wait of 0.4 ms must not become a busy loop of waits of 0 ms.
    let milliseconds = limit.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
    // SAFETY: the array and its length belong together and outlive the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    match check(result) {
        Ok(_) => Ok(polled.iter().map(|p| p.revents != 0).collect()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(vec![false; fds.len()]),
        Err(error) => Err(error),
    }
}

/// What a descriptor is waited for. A peer that hangs up is always told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interest {
    Read,
    Write,
    HangUp,
}

#[derive(Clone, Copy, Default, Debug)]
pub struct Ready {
    pub hung_up: bool,
}

/// Waits until something is ready, or `limit` is over; tells of each who hung up.
pub fn poll(fds: &[(BorrowedFd, Interest)], limit: Duration) -> io::Result<Vec<Ready>> {
    let events = |interest: Interest| match interest {
        Interest::Read => libc::POLLIN,
        Interest::Write => libc::POLLOUT | libc::POLLRDHUP,
        Interest::HangUp => libc::POLLRDHUP,
    };
    let polled = fds.iter().map(|(fd, what)| libc::pollfd { fd: fd.as_raw_fd(), events: events(*what), revents: 0 });
    let mut polled: Vec<libc::pollfd> = polled.collect();
    let milliseconds = limit.as_micros().div_ceil(1000).min(i32::MAX as u128) as i32;
    // SAFETY: the array and its length belong together and outlive the call.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, milliseconds) };
    let gone = libc::POLLHUP | libc::POLLRDHUP | libc::POLLERR | libc::POLLNVAL;
    match check(result) {
        Ok(_) => Ok(polled.iter().map(|one| Ready { hung_up: one.revents & gone != 0 }).collect()),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(vec![Ready::default(); fds.len()]),
        Err(error) => Err(error),
    }
}

fn nofile() -> io::Result<libc::rlimit> {
    // SAFETY: all-zero bytes are a valid rlimit, which outlives the call.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit))?;
        Ok(limit)
    }
}

/// How many descriptors this process may have open.
pub fn descriptor_limit() -> u64 {
    nofile().map_or(1024, |limit| limit.rlim_cur)
}

/// The limit on descriptors as it was before [`raise_descriptor_limit`].
static LIMIT_BEFORE: OnceLock<u64> = OnceLock::new();

/// Raises the limit on descriptors to the hard one. What this process starts gets the one there was.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let limit = nofile()?;
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
    // SAFETY: the struct outlives the call.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) })?;
    let _ = LIMIT_BEFORE.set(limit.rlim_cur);
    Ok(())
}

/// The command's process gets the limit on descriptors that this process was started with: programs that walk
/// through all that they might have open take their time with a million.
pub fn with_limit_of_start(command: &mut Command) {
    let Some(before) = LIMIT_BEFORE.get().copied() else { return };
    // SAFETY: between fork and exec only getrlimit and setrlimit are called, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: before, rlim_max: nofile()?.rlim_max };
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &limit)).map(drop)
        });
    }
}

/// How many columns and rows the terminal behind `fd` has, if it is one and says so.
pub fn terminal_size(fd: BorrowedFd) -> Option<(u16, u16)> {
    // SAFETY: all-zero bytes are a valid winsize, which outlives the call.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        check(libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size)).ok()?;
        Some((size.ws_col, size.ws_row)).filter(|(columns, _)| *columns > 0)
    }
}

pub fn terminal_width(fd: BorrowedFd) -> Option<u16> {
    terminal_size(fd).map(|(columns, _)| columns)
}

pub fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: fcntl with integer arguments on a descriptor that the caller holds open.
    unsafe {
        let flags = check(libc::fcntl(fd.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)).map(drop)
    }
}

/// The command's process, and what it starts, will hold `fd` open under the same number.
/// `fd` must stay open until the command was spawned.
pub fn pass_on(command: &mut Command, fd: RawFd) {
    // SAFETY: between fork and exec only fcntl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || check(libc::fcntl(fd, libc::F_SETFD, 0)).map(drop));
    }
}

/// Two connected sockets that keep message boundaries. Both are closed on exec.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the array holds two integers; on success both are new descriptors that nobody else owns.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Takes over a descriptor that the parent passed on. None when it is not open.
pub fn adopt(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only asks; the descriptor was passed to this process for this one use.
    unsafe { (libc::fcntl(fd, libc::F_GETFD) >= 0).then(|| OwnedFd::from_raw_fd(fd)) }
}

pub fn send(fd: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length describe `message`. NOSIGNAL: a closed peer is an error, not a death.
    let sent = unsafe { libc::send(fd.as_raw_fd(), message.as_ptr().cast(), message.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One message, empty when the peer has closed.
pub fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length describe `buffer`.
    let got = unsafe { libc::recv(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

/// Wakes whoever waits in [`receive`] on this socket, for good.
pub fn shut_down(fd: &OwnedFd) {
    // SAFETY: integers only. A socket that is shut down already is no error worth telling.
    unsafe { libc::shutdown(fd.as_raw_fd(), libc::SHUT_RDWR) };
}

/// The command's process is killed when the thread that spawned it ends, hence also when this
/// process is killed.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)).map(drop));
    }
}
