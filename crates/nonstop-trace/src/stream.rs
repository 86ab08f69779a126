//! A whole trace on its way from `nonstopd` to whoever verifies it by themself: lines of JSON.

use crate::row::Row;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead};

/// The longest line, in bytes.
const LONGEST: usize = 4 << 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum Item {
    /// The first: whose trace it is.
    Lab {
        /// The lab's UUID.
        uuid: String,
        /// How many rows there are at least.
        rows: u64,
    },
    /// A row; they come in order.
    Row(Row),
    /// The file of a signed head of the lab's own.
    Head {
        /// The line.
        line: String,
    },
    /// The last: nothing was left off.
    End,
}

/// Reads one item.
pub fn next(mut from: impl BufRead) -> io::Result<Item> {
    let mut line = Vec::new();
    if io::Read::take(&mut from, LONGEST as u64).read_until(b'\n', &mut line)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the trace was cut off"));
    }
    serde_json::from_slice(&line).map_err(io::Error::other)
}

/// Reads items up to `End`, and hands each to `f`.
///
/// Errors: what is no item, and an end before `End`.
pub fn read(mut from: impl BufRead, mut f: impl FnMut(Item)) -> io::Result<()> {
    loop {
        match next(&mut from)? {
            Item::End => return Ok(()),
            item => f(item),
        }
    }
}
