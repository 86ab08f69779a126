//! Data domains as `lab.yaml` describes them: closed networks of servers that machines reach by
//! name.

use crate::{
    network::{ACCOUNT_NET, DESKTOP_NET},
    reach::{AIRLOCK, Protocol, ReachTarget},
};
use ipnet::Ipv4Net;
use jiff::{Timestamp, civil::Date, tz::Offset};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeMap, fmt, marker::PhantomData, net::Ipv4Addr};

/// One closed network of data servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataDomain {
    /// The interface of the host that leads to it, and to nothing else: a bridge that the lab
    /// makes, whose name begins with `nsd`, or, with `here: false`, one that is there already.
    pub interface: String,
    /// Its addresses.
    #[schemars(with = "String")]
    pub network: Ipv4Net,
    /// The host's address in it, by which its servers answer machines; the first one by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Ipv4Addr>,
    /// Whether its servers run on this host, in a network namespace of their own. Otherwise they
    /// are the lab's own, behind an interface whose addresses the lab's admin sets.
    #[serde(default = "yes")]
    pub here: bool,
    /// Its servers, by the name that machines resolve.
    #[serde(deserialize_with = "each_once")]
    pub servers: BTreeMap<String, Server>,
    /// Days that published data are kept, counted from the newest day; null for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// Minutes by which its days begin before those of UTC: 540 where a day begins as in Japan.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub utc_offset_minutes: i16,
    /// What one machine may use up of its `rdb`.
    #[serde(default)]
    pub rdb: RdbLimits,
}

/// What a data domain offers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// The traffic now.
    Live,
    /// A file of packets a day.
    Pcap,
    /// Malware by its SHA-256.
    Samples,
    /// Results of dynamic analysis.
    Reports,
    /// The packets of each day in PostgreSQL.
    Rdb,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 5] =
        [Resource::Live, Resource::Pcap, Resource::Samples, Resource::Reports, Resource::Rdb];

    /// Whether a server of this product gives it out.
    pub fn is_ours(self) -> bool {
        self != Resource::Live
    }

    /// Its word in `lab.yaml`, pages and URLs.
    pub fn word(self) -> &'static str {
        match self {
            Resource::Live => "live",
            Resource::Pcap => "pcap",
            Resource::Samples => "samples",
            Resource::Reports => "reports",
            Resource::Rdb => "rdb",
        }
    }
}

impl std::str::FromStr for Resource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Resource::ALL.into_iter().find(|resource| resource.word() == text);
        found.ok_or_else(|| format!("`{text}` is nothing that a data domain offers"))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What one machine may use up of an `rdb` that runs here; held from outside of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RdbLimits {
    /// Connections at once.
    pub connections: u16,
    /// Seconds that one query may run, and that a transaction may stay open.
    pub query_seconds: u32,
    /// MiB of memory of one connection.
    pub memory_mib: u32,
    /// MiB on the disk for sorting and hashing, of one connection.
    pub temporary_mib: u32,
}

impl Default for RdbLimits {
    fn default() -> Self {
        RdbLimits { connections: 8, query_seconds: 600, memory_mib: 512, temporary_mib: 2048 }
    }
}

/// A server of a data domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Where it answers.
    pub address: Ipv4Addr,
    /// TCP ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<u16>,
    /// UDP ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub udp: Vec<u16>,
    /// What it offers; by default what its name says, where that is one of these words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Whether it gives out samples themselves; with false a server of `samples` is a catalogue that
    /// tells of them what is known, and never a byte.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub bytes: bool,
}

impl Server {
    /// What it offers under `name`; None for a server that is only reached.
    pub fn resource(&self, name: &str) -> Option<Resource> {
        self.resource.or_else(|| Resource::ALL.into_iter().find(|r| r.word() == name))
    }
}

fn is_zero(minutes: &i16) -> bool {
    *minutes == 0
}

fn yes() -> bool {
    true
}

fn is_yes(word: &bool) -> bool {
    *word
}

impl DataDomain {
    /// The host's address in it.
    pub fn host(&self) -> Ipv4Addr {
        self.host
            .unwrap_or_else(|| Ipv4Addr::from(u32::from(self.network.network()).saturating_add(1)))
    }

    /// The name and address of the server that offers `resource` here, before one that only tells of
    /// it; None if there is none.
    pub fn server_of(&self, resource: Resource) -> Option<(&str, &Server)> {
        self.servers_of(resource).max_by_key(|(_, server)| server.bytes)
    }

    /// All servers that offer `resource`, or tell of it.
    pub fn servers_of(&self, resource: Resource) -> impl Iterator<Item = (&str, &Server)> {
        let all = self.servers.iter().map(|(name, server)| (name.as_str(), server));
        all.filter(move |(name, server)| server.resource(name) == Some(resource))
    }

    /// What the server `name` offers; None for one that is only reached, or that there is not.
    pub fn offered_by(&self, name: &str) -> Option<Resource> {
        self.servers.get(name)?.resource(name)
    }

    /// The servers that run on this host and are ours.
    pub fn ours(&self) -> impl Iterator<Item = (&str, &Server, Resource)> {
        let all = self.servers.iter().filter(|_| self.here);
        all.filter_map(|(name, server)| {
            let resource = server.resource(name).filter(|resource| resource.is_ours())?;
            Some((name.as_str(), server, resource))
        })
    }

    /// The instants between which `day` lies here: its first one, and the first one after it.
    pub fn bounds(&self, day: Date) -> (Timestamp, Timestamp) {
        let offset = Offset::from_seconds(i32::from(self.utc_offset_minutes) * 60)
            .expect("`fault` refused offsets of more than a day");
        let begins = |day: Date| {
            offset.to_timestamp(day.at(0, 0, 0, 0)).unwrap_or(match day == Date::MIN {
                true => Timestamp::MIN,
                false => Timestamp::MAX,
            })
        };
        (begins(day), day.tomorrow().map_or(Timestamp::MAX, begins))
    }

    /// What a machine may connect to that reaches `server`; None if there is none of that name.
    pub fn targets(&self, server: &str) -> Option<Vec<ReachTarget>> {
        let found = self.servers.get(server)?;
        let target = |protocol| {
            move |port: &u16| ReachTarget {
                server: server.into(),
                address: found.address,
                protocol,
                port: *port,
            }
        };
        let tcp = found.tcp.iter().map(target(Protocol::Tcp));
        Some(tcp.chain(found.udp.iter().map(target(Protocol::Udp))).collect())
    }
}

/// A place in `lab.yaml` and what is wrong there.
pub(crate) type Fault = (String, String);

/// What is wrong with `domains`, beside segments out of `pool` and the gateway's address.
pub(crate) fn fault(
    domains: &BTreeMap<String, DataDomain>,
    pool: Ipv4Net,
    gateway: Ipv4Addr,
) -> Option<Fault> {
    let mut earlier: Vec<(&String, &DataDomain)> = Vec::new();
    for (name, domain) in domains {
        let at = |key: &str| format!("data_domains.{name}.{key}");
        if !is_label(name) {
            return Some((
                format!("data_domains.{name}"),
                format!("`{name}` is no name of a data domain: {LABEL}"),
            ));
        }
        if let Some(message) = interface_fault(domain) {
            return Some((at("interface"), message));
        }
        if let Some(message) = network_fault(domain, pool, gateway) {
            return Some((at("network"), message));
        }
        for (other_name, other) in &earlier {
            if other.interface == domain.interface {
                let message = format!(
                    "`{}` leads to data domain `{other_name}` already: each has an interface of its \
                     own",
                    domain.interface
                );
                return Some((at("interface"), message));
            }
            if overlap(other.network, domain.network) {
                let message = format!(
                    "`network` {} overlaps {} of data domain `{other_name}`: use another",
                    domain.network, other.network
                );
                return Some((at("network"), message));
            }
        }
        if !host_addresses(domain.network).contains(&domain.host()) {
            let message = format!(
                "the `host` address {} is none of {}: use one of the network's",
                domain.host(),
                domain.network
            );
            return Some((at("host"), message));
        }
        if domain.utc_offset_minutes.unsigned_abs() > 14 * 60 {
            let message = "`utc_offset_minutes` must lie between -840 and 840: no place on earth is \
                           further from UTC";
            return Some((at("utc_offset_minutes"), message.into()));
        }
        if domain.keep_days == Some(0) {
            let message = "`keep_days` must be at least 1; leave it out to keep data for ever";
            return Some((at("keep_days"), message.into()));
        }
        if let Some((key, message)) = rdb_fault(&domain.rdb) {
            return Some((at(&format!("rdb.{key}")), message));
        }
        if let Some((key, message)) = server_fault(domain) {
            return Some((at(&key), message));
        }
        earlier.push((name, domain));
    }
    None
}

fn interface_fault(domain: &DataDomain) -> Option<String> {
    let name = &domain.interface;
    let fits = (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && name.bytes().any(|b| b.is_ascii_alphanumeric());
    if !fits {
        return Some(format!(
            "`{name}` is no interface name: use 1 to 15 letters, digits and `._-`"
        ));
    }
    if name == "lo" || ["nsb", "nst", "nsl", "nsk"].iter().any(|own| name.starts_with(own)) {
        return Some(format!("`{name}` is taken by the host or by machines: use another"));
    }
    if domain.here && (!name.starts_with("nsd") || name.len() > 14) {
        return Some(format!(
            "`{name}` would be a bridge of ours and must begin with `nsd`, such as `nsd0`, and \
             have at most 14 bytes; for an \
             interface of the host say `here: false`"
        ));
    }
    None
}

fn network_fault(domain: &DataDomain, pool: Ipv4Net, gateway: Ipv4Addr) -> Option<String> {
    let net = domain.network;
    if net != net.trunc() {
        return Some(format!("`network` {net} has bits behind its prefix: use {}", net.trunc()));
    }
    if net.prefix_len() > 30 || net.prefix_len() < 8 {
        return Some(format!("`network` {net} must be a /8 to /30"));
    }
    if !net.network().is_private() {
        return Some(format!("`network` {net} is not private: use a part of 10.0.0.0/8, say"));
    }
    if overlap(net, pool) {
        return Some(format!("`network` {net} overlaps the segments' `pool` {pool}: use another"));
    }
    if net.contains(&gateway) {
        return Some(format!("the gateway's address {gateway} lies in `network` {net}"));
    }
    [ACCOUNT_NET, DESKTOP_NET]
        .iter()
        .any(|own| overlap(*own, net))
        .then(|| format!("`network` {net} is one of the lab's own: use another"))
}

fn rdb_fault(limits: &RdbLimits) -> Option<Fault> {
    let least = [
        ("connections", u32::from(limits.connections), 1),
        ("query_seconds", limits.query_seconds, 1),
        // A server process of PostgreSQL does not start with less.
        ("memory_mib", limits.memory_mib, 64),
        ("temporary_mib", limits.temporary_mib, 1),
    ];
    let (key, _, least) = least.into_iter().find(|(_, value, least)| value < least)?;
    Some((key.into(), format!("`{key}` must be at least {least}")))
}

fn server_fault(domain: &DataDomain) -> Option<Fault> {
    if domain.servers.is_empty() {
        return Some(("servers".into(), "`servers` must name at least one server".into()));
    }
    let mut taken = BTreeMap::new();
    let mut offered = BTreeMap::new();
    for (name, server) in &domain.servers {
        let at = |key: &str| format!("servers.{name}.{key}");
        if !is_label(name) {
            return Some((
                format!("servers.{name}"),
                format!("`{name}` is no name of a server: {LABEL}"),
            ));
        }
        if ["dhcp", "dns", AIRLOCK].contains(&name.as_str()) {
            let message = format!("`{name}` is a service of the lab itself: use another name");
            return Some((format!("servers.{name}"), message));
        }
        let address = server.address;
        if !host_addresses(domain.network).contains(&address) || address == domain.host() {
            let message = match address == domain.host() {
                true => format!("{address} is the host's own in this data domain: use another"),
                false => format!(
                    "{address} lies outside of the data domain's `network` {}",
                    domain.network
                ),
            };
            return Some((at("address"), message));
        }
        if server.tcp.is_empty() && server.udp.is_empty() {
            let message = format!("`{name}` has no port: list them in `tcp` or `udp`");
            return Some((format!("servers.{name}"), message));
        }
        if !server.bytes && server.resource(name) != Some(Resource::Samples) {
            let message = "`bytes: false` is for servers of samples alone: add `resource: samples`, \
                           or remove it";
            return Some((at("bytes"), message.into()));
        }
        if let Some(resource) = server.resource(name) {
            if let Some(other) = offered.insert((resource, server.bytes), name) {
                let message = format!("`{other}` offers {resource} already: one server for each");
                return Some((format!("servers.{name}"), message));
            }
            if domain.here && resource.is_ours() && (server.tcp.len(), server.udp.len()) != (1, 0) {
                let message = format!("{resource} is served here at one TCP port: list one");
                return Some((format!("servers.{name}"), message));
            }
        }
        for (key, ports) in [("tcp", &server.tcp), ("udp", &server.udp)] {
            for port in ports {
                if *port == 0 {
                    return Some((at(key), "port 0 cannot be reached: use 1 to 65535".into()));
                }
                if let Some(other) = taken.insert((address, key, *port), name) {
                    let message = format!("{key} port {port} of {address} is `{other}` already");
                    return Some((at(key), message));
                }
            }
        }
    }
    None
}

/// The addresses of `net` that an interface can have.
fn host_addresses(net: Ipv4Net) -> std::ops::RangeInclusive<Ipv4Addr> {
    let first = u32::from(net.network()).saturating_add(1);
    let last = u32::from(net.broadcast()).saturating_sub(1);
    Ipv4Addr::from(first)..=Ipv4Addr::from(last)
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

const LABEL: &str = "use 1 to 32 lower-case letters, digits and `-`, beginning with a letter";

/// Whether it can stand as a name in DNS, and in a path or the name of a namespace.
fn is_label(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Reads a map whose keys appear once each; YAML itself would let the last one win.
pub(crate) fn each_once<'de, D, T>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Once<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Once<T> {
        type Value = BTreeMap<String, T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("names, each with what belongs to it")
        }

        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some(key) = map.next_key::<String>()? {
                if all.contains_key(&key) {
                    let message = format!("`{key}` stands here twice: remove one, or rename it");
                    return Err(de::Error::custom(message));
                }
                all.insert(key, map.next_value()?);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_map(Once(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_offers_what_it_says_or_else_what_it_is_called() {
        let domain: DataDomain = serde_yaml::from_str(
            "interface: dmz0\nnetwork: 10.80.0.0/24\n\
             servers:\n\
             \x20 samples: { address: 10.80.0.5, tcp: [80] }\n\
             \x20 catalogue: { address: 10.80.0.7, tcp: [80], resource: samples, bytes: false }\n\
             \x20 mirror: { address: 10.80.0.8, tcp: [80] }\n",
        )
        .expect("a data domain");
        for (name, offered) in [
            ("samples", Some(Resource::Samples)),
            ("catalogue", Some(Resource::Samples)),
            ("mirror", None),
            ("nobody", None),
        ] {
            assert_eq!(domain.offered_by(name), offered, "{name}");
        }
        let whole = domain.server_of(Resource::Samples).map(|(name, _)| name);
        assert_eq!(whole, Some("samples"), "before one that only tells of them");
    }
}
