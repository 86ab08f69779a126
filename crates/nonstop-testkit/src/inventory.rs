//! What of ours is on this machine: taken before and after a lab, the two must be equal.

use crate::{init::is_gone, place::Place};
use anyhow::{Context, Result};
use std::{collections::BTreeSet, fs, path::Path};

/// Everything on the machine that a lab could leave behind, as lines of `kind what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInventory {
    items: BTreeSet<String>,
}

/// Programs that a lab starts, by the name in /proc/PID/comm (cut to 15 bytes there).
const PROGRAMS: &[&str] = &[
    "libvirtd",
    "virtlogd",
    "dnsmasq",
    "qemu-system",
    "swtpm",
    "sshd",
    "nonstop",
    "Xvfb",
    "xfreerdp",
    "unshare",
    "tcpdump",
];

impl HostInventory {
    /// Lists processes, links, addresses, nft tables, mounts, account records, named network
    /// namespaces and control groups. Needs root; changes nothing.
    pub fn take() -> Result<HostInventory> {
        let mut items = BTreeSet::new();
        processes(&mut items)?;
        let mut add = |kind: &str, text: &str| {
            items.extend(text.lines().filter(|l| !l.is_empty()).map(|l| format!("{kind} {l}")));
        };
        for entry in fs::read_dir("/sys/class/net").context("list interfaces")?.flatten() {
            add("link", &entry.file_name().to_string_lossy());
        }
        if Path::new("/usr/sbin/nft").exists() {
            add("nft", &Place::here().line("nft list tables")?);
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("list mounts")?;
        for line in mounts.lines() {
            // Without the leading numbers: they count up.
            let words: Vec<&str> = line.split_whitespace().skip(3).collect();
            add("mount", &words.join(" "));
        }
        for (kind, folder) in
            [("account", "/run/userdb"), ("namespace", "/run/netns"), ("run", "/run/nonstop")]
        {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                add(kind, &entry.file_name().to_string_lossy());
            }
        }
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"] {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains("nonstop") || name.contains("machine") {
                    add("cgroup", &name);
                }
            }
        }
        add("pam", if Path::new("/etc/pam.d/nonstop-sshd").exists() { "nonstop-sshd" } else { "" });
        Ok(HostInventory { items })
    }

    /// What is here and was not in `before`.
    pub fn added_since(&self, before: &HostInventory) -> Vec<String> {
        self.items.difference(&before.items).cloned().collect()
    }

    /// What was in `before` and is missing here.
    pub fn missing_since(&self, before: &HostInventory) -> Vec<String> {
        before.items.difference(&self.items).cloned().collect()
    }

    /// The lines that contain `word`.
    pub fn mentioning(&self, word: &str) -> Vec<&str> {
        self.items.iter().filter(|item| item.contains(word)).map(String::as_str).collect()
    }
}

fn processes(items: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        let name = entry.file_name();
        let Ok(pid) = name.to_string_lossy().parse::<u32>() else { continue };
        // A process may end while it is looked at.
        let Ok(comm) = fs::read_to_string(entry.path().join("comm")) else { continue };
        if is_gone(pid) {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let a_tunnel = comm.trim() == "ssh" && command.contains("ssh_config");
        if a_tunnel || PROGRAMS.iter().any(|p| comm.starts_with(p)) {
            items.insert(format!("process {pid} {} {}", comm.trim(), command.trim()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_of_a_lab_is_seen() {
        let before = HostInventory::take().expect("root");
        let holder = crate::net::Namespace::new().expect("root");
        let mut child = holder
            .place()
            .command("tcpdump")
            .args(["-i", "lo", "-w", "/dev/null"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("tcpdump");
        let seen = crate::place::wait_for("tcpdump", std::time::Duration::from_secs(5), || {
            let added = HostInventory::take()?.added_since(&before);
            let mark = format!("process {} tcpdump", child.id());
            Ok(added.iter().any(|line| line.starts_with(&mark)).then_some(()))
        });
        child.kill().expect("ours");
        child.wait().expect("ours");
        seen.expect("a process that was started is in the list");
        let after = HostInventory::take().expect("root");
        let mark = format!("process {} ", child.id());
        assert!(after.mentioning(&mark).is_empty());
    }
}
