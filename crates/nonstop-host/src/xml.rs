//! Text that is put into XML.

use std::fmt;

/// Shows `self.0` as text of an element or of an attribute in double or single quotes.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                // XML 1.0 has no way to write other control characters; a space is harmless.
                c if c.is_control() => f.write_str(" ")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_attribute() {
        let text = "a'/>\"<x>&\n\u{0}b";
        assert_eq!(Escaped(text).to_string(), "a&apos;/&gt;&quot;&lt;x&gt;&amp;  b");
    }
}
