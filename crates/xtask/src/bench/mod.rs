//! `cargo xtask bench NAME`: ours beside a peer, measured in turn in the same run.
//!
//! Each comparison is one JSON line on stdout; talk goes to stderr.

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

use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::time::Duration;

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

/// Ours beside a peer.
#[derive(Debug, Serialize)]
struct Comparison<'a> {
    what: &'a str,
    unit: &'a str,
    ours: f64,
    peer: f64,
    peer_name: &'a str,
    /// Above 1: ours is better.
    ratio: f64,
}

impl<'a> Comparison<'a> {
    /// Two times, of which the shorter is the better.
    fn times(what: &'a str, ours: Duration, peer: Duration, peer_name: &'a str) -> Self {
        Comparison::lower(what, "ms", millis(ours), millis(peer), peer_name)
    }

    /// Two amounts, of which the lower is the better. One below a thousandth counts as that.
    fn lower(what: &'a str, unit: &'a str, ours: f64, peer: f64, peer_name: &'a str) -> Self {
        let ratio = (peer / ours.max(0.001) * 1000.0).round() / 1000.0;
        Comparison { what, unit, ours, peer, peer_name, ratio }
    }

    /// Two amounts, of which the higher is the better.
    fn higher(what: &'a str, unit: &'a str, ours: f64, peer: f64, peer_name: &'a str) -> Self {
        let ratio = (ours / peer.max(0.001) * 1000.0).round() / 1000.0;
        Comparison { what, unit, ours, peer, peer_name, ratio }
    }

    fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self).context("write a comparison")?);
        Ok(())
    }
}

/// In milliseconds, to a tenth.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The time that `percent` of `times` do not exceed.
///
/// Errors: there are none.
fn percentile(times: impl IntoIterator<Item = Duration>, percent: usize) -> Result<Duration> {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().context("nothing was measured")
}

fn median(times: impl IntoIterator<Item = Duration>) -> Result<Duration> {
    percentile(times, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_time_of_ours_gives_a_ratio_above_one() {
        let (ours, peer) = (Duration::from_millis(500), Duration::from_millis(750));
        let line = serde_json::to_string(&Comparison::times("a", ours, peer, "b")).expect("plain");
        assert_eq!(
            line,
            r#"{"what":"a","unit":"ms","ours":500.0,"peer":750.0,"peer_name":"b","ratio":1.5}"#
        );
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = || (1..=200).map(Duration::from_millis);
        assert_eq!(median(times()).expect("some"), Duration::from_millis(100));
        assert_eq!(percentile(times(), 99).expect("some"), Duration::from_millis(198));
        assert_eq!(median([Duration::from_secs(1)]).expect("one"), Duration::from_secs(1));
        assert!(median([]).is_err());
    }
}
