//! HTTP/1.1 as a server speaks it with clients that nobody trusts, a thread a connection: what the
//! days of a data domain and the airlock both need of it.
//!
//! ```text
//! accept     the next connection, or that there is no seat for it
//!   seats    who may be connected at once
//! head       what is asked, within bounds of time and length
//!   condition  whether the version that is there is the one meant
//!   range      which bytes of it
//!     portion  what is answered of a file, then
//! send       bytes and files, until the client reads nothing more
//! ```
//!
//! What a server gives, in which words, and which bodies it takes is its own.

mod accept;
mod condition;
mod head;
mod portion;
mod range;
mod seats;
mod send;

pub use accept::{accept, refuse};
pub use condition::{Condition, Version, condition, range};
pub use head::{Head, Incoming, Limits, NoHead, parse};
pub use portion::{Part, Portion, portion};
pub use range::{Asked, asked};
pub use seats::{Seat, Seats, segment};
pub use send::{all, farewell, file, reason};

use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};

/// `at` as HTTP writes times: whole seconds, in GMT.
pub fn http_date(at: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// The bytes that `text` stands for, a part of a URL; None where `%` begins no escape.
///
/// They may be any: also no UTF-8, a zero, or a `/`.
pub fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut plain, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, more @ ..] = rest {
        rest = more;
        match (byte, more) {
            (b'%', [high, low, more @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                plain.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
                rest = more;
            }
            (b'%', _) => return None,
            (byte, _) => plain.push(*byte),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_two_digits_and_nothing_else() {
        for (text, bytes) in [
            ("", Some(&b""[..])),
            ("a/b", Some(b"a/b")),
            ("%2Fa%2f", Some(b"/a/")),
            ("%00%ff", Some(b"\0\xff")),
            ("%2541", Some(b"%41")),
            ("a%", None),
            ("%4", None),
            ("%+1", None),
            ("%zz", None),
        ] {
            assert_eq!(unescaped(text).as_deref(), bytes, "{text}");
        }
    }

    #[test]
    fn a_time_is_written_as_http_has_it() {
        let at = Timestamp::from_millisecond(1_000_000_900).expect("a time");
        assert_eq!(http_date(at), "Mon, 12 Jan 1970 13:46:40 GMT");
    }
}
