//! HTTP/1.1 as far as WebDAV needs it beyond what [`nonstop_http`] has: where a body ends, a body
//! that is taken piece by piece, an answer.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod framing;

pub(crate) use answer::{Answer, Content, PIECE, Pieces};
pub(crate) use body::{Body, BodyError};
pub(crate) use framing::Framing;

use nonstop_http::Limits;
use std::time::Duration;

/// What a head may be: `If` and `Destination` name paths whose bytes take three each.
pub(crate) const LIMITS: Limits = Limits {
    bytes: 24 << 10,
    fields: 96,
    idle: Duration::from_secs(60),
    time: Duration::from_secs(15),
};
