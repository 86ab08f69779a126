//! What a process has used and holds, as the kernel counts it.

use anyhow::{Context, Result};
use std::{fs, time::Duration};

/// Time of processors that `pid` has used, itself and by the kernel for it; in hundredths of a second.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's times")?;
    // Fields 14 and 15; the name before them, in brackets, may hold anything.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').skip(11).take(2));
    let ticks: u64 = fields.into_iter().flatten().flat_map(str::parse::<u64>).sum();
    Ok(Duration::from_millis(10 * ticks))
}

/// KiB of the kind `name` (`VmRSS`, `VmHWM`, …) that `pid` holds.
pub fn status_kib(pid: u32, name: &str) -> Result<u64> {
    field(&format!("/proc/{pid}/status"), name)
}

/// KiB that `pid` holds, of a page that n processes share an n-th.
pub fn proportional_kib(pid: u32) -> Result<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss")
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("{path} has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_counted() {
        let me = std::process::id();
        assert!(status_kib(me, "VmRSS").expect("a number") > 100);
        assert!(proportional_kib(me).expect("a number") > 10);
        let before = processor_time(me).expect("a time");
        while processor_time(me).expect("a time") == before {}
        assert!(status_kib(me, "VmNothing").is_err());
    }
}
