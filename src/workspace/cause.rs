//! What git's words mean: why it failed, and which of them to show. Pure.

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The remote wants other credentials, or any.
    Login,
    /// ssh refuses to work for a uid that has no name.
    NamelessUser,
    /// No such repository, as far as the remote tells us.
    NoRepository,
    Unreachable,
    /// It did not end within the longest time that a transfer may take.
    TooLarge,
    NoSuchRef,
    /// The push was refused, because the branch is there already.
    BranchExists,
    /// What lies in the cache is damaged.
    Damaged,
    /// What lies on the remote is damaged, or incomplete.
    RemoteDamaged,
    /// Another git holds, or left behind, a lock file.
    LockFile,
    /// A full disk, no memory, no descriptor: whatever the repository, it cannot be done here now.
    Machine,
    Other,
}

/// What the kernel says when this machine cannot do it, whatever it is, as libc writes it (in English: LC_ALL=C).
const OF_MACHINE: [&str; 12] = [
    "no space left on device",
    "disk quota exceeded",
    // Git itself gives no reason where writing a file's contents fails.
    "unable to write file",
    "file write error",
    "out of diskspace",
    "read-only file system",
    "too many open files",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "out of memory",
    "input/output error",
    "structure needs cleaning",
];

/// Whether an error's text, but for what a remote said, tells of this machine's trouble.
pub fn is_of_machine(said: &str) -> bool {
    let own = said.split(['\n', ';']).filter(|part| !part.trim_start().starts_with(REMOTE));
    own.map(str::to_ascii_lowercase).any(|part| OF_MACHINE.iter().any(|words| part.contains(words)))
}

/// Whether it tells of a disk that is full.
pub fn is_of_full_disk(said: &str) -> bool {
    is_of_machine(said) && OF_MACHINE[..5].iter().any(|words| said.to_ascii_lowercase().contains(words))
}

/// What the remote said, which git passes on with this before each line. It may be anything.
const REMOTE: &str = "remote:";

/// Why git failed, from what it said itself (in English: LC_ALL=C).
pub(super) fn cause_of(said: &str) -> Cause {
    let own: Vec<String> = said.lines().filter(|line| !line.starts_with(REMOTE)).map(str::to_ascii_lowercase).collect();
    let said = own.join("\n");
    if is_of_machine(&said) {
        return Cause::Machine;
    }
    let table: &[(Cause, &[&str])] = &[
        (Cause::NamelessUser, &["no user exists for uid"]),
        (Cause::RemoteDamaged, &["corruption on the remote side", "from promisor remote"]),
        (Cause::BranchExists, &["stale info", "already exists"]),
        (Cause::LockFile, &[".lock': file exists"]),
        (
            Cause::Login,
            &[
                "authentication failed",
                "could not read username",
                "could not read password",
                "permission denied (",
                "the requested url returned error: 401",
                "the requested url returned error: 403",
                "host key verification failed",
                "access denied",
                // git-lfs
                "authorization error",
                "git credentials for",
            ],
        ),
        (Cause::NoSuchRef, &["couldn't find remote ref", "not our ref", "unadvertised object"]),
        // A connection that ends in the middle says nothing of what lies here.
        (Cause::Unreachable, &["protocol error", "early eof", "the remote end hung up", "unexpected disconnect"]),
        (
            Cause::Damaged,
            &[
                "corrupt",
                "bad object",
                "unable to read",
                "missing blob",
                "missing tree",
                "missing commit",
                "is empty",
                "invalid sha1 pointer",
                "bad pack",
                "failed to read object",
                "inflate:",
                "cannot be accessed",
                "bad tree",
                "did not send all necessary objects",
                "packfile",
                "unable to parse",
                "bad index file",
                "missing necessary objects",
            ],
        ),
        (
            Cause::NoRepository,
            &[
                "repository not found",
                "does not appear to be a git repository",
                "does not exist",
                "the requested url returned error: 404",
                "not found",
            ],
        ),
        (
            Cause::Unreachable,
            &[
                "could not resolve",
                "couldn't connect",
                "failed to connect",
                "connection refused",
                "connection timed out",
                "operation timed out",
                "connection reset",
                "no route to host",
                "network is unreachable",
                "the remote end hung up",
                "the requested url returned error: 5",
                "early eof",
                "operation too slow",
                "ssl",
                "empty reply",
                "rpc failed",
                // A proxy that is away, or that cannot get there just now.
                "proxy connect aborted",
                "connect tunnel failed, response 5",
                // curl's words for a connection that broke.
                "send failure",
                "recv failure",
                "broken pipe",
                "transfer closed",
                "was not closed cleanly",
                "gnutls",
                // git-lfs
                "no such host",
                "i/o timeout",
                "server error",
                "batch response: fatal error",
            ],
        ),
    ];
    table
        .iter()
        .find(|(_, words)| words.iter().any(|word| said.contains(word)))
        .map_or(Cause::Other, |(cause, _)| *cause)
}

/// The same without what a fetch writes while all is well: its progress, of which each line overwrites the one before,
/// and what became of each reference.
pub(super) fn without_progress(said: &str) -> String {
    let lasting = said.lines().map(|line| line.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default());
    let is_progress = |line: &&str| {
        let line = line.strip_prefix(REMOTE).unwrap_or(line).trim();
        line.split_once(": ").is_some_and(|(what, rest)| {
            what.ends_with(" objects") || what.ends_with(" deltas") || (what.ends_with(" files") && rest.contains('%'))
        })
    };
    let is_of_reference = |line: &&str| {
        line.starts_with("From ") || (line.starts_with(' ') && !line.starts_with(" ! ") && line.contains(" -> "))
    };
    lasting.filter(|line| !is_progress(line) && !is_of_reference(line)).map(|line| format!("{line}\n")).collect()
}

/// The most of it that is shown, in bytes: a remote's reason has some ten lines.
const GIST_LIMIT: usize = 1_500;

/// The lines that tell, without progress and advice: what the remote gives as its reason, then git's own words.
pub(super) fn gist(said: &str, code: i32) -> String {
    let telling = |line: &&str| {
        ["fatal:", "error:", "!", "batch response:", "LFS:", "["].iter().any(|start| line.starts_with(start))
    };
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let own: Vec<String> = lines.iter().copied().filter(telling).take(4).map(str::to_owned).collect();
    let mut chosen = reason_of_remote(&lines);
    chosen.extend(own);
    if chosen.is_empty() {
        chosen = lines.iter().take(3).map(|line| line.to_string()).collect();
    }
    match chosen.join("; ") {
        text if text.is_empty() => format!("exit code {code}, and no word why"),
        text => crate::job::cut(text, GIST_LIMIT),
    }
}

/// The remote's lines that say something, from its first error on; all of them if there is none.
fn reason_of_remote(lines: &[&str]) -> Vec<String> {
    let said = lines.iter().filter_map(|line| line.strip_prefix(REMOTE)).map(str::trim);
    // Rules and frames around a banner are none.
    let said: Vec<&str> = said.filter(|line| line.chars().any(char::is_alphanumeric)).collect();
    let is_error = |line: &&str| {
        ["error", "fatal", "denied", "rejected", "declined"]
            .iter()
            .any(|word| line.to_ascii_lowercase().split(|c: char| !c.is_alphanumeric()).any(|part| part == *word))
    };
    let from = said.iter().position(is_error).unwrap_or(0);
    said[from..].iter().map(|line| format!("{REMOTE} {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        let cases = [
            ("No user exists for uid 1000690000\nfatal: Could not read from remote repository.", Cause::NamelessUser),
            ("fatal: Authentication failed for 'https://h/r/'", Cause::Login),
            ("fatal: could not read Username for 'https://h': terminal prompts disabled", Cause::Login),
            ("remote: Repository not found.\nfatal: repository 'https://h/r/' not found", Cause::NoRepository),
            ("fatal: '/x' does not appear to be a git repository", Cause::NoRepository),
            ("fatal: unable to access 'https://h/': Could not resolve host: h", Cause::Unreachable),
            (
                "fatal: unable to access 'x': Failed to connect to 127.0.0.1 port 1 after 0 ms: Couldn't connect to \
                 server",
                Cause::Unreachable,
            ),
            ("fatal: unable to access 'https://h/r/': Proxy CONNECT aborted", Cause::Unreachable),
            ("fatal: unable to access 'https://h/r/': CONNECT tunnel failed, response 502", Cause::Unreachable),
            ("fatal: unable to access 'https://h/r/': CONNECT tunnel failed, response 407", Cause::Other),
            ("fatal: unable to access 'https://h/r/': Recv failure: Connection was aborted", Cause::Unreachable),
            ("error: RPC failed; curl 92 HTTP/2 stream 5 was not closed cleanly: CANCEL (err 8)", Cause::Unreachable),
            ("fatal: couldn't find remote ref refs/tags/x", Cause::NoSuchRef),
            ("!\tx:refs/heads/b\t[rejected] (stale info)", Cause::BranchExists),
            ("error: object file x is empty\nfatal: loose object x is corrupt", Cause::Damaged),
            ("fatal: Unable to create '/x/packed-refs.lock': File exists.", Cause::LockFile),
            (
                "fatal: git upload-pack: aborting due to possible repository corruption on the remote side.",
                Cause::RemoteDamaged,
            ),
            ("fatal: protocol error: bad pack header", Cause::Unreachable),
            ("fatal: early EOF\nfatal: fetch-pack: invalid index-pack output", Cause::Unreachable),
            ("fatal: write error: No space left on device\nfatal: index-pack failed", Cause::Machine),
            ("error: unable to create file a: Too many open files", Cause::Machine),
            ("remote: error: No space left on device\nfatal: the remote end hung up", Cause::Unreachable),
            ("something new", Cause::Other),
            // A remote's words are not git's own, whatever they are about.
            ("remote: fatal: could not resolve host: x\nremote: error: 500\n ! [remote rejected]", Cause::Other),
        ];
        for (said, cause) in cases {
            assert_eq!(cause_of(said), cause, "{said}");
        }
    }

    #[test]
    fn progress_is_no_reason() {
        let said = "remote: Counting objects:  50% (1/2)\rremote: Counting objects: 100% (2/2), done.        \n\
                    Receiving objects:  45% (9/20), 1.00 MiB | 2.00 MiB/s\rfatal: early EOF\n\
                    Downloading LFS objects:   0% (0/1), 0 B | 0 B/s\nremote: error: no\n\
                    From /x\n * [new branch]  refused  -> origin/refused\n ! [rejected] a -> b (x)\n";
        assert_eq!(without_progress(said), "fatal: early EOF\nremote: error: no\n ! [rejected] a -> b (x)\n");
    }

    #[test]
    fn the_gist_leaves_out_progress() {
        let said = "Cloning into 'x'...\nremote: nope\nfatal: it broke\nhint: try\n";
        assert_eq!(gist(said, 128), "remote: nope; fatal: it broke");
        assert_eq!(gist("", 7), "exit code 7, and no word why");
        // The reason stands behind a banner, and the path behind the reason.
        let banner: String =
            (0..10).map(|n| format!("remote: * Welcome to our forge, line {n}\nremote: ******\n")).collect();
        let said = format!(
            "{banner}remote: error: GH013: Repository rule violations found\nremote: \nremote: - Push cannot contain \
             secrets\nremote:   path: config.py:3\n ! [remote rejected] a -> a (declined)\n\
             error: failed to push some refs to 'https://h/r'\n"
        );
        let shown = gist(&said, 1);
        assert!(shown.starts_with("remote: error: GH013") && !shown.contains("Welcome"), "{shown}");
        assert!(shown.contains("path: config.py:3") && shown.contains("[remote rejected]"), "{shown}");
    }
}
