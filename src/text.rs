//! Text that others chose (names of functions and values, labels, comments, paths), made harmless: the one place where that is done.

/// Whether a character steers a terminal or turns the direction of text, by which it would look like another.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text in one line without characters that [steer](steers).
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '?' } else { c }).collect()
}

/// As [`printable`], for a text of several lines with tabs.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if steers(c) && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("a\x1b[31mb\n"), "a?[31mb?");
        assert_eq!(printable("safe\u{202e}dab\u{9b}"), "safe?dab?");
        assert_eq!(printable_lines("a\tb\x1b[31m\n\nc"), "a\tb?[31m\n\nc");
    }
}
