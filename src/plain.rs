//! Texts from outside, made harmless for a terminal and for a log: no character in them is an order. Pure.

/// Without what acts on a terminal, turns the direction of a text, or hides in it. Lines and tabs stay.
pub fn text(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { harmless(c) }).collect()
}

/// The same on one line: nothing in it looks like another line.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}') { ' ' } else { harmless(c) })
        .collect()
}

fn harmless(c: char) -> char {
    let is_order = c.is_control()
        // Directions, and what is not seen; joiners stay, which emoji are made with.
        || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    if is_order { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    #[test]
    fn orders_are_shown_and_not_obeyed() {
        let evil = "a\nb\t\u{1b}[2J\r\u{202e}x\u{200b}\u{2028}é文👩‍👧";
        assert_eq!(super::text(evil), "a\nb\t\u{fffd}[2J\u{fffd}\u{fffd}x\u{fffd}\u{fffd}é文👩‍👧");
        assert_eq!(super::line(evil), "a b \u{fffd}[2J \u{fffd}x\u{fffd} é文👩‍👧");
    }
}
