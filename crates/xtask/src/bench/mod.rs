//! `cargo xtask bench NAME`: ours beside a peer, measured in turn in the same run.
//!
//! Each comparison is one JSON line on stdout; talk goes to stderr.

mod comparison;
mod dav;
mod gateway;
mod images;
mod look;
mod pcap;
mod pgload;
mod provision;
mod rdp;
mod reach;
mod routed;
mod samples;
mod screen;
mod steps;
mod templates;

use anyhow::{Result, bail};
use comparison::{
    Comparison, at_least, hundredths, in_turns, look_around, median, middle, millis, percentile,
    verdict,
};

/// Runs the comparison `name`.
///
/// Errors: there is none of that name, or a measurement failed.
pub(crate) fn bench(name: &str) -> Result<()> {
    match name {
        "provision" => provision::provision(),
        "rdp" => rdp::rdp(),
        "pixels" => rdp::pixels::pixels(),
        "reach" => reach::reach(),
        "pcap" => pcap::pcap(),
        "pgload" => pgload::pgload(),
        "gateway" => gateway::gateway(),
        "dav" => dav::dav(),
        "screen" => screen::screen(),
        "samples" => samples::samples(),
        _ => bail!(
            "there is no comparison `{name}`: there are `provision`, `rdp`, `pixels`, `reach`, \
             `pcap`, `pgload`, `gateway`, `dav`, `screen` and `samples`"
        ),
    }
}
