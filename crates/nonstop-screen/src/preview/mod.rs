//! `nonstop-screen preview`: the begin of a file, made anew for a person who decides about it.
//!
//! A text is decoded, a table is cut into cells, a picture is decoded and encoded anew: nothing of
//! the file itself reaches a browser.

mod picture;
mod table;
mod text;

use crate::{
    child::{Given, confined},
    input::{Bytes, Stdin},
    measure::{density::Density, magic, text::Texts},
};
use serde::Serialize;
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Shows the begin of the file on standard input. Run as root; it gives that up before the first
/// byte.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    given: Given,
}

/// How much of a text is looked at, in bytes.
const BEGIN: usize = 64 << 10;
/// How much of what is neither text nor picture is shown, in bytes.
const FEW: usize = 512;

/// What is shown: one line of JSON; behind that of a picture follow its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "preview")]
pub enum Shown {
    /// The begin of a text.
    Text {
        /// What it was decoded from.
        encoding: String,
        /// At most 64 KiB.
        text: String,
        /// Whether there is more.
        cut: bool,
    },
    /// The first rows and columns of a table.
    Table {
        /// At most 100 of 30 cells.
        rows: Vec<Vec<String>>,
        /// Whether there is more.
        cut: bool,
    },
    /// A picture of this size; it is shown no larger than 1024 pixels each way.
    Picture {
        /// Pixels across.
        width: u32,
        /// Pixels down.
        height: u32,
        /// The picture as PNG.
        #[serde(skip)]
        png: Vec<u8>,
    },
    /// The first bytes of anything else.
    Bytes {
        /// At most 512, in hex.
        hex: String,
    },
}

/// Shows standard input.
pub fn run(args: &Args) -> ExitCode {
    let input = match Stdin::open() {
        Ok(input) => input,
        Err(reason) => return crate::said::Said::failed(reason).say(),
    };
    if let Err(e) = confined(args.given, false, 0) {
        return crate::said::Said::failed(format!("give up rights: {e}")).say();
    }
    let shown = shown(&input, args.given.memory_mib << 20);
    match shown.and_then(|shown| say(&shown)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::said::Said::failed(format!("read the file: {e}")).say(),
    }
}

fn say(shown: &Shown) -> io::Result<()> {
    let mut line = serde_json::to_vec(shown)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    if let Shown::Picture { png, .. } = shown {
        stdout.write_all(png)?;
    }
    stdout.flush()
}

/// What is shown of `bytes`, with no more than about `memory` bytes of memory.
///
/// Errors: they cannot be read. What cannot be decoded is shown as bytes.
pub fn shown(bytes: &(impl Bytes + ?Sized), memory: u64) -> io::Result<Shown> {
    let head = bytes.piece(0, BEGIN)?;
    if let Some(kind) = magic::by_begin(&head, bytes.size()) {
        if let Some(picture) = picture::shown(bytes, kind, memory / 2) {
            return Ok(picture);
        }
    } else if let Some(encoding) = encoding(&head) {
        let cut = bytes.size() > head.len() as u64;
        let (text, shortened) = text::decoded(&head, encoding);
        if let Some(rows) = table::rows(&text) {
            let table = table::bounded(rows, cut || shortened);
            return Ok(table);
        }
        let cut = cut || shortened;
        return Ok(Shown::Text { encoding: encoding.into(), text, cut });
    }
    Ok(Shown::Bytes { hex: hex::encode(&head[..head.len().min(FEW)]) })
}

/// The encoding of a text that may be cut within a character. What may be UTF-8 is: the others
/// agree with nearly everything.
fn encoding(head: &[u8]) -> Option<&'static str> {
    let whole = |less: usize| {
        let (mut density, mut texts) = (Density::default(), Texts::default());
        let whole = &head[..head.len() - less];
        density.add(whole);
        texts.add(whole);
        texts.encoding(density.counts())
    };
    let found: Vec<_> = (0..4.min(head.len())).filter_map(whole).collect();
    found.iter().find(|encoding| **encoding == "utf-8").or(found.first()).copied()
}
