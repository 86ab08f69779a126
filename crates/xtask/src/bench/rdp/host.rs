//! What a desktop costs the host: processor time and memory, read from `/proc`.

use anyhow::{Context, Result};
use nonstop_testkit::process;
use std::{fs, time::Duration};

/// Processor time used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    /// By the machine's QEMU.
    pub(super) qemu: Duration,
    /// By all that serves or carries its desktop outside the machine.
    pub(super) outside: Duration,
}

impl Used {
    pub(super) fn since(self, before: Used) -> Used {
        Used { qemu: self.qemu - before.qemu, outside: self.outside - before.outside }
    }

    pub(super) fn all(self) -> Duration {
        self.qemu + self.outside
    }
}

/// Memory in KiB; a page that n processes share counts as an n-th of one for each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    /// Of the machine's QEMU.
    pub(super) qemu: u64,
    /// Of all brokers.
    pub(super) brokers: u64,
    /// How many they are.
    pub(super) desktops: u64,
    /// Of all workers.
    pub(super) workers: u64,
}

/// A process of a box.
struct Process {
    pid: u32,
    name: String,
    line: String,
}

/// The processes in the PID namespace of `init`.
fn processes(init: u32) -> Result<Vec<Process>> {
    let ours = fs::read_link(format!("/proc/{init}/ns/pid")).context("find the box's processes")?;
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let of = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
        // One that is gone by now.
        if !fs::read_link(entry.path().join("ns/pid")).is_ok_and(|its| its == ours) {
            continue;
        }
        let name = String::from_utf8_lossy(&of("comm")).trim().to_owned();
        let line = String::from_utf8_lossy(&of("cmdline")).replace('\0', " ");
        all.push(Process { pid, name, line });
    }
    Ok(all)
}

impl Process {
    fn is_qemu(&self, guest: &str) -> bool {
        self.name.starts_with("qemu-system") && self.line.contains(&format!("guest={guest},"))
    }

    fn serves(&self) -> bool {
        self.name.starts_with("nonstop-rdp") || self.name.starts_with("sshd")
    }

    /// None for one that is gone by now.
    fn used(&self) -> Duration {
        process::processor_time(self.pid).unwrap_or_default()
    }

    fn pss_kib(&self) -> u64 {
        process::proportional_kib(self.pid).unwrap_or_default()
    }
}

/// Processor time used in the box with PID 1 `init` for the guest `guest`.
pub(super) fn used(init: u32, guest: &str) -> Result<Used> {
    let all = processes(init)?;
    let sum = |is: &dyn Fn(&Process) -> bool| all.iter().filter(|p| is(p)).map(Process::used).sum();
    Ok(Used { qemu: sum(&|p| p.is_qemu(guest)), outside: sum(&Process::serves) })
}

/// Memory of the guest `guest`, and of what serves desktops.
pub(super) fn memory(init: u32, guest: &str) -> Result<Memory> {
    let mut memory = Memory::default();
    for process in processes(init)? {
        if process.is_qemu(guest) {
            memory.qemu += process.pss_kib();
        } else if process.line.contains("nonstop-rdp worker ") {
            memory.workers += process.pss_kib();
        } else if process.line.contains("nonstop-rdp broker ") {
            memory.brokers += process.pss_kib();
            memory.desktops += 1;
        }
    }
    Ok(memory)
}
