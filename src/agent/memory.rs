//! What a repository that is not trusted may still say to its agent: its CLAUDE.md and what belongs to that, found as
//! Claude itself finds them (tried with Claude Code 2.1.330), and bounded.
//!
//! Nothing outside of the repository is read, whatever is imported or linked.

use crate::workspace::regular_file;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The most that is handed over, in bytes, and of how many files.
const LIMIT: usize = 256 * 1024;
const FILES_MOST: usize = 200;
/// How far imports of imports are followed: Claude's own limit.
const DEEPEST: usize = 4;
/// The most that is looked at for it: bytes that are read, and names of files and directories.
const READ_MOST: usize = 4 << 20;
const NAMES_MOST: usize = 5000;

/// The repository's own instructions, each file under its name. None: it has none.
pub fn of_repository(worktree: &Path) -> Option<String> {
    let root = worktree.canonicalize().ok()?;
    let mut memory = Memory {
        root: &root,
        seen: HashSet::new(),
        text: String::new(),
        files: 0,
        bytes_left: READ_MOST,
        names_left: NAMES_MOST,
        is_cut: false,
    };
    memory.add(&root.join("CLAUDE.md"), 0);
    memory.add(&root.join(".claude/CLAUDE.md"), 0);
    let has_none = memory.text.is_empty() && !root.join("CLAUDE.local.md").exists();
    if has_none {
        memory.add(&root.join("AGENTS.md"), 0);
    }
    memory.add_rules(&root.join(".claude/rules"), 0);
    memory.add(&root.join("CLAUDE.local.md"), 0);
    if memory.is_cut {
        memory.text += "(There is more, which is left out here.)\n";
    }
    (!memory.text.is_empty()).then_some(memory.text)
}

struct Memory<'a> {
    /// The real path of the worktree.
    root: &'a Path,
    /// Each file once.
    seen: HashSet<PathBuf>,
    text: String,
    files: usize,
    bytes_left: usize,
    names_left: usize,
    is_cut: bool,
}

impl Memory<'_> {
    /// A file, and what it imports.
    fn add(&mut self, path: &Path, depth: usize) {
        if depth > DEEPEST || !self.may_look() {
            return;
        }
        // A link may lead to another file of the repository. What git keeps for itself is none of it.
        let is_of_repository = |real: &PathBuf| real.starts_with(self.root) && !real.iter().any(|part| part == ".git");
        let Some(real) = path.canonicalize().ok().filter(is_of_repository) else { return };
        if !self.seen.insert(real.clone()) {
            return;
        }
        let Ok(bytes) = regular_file::read(&real, LIMIT.min(self.bytes_left) as u64) else { return };
        self.bytes_left -= bytes.len();
        let Ok(text) = String::from_utf8(bytes) else { return };
        let (text, imports) = read(&text);
        let name = real.strip_prefix(self.root).unwrap_or(&real).display().to_string();
        let for_paths = paths_of(&text).map(|paths| format!(", for files that match {paths}")).unwrap_or_default();
        let shown = format!("Contents of {name}{for_paths}:\n\n{}\n\n", text.trim());
        if self.files >= FILES_MOST || self.text.len() + shown.len() > LIMIT {
            self.is_cut = true;
            return;
        }
        self.files += 1;
        self.text += &shown;
        let beside = path.parent().unwrap_or(self.root).to_owned();
        for import in imports {
            // `~` and absolute paths lead out of the repository, unless they lead back in.
            self.add(&beside.join(import), depth + 1);
        }
    }

    /// One more name is looked at, unless there were too many.
    fn may_look(&mut self) -> bool {
        let may = self.names_left > 0 && self.bytes_left > 0;
        self.is_cut |= !may;
        self.names_left = self.names_left.saturating_sub(1);
        may
    }

    /// Every `.md` below a directory, in the order of their names. Links to directories are not followed.
    fn add_rules(&mut self, directory: &Path, depth: usize) {
        let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
        if !is_directory(directory) {
            return;
        }
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut entries: Vec<PathBuf> = entries.map(|entry| entry.path()).take(self.names_left).collect();
        entries.sort();
        for path in entries {
            if !self.may_look() {
                return;
            }
            if is_directory(&path) && depth < DEEPEST {
                self.add_rules(&path, depth + 1);
            } else if path.extension().is_some_and(|end| end == "md") {
                self.add(&path, 0);
            }
        }
    }
}

/// The text without its comments, and what it imports: `@path` at the beginning of a word, in no code and no comment.
fn read(text: &str) -> (String, Vec<String>) {
    let (mut kept, mut imports) = (String::new(), Vec::new());
    let (mut fence, mut is_comment): (Option<&str>, bool) = (None, false);
    let mut named = HashSet::new();
    for line in text.split_inclusive('\n') {
        let begin = line.trim_start();
        if is_comment {
            is_comment = !line.contains("-->");
            continue;
        }
        if let Some(mark) = fence {
            fence = fence.filter(|_| !begin.starts_with(mark));
        } else if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| begin.starts_with(mark)) {
            fence = Some(mark);
        } else if begin.starts_with("<!--") {
            is_comment = !line.contains("-->");
            continue;
        } else {
            imports.extend(imports_of(line).into_iter().filter(|import| named.insert(import.clone())));
        }
        kept += line;
    }
    (kept, imports)
}

fn imports_of(line: &str) -> Vec<String> {
    let mut plain = String::new();
    // What stands between equal runs of backticks is code; a comment may stand within a line too.
    for (number, part) in line.split('`').enumerate() {
        plain += if number % 2 == 0 { part } else { "`" };
    }
    let mut parts = plain.split("<!--");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| shown += part.split_once("-->").map_or("", |(_, after)| after));
    // A blank in a name is written `\ `.
    let words = shown.replace("\\ ", "\u{0}");
    let words = words.split_whitespace().filter_map(|word| word.strip_prefix('@'));
    let path = |word: &str| word.split('#').next().unwrap_or_default().replace('\u{0}', " ");
    words.map(path).filter(|path| !path.is_empty()).collect()
}

/// What a rule's front matter says it is for: `paths:`, on its line or in the list below it.
fn paths_of(text: &str) -> Option<String> {
    let front = text.strip_prefix("---\n")?.split_once("\n---")?.0;
    let (_, rest) = front.split_once("paths:")?;
    let (first, list) = rest.split_once('\n').unwrap_or((rest, ""));
    let items = list.lines().map_while(|line| line.trim_start().strip_prefix("- "));
    let all: Vec<&str> =
        std::iter::once(first).chain(items).map(|item| item.trim()).filter(|item| !item.is_empty()).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join("repo").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(dir.path().join("repo")).unwrap();
        dir
    }

    fn said(files: &[(&str, &str)]) -> Option<String> {
        of_repository(&repository(files).path().join("repo"))
    }

    fn names(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.strip_prefix("Contents of ")?.strip_suffix(':')).collect()
    }

    #[test]
    fn what_claude_reads_and_in_which_order() {
        let text = said(&[
            ("CLAUDE.md", "main\n@docs/a.md and @docs/list.md\n"),
            ("docs/a.md", "a @b.md @../CLAUDE.md"),
            ("docs/b.md", "b"),
            ("docs/list.md", "list"),
            (".claude/CLAUDE.md", "dot @beside.md"),
            (".claude/beside.md", "beside"),
            (".claude/rules/one.md", "one"),
            (".claude/rules/deep/two.md", "---\npaths:\n  - src/**\n  - lib/**\n---\ntwo"),
            (".claude/rules/no.txt", "no"),
            ("CLAUDE.local.md", "local"),
            ("AGENTS.md", "agents"),
            ("sub/CLAUDE.md", "sub"),
        ])
        .unwrap();
        let wanted = [
            "CLAUDE.md",
            "docs/a.md",
            "docs/b.md",
            "docs/list.md",
            ".claude/CLAUDE.md",
            ".claude/beside.md",
            ".claude/rules/deep/two.md, for files that match src/**, lib/**",
            ".claude/rules/one.md",
            "CLAUDE.local.md",
        ];
        assert_eq!(names(&text), wanted, "{text}");
        assert_eq!(names(&said(&[("AGENTS.md", "a"), (".claude/rules/r.md", "r")]).unwrap())[0], "AGENTS.md");
        assert_eq!(names(&said(&[("AGENTS.md", "a"), (".claude/CLAUDE.md", "c")]).unwrap()), [".claude/CLAUDE.md"]);
        assert_eq!(said(&[("README.md", "@a")]), None);
    }

    #[test]
    fn what_is_an_import() {
        let text = "@a.md\n- @b.md\n> @c.md\n\t@d.md   \n@e.md#part\n@f\\ g.md\nme@h.md (@i.md) **@j.md\n\
                    `@k.md` ``@l.md``\n\
                    ```\n@m.md\n```\n~~~\n@n.md\n~~~\n<!-- @o.md -->\n<!--\n@p.md\n-->\nx <!-- @q.md --> @r.md\n";
        let (kept, imports) = read(text);
        assert_eq!(imports, ["a.md", "b.md", "c.md", "d.md", "e.md", "f g.md", "r.md"]);
        assert!(!kept.contains("@o.md") && !kept.contains("@p.md") && kept.contains("@m.md"), "{kept}");
    }

    #[test]
    fn nothing_outside_is_read() {
        let dir = repository(&[("CLAUDE.md", "@../secret @/etc/passwd @~/x @link.md @inside.md"), ("real.md", "real")]);
        let root = dir.path().join("repo");
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink(dir.path().join("secret"), root.join("link.md")).unwrap();
        symlink("real.md", root.join("inside.md")).unwrap();
        assert_eq!(names(&of_repository(&root).unwrap()), ["CLAUDE.md", "real.md"]);
        fs::remove_file(root.join("CLAUDE.md")).unwrap();
        symlink("/etc/passwd", root.join("CLAUDE.md")).unwrap();
        assert_eq!(of_repository(&root), None);
    }

    #[test]
    fn it_is_bounded() {
        let long = "x".repeat(100_000);
        let files: Vec<(String, &str)> = (0..5).map(|n| (format!("{n}.md"), long.as_str())).collect();
        let mut files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        files.push(("CLAUDE.md", "@0.md @1.md @2.md @3.md @4.md @small.md"));
        files.push(("small.md", "small"));
        let text = said(&files).unwrap();
        assert!(text.len() < LIMIT + 100 && text.ends_with("left out here.)\n"));
        assert_eq!(names(&text), ["CLAUDE.md", "0.md", "1.md", "small.md"]);
        // Deeper than Claude goes, and in a circle.
        let chain: Vec<(String, String)> =
            (0..9).map(|n| (format!("{n}.md"), format!("@{}.md", (n + 1) % 9))).collect();
        let mut chain: Vec<(&str, &str)> = chain.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        chain.push(("CLAUDE.md", "@0.md"));
        assert_eq!(names(&said(&chain).unwrap()), ["CLAUDE.md", "0.md", "1.md", "2.md", "3.md"]);
    }

    #[test]
    fn it_ends_whatever_is_there() {
        let long = format!("x{}", "<!---->".repeat(35_000));
        let main = "@b.md ".repeat(16_000);
        let dir = repository(&[
            ("CLAUDE.md", &main),
            ("b.md", &long),
            (".claude/rules/r.md", "rule"),
            (".git", "gitdir: /x"),
        ]);
        let root = dir.path().join("repo");
        for n in 0..60 {
            symlink(".", root.join(format!(".claude/rules/l{n}"))).unwrap();
        }
        fs::write(root.join("CLAUDE.local.md"), "@.git").unwrap();
        let text = of_repository(&root).unwrap();
        assert_eq!(names(&text), ["CLAUDE.md", ".claude/rules/r.md", "CLAUDE.local.md"]);
        fs::remove_dir_all(root.join(".claude/rules")).unwrap();
        symlink("/", root.join(".claude/rules")).unwrap();
        assert_eq!(names(&of_repository(&root).unwrap()), ["CLAUDE.md", "CLAUDE.local.md"]);
    }
}
