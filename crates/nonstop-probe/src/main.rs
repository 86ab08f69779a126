//! `nonstop-probe`: carries out the order that is on its standard input, for `nonstopd`.
//!
//! Lines of standard output that begin with `@ ` say how far it is; the last line is the report, JSON.

use anyhow::{Context, Result};
use nonstop_reach::{observe::Network, probe::Order};
use std::io::{Read, Write};

/// The longest order that is read, in bytes.
const LONGEST: u64 = 64 << 20;

fn main() -> Result<()> {
    let mut text = Vec::new();
    std::io::stdin().take(LONGEST).read_to_end(&mut text).context("read the order")?;
    let order: Order = serde_json::from_slice(&text).context("understand the order")?;
    let mut output = std::io::stdout();
    let report = nonstop_probe::run(&order, Network::Ours, &mut |how_far| {
        // Whoever does not listen any more is not worth an end.
        let _ = writeln!(output, "@ {how_far}").and_then(|()| output.flush());
    })?;
    let mut output = std::io::stdout();
    serde_json::to_writer(&output, &report).context("tell the report")?;
    writeln!(output).context("tell the report")
}
