//! Grants as elements of sets, in both directions.

use nftables::expr::{Expression, NamedExpression};
use nonstop_model::{
    Mac, MachineId, SegmentName,
    network::{self, SEGMENT_PREFIX},
};
use nonstop_plan::Grant;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

/// An element: its table's family, its set, and its fields joined by ` . `.
type Element = (&'static str, &'static str, String);

/// The elements that make up `grant`; the first one names it.
fn elements(grant: &Grant) -> Vec<Element> {
    let flow = |kind, replies, uid: u32, address: Ipv4Addr, port: u16| {
        vec![
            ("inet", kind, format!("{uid} . {address} . {port}")),
            ("inet", replies, format!("{address} . {port}")),
        ]
    };
    match *grant {
        Grant::Portal { uid, address, port } => {
            flow("portal", "portal_replies", uid, address, port)
        }
        Grant::Desktop { uid, address, port } => {
            flow("desktop", "desktop_replies", uid, address, port)
        }
        Grant::Port { machine, address } => {
            let (tap, mac) = (network::tap(machine), Mac::of(machine));
            let host = host_beside(address);
            vec![
                ("bridge", "ports", format!("{tap} . {mac} . {address}")),
                ("bridge", "cards", format!("{tap} . {mac}")),
                ("bridge", "neighbours", format!("{tap} . {address}")),
                ("bridge", "neighbours", format!("{tap} . {host}")),
            ]
        }
        Grant::Reach { machine, environment, source, address, protocol, port } => {
            let (bridge, tap) = (SegmentName::of(environment), network::tap(machine));
            let server = format!("{address} . {protocol} . {port}");
            vec![
                ("inet", "reach", format!("{bridge} . {source} . {server}")),
                ("bridge", "reach", format!("{tap} . {source} . {server}")),
                ("inet", "reach_replies", format!("{source} . {server}")),
            ]
        }
        Grant::Link { machine } => {
            let (tap, mac) = (network::link_tap(machine), Mac::of_link(machine));
            vec![("bridge", "links", format!("{tap} . {mac}"))]
        }
    }
}

/// The host's address on the segment of `address`.
fn host_beside(address: Ipv4Addr) -> Ipv4Addr {
    let behind = u32::MAX >> SEGMENT_PREFIX;
    Ipv4Addr::from((u32::from(address) & !behind) + 1)
}

/// Adds `grant` for `lease`, or renews it.
pub(super) fn add(grant: &Grant, lease: Option<Duration>) -> String {
    let timeout = match lease.map(|lease| lease.as_millis()) {
        None => String::new(),
        // To nft, no time at all would mean for ever.
        Some(0) => return remove(grant),
        Some(ms) => format!(" timeout {ms}ms"),
    };
    let add = |(family, set, key): Element| {
        format!("add element {family} nonstop {set} {{ {key}{timeout} }}\n")
    };
    // Adding an element that is there already does not renew it on kernel 6.1.
    remove(grant) + &elements(grant).into_iter().map(add).collect::<String>()
}

/// Removes `grant`. Each element is added first, since removing one that is absent fails.
pub(super) fn remove(grant: &Grant) -> String {
    let remove = |(family, set, key): Element| {
        format!(
            "add element {family} nonstop {set} {{ {key} }}\n\
             delete element {family} nonstop {set} {{ {key} }}\n"
        )
    };
    elements(grant).into_iter().map(remove).collect()
}

/// The elements of a listing.
#[derive(Debug, Default)]
pub(super) struct Reading {
    elements: BTreeMap<(String, String, String), Option<Duration>>,
    /// What could not be read as an element of ours.
    strange: bool,
}

impl Reading {
    /// The grants whose elements are all there, with the time until the first of them ends.
    pub(super) fn grants(&self) -> BTreeMap<Grant, Option<Duration>> {
        let mut grants = BTreeMap::new();
        for grant in self.named() {
            let parts: Option<Vec<Option<Duration>>> =
                elements(&grant).into_iter().map(|part| self.get(part)).collect();
            if let Some(parts) = parts {
                grants.insert(grant, parts.into_iter().flatten().min());
            }
        }
        grants
    }

    /// Whether something is there that no grant explains.
    pub(super) fn has_strangers(&self) -> bool {
        let explained: BTreeSet<_> = self.named().flat_map(|g| elements(&g)).map(owned).collect();
        // The two elements of a flow end in the same millisecond, but the listing of their sets
        // does not happen in the same: the second one of a flow that has just ended is no stranger.
        let ending = |left: &Option<Duration>| left.is_some_and(|left| left.as_secs() < 2);
        self.strange
            || self.elements.iter().any(|(key, left)| !explained.contains(key) && !ending(left))
    }

    fn named(&self) -> impl Iterator<Item = Grant> {
        // The tap stands in one half of a reach, the bridge in the other.
        let halves = self
            .elements
            .keys()
            .filter(|(family, set, _)| (family.as_str(), set.as_str()) == ("bridge", "reach"));
        let taps: BTreeMap<&str, &str> = halves
            .filter_map(|(_, _, key)| key.split_once(" . ").map(|(tap, flow)| (flow, tap)))
            .collect();
        self.elements.keys().filter_map(move |(family, set, key)| {
            let tap = key.split_once(" . ").and_then(|(_, flow)| taps.get(flow).copied());
            parse(family, set, key, tap)
        })
    }

    fn get(&self, element: Element) -> Option<Option<Duration>> {
        self.elements.get(&owned(element)).copied()
    }

    /// Reads the elements of `set`. Not the set by the crate's type: that knows no `uid`.
    fn read(&mut self, set: &Value) -> Option<()> {
        let [family, name] = ["family", "name"].map(|field| set[field].as_str().map(str::to_owned));
        let (family, name) = (family?, name?);
        let elements: Vec<Expression<'_>> = match set.get("elem") {
            Some(elements) => serde_json::from_value(elements.clone()).ok()?,
            None => Vec::new(),
        };
        for element in &elements {
            let (value, left) = match element {
                Expression::Named(NamedExpression::Elem(elem)) => {
                    (&*elem.val, elem.expires.map(|s| Duration::from_secs(s.into())))
                }
                value => (value, None),
            };
            let Expression::Named(NamedExpression::Concat(fields)) = value else { return None };
            let fields: Option<Vec<String>> = fields.iter().map(field).collect();
            self.elements.insert((family.clone(), name.clone(), fields?.join(" . ")), left);
        }
        Some(())
    }
}

fn owned((family, set, key): Element) -> (String, String, String) {
    (family.into(), set.into(), key)
}

fn field(value: &Expression<'_>) -> Option<String> {
    match value {
        Expression::String(text) => Some(text.to_string()),
        Expression::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The grant that the element `key` of `set` names; None if it names none. `tap` is that of the
/// other half of a reach.
fn parse(family: &str, set: &str, key: &str, tap: Option<&str>) -> Option<Grant> {
    let fields: Vec<&str> = key.split(" . ").collect();
    let grant = match (family, set, &fields[..]) {
        ("inet", "portal", [uid, address, port]) => Grant::Portal {
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
            machine: MachineId(tap.strip_prefix("nst")?.parse().ok()?),
            address: address.parse().ok()?,
        },
        ("inet", "reach", [bridge, source, address, protocol, port]) => Grant::Reach {
            machine: MachineId(tap?.strip_prefix("nst")?.parse().ok()?),
            environment: bridge.parse::<SegmentName>().ok()?.environment(),
            source: source.parse().ok()?,
            address: address.parse().ok()?,
            protocol: protocol.parse().ok()?,
            port: port.parse().ok()?,
        },
        ("bridge", "links", [tap, _]) => {
            Grant::Link { machine: MachineId(tap.strip_prefix("nsk")?.parse().ok()?) }
        }
        _ => return None,
    };
    // Read back the same, so that no foreign MAC hides behind a known tap.
    (elements(&grant).first()?.2 == key).then_some(grant)
}

/// The set in which the kernel counts by itself: it holds no rights.
const COUNTS: &str = "dns_flows";

/// The objects of a listing without what differs from load to load; elements go to `reading`.
pub(super) fn split(mut table: Value, reading: &mut Reading) -> Vec<Value> {
    let objects = table.get_mut("nftables").and_then(Value::as_array_mut).map(std::mem::take);
    let mut kept = Vec::new();
    for mut object in objects.unwrap_or_default() {
        if object.get("metainfo").is_some() {
            continue;
        }
        if let Some(set) = object.get_mut("set").filter(|set| !is_constant(set)) {
            if set["name"] != COUNTS {
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
fn is_constant(set: &Value) -> bool {
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
