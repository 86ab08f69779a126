//! Where ours spends its time: the steps of an environment, as `nonstopd` logs them.

use super::median;
use anyhow::Result;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// What it was, without numbers.
    pub(super) what: String,
    /// When it was done, since the clock read `start`.
    pub(super) done: Duration,
    /// How long it took, where the log says so.
    pub(super) took: Option<Duration>,
}

/// The steps in `log`, a part of the daemon's log written after the clock read `start`.
pub(super) fn steps(log: &str, start: SystemTime) -> Vec<Step> {
    log.lines().filter_map(|line| step(line, start)).collect()
}

/// `2026-11-24T12:25:25.123456Z  INFO nonstopd::reconciler: create segment nsb00001 ...
/// environment.id=e1 duration_ms=41`
fn step(line: &str, start: SystemTime) -> Option<Step> {
    let (stamp, rest) = line.trim_start().split_once(' ')?;
    let (_, said) = rest.split_once(": ")?;
    let words = said.split_whitespace();
    let took = words.clone().find_map(|word| word.strip_prefix("duration_ms=")?.parse().ok());
    let what: Vec<&str> = words
        .filter(|word| !word.contains('='))
        .map(|word| if word.contains(|c: char| c.is_ascii_digit()) { "…" } else { word })
        .collect();
    let done = since(stamp, start)?;
    Some(Step { what: what.join(" "), done, took: took.map(Duration::from_millis) })
}

/// Both are read within a day of each other, so the time of day is enough.
fn since(stamp: &str, start: SystemTime) -> Option<Duration> {
    const DAY: f64 = 86_400.0;
    let time = stamp.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let mut part = || parts.next()?.ok();
    let logged = part()? * 3600.0 + part()? * 60.0 + part()?;
    let began = start.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs_f64() % DAY;
    Duration::try_from_secs_f64((logged - began).rem_euclid(DAY)).ok()
}

/// One line a kind of step, in the order of a round: the medians over all rounds.
pub(super) fn table(rounds: &[Vec<Step>]) -> Result<Vec<String>> {
    let mut kinds: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in rounds.iter().flatten() {
        kinds.entry(&step.what).or_default().push(step);
    }
    let mut lines = Vec::new();
    for (what, steps) in kinds {
        let done = median(steps.iter().map(|step| step.done))?;
        let took: Vec<Duration> = steps.iter().filter_map(|step| step.took).collect();
        let took = match took.is_empty() {
            true => "        ".into(),
            false => format!("{:5} ms", median(took)?.as_millis()),
        };
        lines.push((done, format!("done at {:6} ms, took {took}: {what}", done.as_millis())));
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-24T00:00:01.500000Z  INFO nonstopd::reconciler: create segment nsb00001 (10.77.0.16/28) environment.id=e1 duration_ms=41
2026-11-24T00:00:02.250000Z  INFO nonstopd::reconciler: m1 runs
";

    #[test]
    fn steps_are_read_with_their_times_also_over_midnight() {
        // 2026-11-23T23:59:59Z
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_478_399);
        let steps = steps(LOG, start);
        let step = |what: &str, done, took: Option<u64>| Step {
            what: what.into(),
            done: Duration::from_millis(done),
            took: took.map(Duration::from_millis),
        };
        let rounded: Vec<Step> = steps
            .into_iter()
            .map(|s| Step { done: Duration::from_millis(s.done.as_millis() as u64), ..s })
            .collect();
        assert_eq!(
            rounded,
            [step("create segment … …", 2500, Some(41)), step("… runs", 3250, None)]
        );
        assert_eq!(
            table(&[rounded]).expect("not empty")[0],
            "done at   2500 ms, took    41 ms: create segment … …"
        );
    }
}
