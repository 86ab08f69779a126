//! What is answered of a file: all of it, one range, or several in one body.

use crate::range::{Asked, asked};
use std::ops::Range;

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These of the file.
    Of(Range<u64>),
}

impl Part {
    /// How many bytes it is.
    pub fn length(&self) -> u64 {
        match self {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::Of(range) => range.end - range.start,
        }
    }
}

/// An answer's status, its fields and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// 200 or 206.
    pub status: u16,
    /// `Content-Type`, and `Content-Range` where it is one range.
    pub fields: Vec<(&'static str, String)>,
    /// Its body, in order.
    pub parts: Vec<Part>,
}

/// What `range`, the value of a `Range`, gets of a file of `length` bytes and of the type `kind`.
///
/// Several ranges stand between lines of `boundary`, which must not be found in the file.
/// Errors: the file has nothing of what is asked for. That is a 416, whose `Content-Range` this is.
pub fn portion(
    range: Option<&str>,
    length: u64,
    kind: &str,
    boundary: impl FnOnce() -> String,
) -> Result<Portion, String> {
    let parts = match range.map_or(Asked::Whole, |range| asked(range, length)) {
        Asked::Beyond => return Err(format!("bytes */{length}")),
        Asked::Whole => {
            let fields = vec![("Content-Type", kind.into())];
            return Ok(Portion { status: 200, fields, parts: vec![Part::Of(0..length)] });
        }
        Asked::Parts(parts) => parts,
    };
    if let [part] = &parts[..] {
        let fields =
            vec![("Content-Type", kind.into()), ("Content-Range", content_range(part, length))];
        return Ok(Portion { status: 206, fields, parts: vec![Part::Of(part.clone())] });
    }
    Ok(several(&parts, length, kind, &boundary()))
}

/// Several ranges, each with a head of its own.
fn several(parts: &[Range<u64>], length: u64, kind: &str, boundary: &str) -> Portion {
    let mut body = Vec::new();
    for part in parts {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: {}\r\n\r\n",
            content_range(part, length)
        );
        body.extend([Part::Bytes(head.into_bytes()), Part::Of(part.clone())]);
    }
    body.push(Part::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    let kind = format!("multipart/byteranges; boundary={boundary}");
    Portion { status: 206, fields: vec![("Content-Type", kind)], parts: body }
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_ten(range: Option<&str>) -> Result<Portion, String> {
        portion(range, 10, "text/plain", || "line".into())
    }

    #[test]
    fn a_file_comes_whole_or_in_the_range_that_is_asked_for() {
        let whole = of_ten(None).expect("all");
        assert_eq!((whole.status, &whole.parts[..]), (200, &[Part::Of(0..10)][..]));
        let one = of_ten(Some("bytes=-3")).expect("its end");
        assert_eq!((one.status, &one.parts[..]), (206, &[Part::Of(7..10)][..]));
        assert!(one.fields.contains(&("Content-Range", "bytes 7-9/10".into())));
        assert_eq!(of_ten(Some("bytes=10-")), Err("bytes */10".into()));
    }

    #[test]
    fn several_ranges_come_in_one_body_each_with_its_head() {
        let several = of_ten(Some("bytes=0-0,8-")).expect("both");
        assert_eq!(several.status, 206);
        let kind = "multipart/byteranges; boundary=line";
        assert_eq!(several.fields, [("Content-Type", kind.to_string())]);
        let text = |part: &Part| match part {
            Part::Bytes(bytes) => String::from_utf8(bytes.clone()).expect("text"),
            Part::Of(range) => format!("{range:?}"),
        };
        let body: String = several.parts.iter().map(text).collect();
        assert_eq!(
            body,
            "\r\n--line\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n0..1\
             \r\n--line\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n8..10\
             \r\n--line--\r\n"
        );
        let lengths: Vec<u64> = several.parts.iter().map(Part::length).collect();
        assert_eq!(lengths, [67, 1, 67, 2, 12]);
    }
}
