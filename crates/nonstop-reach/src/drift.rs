//! What on the host is not as the lab wants it, beside what gets through: ports, addresses,
//! settings, sets and rules, each named in plain words.

use crate::{
    host::Host,
    kernel::Kernel,
    listing, text,
    wanted::{Segment, Wanted, WantedSet},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Prefixes of the names that are ours alone: bridges of segments, taps on them.
const OUR_BRIDGES: [&str; 2] = ["nsb", "nsl"];
const OUR_TAPS: [&str; 2] = ["nst", "nsk"];

/// Everything that differs.
pub fn differences(host: &Host<'_>, wanted: &Wanted) -> Vec<String> {
    let mut found = Vec::new();
    ports(host, wanted, &mut found);
    addresses(host.kernel, wanted, &mut found);
    settings(host.kernel, wanted, &mut found);
    for set in &wanted.sets {
        elements(&host.kernel.rules, set, &mut found);
    }
    if let Some(rules) = &wanted.rules {
        self::rules(&host.kernel.rules, rules, &mut found);
    }
    found
}

/// What is there and cannot be evaluated, so that nothing is proven.
pub fn strange(host: &Host<'_>, wanted: &Wanted) -> Vec<String> {
    let ours = |name: &str| {
        is_ours(name, &OUR_BRIDGES)
            || is_ours(name, &OUR_TAPS)
            || wanted.domains.iter().any(|domain| domain == name)
    };
    let of_kernel = host.kernel.strange.iter().filter(|what| match what.split_once(" on ") {
        // A qdisc of another interface does not see our packets.
        Some((_, interface)) => ours(interface),
        None => true,
    });
    let policies = host.kernel.policies.iter().filter(|policy| !policy.is_usual());
    let policies = policies.map(|policy| {
        format!(
            "not evaluated: a rule of priority {} that chooses table {}",
            policy.priority, policy.table
        )
    });
    let of_kernel = of_kernel.chain(&host.rules.strange);
    of_kernel.map(|what| format!("not evaluated: {what}")).chain(policies).collect()
}

fn is_ours(name: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| {
        let digits = name.strip_prefix(prefix).unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    })
}

fn ports(host: &Host<'_>, wanted: &Wanted, found: &mut Vec<String>) {
    let mut belongs: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut runs = BTreeSet::new();
    for machine in &wanted.machines {
        for card in &machine.cards {
            belongs.insert(&card.tap, (&card.segment, &machine.name));
            if machine.running {
                runs.insert(&*card.segment);
                if host.link(&card.tap).is_none() {
                    found.push(format!("{} of {} is missing", card.tap, machine.name));
                }
            }
        }
    }
    let bridges: BTreeSet<&str> = wanted.segments.iter().map(|s| &*s.bridge).collect();
    for bridge in &bridges {
        match host.link(bridge) {
            None if runs.contains(bridge) => found.push(format!("bridge {bridge} is missing")),
            None => {}
            Some(link) if link.bridge.is_none() => {
                found.push(format!("{bridge} is no bridge"));
            }
            Some(link) => {
                if link.bridge.as_ref().is_some_and(|bridge| bridge.stp) {
                    found.push(format!("bridge {bridge} speaks the spanning tree protocol"));
                }
                if link.bridge.as_ref().is_some_and(|bridge| bridge.group_fwd_mask != 0) {
                    found.push(format!("bridge {bridge} forwards link-local groups"));
                }
            }
        }
    }
    for link in &host.kernel.links {
        let master = link.master.as_deref();
        match belongs.get(&*link.name) {
            Some((segment, machine)) if master != Some(segment) => found.push(format!(
                "{} of {machine} is on {}, and belongs on {segment}",
                link.name,
                master.unwrap_or("no bridge")
            )),
            Some(_) => {}
            None if master.is_some_and(|master| bridges.contains(master)) => {
                found.push(format!("unknown port {} on {}", link.name, master.unwrap_or_default()))
            }
            None if is_ours(&link.name, &OUR_BRIDGES) && !bridges.contains(&*link.name) => {
                found.push(format!("unknown bridge {}", link.name));
            }
            None if is_ours(&link.name, &OUR_TAPS) => {
                found.push(format!("unknown tap {}", link.name));
            }
            None => {}
        }
        if bridges.contains(&*link.name) && master.is_some() {
            found.push(format!("bridge {} is itself a port", link.name));
        }
    }
}

fn addresses(kernel: &Kernel, wanted: &Wanted, found: &mut Vec<String>) {
    let segments: BTreeMap<&str, &Segment> =
        wanted.segments.iter().map(|segment| (&*segment.bridge, segment)).collect();
    let taps: BTreeSet<&str> =
        wanted.machines.iter().flat_map(|m| &m.cards).map(|card| &*card.tap).collect();
    let mut there = BTreeSet::new();
    for address in &kernel.addresses {
        let (interface, net) = (&*address.interface, address.address);
        if let Some(segment) = segments.get(interface) {
            match segment.host {
                Some((host, of)) if net.addr() == host && net.prefix_len() == of.prefix_len() => {
                    there.insert(interface);
                }
                Some((host, of)) => found.push(format!(
                    "address {net} on {interface}, which should have {host}/{} alone",
                    of.prefix_len()
                )),
                None => found.push(format!("address {net} on the link bridge {interface}")),
            }
        } else if taps.contains(interface) && net.addr().is_ipv4() {
            found.push(format!("address {net} on the tap {interface}"));
        }
    }
    let links: BTreeSet<&str> = kernel.links.iter().map(|link| &*link.name).collect();
    for (bridge, segment) in segments {
        if let Some((host, of)) = segment.host
            && links.contains(bridge)
            && !there.contains(bridge)
        {
            found.push(format!("{bridge} lacks its address {host}/{}", of.prefix_len()));
        }
    }
}

fn settings(kernel: &Kernel, wanted: &Wanted, found: &mut Vec<String>) {
    let links: BTreeSet<&str> = kernel.links.iter().map(|link| &*link.name).collect();
    for segment in wanted.segments.iter().filter(|s| links.contains(&*s.bridge)) {
        let bridge = &*segment.bridge;
        let mut must = |what: &str, is: Option<i64>, holds: bool, should: &str| {
            if !holds {
                let is = is.map_or("unknown".to_string(), |value| value.to_string());
                found.push(format!("{what} of {bridge} is {is}, and should be {should}"));
            }
        };
        let ipv6 = kernel.conf("ipv6", bridge, "disable_ipv6");
        // A kernel without IPv6 has no such setting.
        must("disable_ipv6", ipv6, ipv6.is_none_or(|off| off == 1), "1");
        if segment.host.is_some() {
            continue;
        }
        let ignore = kernel.strictest(bridge, "arp_ignore");
        must("arp_ignore", ignore, ignore.is_some_and(|v| v >= 1), "1");
        let announce = kernel.strictest(bridge, "arp_announce");
        must("arp_announce", announce, announce.is_some_and(|v| v >= 2), "2");
        let filter = kernel.strictest(bridge, "rp_filter");
        must("rp_filter", filter, filter == Some(1), "1");
        let forwarding = kernel.conf("ipv4", bridge, "forwarding");
        must("forwarding", forwarding, forwarding == Some(0), "0");
        let proxy = kernel.conf("ipv4", bridge, "proxy_arp");
        must("proxy_arp", proxy, proxy.is_none_or(|on| on == 0), "0");
    }
    for setting in &wanted.settings {
        let is = kernel.settings.get(&setting.path).map(String::as_str);
        if is != Some(&setting.value) {
            let (path, should) = (&setting.path, &setting.value);
            found.push(format!("{path} is {}, and should be {should}", is.unwrap_or("missing")));
        }
    }
}

fn objects<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    listing::objects(listing).into_iter().flatten().filter_map(move |object| object.get(kind))
}

fn is(object: &Value, family: &str, table: &str, name: &str) -> bool {
    object["family"] == family && object["table"] == table && object["name"] == name
}

fn elements(listing: &Value, wanted: &WantedSet, found: &mut Vec<String>) {
    let WantedSet { family, table, name, .. } = wanted;
    let Some(set) = objects(listing, "set").find(|set| is(set, family, table, name)) else {
        found.push(format!("set {family} {table} {name} is missing"));
        return;
    };
    let listed = || set["elem"].as_array().into_iter().flatten();
    let there: BTreeSet<String> = listed().map(text::element).collect();
    for right in listed().filter(|_| wanted.lease_seconds.is_some()) {
        let lease = wanted.lease_seconds.unwrap_or_default();
        let name = format!("set {family} {table} {name} holds {{ {} }}", text::element(right));
        match right["elem"]["timeout"].as_u64() {
            None => found.push(format!("{name} for ever, and a lease is {lease} s")),
            // nft rounds to whole seconds.
            Some(most) if most > lease + 1 => {
                found.push(format!("{name} for {most} s, and a lease is {lease} s"));
            }
            Some(_) => {}
        }
    }
    for element in wanted.elements.difference(&there) {
        found.push(format!("set {family} {table} {name} lacks {{ {element} }}"));
    }
    for element in there.difference(&wanted.elements) {
        found
            .push(format!("set {family} {table} {name} holds {{ {element} }}, which nobody wants"));
    }
}

/// Compares our tables, rule by rule. `wanted` is a listing that holds nothing but ours.
fn rules(listing: &Value, wanted: &Value, found: &mut Vec<String>) {
    let mut tables = BTreeSet::new();
    for table in objects(wanted, "table") {
        let (family, name) = (word(table, "family"), word(table, "name"));
        let there = objects(listing, "table")
            .find(|listed| listed["family"] == family && listed["name"] == name);
        match there {
            Some(there) if there["flags"] != table["flags"] => {
                found.push(format!("table {family} {name} has other flags: {}", there["flags"]));
            }
            Some(_) => {}
            None => {
                found.push(format!("table {family} {name} is missing"));
                continue;
            }
        }
        tables.insert((family, name));
    }
    let ours = |object: &&Value| tables.contains(&(word(object, "family"), word(object, "table")));
    for kind in ["chain", "set", "map"] {
        let of = |listing| -> BTreeMap<(String, String, String), Value> {
            objects(listing, kind).filter(ours).map(|object| (key(object), shape(object))).collect()
        };
        let (there, should) = (of(listing), of(wanted));
        for (key, shape) in &should {
            let named = format!("{kind} {} {} {}", key.0, key.1, key.2);
            match there.get(key) {
                None => found.push(format!("{named} is missing")),
                Some(is) if is != shape => found.push(format!("{named} is not as it should be")),
                Some(_) => {}
            }
        }
        for key in there.keys().filter(|key| !should.contains_key(key)) {
            found.push(format!("{kind} {} {} {} is unknown", key.0, key.1, key.2));
        }
    }
    let of = |listing| -> BTreeMap<(String, String, String), Vec<String>> {
        let mut chains: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for rule in objects(listing, "rule").filter(ours) {
            let of = |key| word(rule, key).to_string();
            let chain = (of("family"), of("table"), of("chain"));
            chains.entry(chain).or_default().push(text::rule(&sorted(&rule["expr"])));
        }
        chains
    };
    let (there, should) = (of(listing), of(wanted));
    let none = Vec::new();
    let chains: BTreeSet<_> = there.keys().chain(should.keys()).collect();
    for key in chains {
        let (there, should) = (there.get(key).unwrap_or(&none), should.get(key).unwrap_or(&none));
        if there == should {
            continue;
        }
        let named = format!("{} {} {}", key.0, key.1, key.2);
        let before = found.len();
        for rule in should.iter().filter(|rule| !there.contains(rule)) {
            found.push(format!("{named} lacks the rule: {rule}"));
        }
        for rule in there.iter().filter(|rule| !should.contains(rule)) {
            found.push(format!("{named} has a rule that is not ours: {rule}"));
        }
        if found.len() == before {
            found.push(format!("{named} has its rules in another order or number"));
        }
    }
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn key(object: &Value) -> (String, String, String) {
    let of = |key| word(object, key).to_string();
    (of("family"), of("table"), of("name"))
}

/// An object without what differs from load to load. Elements are compared elsewhere, but for
/// those of constant sets, which are rules.
fn shape(object: &Value) -> Value {
    let constant = object["flags"].to_string().contains("constant");
    let Some(fields) = object.as_object() else { return sorted(object) };
    let differs = |key: &str| key == "handle" || (key == "elem" && !constant);
    let same = fields.iter().filter(|(key, _)| !differs(key));
    // A fleet's elements are neither copied nor put in order.
    sorted(&same.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// Orders the members of sets that are written inside a rule.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: serde_json::Map<String, Value> =
                fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            for list in ["set", "elem"] {
                if let Some(Value::Array(members)) = fields.get_mut(list) {
                    members.sort_by_cached_key(Value::to_string);
                }
            }
            fields.into()
        }
        Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
