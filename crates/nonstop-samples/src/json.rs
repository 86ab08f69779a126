//! JSON as sandboxes write it: that of Python, which has more words and characters than JSON.
//!
//! `json.dumps` writes half a surrogate pair as `"\udc80"`, which is no character, and numbers that are
//! none as `NaN`, `Infinity` and `-Infinity`. Editors on Windows put a mark of byte order before it all.

use serde_json::Error;

/// The words of Python that JSON has not.
const NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// What `read` makes of `text`: as it is and, where that is no JSON, with what only Python reads
/// replaced: half a pair by U+FFFD, and a number that is none by 0. `text` itself stays as it is.
pub(crate) fn lenient<T>(text: &str, read: impl Fn(&str) -> Result<T, Error>) -> Result<T, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    read(text).or_else(|e| match mended(text) {
        Some(mended) => read(&mended),
        None => Err(e),
    })
}

/// `text` with replacements, as long as it was; None where there is nothing to replace.
fn mended(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    // Made at the first replacement.
    let mut copy: Option<Vec<u8>> = None;
    let mut replace = |at: usize, with: &[u8]| {
        let copy = copy.get_or_insert_with(|| bytes.to_vec());
        copy[at..at + with.len()].copy_from_slice(with);
    };
    let (mut at, mut inside) = (0, false);
    // What stands before here, outside of strings and apart from blanks.
    let mut before = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if inside {
            at += match (byte, unit(rest)) {
                (b'\\', Some(0xd800..=0xdbff))
                    if matches!(unit(&rest[6..]), Some(0xdc00..=0xdfff)) =>
                {
                    12
                }
                (b'\\', Some(0xd800..=0xdfff)) => {
                    replace(at, b"\\ufffd");
                    6
                }
                (b'\\', _) => 2,
                (b'"', _) => {
                    inside = false;
                    1
                }
                _ => 1,
            };
            continue;
        }
        let number = NUMBERS.iter().find(|word| rest.starts_with(word));
        match number.filter(|_| matches!(before, b':' | b'[' | b',')) {
            Some(word) => {
                replace(at, &b"0        "[..word.len()]);
                at += word.len();
                before = b'0';
            }
            None => {
                inside = byte == b'"';
                if !byte.is_ascii_whitespace() {
                    before = byte;
                }
                at += 1;
            }
        }
    }
    // Pieces of ASCII were replaced by others as long.
    copy.and_then(|copy| String::from_utf8(copy).ok())
}

/// The unit of UTF-16 whose escape `rest` begins with.
fn unit(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    // A sign is taken for one of a number otherwise.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(text: &str) -> Result<Value, Error> {
        lenient(text, |text| serde_json::from_str(text))
    }

    #[test]
    fn what_python_writes_is_read() {
        for (text, is) in [
            (r#"{"a":"x\udc80y"}"#, json!({ "a": "x\u{fffd}y" })),
            (
                r#"["\ud83d\ude00","\ud83d","\ud83d\ud83d\ude00"]"#,
                json!(["😀", "\u{fffd}", "\u{fffd}😀"]),
            ),
            // An escaped backslash is no begin of an escape.
            (r#"["\\udc80", "\"\udc80"]"#, json!(["\\udc80", "\"\u{fffd}"])),
            (r#"{"a": NaN, "b":[Infinity,-Infinity , NaN]}"#, json!({ "a": 0, "b": [0, 0, 0] })),
            (r#"["NaN", NaN, ":NaN,\"", "é"]"#, json!(["NaN", 0, ":NaN,\"", "é"])),
            ("\u{feff}{\"a\":1}", json!({ "a": 1 })),
        ] {
            assert_eq!(read(text).expect(text), is, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_of_anybody_is_not() {
        for text in [
            "",
            "{",
            "NaNs",
            "[NaNs]",
            "[1NaN]",
            "[-NaN]",
            "{NaN:1}",
            "[1 NaN]",
            "[NaN5]",
            "[NaN 5]",
            "[NaN",
            r#"["\ud8"#,
            r#"["\udc80"#,
            r#"["\ud83d\"#,
            r#"["\u+123"]"#,
            r#"["\udc80", x]"#,
            "\u{feff}\u{feff}1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        /// Whatever text is, nothing but what is to be replaced is.
        #[test]
        fn json_stays_as_it_is(text in "\\PC{0,40}") {
            let written = json!([text, { text.clone(): text }]);
            proptest::prop_assert_eq!(mended(&written.to_string()), None);
            proptest::prop_assert_eq!(read(&written.to_string()).expect("JSON"), written);
            let _any = mended(&text);
        }
    }
}
