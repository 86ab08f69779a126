//! The bridge of a link segment: ours from the first call on, closed before it is up.
//!
//! libvirt would bring a bridge up in the call that makes it; until somebody set its switches, it
//! would answer ARP for the host's other addresses. So we make it: down, with a hardware address
//! that says whose it is, then its switches, then up. Nothing of it is libvirt's; guests are put
//! on it by name.

use super::{mark::LabMark, segment};
use nonstop_model::{SegmentKind, SegmentName};
use std::{fs, io, path::PathBuf, process::Command};

/// Makes the bridge of `link` exist, up, without any address. Repeatable.
///
/// Errors: a bridge of that name is somebody else's; the kernel refuses.
pub(super) fn create(lab: &LabMark, link: &SegmentName) -> io::Result<()> {
    if !bridge(link).exists() {
        // Without spanning tree, snooping or anything else that would send frames of its own.
        let quiet = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0";
        let address = lab.link_address(link);
        let mut words = vec!["link", "add", "name", link.as_str(), "address", &address];
        words.extend(quiet.split(' '));
        ip(&words)?;
    } else if !is_ours(lab, link) {
        return Err(io::Error::other(format!(
            "there is a bridge {link} that this lab did not make: remove it, or run the other lab \
             in a box of its own"
        )));
    }
    segment::harden(link, false)?;
    ip(&["link", "set", "dev", link.as_str(), "up"])
}

/// Makes the bridge of `link` not exist, if it is this lab's. Repeatable.
pub(super) fn remove(lab: &LabMark, link: &SegmentName) -> io::Result<()> {
    if is_ours(lab, link) { segment::remove_bare(link) } else { Ok(()) }
}

/// This lab's link segments, and whether each is up.
pub(super) fn list(lab: &LabMark) -> Vec<(SegmentName, bool)> {
    let links = segment::bridges().into_iter().filter(|name| name.kind() == SegmentKind::Link);
    let ours = links.filter(|link| is_ours(lab, link));
    ours.map(|link| (link.clone(), segment::is_up(&link))).collect()
}

/// Whether the bridge bears the address that this lab gives it.
fn is_ours(lab: &LabMark, link: &SegmentName) -> bool {
    let address = fs::read_to_string(bridge(link).join("address"));
    address.is_ok_and(|address| address.trim() == lab.link_address(link))
}

fn bridge(link: &SegmentName) -> PathBuf {
    PathBuf::from("/sys/class/net").join(link.as_str())
}

fn ip(words: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", words.join(" "), said.trim())))
}
