//! What mends itself without anybody's decision: guests paused by a full disk run on once there
//! is space, and a dnsmasq that died is started again before its machines' leases end.

use super::{mark::LabMark, pool::Link, segment};
use nonstop_model::{MachineId, SegmentName};
use tracing::{info, warn};
use virt::{
    domain::{Domain, DomainPausedReason, DomainStateReason},
    enumutil::Enum,
    error::Error,
    network::Network,
    sys,
};

/// Mends what it finds; says what it did.
pub(super) fn mend(lab: &LabMark, link: &Link) -> Result<(), Error> {
    for domain in link.connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_PAUSED)? {
        if let Some(machine) = lab.machine_of(&domain.name()?, domain.uuid()?) {
            resume(machine, &domain)?;
        }
    }
    for network in link.connect.list_all_networks(sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE)? {
        if let Some(segment) = lab.segment_of(&network.name()?, network.uuid()?)
            && !segment::dhcp_runs(&segment)
        {
            revive(&segment, &network)?;
        }
    }
    Ok(())
}

/// QEMU pauses a guest whose write found no space, and it pauses again if there still is none.
fn resume(machine: MachineId, domain: &Domain) -> Result<(), Error> {
    let (_, reason) = domain.state()?;
    let starved = matches!(
        reason,
        Enum::Known(DomainStateReason::Paused(Enum::Known(DomainPausedReason::IOError)))
    );
    if starved {
        warn!("{machine} was paused because its disk could not be written; it is resumed");
        domain.resume()?;
    }
    Ok(())
}

/// libvirt starts dnsmasq where it is missing when a network's entries change: one is replaced
/// by itself.
fn revive(segment: &SegmentName, network: &Network) -> Result<(), Error> {
    let xml = network.xml_desc(0)?;
    let Some(entry) = first_entry(&xml) else { return Ok(()) };
    network.update(
        sys::VIR_NETWORK_UPDATE_COMMAND_MODIFY,
        sys::VIR_NETWORK_SECTION_IP_DHCP_HOST,
        0,
        entry,
        sys::VIR_NETWORK_UPDATE_AFFECT_LIVE,
    )?;
    info!("dnsmasq of {segment} had died and is started again");
    Ok(())
}

fn first_entry(xml: &str) -> Option<&str> {
    let start = xml.find("<host mac=")?;
    let length = xml[start..].find("/>")? + 2;
    Some(&xml[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_taken_from_the_network_as_it_stands_there() {
        let xml =
            "<dhcp>\n <host mac='52:54:00:00:00:07' ip='10.77.0.2'/>\n <host mac='a'/></dhcp>";
        assert_eq!(first_entry(xml), Some("<host mac='52:54:00:00:00:07' ip='10.77.0.2'/>"));
        assert_eq!(first_entry("<dhcp></dhcp>"), None);
    }
}
