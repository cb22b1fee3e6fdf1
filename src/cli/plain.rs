//! Text that others made, for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with everything that a terminal would obey, or that would turn what stands beside it around, written as
/// `\u001b`: within a JSON string it still means the same.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            let written = write!(shown, "\\u{:04x}", u32::from(c));
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, line and paragraph separators, and marks that change the direction of text.
fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(plain("/a\u{1b}[2J\r\n\u{9b}\u{202e}ä"), "/a\\u001b[2J\\u000d\\u000a\\u009b\\u202eä");
        assert!(matches!(plain("/ä?b=c"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn json_means_the_same(text in any::<String>()) {
            let line = serde_json::to_string(&text).expect("a text");
            let shown = plain(&line);
            prop_assert!(!shown.contains(obeyed));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).expect("JSON"), text);
        }
    }
}
