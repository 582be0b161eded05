//! "Did you mean": the known name that is nearest to one that is not known. Pure.

/// Of what two names begin with, for that to mean something.
const SHORTEST: usize = 4;
/// How many letters may be wrong, missing or too many.
const WITHIN: usize = 2;

/// The nearest of `known`, if it is within two letters and there is more to it than that.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.filter(|name| *name != word).collect();
    let (distance, name) =
        known.iter().map(|name| (distance(word, name), *name)).min_by_key(|(distance, _)| *distance)?;
    if distance <= WITHIN && distance * 2 < name.chars().count() {
        return Some(name);
    }
    // One that begins as the other does, and is no other word.
    let is_beginning = |name: &&&str| {
        let shorter = name.len().min(word.len());
        shorter >= SHORTEST && (name.starts_with(word) || word.starts_with(**name)) && !is_prefix_alone(name)
    };
    known.iter().filter(is_beginning).max_by_key(|name| name.len()).copied()
}

/// What many names begin with tells nothing.
fn is_prefix_alone(name: &str) -> bool {
    name.ends_with('_')
}

/// The same as the end of a sentence; empty if nothing is near.
pub fn did_you_mean<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// Letters to be changed, added, removed, or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    let is_swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    if is_swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_within_two_letters() {
        let known = ["repo_url", "profile", "task", "base_ref", "wait"];
        for (word, meant) in [
            ("repo_ur", Some("repo_url")),
            ("profil", Some("profile")),
            ("pofrile", Some("profile")),
            ("tsak", Some("task")),
            ("repository", None),
            ("prof", Some("profile")),
            ("task_text", Some("task")),
            ("when", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
        assert_eq!(did_you_mean("wiat", known.into_iter()), "; did you mean `wait`?");
    }
}
