//! A machine, a host that routes, and the servers of a data domain.

use anyhow::Result;
use nonstop_testkit::{
    net::Namespace,
    place::{Place, wait_for},
};
use std::time::Duration;

/// Three networks, joined as in a lab.
pub(super) struct Routed {
    machine: Namespace,
    host: Namespace,
    servers: Namespace,
}

impl Routed {
    /// Makes them.
    pub(super) fn new() -> Result<Routed> {
        let routed = Routed {
            machine: Namespace::new()?,
            host: Namespace::new()?,
            servers: Namespace::new()?,
        };
        let (machine, host, servers) =
            (routed.machine.place(), routed.host.place(), routed.servers.place());
        let lines = |place: &Place, lines: &[&str]| -> Result<()> {
            lines.iter().try_for_each(|line| place.line(line).map(drop))
        };
        for (bridge, address, port, peer) in [
            ("nsb00001", "10.77.0.1/28", "nst00001", routed.machine.holder()),
            ("nsd0", "10.80.0.1/24", "nsd0p", routed.servers.holder()),
        ] {
            lines(
                &host,
                &[
                    &format!("ip link add {bridge} type bridge mcast_snooping 0"),
                    &format!("ip address add {address} dev {bridge}"),
                    &format!("ip link set {bridge} up"),
                    &format!("ip link add {port} type veth peer name eth0 netns {peer}"),
                    &format!("ip link set {port} master {bridge} up"),
                ],
            )?;
        }
        host.line("sysctl -qw net.ipv4.ip_forward=1")?;
        lines(
            &machine,
            &[
                "ip address add 10.77.0.2/28 dev eth0",
                "ip link set eth0 up",
                "ip route add default via 10.77.0.1",
            ],
        )?;
        lines(
            &servers,
            &[
                "ip address add 10.80.0.3/24 dev eth0",
                "ip link set eth0 up",
                "ip route add default via 10.80.0.1",
            ],
        )?;
        wait_for("the cables to carry", Duration::from_secs(10), || {
            let ports = host.line("bridge link show")?;
            Ok((ports.matches("state forwarding").count() >= 2).then_some(()))
        })?;
        Ok(routed)
    }

    /// A process in the machine's network.
    pub(super) fn machine(&self) -> u32 {
        self.machine.holder()
    }

    /// Where the servers are.
    pub(super) fn servers(&self) -> Place {
        self.servers.place()
    }
}
