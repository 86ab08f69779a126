//! Text that others wrote, and that a person is to judge by reading it.

/// Whether `c` does not show, or changes how what stands around it is shown: controls (apart from
/// tab and line feed), formats, marks of direction, fillers, selectors of variants and private use.
///
/// `report\u{202e}fdp.exe` looks like a PDF, and two names that look alike can be two: whoever
/// decides by a text sees these as their numbers.
pub fn is_hidden(c: char) -> bool {
    match c {
        '\t' | '\n' => false,
        _ if c.is_control() => true,
        // Soft hyphen, joiner of graphemes, Arabic letter mark, Hangul fillers, Khmer inherent vowels.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' => {
            true
        }
        // Mongolian selectors; a blank of Braille; Hangul fillers, wide and narrow.
        '\u{180b}'..='\u{180f}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => true,
        // Zero width, direction, separators of lines and paragraphs.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        // Selectors of variants, byte order mark, annotations.
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' => true,
        // Private use: every font shows something else, or nothing.
        '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}' => true,
        // Formats of shorthand and music; tags, and selectors beside them.
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

/// `text` with each character of it that [`is_hidden`] as its number: `a<U+202E>fdp.exe` reads as what
/// it is.
pub fn revealed(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_hidden(c) {
            true => shown.push_str(&format!("<U+{:04X}>", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_written_as_its_number() {
        let text = "a\u{202e}fdp\u{e0041}.exe\t結果\n";
        assert_eq!(revealed(text), "a<U+202E>fdp<U+E0041>.exe\t結果\n");
    }

    #[test]
    fn what_is_written_shows_and_what_hides_is_found() {
        for shown in ["結果 その1.csv", "が か\u{3099}", "naïve\tA\n", "مرحبا", "👩 €"]
        {
            assert!(!shown.contains(is_hidden), "{shown}");
        }
        for hidden in
            ["a\u{202e}fdp.exe", "a\u{200b}b", "\u{1b}[2J", "\u{e0041}", "\u{feff}a", "\u{e000}"]
        {
            assert!(hidden.contains(is_hidden), "{hidden:?}");
        }
    }
}
