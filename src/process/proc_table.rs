//! Who is whose child, as /proc tells it. Read only.

use std::collections::HashMap;
use std::fs;

/// Every process below `root`, parents before their children; not `root` itself.
pub fn descendants(root: i32) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for (pid, parent) in all() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        if let Some(more) = children.remove(&found[at]) {
            found.extend(more);
        }
        at += 1;
    }
    found.remove(0);
    found
}

/// The direct children of `parent`.
pub fn children(parent: i32) -> Vec<i32> {
    all().into_iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid).collect()
}

/// The processes, but this one, that have `file` open, as far as this user may know.
pub fn holders(file: &std::path::Path) -> Vec<i32> {
    let me = std::process::id() as i32;
    let has_it = |pid: i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target == file)
    };
    all().into_iter().map(|(pid, _)| pid).filter(|pid| *pid != me && has_it(*pid)).collect()
}

/// (pid, parent's pid, command line) of all processes that this user may look at.
pub fn command_lines() -> Vec<(i32, i32, Vec<String>)> {
    let words = |pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words.collect::<Vec<_>>()
    };
    all().into_iter().map(|(pid, parent)| (pid, parent, words(pid))).collect()
}

/// (pid, parent's pid) of all processes. One that vanishes meanwhile is left out.
fn all() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read(entry.path().join("stat")).ok()?;
            Some((pid, parent_in(&stat)?))
        })
        .collect()
}

/// How long the processes of a group have computed, in ticks; those that have ended count with their parents.
pub fn group_ticks(group: i32) -> u64 {
    let ticks = |pid: i32| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let after_name = &stat[stat.iter().rposition(|&b| b == b')')? + 1..];
        let fields: Vec<&str> = std::str::from_utf8(after_name).ok()?.split_ascii_whitespace().collect();
        // proc_pid_stat(5): the process group is the 5th field, the times the 14th to 17th, and the name is the second.
        let is_in = fields.get(2)?.parse() == Ok(group);
        is_in.then(|| fields[11..15].iter().filter_map(|time| time.parse::<u64>().ok()).sum::<u64>())
    };
    all().into_iter().filter_map(|(pid, _)| ticks(pid)).sum::<u64>()
}

/// When a process began, in ticks since the machine's start.
pub fn started(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = &stat[stat.iter().rposition(|&b| b == b')')? + 1..];
    // proc_pid_stat(5): the 22nd field, and the name is the second.
    std::str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// `PID (name) STATE PPID …`: the name may hold anything, also `)`.
fn parent_in(stat: &[u8]) -> Option<i32> {
    let after_name = &stat[stat.iter().rposition(|&b| b == b')')? + 1..];
    std::str::from_utf8(after_name).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_parent() {
        assert_eq!(parent_in(b"17 (sh) S 4 17 17 0"), Some(4));
        assert_eq!(parent_in(b"17 (a) S 1 1) R 4 17"), Some(4));
        assert_eq!(parent_in(b"17 (sh"), None);
    }

    #[test]
    fn finds_a_child() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(descendants(std::process::id() as i32).contains(&(child.id() as i32)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
