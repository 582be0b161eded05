//! Reads, makes and removes single references of a git directory without starting git for each.
//!
//! Loose references only, as gitrepository-layout(5) has them: a file that holds a hash. Whatever is
//! not such a file is left to git. Called under the repository's lock.

use super::regular_file;
use crate::job::Time;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Packed references beyond this size (some 200 000 branches) are left to git.
const PACKED_LIMIT: u64 = 16 << 20;
/// The same for a job's own repository, where none may be overlooked: some three million.
const OWN_PACKED_LIMIT: u64 = 256 << 20;

/// The hash that the loose reference `name` holds. None: it is not loose, or not there.
pub fn read(git_dir: &Path, name: &str) -> Option<String> {
    let is_plain = name.starts_with("refs/") && !name.contains("..");
    let text = is_plain.then(|| regular_file::read_text(&git_dir.join(name), 100).ok())??;
    is_hash(text.trim_end()).then(|| text.trim_end().to_owned())
}

/// The same, loose or packed.
pub fn read_any(git_dir: &Path, name: &str) -> Option<String> {
    read(git_dir, name).or_else(|| {
        let packed = regular_file::read_text(&git_dir.join("packed-refs"), PACKED_LIMIT).ok()?;
        let mut lines = packed.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(hash, of)| *of == name && is_hash(hash)).map(|(hash, _)| hash.to_owned())
    })
}

/// The commit that a repository has checked out.
pub fn head(git_dir: &Path) -> Option<String> {
    let text = regular_file::read_text(&git_dir.join("HEAD"), 4096).ok()?;
    match text.trim().strip_prefix("ref: ") {
        Some(name) => read_any(git_dir, name),
        None => Some(text.trim().to_owned()).filter(|hash| is_hash(hash)),
    }
}

/// The remote's branches as this cache knows them, by name, with what they point to.
pub fn of_remote(git_dir: &Path) -> BTreeMap<String, String> {
    const BELOW: &str = "refs/remotes/origin";
    let packed = regular_file::read_text(&git_dir.join("packed-refs"), PACKED_LIMIT).unwrap_or_default();
    let of_packed = |line: &str| line.split_once(' ').map(|(hash, name)| (name.to_owned(), hash.to_owned()));
    let mut found: BTreeMap<String, String> =
        packed.lines().filter_map(of_packed).filter(|(name, _)| name.starts_with(&format!("{BELOW}/"))).collect();
    // A loose one is newer.
    let _ = loose(git_dir, BELOW, &mut |name, hash| drop(found.insert(name, hash)));
    found.retain(|name, hash| is_hash(hash) && name != "refs/remotes/origin/HEAD");
    found
}

/// Each loose reference below a directory of references. An error: there may be one that cannot be read.
fn loose(git_dir: &Path, below: &str, tell: &mut dyn FnMut(String, String)) -> io::Result<()> {
    let (mut waiting, mut unread) = (vec![(git_dir.join(below), below.to_owned())], None);
    while let Some((directory, below)) = waiting.pop() {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => {
                unread = unread.or(Some(error));
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = format!("{below}/{}", entry.file_name().to_string_lossy());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => waiting.push((entry.path(), name)),
                _ => match regular_file::read_text(&entry.path(), 100) {
                    Ok(text) => tell(name, text.trim_end().to_owned()),
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unread = unread.or(Some(error)),
                    // A link, a pipe, or something long: git takes none of them for a reference of its own.
                    Err(_) => {}
                },
            }
        }
    }
    match unread {
        Some(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Files outside `refs` that hold work: git-rebase(1), git-merge(1).
const OTHER_TIPS: [&str; 5] = [
    "MERGE_AUTOSTASH",
    "rebase-merge/autostash",
    "rebase-apply/autostash",
    "rebase-merge/orig-head",
    "rebase-apply/orig-head",
];

/// What the references that an agent made in its repository point to, loose and packed: all but the remote's, and what
/// only replaces other objects. An error: there may be others.
pub fn tips(git_dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let is_own = |name: &str| {
        name.starts_with("refs/") && !name.starts_with("refs/remotes/") && !name.starts_with("refs/replace/")
    };
    loose(git_dir, "refs", &mut |name, hash| found.extend(Some(hash).filter(|_| is_own(&name))))?;
    let packed = match regular_file::read(&git_dir.join("packed-refs"), OWN_PACKED_LIMIT) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        packed => String::from_utf8_lossy(&packed.unwrap_or_default()).into_owned(),
    };
    let of_own = |line: &str| line.split_once(' ').filter(|(_, name)| is_own(name)).map(|(hash, _)| hash.to_owned());
    found.extend(packed.lines().filter_map(of_own));
    // Those of worktrees that it added have heads of their own.
    let added = fs::read_dir(git_dir.join("worktrees")).into_iter().flatten().flatten();
    let heads = added.map(|entry| entry.path().join("HEAD"));
    for path in heads.chain(OTHER_TIPS.iter().map(|name| git_dir.join(name))) {
        found.push(regular_file::read_text(&path, 100).unwrap_or_default().trim_end().to_owned());
    }
    let moves = match regular_file::read(&git_dir.join("logs/HEAD"), OWN_PACKED_LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        moves => moves.unwrap_or_default(),
    };
    let now = head(git_dir).unwrap_or_default();
    let moves = String::from_utf8_lossy(&moves).into_owned();
    let left = left_by_head(&moves, &now);
    if !left.is_empty() {
        let of_branches = hashes_in_logs(&git_dir.join("logs/refs/heads"));
        found.extend(left.into_iter().filter(|hash| !of_branches.contains(hash)));
    }
    found.retain(|hash| is_hash(hash));
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The branch that is checked out.
pub fn checked_out_branch(git_dir: &Path) -> Option<String> {
    let text = regular_file::read_text(&git_dir.join("HEAD"), 4096).ok()?;
    text.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
}

/// All branches of a repository, by name, with what they point to.
pub fn branches(git_dir: &Path) -> BTreeMap<String, String> {
    const BELOW: &str = "refs/heads/";
    let packed = regular_file::read_text(&git_dir.join("packed-refs"), OWN_PACKED_LIMIT).unwrap_or_default();
    let packed = packed.lines().filter_map(|line| line.split_once(' '));
    let mut found: BTreeMap<String, String> =
        packed.filter_map(|(hash, name)| Some((name.strip_prefix(BELOW)?.to_owned(), hash.to_owned()))).collect();
    let _ = loose(git_dir, "refs/heads", &mut |name, hash| {
        found.extend(name.strip_prefix(BELOW).map(|name| (name.to_owned(), hash)));
    });
    found.retain(|_, hash| is_hash(hash));
    found
}

/// Makes a branch of any well-formed name in a repository that nobody works in yet.
pub fn write_branch(git_dir: &Path, branch: &str, commit: &str) -> io::Result<()> {
    let path = git_dir.join("refs/heads").join(branch);
    fs::create_dir_all(path.parent().unwrap_or(git_dir))?;
    regular_file::write(&path, format!("{commit}\n").as_bytes())
}

/// Makes what was stashed last the only stash of a repository that nobody works in yet.
pub fn write_stash(git_dir: &Path, commit: &str) -> io::Result<()> {
    let log = git_dir.join("logs/refs/stash");
    fs::create_dir_all(log.parent().unwrap_or(git_dir))?;
    let nothing = "0".repeat(commit.len());
    // Git shows no entry of the time 0.
    let now = Time::now().0 / 1000;
    let line = format!("{nothing} {commit} agenticore <agenticore@localhost> {now} +0000\tstash that was kept\n");
    regular_file::write(&log, line.as_bytes())?;
    regular_file::write(&git_dir.join("refs/stash"), format!("{commit}\n").as_bytes())
}

/// The most commits that HEAD was at which are looked into, the latest.
const HISTORY_MOST: usize = 100;

/// The commits that were made on HEAD, by its reflog.
pub fn made_at_head(git_dir: &Path) -> HashSet<String> {
    const MADE: [&str; 5] = ["commit", "cherry-pick", "revert", "merge", "rebase"];
    let log = regular_file::read(&git_dir.join("logs/HEAD"), OWN_PACKED_LIMIT).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let made = |line: &str| {
        let (entry, message) = line.split_once('\t')?;
        let is_made = MADE.iter().any(|word| message.starts_with(word)) && !message.ends_with(": Fast-forward");
        is_made.then(|| entry.split(' ').nth(1).map(str::to_owned))?
    };
    log.lines().filter_map(made).collect()
}

/// When HEAD was moved last, by its reflog, in seconds since 1970. None: it never was.
pub fn last_move(git_dir: &Path) -> Option<i64> {
    let log = regular_file::read(&git_dir.join("logs/HEAD"), OWN_PACKED_LIMIT).ok()?;
    let log = String::from_utf8_lossy(&log).into_owned();
    let (_, rest) = log.lines().next_back()?.split_once("> ")?;
    rest.split(' ').next()?.parse().ok()
}

/// The commits that HEAD was at, by its reflog.
pub fn history_of_head(git_dir: &Path) -> Vec<String> {
    let log = regular_file::read(&git_dir.join("logs/HEAD"), OWN_PACKED_LIMIT).unwrap_or_default();
    let log = String::from_utf8_lossy(&log).into_owned();
    let all = log.lines().rev().flat_map(|line| line.split(' ').take(2)).filter(|hash| is_hash(hash));
    let mut found: Vec<String> = Vec::new();
    for hash in all.filter(|hash| hash.bytes().any(|byte| byte != b'0')) {
        if !found.iter().any(|known| known == hash) {
            found.push(hash.to_owned());
        }
        if found.len() >= HISTORY_MOST {
            break;
        }
    }
    found
}

/// Commits that HEAD was at and left for something else, by its reflog. A line is `OLD NEW NAME <MAIL> TIME
/// ZONE<tab>MESSAGE`. What was committed on a detached HEAD is held by no reference then; what was on a branch is in
/// the branch's own log. What was amended, reset or rebased away was left on purpose.
fn left_by_head(log: &str, now: &str) -> Vec<String> {
    const ON_PURPOSE: [&str; 9] = [
        "commit",
        "reset:",
        "rebase (pick)",
        "rebase (squash)",
        "rebase (fixup)",
        "rebase (reword)",
        "rebase (continue)",
        "rebase (finish)",
        "rebase (abort)",
    ];
    let (mut left, mut at) = (Vec::new(), None::<String>);
    for line in log.lines() {
        let (entry, message) = line.split_once('\t').unwrap_or((line, ""));
        let mut hashes = entry.split(' ');
        let (Some(old), Some(new)) = (hashes.next(), hashes.next()) else { continue };
        // It had been moved without a word: by another name for HEAD, or an orphan branch.
        left.extend(at.take().filter(|at| at != old));
        let from_branch = message.strip_prefix("checkout: moving from ").and_then(|rest| rest.split(' ').next());
        let is_of_branch = from_branch.is_some_and(|name| !is_hash(name));
        if !is_of_branch && !ON_PURPOSE.iter().any(|words| message.starts_with(words)) {
            left.push(old.to_owned());
        }
        at = Some(new.to_owned());
    }
    left.extend(at.filter(|at| at != now));
    left.retain(|hash| is_hash(hash) && hash.bytes().any(|byte| byte != b'0'));
    left
}

/// All that the branches' own logs tell of.
fn hashes_in_logs(directory: &Path) -> HashSet<String> {
    let (mut waiting, mut found) = (vec![directory.to_owned()], HashSet::new());
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
                continue;
            }
            let log = regular_file::read(&entry.path(), OWN_PACKED_LIMIT).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            found.extend(log.lines().flat_map(|line| line.split(' ').take(2)).map(str::to_owned));
        }
    }
    found
}

pub fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Makes or moves a branch; its name is one of ours and holds no slash.
pub fn set_branch(git_dir: &Path, branch: &str, commit: &str) -> io::Result<()> {
    let heads = git_dir.join("refs/heads");
    fs::create_dir_all(&heads)?;
    // As git does it: the lock file keeps other gits away and becomes the reference.
    let lock = heads.join(format!("{branch}.lock"));
    // The branch is this job's alone, and its agent does not run now: a lock is a dead git's.
    let _ = fs::remove_file(&lock);
    OpenOptions::new().write(true).create_new(true).open(&lock)?.write_all(format!("{commit}\n").as_bytes())?;
    fs::rename(&lock, heads.join(branch)).inspect_err(|_| drop(fs::remove_file(&lock)))
}

/// Removes a branch. False: it is packed too, and git has to remove that.
pub fn remove_branch(git_dir: &Path, branch: &str) -> bool {
    for path in
        [format!("refs/heads/{branch}"), format!("refs/heads/{branch}.lock"), format!("logs/refs/heads/{branch}")]
    {
        let _ = fs::remove_file(git_dir.join(path));
    }
    let name = format!("refs/heads/{branch}\n").into_bytes();
    match regular_file::read(&git_dir.join("packed-refs"), PACKED_LIMIT) {
        Ok(packed) if (packed.len() as u64) < PACKED_LIMIT => !packed.windows(name.len()).any(|window| window == name),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loose_references_only() {
        let dir = tempfile::tempdir().unwrap();
        let hash = "0123456789012345678901234567890123456789";
        set_branch(dir.path(), "b", hash).unwrap();
        assert_eq!(read(dir.path(), "refs/heads/b").as_deref(), Some(hash));
        fs::write(dir.path().join("refs/heads/symbolic"), "ref: refs/heads/b\n").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("refs/heads/link")).unwrap();
        for none in [
            "refs/heads/symbolic",
            "refs/heads/link",
            "refs/heads/none",
            "refs/heads",
            "refs/../refs/heads/b",
            "/etc/hostname",
        ] {
            assert_eq!(read(dir.path(), none), None, "{none}");
        }
        fs::create_dir(dir.path().join("refs/heads/x")).unwrap();
        let (other, packed) = (hash.replace('0', "f"), hash.replace('0', "e"));
        fs::write(dir.path().join("refs/heads/x/y"), &other).unwrap();
        fs::write(dir.path().join("packed-refs"), format!("{packed} refs/heads/p\n{packed} refs/tags/t\n")).unwrap();
        let remote = format!("{packed} refs/remotes/origin/r\n");
        fs::write(dir.path().join("packed-refs"), format!("{packed} refs/heads/p\n{packed} refs/tags/t\n{remote}"))
            .unwrap();
        assert_eq!(tips(dir.path()).unwrap(), [hash, &packed, &other]);
        assert_eq!(
            of_remote(dir.path()).into_iter().collect::<Vec<_>>(),
            [("refs/remotes/origin/r".into(), packed.clone())]
        );
        assert_eq!(read_any(dir.path(), "refs/heads/p"), Some(packed.clone()));
        let (detached, attached) = (hash.replace('0', "a"), hash.replace('0', "b"));
        fs::create_dir(dir.path().join("logs")).unwrap();
        let moved =
            |old: &str, from: &str| format!("{old} {packed} A <a@b> 1 +0000\tcheckout: moving from {from} to b\n");
        fs::write(dir.path().join("logs/HEAD"), moved(&detached, &detached) + &moved(&attached, "b")).unwrap();
        assert_eq!(tips(dir.path()).unwrap(), [hash, &detached, &packed, &other]);
        fs::remove_file(dir.path().join("packed-refs")).unwrap();
        assert!(remove_branch(dir.path(), "b") && remove_branch(dir.path(), "b"));
        fs::write(dir.path().join("packed-refs"), format!("{hash} refs/heads/b\n")).unwrap();
        assert!(!remove_branch(dir.path(), "b"));
    }
}
