//! A text, decoded.

/// The longest text, in bytes of UTF-8.
const LONGEST: usize = 64 << 10;

/// The text of `bytes`, and whether it had to be cut. What turns the direction of letters, and what
/// nobody can see, shows as U+FFFD.
pub(super) fn decoded(bytes: &[u8], encoding: &str) -> (String, bool) {
    let decoded = encoding_rs::Encoding::for_label(encoding.as_bytes())
        .filter(|_| encoding != "us-ascii")
        .unwrap_or(encoding_rs::UTF_8)
        .decode(bytes)
        .0;
    let mut text = String::with_capacity(decoded.len().min(LONGEST));
    for c in decoded.chars() {
        let odd = c.is_control() && !matches!(c, '\n' | '\t' | '\r')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        let c = if odd { char::REPLACEMENT_CHARACTER } else { c };
        if text.len() + c.len_utf8() > LONGEST {
            return (text, true);
        }
        text.push(c);
    }
    // A character that the begin was cut in.
    if text.ends_with(char::REPLACEMENT_CHARACTER) {
        text.pop();
    }
    (text, false)
}
