//! The way of packets through this host: from a port of a bridge through the rules of the bridge,
//! up to the host or on to other ports, through routes and rules to wherever they come out.
//!
//! What the kernel does by itself, rules apart, was read in Linux 6.1 to 6.18 and is held
//! against the running one by the test `kernel_agrees`.

use crate::{
    evaluate::{Evaluator, LocalTypes, Passed, Stopped},
    host::{self, Host},
    kernel::Link,
    operand::fib,
    packets::{Field, NO_OWNER, Packets, ethertype},
    rules::{Family, Hook, Place},
    value::{self, Ranges},
};
use std::sync::Arc;

/// Where packets ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// At whoever is behind the ports of bridges in `Oif`.
    Ports,
    /// Outside, by the interfaces in `Oif`.
    Wire,
    /// At the host itself.
    Host,
    /// Routed on by any of the interfaces in `Oif`; by too many to follow each one.
    Anywhere,
    /// Nowhere.
    Stopped,
    /// At something that is not known here: they may be anywhere.
    Unknown,
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// A rule or a chain's policy.
    Rule(Place),
    /// The kernel, whatever the rules.
    Kernel(Arc<str>),
    /// Nobody said no.
    Nobody,
}

/// Packets that ended alike.
#[derive(Debug, Clone)]
pub struct End {
    /// Which.
    pub packets: Packets,
    /// Where.
    pub fate: Fate,
    /// Why.
    pub by: By,
}

/// More interfaces than this are not followed one by one.
const MOST_INTERFACES: usize = 256;

/// A walk; ends are gathered on the way.
pub struct Walk<'a> {
    host: &'a Host<'a>,
    rules: Evaluator<'a>,
    ends: Vec<End>,
}

/// Where everything in `packets` ends that comes in by `port`, a port of a bridge.
pub fn from_port(host: &Host<'_>, port: &str, packets: Packets) -> Vec<End> {
    let mut walk = Walk::new(host);
    walk.port(port, packets);
    walk.finish()
}

/// Where everything in `packets` ends that comes to the host by `interface`.
pub fn from_interface(host: &Host<'_>, interface: &str, packets: Packets) -> Vec<End> {
    let mut walk = Walk::new(host);
    let start = packets.having(Field::Iif, value::name(interface)).having(Field::Owner, NO_OWNER);
    walk.host(interface, vec![Passed::fresh(start.having(Field::Oif, 0))], false);
    walk.finish()
}

/// Where everything in `packets` ends that programs on the host send, routed by `interface`.
pub fn from_host(host: &Host<'_>, interface: &str, packets: Packets) -> Vec<End> {
    let mut walk = Walk::new(host);
    let start = packets
        .having(Field::Iif, 0)
        .having(Field::Oif, value::name(interface))
        .having(Field::EtherType, ethertype::IP)
        .having(Field::LaterFragment, 0);
    let fresh = walk.leaving(interface, vec![Passed::fresh(start)]);
    let mut sent = walk.hook(&[Family::Inet, Family::Ip], Hook::Output, None, fresh);
    // Programs send under the host's own addresses. All of a fleet's are not gone through for each
    // target: who meets one of them may stay whole.
    let own = host.addresses(fib::LOCAL, None);
    sent.retain(|one| one.packets.get(Field::Source).meets(&own));
    walk.routed(sent);
    walk.finish()
}

impl<'a> Walk<'a> {
    fn new(host: &'a Host<'a>) -> Walk<'a> {
        Walk { host, rules: Evaluator::new(&host.rules, host), ends: Vec::new() }
    }

    fn finish(self) -> Vec<End> {
        self.ends
    }

    fn end(&mut self, fate: Fate, by: By, packets: Packets) {
        if !packets.is_empty() {
            self.ends.push(End { packets, fate, by });
        }
    }

    fn stop(&mut self, why: &str, passed: impl IntoIterator<Item = Passed>) {
        let why: Arc<str> = why.into();
        for Passed { packets, .. } in passed {
            self.end(Fate::Stopped, By::Kernel(why.clone()), packets);
        }
    }

    fn arrive(&mut self, fate: Fate, passed: Vec<Passed>) {
        for Passed { packets, by } in passed {
            self.end(fate, by.map_or(By::Nobody, By::Rule), packets);
        }
    }

    fn hook(
        &mut self,
        families: &[Family],
        hook: Hook,
        device: Option<&str>,
        input: Vec<Passed>,
    ) -> Vec<Passed> {
        if input.is_empty() {
            return input;
        }
        let passed = self.rules.hook(families, hook, device, input);
        for Stopped { packets, by, unknown } in self.rules.take_stopped() {
            match unknown {
                Some(why) => {
                    self.end(Fate::Unknown, By::Rule(by), packets.doubted(&why));
                }
                None => self.end(Fate::Stopped, By::Rule(by), packets),
            }
        }
        passed
    }

    /// Splits all of `input`: those with any of `values` in `field`, and the others.
    fn split(input: Vec<Passed>, field: Field, values: &Ranges) -> (Vec<Passed>, Vec<Passed>) {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for Passed { packets, by } in input {
            let (yes, no) = packets.split(field, values);
            with.extend(yes.map(|packets| Passed { packets, by }));
            without.extend(no.map(|packets| Passed { packets, by }));
        }
        (with, without)
    }

    fn put(mut input: Vec<Passed>, field: Field, values: &Ranges) -> Vec<Passed> {
        for one in &mut input {
            one.packets.replace(field, values.clone());
        }
        input
    }

    fn port(&mut self, port: &str, packets: Packets) {
        let start = packets.having(Field::Iif, value::name(port)).having(Field::Owner, NO_OWNER);
        let start = vec![Passed::fresh(start.having(Field::Oif, 0))];
        let Some(link) = self.host.link(port) else {
            return self.stop(&format!("there is no interface {port}"), start);
        };
        if !link.up {
            return self.stop(&format!("{port} is switched off"), start);
        }
        let start = self.hook(&[Family::Netdev, Family::Inet], Hook::Ingress, Some(port), start);
        let Some(bridge) = link.master.as_deref().and_then(|bridge| self.host.link(bridge)) else {
            return self.host(port, start, false);
        };
        let Some(settings) = &bridge.bridge else {
            let why = format!("{port} belongs to {}, which is no bridge", bridge.name);
            return self.arrive(Fate::Unknown, doubted(start, &why));
        };
        if !bridge.up {
            return self.stop(&format!("{} is switched off", bridge.name), start);
        }
        if !link.port.as_ref().is_some_and(|port| port.forwarding) {
            return self.stop(&format!("{port} is a port that does not forward"), start);
        }
        let start = match settings.vlan_filtering {
            true => doubted(start, "a bridge that tells VLANs apart"),
            false => start,
        };
        let (no_source, start) =
            Self::split(start, Field::SourceMac, &host::group_macs().or(&Ranges::one(0)));
        self.stop("no card has such a MAC", no_source);
        let start = self.link_local(link, settings.stp, settings.group_fwd_mask, start);
        let start = self.hook(&[Family::Bridge], Hook::Prerouting, None, start);
        let start = self.bridge_calls(bridge, start);
        self.across(link, bridge, start.clone());
        self.up(link, bridge, start);
    }

    /// Frames to 01:80:c2:00:00:0x are not for a bridge to pass on. Returns those that it does
    /// pass on all the same.
    fn link_local(&mut self, link: &Link, stp: bool, mask: u32, start: Vec<Passed>) -> Vec<Passed> {
        const FIRST: u128 = 0x0180_c200_0000;
        const PAUSE: u128 = 1;
        // These two come up as packets of the port, and no rule of the bridge sees them.
        const UNSEEN: [u128; 2] = [0, 14];
        let passed_on = |last: u128| match last {
            0 => !stp || mask & 1 != 0,
            PAUSE => false,
            n => mask & (1 << n) != 0,
        };
        let kept: Vec<u128> = (0..16).filter(|last| !passed_on(*last)).collect();
        let macs = |some: &dyn Fn(u128) -> bool| {
            Ranges::values(kept.iter().filter(|last| some(**last)).map(|last| FIRST + last))
        };
        let (local, others) = Self::split(start, Field::TargetMac, &macs(&|_| true));
        let (unseen, local) =
            Self::split(local, Field::TargetMac, &macs(&|last| UNSEEN.contains(&last)));
        let (known, unheard) = Self::split(
            unseen,
            Field::EtherType,
            &Ranges::values([ethertype::IP, ethertype::ARP, ethertype::IP6]),
        );
        self.host(&link.name, known, false);
        self.stop("the host has no ear for such frames", unheard);
        let (pause, local) = Self::split(local, Field::TargetMac, &macs(&|last| last == PAUSE));
        self.stop("pause frames end at the card", pause);
        let local = self.hook(&[Family::Bridge], Hook::Input, None, local);
        self.host(&link.name, local, false);
        others
    }

    /// Where frames on bridges pass the rules for IPv4 and IPv6 too: those of prerouting, for
    /// which they come from the bridge.
    fn bridge_calls(&mut self, bridge: &Link, start: Vec<Passed>) -> Vec<Passed> {
        self.as_routed(bridge, start, &[Hook::Prerouting], false)
    }

    /// Whether frames of `bridge` with the ethertype at `place` of (IPv4, IPv6) pass those rules.
    fn calls(&self, bridge: &Link, place: usize) -> bool {
        let host = self.host.kernel.bridge_calls(["iptables", "ip6tables"][place]);
        host || bridge.bridge.as_ref().is_some_and(|settings| settings.nf_call[place])
    }

    fn as_routed(
        &mut self,
        bridge: &Link,
        start: Vec<Passed>,
        hooks: &[Hook],
        leaves: bool,
    ) -> Vec<Passed> {
        let mut rest = start;
        let mut passed = Vec::new();
        let name = Ranges::one(value::name(&bridge.name));
        for (place, (ethertype, family)) in
            [(ethertype::IP, Family::Ip), (ethertype::IP6, Family::Ip6)].into_iter().enumerate()
        {
            if !self.calls(bridge, place) {
                continue;
            }
            let (here, others) = Self::split(rest, Field::EtherType, &Ranges::one(ethertype));
            rest = others;
            for Passed { packets, by } in here {
                let (iif, oif) = (packets.get(Field::Iif).clone(), packets.get(Field::Oif).clone());
                let mut here = Self::put(vec![Passed { packets, by }], Field::Iif, &name);
                if leaves {
                    here = Self::put(here, Field::Oif, &name);
                }
                here = self.joined(here);
                for hook in hooks {
                    here = self.hook(&[Family::Inet, family], *hook, None, here);
                }
                passed.extend(Self::put(Self::put(here, Field::Iif, &iif), Field::Oif, &oif));
            }
        }
        passed.extend(rest);
        passed
    }

    /// Joins fragments where the connection tracker works: our hooks see whole packets.
    fn joined(&mut self, start: Vec<Passed>) -> Vec<Passed> {
        if !self.host.rules.tracks {
            return start;
        }
        let (later, whole) = Self::split(start, Field::LaterFragment, &Ranges::one(1));
        self.stop("fragments are joined first", later);
        whole
    }

    /// From one port of a bridge to the others.
    fn across(&mut self, from: &Link, bridge: &Link, start: Vec<Passed>) {
        let host = self.host;
        let ports = host.ports(&bridge.name);
        let isolated = |link: &Link| link.port.as_ref().is_some_and(|port| port.isolated);
        let leads = |to: &&&Link| {
            let forwarding = to.port.as_ref().is_some_and(|port| port.forwarding);
            let itself = to.name == from.name && !from.port.as_ref().is_some_and(|p| p.hairpin);
            to.up && forwarding && !itself && !(isolated(from) && isolated(to))
        };
        let to = Ranges::values(ports.iter().filter(leads).map(|to| value::name(&to.name)));
        if to.is_empty() {
            return self.stop(&format!("nobody else is on {}", bridge.name), start);
        }
        // What is addressed to the host does not go on.
        let own = ports.iter().chain(std::iter::once(&bridge));
        let own = Ranges::values(own.filter_map(|link| value::mac(&link.mac)));
        let (_, start) = Self::split(start, Field::TargetMac, &own);
        let start = Self::put(start, Field::Oif, &to);
        let start = self.hook(&[Family::Bridge], Hook::Forward, None, start);
        let start = self.as_routed(bridge, start, &[Hook::Forward, Hook::Postrouting], true);
        // There the kernel no longer tells where a frame came in.
        let came_by = Ranges::one(value::name(&from.name));
        let start = Self::put(start, Field::Iif, &Ranges::one(0));
        let start = self.hook(&[Family::Bridge], Hook::Postrouting, None, start);
        self.leave(Self::put(start, Field::Iif, &came_by));
    }

    /// Out of the ports in `Oif`.
    fn leave(&mut self, start: Vec<Passed>) {
        let mut start = start;
        for chain in &self.host.rules.chains {
            let Some(base) = &chain.base else { continue };
            let decides = !base.accepts || chain.rules.iter().any(|rule| rule.decides);
            if base.hook == Hook::Egress && decides {
                start = doubted(start, "a chain at the hook egress");
            }
        }
        self.arrive(Fate::Ports, start);
    }

    /// From a port of a bridge up to the host.
    fn up(&mut self, from: &Link, bridge: &Link, start: Vec<Passed>) {
        let listens = self.host.macs(from).or(&host::group_macs());
        let (start, others) = Self::split(start, Field::TargetMac, &listens);
        self.stop("the host listens at its own MAC and at those of groups", others);
        let start = self.hook(&[Family::Bridge], Hook::Input, None, start);
        let start = Self::put(start, Field::Iif, &Ranges::one(value::name(&bridge.name)));
        let mut rest = start;
        for (place, ethertype) in [ethertype::IP, ethertype::IP6].into_iter().enumerate() {
            let (here, others) = Self::split(rest, Field::EtherType, &Ranges::one(ethertype));
            // Once is enough: prerouting was passed on the bridge.
            self.host(&bridge.name, here, self.calls(bridge, place));
            rest = others;
        }
        self.host(&bridge.name, rest, false);
    }

    /// At the host, by `interface`.
    fn host(&mut self, interface: &str, start: Vec<Passed>, prerouted: bool) {
        let (ip, start) = Self::split(start, Field::EtherType, &Ranges::one(ethertype::IP));
        self.ip(interface, ip, prerouted);
        let (ip6, start) = Self::split(start, Field::EtherType, &Ranges::one(ethertype::IP6));
        self.ip6(interface, ip6, prerouted);
        let (arp, start) = Self::split(start, Field::EtherType, &Ranges::one(ethertype::ARP));
        let arp = self.hook(&[Family::Arp], Hook::Input, None, arp);
        self.arrive(Fate::Host, arp);
        self.arrive(Fate::Host, start);
    }

    fn ip(&mut self, interface: &str, start: Vec<Passed>, prerouted: bool) {
        // Target addresses one by one: so many are a machine's own way.
        const FEW: usize = 64;
        let families = [Family::Inet, Family::Ip];
        let start = self.joined(start);
        let start = match prerouted {
            true => start,
            false => self.hook(&families, Hook::Prerouting, None, start),
        };
        let (few, many): (Vec<Passed>, Vec<Passed>) =
            start.into_iter().partition(|p| p.packets.get(Field::Target).each(FEW).is_some());
        let own = self.host.own();
        let few = self.checked(interface, few);
        let (local, onward) = Self::split(few, Field::Target, own);
        let local = self.hook(&families, Hook::Input, None, local);
        self.arrive(Fate::Host, local);
        self.forward(interface, onward, true);
        // Rules and the kernel's own checks only take away, in whatever order. Where the target is
        // wide open rules come first: they usually leave nothing, and a fleet's addresses are
        // then not gone through for each machine.
        let local = self.hook(&families, Hook::Input, None, many.clone());
        let local = self.checked(interface, local);
        let (local, _) = Self::split(local, Field::Target, own);
        self.arrive(Fate::Host, local);
        self.forward(interface, many, false);
    }

    /// What the kernel checks about addresses before it routes.
    fn checked(&mut self, interface: &str, start: Vec<Passed>) -> Vec<Passed> {
        const NOBODY: (u128, u128) = (0, 0x00ff_ffff);
        if start.is_empty() {
            return start;
        }
        let everybody = Ranges::one(u32::MAX.into());
        let host = self.host;
        let groups = host.addresses(fib::MULTICAST, None);
        // What no source and no target may be.
        let (bad, start) = Self::split(start, Field::Source, &groups.or(&everybody));
        self.stop("no sender has such an address", bad);
        let mut start = start;
        if !routes_loopback(host, interface) {
            for field in [Field::Source, Field::Target] {
                let (bad, good) = Self::split(start, field, &Ranges::of([LOOPBACK]));
                self.stop("addresses of the loopback end here", bad);
                start = good;
            }
        }
        let (to_everybody, start) = Self::split(start, Field::Target, &everybody.or(&groups));
        let (from_nobody, start) = Self::split(start, Field::Source, &Ranges::of([NOBODY]));
        self.stop("who has no address yet may speak to everybody alone", from_nobody);
        let (to_nobody, start) = Self::split(start, Field::Target, &Ranges::of([NOBODY]));
        self.stop("no such address is routed", to_nobody);
        let (from_nobody, to_everybody) =
            Self::split(to_everybody, Field::Source, &Ranges::of([NOBODY]));
        let mut start = start;
        start.extend(to_everybody);
        let mut start = self.source_checks(interface, start);
        start.extend(from_nobody);
        start
    }

    /// What programs may send by `interface`: the kernel finds no route for a sender's address of the
    /// loopback there.
    fn leaving(&mut self, interface: &str, start: Vec<Passed>) -> Vec<Passed> {
        if interface == "lo" || routes_loopback(self.host, interface) {
            return start;
        }
        let (kept, start) = Self::split(start, Field::Source, &Ranges::of([LOOPBACK]));
        self.stop("addresses of the loopback stay here", kept);
        start
    }

    /// What the kernel checks about a sender's address.
    fn source_checks(&mut self, interface: &str, start: Vec<Passed>) -> Vec<Passed> {
        let host = self.host;
        let mut start = start;
        if host.kernel.conf("ipv4", interface, "accept_local").unwrap_or(0) == 0
            && !conf_all(host, "accept_local")
        {
            let (own, others) =
                Self::split(start, Field::Source, &host.addresses(fib::LOCAL, None));
            self.stop("the host's own address as a sender's", own);
            start = others;
        }
        let expected = match host.kernel.strictest(interface, "rp_filter") {
            Some(1) => host.behind(interface),
            // Without an address of its own an interface is as strict.
            Some(2) if !host.has_address(interface) => host.behind(interface),
            Some(2) => host.routed().clone(),
            _ => return start,
        };
        let broadcast = host.addresses(fib::BROADCAST, None);
        let (expected, others) = Self::split(start, Field::Source, &expected.minus(&broadcast));
        self.stop(&format!("rp_filter of {interface}: the sender is elsewhere"), others);
        expected
    }

    fn forward(&mut self, interface: &str, start: Vec<Passed>, checked: bool) {
        let host = self.host;
        if start.is_empty() {
            return;
        }
        if host.kernel.conf("ipv4", interface, "forwarding").unwrap_or(1) == 0 {
            return self.stop(&format!("forwarding is off on {interface}"), start);
        }
        let (to_group, start) = Self::split(start, Field::TargetMac, &host::group_macs());
        self.stop("frames to a group are not routed", to_group);
        let start = Self::put(start, Field::Oif, &Ranges::between(1, u128::MAX));
        let families = [Family::Inet, Family::Ip];
        let start = match checked {
            true => {
                let routed = self.with_route(start);
                self.hook(&families, Hook::Forward, None, routed)
            }
            false => {
                let passed = self.hook(&families, Hook::Forward, None, start);
                let passed = self.checked(interface, passed);
                let (_, onward) = Self::split(passed, Field::Target, host.own());
                self.with_route(onward)
            }
        };
        for one in start {
            let targets = one.packets.get(Field::Target).clone();
            let interfaces = match host.policy_routing {
                true => None,
                false => host.interfaces(&targets, MOST_INTERFACES),
            };
            let Some(interfaces) = interfaces else {
                self.arrive(Fate::Anywhere, vec![one]);
                continue;
            };
            for interface in interfaces {
                let Passed { packets, by } = one.clone();
                let packets = packets
                    .having(Field::Oif, value::name(interface))
                    .with(Field::Target, &host.behind(interface));
                if !packets.is_empty() {
                    self.routed(vec![Passed { packets, by }]);
                }
            }
        }
    }

    fn with_route(&mut self, start: Vec<Passed>) -> Vec<Passed> {
        if self.host.policy_routing {
            return doubted(start, "routing tables chosen by more than the target");
        }
        let (routed, unrouted) = Self::split(start, Field::Target, self.host.routed());
        self.stop("there is no route", unrouted);
        routed
    }

    /// Out by the one interface in `Oif`, after the routing decision.
    fn routed(&mut self, start: Vec<Passed>) {
        let start = self.hook(&[Family::Inet, Family::Ip], Hook::Postrouting, None, start);
        for one in start {
            let oif = one.packets.get(Field::Oif).clone();
            let name = oif.single().map(value::name_text).unwrap_or_default();
            let link = self.host.link(&name);
            let is_bridge = link.is_some_and(|link| link.bridge.is_some());
            if !link.is_some_and(|link| link.up) {
                self.stop(&format!("{name} is switched off"), vec![one]);
            } else if is_bridge {
                let ports = self.host.ports(&name).iter().filter(|port| {
                    port.up && port.port.as_ref().is_some_and(|port| port.forwarding)
                });
                let ports = Ranges::values(ports.map(|port| value::name(&port.name)));
                if ports.is_empty() {
                    self.stop(&format!("nobody is on {name}"), vec![one]);
                    continue;
                }
                // A frame of the host's own; whoever made it is judged by the MACs that it was sent to
                // the host with.
                let macs = [Field::SourceMac, Field::TargetMac];
                let was = macs.map(|field| one.packets.get(field).clone());
                let mut sent = Self::put(vec![one], Field::Iif, &Ranges::one(0));
                for field in macs {
                    sent = Self::put(sent, field, &field.any());
                }
                let sent = Self::put(sent, Field::Oif, &ports);
                let sent = self.hook(&[Family::Bridge], Hook::Output, None, sent);
                let mut sent = self.hook(&[Family::Bridge], Hook::Postrouting, None, sent);
                for (field, was) in macs.into_iter().zip(&was) {
                    sent = Self::put(sent, field, was);
                }
                self.leave(sent);
            } else {
                self.arrive(Fate::Wire, vec![one]);
            }
        }
    }

    fn ip6(&mut self, interface: &str, start: Vec<Passed>, prerouted: bool) {
        let host = self.host;
        // No such setting: a kernel without IPv6.
        if host.kernel.conf("ipv6", interface, "disable_ipv6").unwrap_or(1) != 0 {
            return self.stop(&format!("IPv6 is off on {interface}"), start);
        }
        let families = [Family::Inet, Family::Ip6];
        let start = self.joined(start);
        let start = match prerouted {
            true => start,
            false => self.hook(&families, Hook::Prerouting, None, start),
        };
        if host.kernel.conf("ipv6", "all", "forwarding").unwrap_or(0) != 0 {
            let onward = Self::put(start.clone(), Field::Oif, &Ranges::between(1, u128::MAX));
            let onward = self.hook(&families, Hook::Forward, None, onward);
            self.arrive(Fate::Anywhere, onward);
        }
        let local = self.hook(&families, Hook::Input, None, start);
        self.arrive(Fate::Host, local);
    }
}

const LOOPBACK: (u128, u128) = (0x7f00_0000, 0x7fff_ffff);

/// Whether `interface` may carry addresses of the loopback.
fn routes_loopback(host: &Host<'_>, interface: &str) -> bool {
    let here = host.kernel.conf("ipv4", interface, "route_localnet").unwrap_or(0) != 0;
    here || conf_all(host, "route_localnet")
}

fn conf_all(host: &Host<'_>, key: &str) -> bool {
    host.kernel.conf("ipv4", "all", key).unwrap_or(0) != 0
}

fn doubted(start: Vec<Passed>, why: &str) -> Vec<Passed> {
    let why: Arc<str> = why.into();
    start
        .into_iter()
        .map(|Passed { packets, by }| Passed { packets: packets.doubted(&why), by })
        .collect()
}
