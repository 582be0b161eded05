//! Which names of branches, tags and commits are accepted as `base_ref`. Pure.

/// Longer than any reference that a forge accepts.
const LENGTH_LIMIT: usize = 250;

/// Accepts what git calls a well-formed reference name, or a commit's hash.
///
/// ```
/// use agenticore::judges::refname;
/// assert!(refname::judge("feature/parser").is_ok());
/// let why = refname::judge("--upload-pack=x").unwrap_err();
/// assert!(why.ends_with("begins with a dash: it must name a branch, a tag or a commit"));
/// ```
pub fn judge(name: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("base_ref `{}` {why}", crate::job::cut(name.to_owned(), 80)));
    if name.is_empty() || name.len() > LENGTH_LIMIT {
        return Err(format!("base_ref must have 1 to {LENGTH_LIMIT} characters"));
    }
    if name.starts_with('+') {
        return wrong("begins with a plus sign: it must name a branch, a tag or a commit");
    }
    if name.starts_with('-') {
        return wrong("begins with a dash: it must name a branch, a tag or a commit");
    }
    let forbidden = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad_part =
        |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock") || part.ends_with('.');
    if name.chars().any(forbidden) || name.contains("..") || name.contains("@{") || name == "@" {
        return wrong("holds characters that no branch name may have");
    }
    if name.split('/').any(bad_part) {
        return wrong("is no name that git accepts for a branch");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn tells_names_from_tricks() {
        for good in ["main", "feature/x-1", "v1.2.3", "refs/heads/main", "refs/pull/7/head", "ü", &"a".repeat(40)] {
            assert!(judge(good).is_ok(), "{good}");
        }
        let long = "x".repeat(251);
        for bad in [
            "",
            "-b",
            "+a",
            "--upload-pack=x",
            "a b",
            "a..b",
            "a^",
            "a:b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a.lock",
            "a@{1}",
            "@",
            "a\0",
            "a\n",
            &long,
        ] {
            assert!(judge(bad).is_err(), "{bad}");
        }
    }
}
