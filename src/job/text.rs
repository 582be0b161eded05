//! Texts that are too long. Pure.

const SAID: &str = "… [cut]";

/// [`cut`] has taken something from its end.
pub fn is_cut(text: &str) -> bool {
    text.ends_with(SAID)
}

/// At most `limit` bytes of `text`, cut between characters, and said at its end.
pub fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let mut at = limit.saturating_sub(SAID.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.truncate(at);
        text.push_str(SAID);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_respects_characters_and_says_so() {
        assert_eq!(cut("short".into(), 10), "short");
        let text = cut("ä".repeat(100), 51);
        assert!(text.len() <= 51 && text.ends_with("… [cut]"), "{text}");
    }
}
