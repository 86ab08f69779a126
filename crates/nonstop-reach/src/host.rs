//! The host as packets meet it: interfaces, bridges, addresses and routes, made ready for looking
//! things up.

use crate::{
    evaluate::LocalTypes,
    kernel::{Kernel, Link},
    listing::{self, NoListing},
    operand::fib,
    packets::Field,
    rules::Ruleset,
    value::{self, Ranges},
};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, HashMap};

/// A [`Kernel`] made ready.
#[derive(Debug)]
pub struct Host<'a> {
    /// As it was read.
    pub kernel: &'a Kernel,
    /// Its rules.
    pub rules: Ruleset,
    links: HashMap<&'a str, &'a Link>,
    ports: HashMap<&'a str, Vec<&'a Link>>,
    /// Addresses by type and interface.
    types: HashMap<(u128, u128), Ranges>,
    /// The same, whatever the interface.
    all_types: HashMap<u128, Ranges>,
    /// Which interface leads to which addresses; sorted, apart; None: by no interface.
    routes: Vec<(u128, u128, Option<&'a str>)>,
    /// The addresses behind each interface.
    behind: HashMap<&'a str, Ranges>,
    many: Ranges,
    own: Ranges,
    routed: Ranges,
    /// Whether a route is chosen by more than its target: rules for tables, several next hops.
    pub policy_routing: bool,
}

const ALWAYS_BROADCAST: [(u128, u128); 2] = [(0, 0x00ff_ffff), (0xffff_ffff, 0xffff_ffff)];

impl LocalTypes for Host<'_> {
    fn addresses(&self, kind: u128, interface: Option<u128>) -> Ranges {
        // The kernel takes these for broadcast and multicast without a route.
        let always = match kind {
            fib::BROADCAST => Ranges::of(ALWAYS_BROADCAST),
            fib::MULTICAST => return Ranges::between(0xe000_0000, 0xefff_ffff),
            _ => Ranges::empty(),
        };
        match interface {
            Some(interface) => match self.types.get(&(kind, interface)) {
                Some(listed) => listed.or(&always),
                None => always,
            },
            None => self.all_types.get(&kind).cloned().unwrap_or(always),
        }
    }
}

impl<'a> Host<'a> {
    /// Makes `kernel` ready.
    pub fn new(kernel: &'a Kernel) -> Result<Host<'a>, NoListing> {
        let mut rules = listing::read(&kernel.rules)?;
        let links: HashMap<&str, &Link> = kernel.links.iter().map(|l| (&*l.name, l)).collect();
        // An IFB sends what leaves it where it was on its way to.
        rules.settle(|device| links.get(device).is_some_and(|link| link.kind == "ifb"));
        let mut ports: HashMap<&str, Vec<&Link>> = HashMap::new();
        for link in &kernel.links {
            if let Some(master) = &link.master {
                ports.entry(master).or_default().push(link);
            }
        }
        let mut listed: BTreeMap<(u128, u128), Vec<(u128, u128)>> = BTreeMap::new();
        for route in kernel.routes.iter().filter(|route| route.table == "local") {
            let kind = match route.kind.as_str() {
                "local" => fib::LOCAL,
                "broadcast" => fib::BROADCAST,
                _ => continue,
            };
            if let IpNet::V4(net) = route.to {
                for interface in &route.interfaces {
                    listed.entry((kind, value::name(interface))).or_default().push(range(net));
                }
            }
        }
        let mut all: HashMap<u128, Vec<(u128, u128)>> = HashMap::new();
        for ((kind, _), ranges) in &listed {
            all.entry(*kind).or_default().extend(ranges);
        }
        all.entry(fib::BROADCAST).or_default().extend(ALWAYS_BROADCAST);
        let routes = routes(kernel);
        let mut behind: HashMap<&str, Vec<(u128, u128)>> = HashMap::new();
        for (first, last, interface) in &routes {
            if let Some(interface) = interface {
                behind.entry(interface).or_default().push((*first, *last));
            }
        }
        let routed = routes.iter().filter(|(_, _, interface)| interface.is_some());
        let routed = Ranges::of(routed.map(|(first, last, _)| (*first, *last)));
        let mut host = Host {
            many: Ranges::empty(),
            own: Ranges::empty(),
            routed,
            kernel,
            rules,
            links,
            ports,
            types: listed.into_iter().map(|(key, ranges)| (key, Ranges::of(ranges))).collect(),
            all_types: all.into_iter().map(|(key, ranges)| (key, Ranges::of(ranges))).collect(),
            behind: behind.into_iter().map(|(key, r)| (key, Ranges::of(r))).collect(),
            routes,
            policy_routing: kernel.policies.iter().any(|policy| !policy.is_usual())
                || kernel.routes.iter().any(|route| route.interfaces.len() > 1),
        };
        let of = |kind| host.addresses(kind, None);
        let many = of(fib::BROADCAST).or(&of(fib::MULTICAST));
        let own = of(fib::LOCAL).or(&many);
        (host.many, host.own) = (many, own);
        Ok(host)
    }

    /// The interface `name`.
    pub fn link(&self, name: &str) -> Option<&'a Link> {
        self.links.get(name).copied()
    }

    /// The ports of a bridge.
    pub fn ports(&self, bridge: &str) -> &[&'a Link] {
        self.ports.get(bridge).map_or(&[], Vec::as_slice)
    }

    /// The addresses that are reached by `interface`.
    pub fn behind(&self, interface: &str) -> Ranges {
        self.behind.get(interface).cloned().unwrap_or_else(Ranges::empty)
    }

    /// Whether `interface` has an IPv4 address.
    pub fn has_address(&self, interface: &str) -> bool {
        self.types.contains_key(&(fib::LOCAL, value::name(interface)))
    }

    /// All addresses with a route.
    pub fn routed(&self) -> &Ranges {
        &self.routed
    }

    /// Addresses that are more than one host's: of everybody on a network, and of groups.
    pub fn many(&self) -> &Ranges {
        &self.many
    }

    /// Every address at which the host takes packets.
    pub fn own(&self) -> &Ranges {
        &self.own
    }

    /// By which interfaces `targets` are reached; None if by more than `most`.
    pub fn interfaces(&self, targets: &Ranges, most: usize) -> Option<Vec<&'a str>> {
        let mut found: Vec<&str> = Vec::new();
        for (first, last) in targets.parts() {
            let at = self.routes.partition_point(|(_, end, _)| end < first);
            let near = self.routes[at..].iter().take_while(|(start, _, _)| start <= last);
            for interface in near.filter_map(|(_, _, interface)| *interface) {
                if found.last() != Some(&interface) {
                    found.push(interface);
                }
            }
            if found.len() > 4 * most {
                return None;
            }
        }
        found.sort_unstable();
        found.dedup();
        (found.len() <= most).then_some(found)
    }

    /// The MACs at which the host listens when a frame comes in by `port`.
    pub fn macs(&self, port: &Link) -> Ranges {
        let bridge = port.master.as_deref().and_then(|bridge| self.link(bridge));
        let links = [Some(port), bridge].into_iter().flatten();
        Ranges::values(links.filter_map(|link| value::mac(&link.mac)))
    }
}

/// MACs with the bit of groups.
pub fn group_macs() -> Ranges {
    // The lowest bit of the first byte: 128 ranges, made once.
    static GROUPS: std::sync::OnceLock<Ranges> = std::sync::OnceLock::new();
    let below = 1u128 << 40;
    let make = || Ranges::of((0..128).map(|n| ((2 * n + 1) * below, (2 * n + 2) * below - 1)));
    GROUPS.get_or_init(make).clone()
}

/// MACs without it.
pub fn single_macs() -> Ranges {
    static SINGLE: std::sync::OnceLock<Ranges> = std::sync::OnceLock::new();
    SINGLE.get_or_init(|| Field::TargetMac.any().minus(&group_macs())).clone()
}

/// MACs but those of groups that no bridge passes on.
pub fn passed_on_macs() -> Ranges {
    Ranges::of([(0, 0x0180_c1ff_ffff), (0x0180_c200_0010, Field::TargetMac.greatest())])
}

/// First and last address of a network.
pub fn range(net: Ipv4Net) -> (u128, u128) {
    (u32::from(net.network()).into(), u32::from(net.broadcast()).into())
}

/// Tables `main` and `default` as ranges of addresses that do not overlap: the longest prefix
/// is taken, then the lowest metric.
fn routes(kernel: &Kernel) -> Vec<(u128, u128, Option<&str>)> {
    let mut listed: Vec<(u128, u128, u32, Option<&str>)> = Vec::new();
    for route in &kernel.routes {
        let (IpNet::V4(net), "main" | "default") = (route.to, route.table.as_str()) else {
            continue;
        };
        let (first, last) = range(net);
        match route.kind.as_str() {
            "unicast" => listed
                .extend(route.interfaces.iter().map(|i| (first, last, route.metric, Some(&**i)))),
            _ => listed.push((first, last, route.metric, None)),
        }
    }
    // Networks lie inside each other or apart: wider ones first, better ones last.
    listed.sort_by_key(|(first, last, metric, _)| (*first, u128::MAX - last, u32::MAX - metric));
    let mut flat = Vec::new();
    let mut open: Vec<(u128, Option<&str>)> = Vec::new();
    let mut at = 0;
    for (first, last, _, interface) in listed {
        close(&mut open, &mut flat, &mut at, first);
        if let Some((_, wider)) = open.last()
            && at < first
        {
            flat.push((at, first - 1, *wider));
        }
        at = first;
        open.push((last, interface));
    }
    close(&mut open, &mut flat, &mut at, u128::MAX);
    flat
}

/// Ends the networks that end before `before`.
fn close<'a>(
    open: &mut Vec<(u128, Option<&'a str>)>,
    flat: &mut Vec<(u128, u128, Option<&'a str>)>,
    at: &mut u128,
    before: u128,
) {
    while let Some(&(last, interface)) = open.last()
        && last < before
    {
        if *at <= last {
            flat.push((*at, last, interface));
            *at = last + 1;
        }
        open.pop();
    }
}
