//! A segment as libvirt's network XML, and what of a bridge libvirt does not look after.

use super::mark::LabMark;
use crate::xml::Escaped;
use nonstop_model::{Mac, Segment, SegmentName};
use nonstop_plan::SegmentHost;
use rustix::process::Pid;
use std::{
    collections::BTreeMap, fmt::Write, fs, io, net::Ipv4Addr, path::PathBuf, process::Command,
};

/// The network XML of `segment` with fixed addresses for `hosts` and nobody else.
///
/// DHCP has no range, only entries: a stranger gets no address, and dnsmasq offers at once
/// instead of first asking whether an address is in use. DNS knows `names` and asks nobody.
pub fn network_xml(
    lab: &LabMark,
    segment: &Segment,
    hosts: &[SegmentHost],
    names: &BTreeMap<String, Ipv4Addr>,
) -> String {
    let mut entries = String::new();
    for host in hosts {
        let _ = writeln!(
            entries,
            "      <host mac='{}' ip='{}'/>",
            Mac::of(host.machine),
            host.address
        );
    }
    format!(
        "\
<network xmlns:dnsmasq='http://libvirt.org/schemas/network/dnsmasq/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <metadata>
    {mark}
  </metadata>
  <forward mode='open'/>
  <bridge name='{name}' stp='off' delay='0'/>
{dns}  <ip address='{address}' prefix='{prefix}'>
    <dhcp>
{entries}    </dhcp>
  </ip>
  <dnsmasq:options>
    <dnsmasq:option value='no-resolv'/>
    <dnsmasq:option value='no-hosts'/>
    <dnsmasq:option value='local=/#/'/>
  </dnsmasq:options>
</network>
",
        dns = dns(names),
        name = segment.name,
        uuid = lab.segment(&segment.name),
        mark = lab.segment_element(&segment.name),
        address = segment.host(),
        prefix = segment.net.prefix_len(),
    )
}

/// What DNS answers: libvirt wants each address once, with all its names.
fn dns(names: &BTreeMap<String, Ipv4Addr>) -> String {
    let mut by_address = BTreeMap::<Ipv4Addr, String>::new();
    for (name, address) in names {
        let _ = write!(
            by_address.entry(*address).or_default(),
            "<hostname>{}</hostname>",
            Escaped(name)
        );
    }
    if by_address.is_empty() {
        return String::new();
    }
    let mut dns = "  <dns>\n".to_string();
    for (address, names) in by_address {
        let _ = writeln!(dns, "    <host ip='{address}'>{names}</host>");
    }
    dns + "  </dns>\n"
}

/// Whether the bridge is there and up.
pub(super) fn is_up(segment: &SegmentName) -> bool {
    const IFF_UP: u32 = 1;
    let flags = fs::read_to_string(interface(segment).join("flags")).unwrap_or_default();
    let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
    flags.is_ok_and(|flags| flags & IFF_UP != 0)
}

/// The host answers on a segment for its address there and no other, and takes no packet from it
/// that claims to come from elsewhere.
pub(super) fn harden(segment: &SegmentName, routed: bool) -> io::Result<()> {
    // libvirt switches forwarding on for the whole host; from a segment whose machines reach
    // nothing elsewhere nothing is routed, also while somebody has flushed our rules.
    for (key, value) in switches(routed) {
        fs::write(format!("/proc/sys/net/ipv4/conf/{segment}/{key}"), value)?;
    }
    fs::write(format!("/proc/sys/net/ipv6/conf/{segment}/disable_ipv6"), "1").or_else(|e| {
        // A kernel without IPv6 has nothing to switch off.
        if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
    })
}

/// The switches of the kernel that matter on an interface of ours, below its
/// `/proc/sys/net/ipv4/conf`, and what each must be; `routed` if packets may pass from it to others.
pub fn switches(routed: bool) -> [(&'static str, &'static str); 4] {
    let forwarding = if routed { "1" } else { "0" };
    [("forwarding", forwarding), ("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "1")]
}

/// Bridges named as segments are: what libvirt leaves when it dies while making or removing one.
pub(super) fn bridges() -> Vec<SegmentName> {
    let Ok(interfaces) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let names = interfaces.flatten().filter_map(|i| i.file_name().into_string().ok());
    names
        .filter_map(|name| name.parse().ok())
        .filter(|name| interface(name).join("bridge").is_dir())
        .collect()
}

/// Removes a bridge that libvirt knows nothing of, and the dnsmasq on it.
pub(super) fn remove_bare(segment: &SegmentName) -> io::Result<()> {
    if let Some(pid) = dnsmasq(segment) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = fs::remove_file(pid_file(segment));
    if !interface(segment).exists() {
        return Ok(());
    }
    let ip =
        Command::new("ip").args(["link", "delete", segment.as_str(), "type", "bridge"]).output()?;
    if ip.status.success() || !interface(segment).exists() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&ip.stderr).trim().to_owned()))
}

/// Whether the dnsmasq of `segment` lives.
pub(super) fn dhcp_runs(segment: &SegmentName) -> bool {
    dnsmasq(segment).is_some()
}

fn pid_file(segment: &SegmentName) -> PathBuf {
    PathBuf::from(format!("/run/libvirt/network/{segment}.pid"))
}

/// The dnsmasq that libvirt started for `segment`, if it is still that process.
fn dnsmasq(segment: &SegmentName) -> Option<Pid> {
    let pid = fs::read_to_string(pid_file(segment)).ok()?;
    let pid = Pid::from_raw(pid.trim().parse().ok()?)?;
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let command = String::from_utf8_lossy(&command);
    (command.contains("dnsmasq") && command.contains(&format!("/{segment}.conf"))).then_some(pid)
}

fn interface(segment: &SegmentName) -> PathBuf {
    PathBuf::from("/sys/class/net").join(segment.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_model::{EnvironmentId, MachineId, Slot};

    #[test]
    fn a_segment_of_two_machines() {
        let pool = "10.77.0.0/16".parse().expect("a network");
        let segment = Segment::new(EnvironmentId(3), pool, Slot(2)).expect("in the pool");
        let host =
            |n, index| SegmentHost { machine: MachineId(n), address: segment.machine(index) };
        let hosts = [host(7, 0), host(8, 1)];
        insta::assert_snapshot!(network_xml(
            &LabMark::of("lab"),
            &segment,
            &hosts,
            &BTreeMap::new()
        ));
        let reach = [
            ("pcap".into(), "10.80.0.2".parse().expect("an address")),
            ("reports".into(), "10.80.0.2".parse().expect("an address")),
            ("airlock".into(), segment.host()),
        ];
        insta::assert_snapshot!(
            "a_segment_whose_machines_reach_servers",
            network_xml(&LabMark::of("lab"), &segment, &hosts[..1], &reach.into())
        );
    }
}
