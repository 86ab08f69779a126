//! Grants as elements of sets, in both directions.

use ipnet::Ipv4Net;
use nonstop_model::{
    ConnectionLimit, Mac, MachineId, NetworkLimits, Protocol, SegmentName,
    network::{self, SEGMENT_PREFIX},
};
use nonstop_plan::Grant;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    time::Duration,
};

/// One field of an element's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Interface(String),
    Address(Ipv4Addr),
    Mac(Mac),
    Uid(u32),
    Protocol(Protocol),
    Port(u16),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Interface(name) => f.write_str(name),
            Field::Address(address) => address.fmt(f),
            Field::Mac(mac) => mac.fmt(f),
            Field::Uid(uid) => uid.fmt(f),
            Field::Protocol(protocol) => protocol.fmt(f),
            Field::Port(port) => port.fmt(f),
        }
    }
}

/// An element of a set of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    /// Its table's: `inet` or `bridge`.
    pub(super) family: &'static str,
    pub(super) set: &'static str,
    pub(super) key: Vec<Field>,
    /// Where its set holds limits: packets a second, and as many at once, before it matches.
    pub(super) rate: Option<u32>,
}

/// Family, set, and the fields joined by ` . `.
pub(super) type Name = (String, String, String);

impl Element {
    pub(super) fn name(&self) -> Name {
        let fields: Vec<String> = self.key.iter().map(Field::to_string).collect();
        (self.family.into(), self.set.into(), fields.join(" . "))
    }
}

fn element(family: &'static str, set: &'static str, key: impl Into<Vec<Field>>) -> Element {
    Element { family, set, key: key.into(), rate: None }
}

fn limit(family: &'static str, set: &'static str, key: Field, rate: u32) -> Element {
    Element { family, set, key: vec![key], rate: Some(rate) }
}

/// The set of the machines that may hold so many connections open.
pub(super) fn connections(limit: ConnectionLimit) -> &'static str {
    const SETS: [&str; 13] = [
        "connections_16",
        "connections_32",
        "connections_64",
        "connections_128",
        "connections_256",
        "connections_512",
        "connections_1024",
        "connections_2048",
        "connections_4096",
        "connections_8192",
        "connections_16384",
        "connections_32768",
        "connections_65536",
    ];
    SETS[limit.number().trailing_zeros() as usize - 4]
}

/// The set of the registered networks of that prefix length. One for each length keeps look-ups
/// exact: networks may lie within each other, and each comes and goes by itself.
pub(super) fn sources(prefix: u8) -> &'static str {
    const SETS: [&str; 33] = [
        "sources_0",
        "sources_1",
        "sources_2",
        "sources_3",
        "sources_4",
        "sources_5",
        "sources_6",
        "sources_7",
        "sources_8",
        "sources_9",
        "sources_10",
        "sources_11",
        "sources_12",
        "sources_13",
        "sources_14",
        "sources_15",
        "sources_16",
        "sources_17",
        "sources_18",
        "sources_19",
        "sources_20",
        "sources_21",
        "sources_22",
        "sources_23",
        "sources_24",
        "sources_25",
        "sources_26",
        "sources_27",
        "sources_28",
        "sources_29",
        "sources_30",
        "sources_31",
        "sources_32",
    ];
    SETS[usize::from(prefix)]
}

/// The elements that make up `grant`; the first one names it.
pub(super) fn elements(grant: &Grant) -> Vec<Element> {
    use Field::{Address, Interface, Port, Protocol, Uid};
    let flow = |set, replies, uid, address, port| {
        vec![
            element("inet", set, [Uid(uid), Address(address), Port(port)]),
            element("inet", replies, [Address(address), Port(port)]),
        ]
    };
    match *grant {
        Grant::Portal { uid, address, port } => {
            flow("portal", "portal_replies", uid, address, port)
        }
        Grant::Transfer { uid, address, port } => {
            flow("transfer", "transfer_replies", uid, address, port)
        }
        Grant::Desktop { uid, address, port } => {
            flow("desktop", "desktop_replies", uid, address, port)
        }
        Grant::Port { machine, address, limits } => {
            let (tap, mac) = (Interface(network::tap(machine)), Field::Mac(Mac::of(machine)));
            let host = Address(host_beside(address));
            let address = Address(address);
            vec![
                element("bridge", "ports", [tap.clone(), mac.clone(), address.clone()]),
                element("bridge", "cards", [tap.clone(), mac]),
                element("bridge", "neighbours", [tap.clone(), address.clone()]),
                element("bridge", "neighbours", [tap.clone(), host]),
                limit("bridge", "broadcasts", tap, limits.broadcasts_a_second),
                limit("inet", "new_connections", address.clone(), limits.new_connections_a_second),
                element("inet", connections(limits.connections), [address]),
            ]
        }
        Grant::Reach { machine, environment, source, address, protocol, port } => {
            let segment = Interface(SegmentName::of(environment).to_string());
            let tap = Interface(network::tap(machine));
            let flow = [Address(source), Address(address), Protocol(protocol), Port(port)];
            let behind = |first: Field| [&[first], &flow[..]].concat();
            vec![
                element("inet", "reach", behind(segment)),
                element("bridge", "reach", behind(tap)),
                element("inet", "reach_replies", flow),
            ]
        }
        Grant::Link { machine, broadcasts_a_second } => {
            let tap = Interface(network::link_tap(machine));
            let mac = Field::Mac(Mac::of_link(machine));
            vec![
                element("bridge", "links", [tap.clone(), mac]),
                limit("bridge", "broadcasts", tap, broadcasts_a_second),
            ]
        }
        Grant::Source { net } => {
            vec![element("inet", sources(net.prefix_len()), [Address(net.network())])]
        }
    }
}

/// The host's address on the segment of `address`.
fn host_beside(address: Ipv4Addr) -> Ipv4Addr {
    let behind = u32::MAX >> SEGMENT_PREFIX;
    Ipv4Addr::from((u32::from(address) & !behind) + 1)
}

/// What a listing says of an element beside its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    left: Option<Duration>,
    rate: Option<u32>,
}

/// The time until the first of the parts of a right ends; None if one does not, or if they end so
/// far apart that somebody else has changed one: then it is to be given anew.
fn left(parts: &[Option<Duration>]) -> Option<Duration> {
    const APART: Duration = Duration::from_secs(3);
    let leased = || parts.iter().flatten();
    let (first, last) = (leased().min()?, leased().max()?);
    // Sets of limits and cards hold no leases, and belong to rights that have none.
    let all = leased().count() == parts.len();
    (all && *last - *first <= APART).then_some(*first)
}

/// The elements of a listing.
#[derive(Debug, Default)]
pub(super) struct Reading {
    elements: BTreeMap<Name, Found>,
    /// What could not be read as an element of ours.
    strange: bool,
}

impl Reading {
    /// The grants whose elements are all there, with the time until the first of them ends.
    pub(super) fn grants(&self) -> BTreeMap<Grant, Option<Duration>> {
        let mut grants = BTreeMap::new();
        for grant in self.named() {
            let parts: Option<Vec<Option<Duration>>> =
                elements(&grant).iter().map(|part| self.get(part)).collect();
            if let Some(parts) = parts {
                grants.insert(grant, left(&parts));
            }
        }
        grants
    }

    /// Whether something is there that no grant explains; half a grant explains nothing.
    pub(super) fn has_strangers(&self) -> bool {
        let explained: BTreeSet<Name> =
            self.grants().keys().flat_map(elements).map(|e| e.name()).collect();
        // The elements of a flow end in the same millisecond, but the listing of their sets does
        // not happen in the same: the second one of a flow that has just ended is no stranger.
        let ending = |found: &Found| found.left.is_some_and(|left| left.as_secs() < 2);
        self.strange
            || self.elements.iter().any(|(name, found)| !explained.contains(name) && !ending(found))
    }

    fn named(&self) -> impl Iterator<Item = Grant> {
        // The tap stands in one half of a reach, the segment in the other.
        let halves = self
            .elements
            .keys()
            .filter(|(family, set, _)| (family.as_str(), set.as_str()) == ("bridge", "reach"));
        let taps: BTreeMap<&str, &str> = halves
            .filter_map(|(_, _, key)| key.split_once(" . ").map(|(tap, flow)| (flow, tap)))
            .collect();
        self.elements.keys().filter_map(move |(family, set, key)| {
            let tap = key.split_once(" . ").and_then(|(_, flow)| taps.get(flow).copied());
            self.parse(family, set, key, tap)
        })
    }

    /// The grant that the element `key` of `set` names; None if it names none. `tap` is that of
    /// the other half of a reach.
    fn parse(&self, family: &str, set: &str, key: &str, tap: Option<&str>) -> Option<Grant> {
        let fields: Vec<&str> = key.split(" . ").collect();
        let machine =
            |tap: &str, prefix| Some(MachineId(tap.strip_prefix::<&str>(prefix)?.parse().ok()?));
        let grant = match (family, set, &fields[..]) {
            ("inet", "portal", [uid, address, port]) => Grant::Portal {
                uid: uid.parse().ok()?,
                address: address.parse().ok()?,
                port: port.parse().ok()?,
            },
            ("inet", "transfer", [uid, address, port]) => Grant::Transfer {
                uid: uid.parse().ok()?,
                address: address.parse().ok()?,
                port: port.parse().ok()?,
            },
            ("inet", "desktop", [uid, address, port]) => Grant::Desktop {
                uid: uid.parse().ok()?,
                address: address.parse().ok()?,
                port: port.parse().ok()?,
            },
            ("bridge", "ports", [tap, _, address]) => Grant::Port {
                machine: machine(tap, "nst")?,
                address: address.parse().ok()?,
                limits: NetworkLimits {
                    connections: self.connections(address)?,
                    new_connections_a_second: self.rate("inet", "new_connections", address)?,
                    broadcasts_a_second: self.rate("bridge", "broadcasts", tap)?,
                },
            },
            ("inet", "reach", [segment, source, address, protocol, port]) => Grant::Reach {
                machine: machine(tap?, "nst")?,
                environment: segment.parse::<SegmentName>().ok()?.environment(),
                source: source.parse().ok()?,
                address: address.parse().ok()?,
                protocol: protocol.parse().ok()?,
                port: port.parse().ok()?,
            },
            ("bridge", "links", [tap, _]) => Grant::Link {
                machine: machine(tap, "nsk")?,
                broadcasts_a_second: self.rate("bridge", "broadcasts", tap)?,
            },
            ("inet", set, [network]) => {
                let prefix = (0..=32).find(|prefix| sources(*prefix) == set)?;
                Grant::Source { net: Ipv4Net::new(network.parse().ok()?, prefix).ok()? }
            }
            _ => return None,
        };
        // Read back the same, so that no foreign MAC hides behind a known tap.
        (elements(&grant).first()?.name().2 == key).then_some(grant)
    }

    fn rate(&self, family: &str, set: &str, key: &str) -> Option<u32> {
        self.elements.get(&(family.into(), set.into(), key.into()))?.rate
    }

    fn connections(&self, address: &str) -> Option<ConnectionLimit> {
        let holds = |limit: &ConnectionLimit| {
            let name = ("inet".into(), connections(*limit).into(), address.into());
            self.elements.contains_key(&name)
        };
        ConnectionLimit::all().find(holds)
    }

    fn get(&self, element: &Element) -> Option<Option<Duration>> {
        let found = self.elements.get(&element.name())?;
        (found.rate == element.rate).then_some(found.left)
    }

    fn read(&mut self, set: &Value) -> Option<()> {
        let [family, name] = ["family", "name"].map(|field| set[field].as_str().map(str::to_owned));
        let (family, name) = (family?, name?);
        let none = Vec::new();
        let elements = set.get("elem").map_or(Some(&none), Value::as_array)?;
        for listed in elements {
            let value = listed["elem"].get("val").unwrap_or(listed);
            let fields = match value.get("concat") {
                Some(fields) => fields.as_array()?.iter().map(field).collect::<Option<Vec<_>>>()?,
                None => vec![field(value)?],
            };
            let found = Found {
                left: listed["elem"]["expires"].as_u64().map(Duration::from_secs),
                rate: rate_of(&listed["elem"])?,
            };
            self.elements.insert((family.clone(), name.clone(), fields.join(" . ")), found);
        }
        Some(())
    }
}

fn field(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The limit of a listed element; outer None for one that we would not have set.
fn rate_of(listed: &Value) -> Option<Option<u32>> {
    let Some(limit) = listed.get("limit") else { return Some(None) };
    let rate = u32::try_from(limit["rate"].as_u64()?).ok()?;
    let ours = limit["inv"] == true && limit["per"] == "second" && limit["burst"] == rate;
    ours.then_some(Some(rate))
}

/// The sets in which the kernel counts by itself: they hold no rights.
pub(super) const COUNTS: [&str; 9] = [
    "dns_flows",
    "open_flows",
    "gateway_flows",
    "gateway_new",
    super::refused::STRANGERS,
    super::refused::CROWDS,
    super::links::BETWEEN,
    super::links::REFUSED,
    super::links::LEFT,
];

/// The objects of a listing without what differs from load to load; elements go to `reading`.
pub(super) fn split(mut table: Value, reading: &mut Reading) -> Vec<Value> {
    let objects = table.get_mut("nftables").and_then(Value::as_array_mut).map(std::mem::take);
    let mut kept = Vec::new();
    for mut object in objects.unwrap_or_default() {
        if object.get("metainfo").is_some() {
            continue;
        }
        if let Some(set) = object.get_mut("set").filter(|set| !is_constant(set)) {
            if !COUNTS.iter().any(|name| set["name"] == *name) {
                reading.strange |= reading.read(set).is_none();
            }
            set.as_object_mut().map(|set| set.remove("elem"));
        }
        normalise(&mut object);
        kept.push(object);
    }
    kept
}

/// Whether a set is part of the rules: the kernel lets nobody change what it holds.
pub(super) fn is_constant(set: &Value) -> bool {
    set["flags"].as_array().is_some_and(|flags| flags.contains(&"constant".into()))
}

/// Removes handles, and orders the members of anonymous and constant sets.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("handle");
            fields.values_mut().for_each(normalise);
            for list in ["set", "elem"] {
                if let Some(Value::Array(members)) = fields.get_mut(list) {
                    members.sort_by_key(Value::to_string);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        _ => {}
    }
}
