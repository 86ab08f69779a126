//! What comparisons have in common: turns, medians, and the lines that say who was better.

use anyhow::{Context, Result};
use nonstop_testkit::interrupt;
use serde::Serialize;
use std::{fs, time::Duration};

/// Ours beside a peer.
#[derive(Debug, Serialize)]
pub(super) struct Comparison<'a> {
    pub(super) what: &'a str,
    pub(super) unit: &'a str,
    pub(super) ours: f64,
    pub(super) peer: f64,
    pub(super) peer_name: &'a str,
    /// Above 1: ours is better.
    pub(super) ratio: f64,
}

impl<'a> Comparison<'a> {
    /// Two times, of which the shorter is the better.
    pub(super) fn times(what: &'a str, ours: Duration, peer: Duration, peer_name: &'a str) -> Self {
        Comparison::lower(what, "ms", millis(ours), millis(peer), peer_name)
    }

    /// Two amounts, of which the lower is the better. One below a thousandth counts as that.
    pub(super) fn lower(
        what: &'a str,
        unit: &'a str,
        ours: f64,
        peer: f64,
        peer_name: &'a str,
    ) -> Self {
        let ratio = thousandths(peer / ours.max(0.001));
        Comparison { what, unit, ours, peer, peer_name, ratio }
    }

    /// Two amounts, of which the higher is the better.
    pub(super) fn higher(
        what: &'a str,
        unit: &'a str,
        ours: f64,
        peer: f64,
        peer_name: &'a str,
    ) -> Self {
        let ratio = thousandths(ours / peer.max(0.001));
        Comparison { what, unit, ours, peer, peer_name, ratio }
    }

    pub(super) fn print(&self) -> Result<()> {
        println!("{}", serde_json::to_string(self).context("write a comparison")?);
        Ok(())
    }
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// In milliseconds, to a tenth.
pub(super) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The time that `percent` of `times` do not exceed.
///
/// Errors: there are none.
pub(super) fn percentile(
    times: impl IntoIterator<Item = Duration>,
    percent: usize,
) -> Result<Duration> {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().context("nothing was measured")
}

pub(super) fn median(times: impl IntoIterator<Item = Duration>) -> Result<Duration> {
    percentile(times, 50)
}

/// The median. Errors: nothing was measured.
pub(super) fn middle(values: &[f64]) -> Result<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}

pub(super) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Says so where something else works on this machine: figures of packets are worth little then.
pub(super) fn look_around() -> Result<()> {
    let text = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    let load = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    if let Some(load) = load.filter(|load| *load > 2.0) {
        eprintln!("    NOTE: the load is {load}: others disturb this; run it again alone");
    }
    Ok(())
}

/// Prints `line`, and says whether its ratio is what it has to be.
pub(super) fn at_least(line: Comparison<'_>, goal: Option<f64>) -> Result<()> {
    line.print()?;
    if let Some(goal) = goal {
        verdict(line.what, &format!("{} of {goal}", line.ratio), line.ratio >= goal);
    }
    Ok(())
}

pub(super) fn verdict(what: &str, said: &str, met: bool) {
    eprintln!("    {what}: {said}, {}", if met { "met" } else { "MISSED" });
}

/// Measures each of `loads`, of which `told` says what it is and its unit, in turn with ours and with the
/// peer, who begin every other round; a round more than `rounds`, the first, warms both up. Gives what
/// ours and the peer had in the middle.
pub(super) fn in_turns<L>(
    loads: &[L],
    rounds: usize,
    told: impl Fn(&L) -> (&'static str, &'static str),
    measure: impl Fn(&L, bool, usize) -> Result<f64>,
) -> Result<Vec<(f64, f64)>> {
    let mut seen = vec![(Vec::new(), Vec::new()); loads.len()];
    for round in 0..=rounds {
        for (load, seen) in loads.iter().zip(&mut seen) {
            interrupt::check()?;
            let (what, unit) = told(load);
            let one = |ours| measure(load, ours, round).with_context(|| what.to_string());
            let (ours, peer) = match round % 2 {
                0 => (one(true)?, one(false)?),
                _ => {
                    let peer = one(false)?;
                    (one(true)?, peer)
                }
            };
            let counted = if round == 0 { " (not counted)" } else { "" };
            eprintln!("    round {round}{counted}: {what}: {ours:.0} / {peer:.0} {unit}");
            if round > 0 {
                seen.0.push(ours);
                seen.1.push(peer);
            }
        }
    }
    seen.iter().map(|(ours, peer)| Ok((middle(ours)?, middle(peer)?))).collect()
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

    #[test]
    fn the_middle_is_a_value_that_was_measured() {
        assert_eq!(middle(&[3.0, 1.0, 2.0]).expect("some"), 2.0);
        assert_eq!(middle(&[4.0, 1.0]).expect("some"), 4.0);
        assert!(middle(&[]).is_err());
    }
}
