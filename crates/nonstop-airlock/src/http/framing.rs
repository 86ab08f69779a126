//! Whether and how a request's body comes, as its head has it.

use nonstop_http::{Head, NoHead};

/// Where a body ends, and whether its client waits to send it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    /// How the body comes.
    pub(crate) length: Length,
    /// Whether the client waits to be told before it sends it.
    pub(crate) expects: bool,
}

/// How a body comes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    #[default]
    None,
    /// So many bytes.
    Bytes(u64),
    /// In chunks, until one is empty.
    Chunked,
}

impl Framing {
    /// That of `head`; and a head that breaks a rule here is none.
    pub(crate) fn of(head: &Head) -> Result<Framing, NoHead> {
        // Names in UTF-8 stand in some fields, unescaped, against the rules.
        if head.is_odd {
            return Err(NoHead::Bad(400, "a header field is not text in UTF-8"));
        }
        let length = length(head)?;
        let expects = match head.list("expect") {
            None => false,
            Some(what) if what.eq_ignore_ascii_case("100-continue") => {
                !head.old && length != Length::None
            }
            Some(_) => return Err(NoHead::Bad(417, "only 100-continue can be expected")),
        };
        Ok(Framing { length, expects })
    }
}

/// Where the body ends. To guess that is how requests get smuggled, so what is not plain is refused.
fn length(head: &Head) -> Result<Length, NoHead> {
    let has = |name| head.all(name).next().is_some();
    match (has("content-length"), has("transfer-encoding")) {
        (false, false) => Ok(Length::None),
        (true, false) => {
            let text = head.only("content-length").unwrap_or_default();
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            match text.parse() {
                Ok(0) if digits => Ok(Length::None),
                Ok(bytes) if digits => Ok(Length::Bytes(bytes)),
                _ => Err(NoHead::Bad(400, "Content-Length is no number")),
            }
        }
        (false, true) => {
            let chunked = head.only("transfer-encoding").unwrap_or_default();
            if chunked.eq_ignore_ascii_case("chunked") && !head.old {
                Ok(Length::Chunked)
            } else {
                Err(NoHead::Bad(501, "of transfer encodings there is chunked here"))
            }
        }
        (true, true) => Err(NoHead::Bad(400, "a body has a length or comes in chunks, not both")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::LIMITS;
    use nonstop_http::parse;

    fn framing(bytes: &[u8]) -> Result<Framing, u16> {
        let (head, used) = parse(bytes, &LIMITS).expect("a head").expect("a whole one");
        assert_eq!(used, bytes.len());
        Framing::of(&head).map_err(|no| match no {
            NoHead::Bad(status, _) => status,
            NoHead::Over => panic!("nothing was waited for"),
        })
    }

    #[test]
    fn where_a_body_ends_is_plain_or_it_is_refused() {
        let of = |fields: &str| {
            framing(format!("PUT /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
        };
        let length = |fields| of(fields).map(|framing| framing.length);
        assert_eq!(length(""), Ok(Length::None));
        assert_eq!(length("Content-Length: 0\r\n"), Ok(Length::None));
        assert_eq!(length("Content-Length: 12\r\n"), Ok(Length::Bytes(12)));
        assert_eq!(length("Transfer-Encoding: Chunked\r\n"), Ok(Length::Chunked));
        for (fields, status) in [
            ("Content-Length: 3\r\nContent-Length: 3\r\n", 400),
            ("Content-Length: +3\r\n", 400),
            ("Content-Length: 3, 3\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
            ("Expect: miracles\r\n", 417),
        ] {
            assert_eq!(of(fields), Err(status), "{fields}");
        }
        let old = b"PUT /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(framing(old), Err(501));
    }

    #[test]
    fn leave_is_waited_for_where_there_is_something_to_send() {
        let expects = |version, length| {
            let head = format!(
                "PUT /x HTTP/{version}\r\nHost: a\r\nExpect: 100-Continue\r\n\
                 Content-Length: {length}\r\n\r\n"
            );
            framing(head.as_bytes()).map(|framing| framing.expects)
        };
        assert_eq!(expects("1.1", 3), Ok(true));
        assert_eq!(expects("1.1", 0), Ok(false));
        assert_eq!(expects("1.0", 3), Ok(false));
    }

    #[test]
    fn a_field_that_is_no_text_is_refused() {
        assert_eq!(framing(b"GET / HTTP/1.1\r\nHost: a\r\nDestination: \xff\r\n\r\n"), Err(400));
    }
}
