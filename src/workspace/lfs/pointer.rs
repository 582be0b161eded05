//! Pointers: small files that stand for large ones.

use crate::workspace::cache::Error;
use crate::workspace::new_objects::NewFile;
use crate::workspace::private_git_dir::PrivateGitDir;
use crate::workspace::staging::run_with;
use std::collections::BTreeMap;

/// How a pointer begins: the Git LFS specification, and the names that git-lfs had before. The specification limits a
/// pointer to less than this size.
const VERSIONS: [&str; 3] = [
    "version https://git-lfs.github.com/spec/v1",
    "version https://hawser.github.com/spec/v1",
    "version http://git-media.io/v/2",
];
const SIZE_LIMIT: u64 = 1024;
/// So many files of that size fit what is kept of a command's output.
const AT_A_TIME: usize = 2000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// The content's SHA-256, in hex.
    pub oid: String,
    /// In bytes.
    pub size: u64,
    /// Where it is, or one of the places.
    pub path: String,
}

impl Pointer {
    fn parse(text: &[u8], path: &str) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_start();
        let rest = VERSIONS.iter().find_map(|version| text.strip_prefix(version))?.strip_prefix(['\r', '\n'])?;
        let value = |name: &str| rest.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(' ')?.trim()));
        let oid = value("oid")?.strip_prefix("sha256:")?;
        let is_hash = oid.len() == 64 && oid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let size = value("size")?.parse().ok()?;
        is_hash.then(|| Self { oid: oid.to_owned(), size, path: path.to_owned() })
    }
}

/// Those of `files` that are pointers, each content once.
pub fn in_objects(ours: &PrivateGitDir, files: &[NewFile]) -> Result<Vec<Pointer>, Error> {
    let small: BTreeMap<&str, &str> = files
        .iter()
        .filter(|file| file.size < SIZE_LIMIT)
        .map(|file| (file.hash.as_str(), file.path.as_str()))
        .collect();
    let mut found = BTreeMap::new();
    let hashes: Vec<&str> = small.keys().copied().collect();
    for some in hashes.chunks(AT_A_TIME) {
        let list: String = some.iter().map(|hash| format!("{hash}\n")).collect();
        let told = run_with(ours, "small", list.as_bytes(), &["cat-file", "--batch"])?;
        for (hash, text) in contents(&told) {
            let path = std::str::from_utf8(hash).ok().and_then(|hash| small.get(hash));
            if let Some(pointer) = path.and_then(|path| Pointer::parse(text, path)) {
                found.insert(pointer.oid.clone(), pointer);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// What `cat-file --batch` printed: `HASH blob SIZE`, the content, a newline.
fn contents(mut told: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let end = told.iter().position(|byte| *byte == b'\n')?;
            let (head, rest) = (&told[..end], &told[end + 1..]);
            let mut fields = head.split(|byte| *byte == b' ');
            let (hash, size) = (fields.next()?, fields.nth(1));
            let size = size.and_then(|size| std::str::from_utf8(size).ok()?.parse::<usize>().ok());
            let Some(size) = size else {
                told = rest;
                continue;
            };
            told = rest.get(size + 1..)?;
            return Some((hash, &rest[..size]));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_told_from_other_files() {
        let oid = "0123456789abcdef".repeat(4);
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12\n");
        let pointer = Pointer { oid: oid.clone(), size: 12, path: "a".into() };
        for text in [text.clone(), text.replace('\n', "\r\n"), text.replace("git-lfs", "hawser")] {
            assert_eq!(Pointer::parse(text.as_bytes(), "a").as_ref(), Some(&pointer), "{text}");
        }
        for other in [
            text.replace("0123", "../."),
            text.replace("size", "sighs"),
            text.replace(&oid, "abc"),
            text.replace("version", "Version"),
            text.to_uppercase(),
        ] {
            assert_eq!(Pointer::parse(other.as_bytes(), "a"), None, "{other}");
        }
        let told = b"aa blob 4\nabc\n\nzz missing\nbb blob 2\nhi\ncc blob 99\ncut off";
        assert_eq!(contents(told).collect::<Vec<_>>(), [(&b"aa"[..], &b"abc\n"[..]), (b"bb", b"hi")]);
    }
}
