//! The rules, as text. They match only our interfaces, our addresses and our uids, since a
//! lab's host may run other things, and end in a refusal wherever they match.

use super::{
    FirewallConfig,
    elements::{connections, sources},
};
use ipnet::Ipv4Net;
use nonstop_model::{
    ConnectionLimit,
    network::{ACCOUNT_NET, DESKTOP_NET},
};
use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddrV4},
};

/// The script that replaces our tables by closed ones.
pub(super) fn render(config: &FirewallConfig) -> String {
    let closed = closed_uids(config);
    let dhcp_uids: BTreeSet<u32> =
        config.dnsmasq_uids.iter().copied().chain([ROOT_BEFORE_IT_DROPPED]).collect();
    let dhcp_uids: Vec<String> = dhcp_uids.iter().map(u32::to_string).collect();
    RULES
        .replace("@ACCOUNT_NET@", &ACCOUNT_NET.to_string())
        .replace("@DESKTOP_NET@", &DESKTOP_NET.to_string())
        .replace("@POOL@", &config.pool.to_string())
        .replace(
            "@CONNECTION_SETS@",
            &each(|set, _| format!("\tset {set} {{ type ipv4_addr; }}\n")),
        )
        .replace(
            "@CONNECTION_RULES@",
            &each(|set, most| {
                let count = format!("add @open_flows {{ ip saddr ct count over {most} }}");
                format!("\t\tip saddr @{set} {count} drop\n")
            }),
        )
        .replace(
            "@SOURCE_SETS@",
            &each_source(|set, _| format!("\tset {set} {{ type ipv4_addr; flags timeout; }}\n")),
        )
        .replace(
            "@SOURCE_RULES@",
            &each_source(|set, mask| format!("\t\tip saddr & {mask} @{set} goto registered\n")),
        )
        .replace("@GATEWAY@", &gateway(config.gateway))
        .replace("@CONNECTIONS_PER_SOURCE@", &config.connections_per_source.to_string())
        .replace("@NEW_PER_MINUTE@", &config.new_per_minute.to_string())
        .replace("@AIRLOCK_PORT@", &config.airlock_port.to_string())
        .replace("@SERVERS@", &servers(config))
        .replace("@DOMAINS@", &domains(config))
        .replace("@DHCP_UIDS@", &dhcp_uids.join(", "))
        .replace("@CLOSED_UIDS@", &closed)
}

// dnsmasq opens its sockets as root and then changes its uid; a socket keeps its opener's.
const ROOT_BEFORE_IT_DROPPED: u32 = 0;

/// Elements of the set of uids that open no connection of their own.
fn closed_uids(config: &FirewallConfig) -> String {
    let ranges = [&config.display_uids, &config.account_uids, &config.machine_uids];
    let single: BTreeSet<u32> = config
        .program_uids
        .iter()
        .chain(&config.dnsmasq_uids)
        .copied()
        .filter(|uid| *uid != 0 && !ranges.iter().any(|range| range.contains(uid)))
        .collect();
    let single = single.iter().map(u32::to_string);
    let ranges = ranges.iter().map(|range| format!("{}-{}", range.start(), range.end()));
    single.chain(ranges).collect::<Vec<_>>().join(", ")
}

/// Lines for all limits of connections. An element with a count of its own would be collected by
/// the kernel as soon as it counts none.
fn each(line: impl Fn(&str, u32) -> String) -> String {
    ConnectionLimit::all().map(|limit| line(connections(limit), limit.number())).collect()
}

/// Lines for the sets of registered networks, each with the mask of its prefix length.
fn each_source(line: impl Fn(&str, Ipv4Addr) -> String) -> String {
    (0..=32)
        .map(|prefix| {
            line(sources(prefix), Ipv4Net::new_assert(Ipv4Addr::BROADCAST, prefix).netmask())
        })
        .collect()
}

/// What packets to the gateway have in common. One that listens at every address of the host has
/// its port at all of them.
fn gateway(at: SocketAddrV4) -> String {
    match at.ip().is_unspecified() {
        true => format!("fib daddr type local tcp dport {}", at.port()),
        false => format!("ip daddr {} tcp dport {}", at.ip(), at.port()),
    }
}

/// The data domains' servers, each with the interface that leads to it.
fn servers(config: &FirewallConfig) -> String {
    let pairs = config.domains.iter().flat_map(|(interface, servers)| {
        servers.iter().map(move |address| format!("\"{interface}\" . {address}"))
    });
    elements(pairs)
}

/// The interfaces of the data domains.
fn domains(config: &FirewallConfig) -> String {
    elements(config.domains.keys().map(|interface| format!("\"{interface}\"")))
}

/// What a set holds from the start; nft knows no empty list.
fn elements(members: impl Iterator<Item = String>) -> String {
    let members: Vec<String> = members.collect();
    if members.is_empty() {
        return String::new();
    }
    format!(" elements = {{ {} }}", members.join(", "))
}

// Replies and packets without a socket are looked up by where their flow was opened to, in
// `*_replies`, which holds what the set beside it holds, without the uid. `meta skuid` of a
// packet without a socket (the kernel finishing for a closed one) matches nothing, not even `!=`.
const RULES: &str = r#"table inet nonstop
delete table inet nonstop
table inet nonstop {
	# uid . address . port of the people's own portal, file transfer and desktops.
	set portal { type uid . ipv4_addr . inet_service; flags timeout; }
	set portal_replies { type ipv4_addr . inet_service; flags timeout; }
	set transfer { type uid . ipv4_addr . inet_service; flags timeout; }
	set transfer_replies { type ipv4_addr . inet_service; flags timeout; }
	set desktop { type uid . ipv4_addr . inet_service; flags timeout; }
	set desktop_replies { type ipv4_addr . inet_service; flags timeout; }
	# What a machine may connect to: its segment, its address, the server, protocol and port; and
	# the same without the segment, by which replies are looked up.
	set reach { type ifname . ipv4_addr . ipv4_addr . inet_proto . inet_service; flags timeout; }
	set reach_replies { type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags timeout; }
	# Of lab.yaml: the interfaces of data domains, and which server lies behind which.
	set domains { type ifname; flags constant;@DOMAINS@ }
	set servers { type ifname . ipv4_addr; flags constant;@SERVERS@ }
	# Limits: an element holds how many connections a second its machine may open, and matches the
	# rest. How many it may hold open is said by the set that it is in.
	set new_connections { type ipv4_addr; limit rate over 1/second burst 1 packets; }
@CONNECTION_SETS@	# Networks that people are registered to come from, by prefix length.
@SOURCE_SETS@	# Not rights: who was refused at the gateway, for staff to see; connections to it by source, and
	# how fast each opens them. Each pass reads all sets, so none may grow large.
	set gateway_strangers { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 1h; }
	set gateway_crowds { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 1h; }
	set gateway_flows { type ipv4_addr; size 4096; flags dynamic; }
	set gateway_new { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 2m; }
	# Not rights: open flows by machine, and of DNS by segment, so that none fills the host's table
	# of connections.
	set open_flows { type ipv4_addr; size 65535; flags dynamic; }
	set dns_flows { type ifname; size 65535; flags dynamic; }
	# Not rights: packets from links, by their bridge or tap: those that our rules refused, and those
	# that nothing refused though they were not for the other machine of the link. The second is empty.
	set link_refused { type ifname; size 65535; flags dynamic,timeout; timeout 30d; }
	set link_left { type ifname; size 65535; flags dynamic; }

	chain output {
		type filter hook output priority filter; policy accept;
		ip daddr @ACCOUNT_NET@ goto to_account
		ip saddr @ACCOUNT_NET@ goto from_account
		ip daddr @DESKTOP_NET@ goto to_display
		ip saddr @DESKTOP_NET@ goto from_display
		oifname "nsb*" goto to_segment
		oifname "nsl*" drop
		# What a tap says for itself, which passes no hook of the bridge: IPv6 of a card that came up.
		oifname "nst*" drop
		oifname "nsk*" drop
		oifname != "lo" ip daddr @POOL@ goto refuse
		# The airlock is the machines'; nobody on the host has business there.
		oifname "lo" tcp dport @AIRLOCK_PORT@ ct direction original goto refuse
		meta skuid { @CLOSED_UIDS@ } goto refuse
	}

	# To an account's address: by its own uid, to the portal and the file transfer.
	chain to_account {
		meta skuid . ip daddr . tcp dport @portal accept
		meta skuid . ip daddr . tcp dport @transfer accept
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @portal_replies accept
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @transfer_replies accept
		meta skuid 0-4294967294 goto refuse
		ct state established ct direction original ip daddr . tcp dport @portal_replies accept
		ct state established ct direction original ip daddr . tcp dport @transfer_replies accept
		goto refuse
	}

	# From an account's address: replies of the portal and the file transfer.
	chain from_account {
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @portal_replies accept
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @transfer_replies accept
		goto refuse
	}

	# To a display: a person who may look.
	chain to_display {
		meta skuid . ip daddr . tcp dport @desktop accept
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @desktop_replies accept
		meta skuid 0-4294967294 goto refuse
		ct state established ct direction original ip daddr . tcp dport @desktop_replies accept
		goto refuse
	}

	# From a display: what it shows.
	chain from_display {
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @desktop_replies accept
		goto refuse
	}

	# To a segment: a person to a desktop, and answers of DHCP, DNS and the lab's services. Root has
	# no way either.
	chain to_segment {
		meta skuid . ip daddr . tcp dport @desktop accept
		meta skuid { @DHCP_UIDS@ } udp sport 67 udp dport 68 accept
		udp sport 53 ct direction reply accept
		tcp sport 53 ct direction reply accept
		meta l4proto { tcp, udp } ct direction reply ct original ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst @reach_replies accept
		meta skuid 0-4294967294 goto refuse
		ct state established ct direction original ip daddr . tcp dport @desktop_replies accept
		goto refuse
	}

	chain refuse {
		meta skuid 0-4294967294 goto hang_up
		# The reset that ends a refused connection passes here as well.
		tcp flags & rst == rst accept
		goto hang_up
	}

	chain hang_up {
		meta l4proto tcp reject with tcp reset
		drop
	}

	chain input {
		type filter hook input priority filter; policy accept;
		# Frames to 01:80:c2:00:00:0e come up as the tap's own, past every hook of the bridge.
		iifname "nst*" drop
		iifname "nsk*" update @link_refused { iifname counter }
		iifname "nsk*" drop
		iifname "nsb*" goto from_segment
		iifname "nsl*" update @link_refused { iifname counter }
		iifname "nsl*" drop
		iifname @domains drop
		iifname != "lo" ip daddr { @ACCOUNT_NET@, @DESKTOP_NET@, @POOL@ } drop
		iifname != "lo" ip saddr { @ACCOUNT_NET@, @DESKTOP_NET@, @POOL@ } drop
		# The airlock listens at every address, for the segments alone.
		iifname != "lo" tcp dport @AIRLOCK_PORT@ ct direction original drop
		@GATEWAY@ ct state != established goto to_gateway
	}

	# To the gateway, but for what is open already: from a registered network, or into the void.
	chain to_gateway {
@SOURCE_RULES@		update @gateway_strangers { ip saddr counter }
		drop
	}

	# No source may open connections faster, or hold more, than its share; nothing that is refused
	# here takes room in the host's table of connections. What belongs to no flow is TCP's to judge.
	# A set that is full matches nothing: forged addresses that fill it keep nobody out, and all
	# sources together have a share that keeps them from filling that table.
	chain registered {
		ct state != new return
		update @gateway_new { ip saddr limit rate over @NEW_PER_MINUTE@/minute burst @NEW_PER_MINUTE@ packets } goto crowd
		limit rate over 300/second burst 600 packets goto crowd
		add @gateway_flows { ip saddr ct count over @CONNECTIONS_PER_SOURCE@ } goto crowd
	}

	chain crowd {
		update @gateway_crowds { ip saddr counter }
		drop
	}

	# From a segment: DHCP, DNS and what the machine may reach at the host's address of that segment,
	# and replies of desktops.
	chain from_segment {
		udp sport 68 udp dport 67 fib daddr . iif type { local, broadcast } accept
		ct state new jump limit_flows
		meta l4proto { tcp, udp } th dport 53 ct state new add @dns_flows { iifname ct count over 500 } drop
		udp dport 53 fib daddr . iif type local accept
		tcp dport 53 fib daddr . iif type local accept
		iifname . ip saddr . ip daddr . meta l4proto . th dport @reach fib daddr . iif type local accept
		meta l4proto tcp ct direction reply ct original ip daddr . ct original proto-dst @desktop_replies accept
		goto refuse_flow
	}

	# Where br_netfilter shows bridged frames to this table too, what two machines say to each other
	# on their link is counted nowhere; the other table judges it, and lets none of it to the host.
	chain links {
		type filter hook prerouting priority raw; policy accept;
		iifname "nsl*" notrack
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "nsb*" goto to_server
		iifname "nst*" drop
		iifname "nsk*" update @link_refused { iifname counter }
		iifname "nsk*" drop
		oifname "nsb*" goto from_server
		iifname "nsl*" oifname "nsl*" accept
		iifname "nsl*" update @link_refused { iifname counter }
		iifname "nsl*" drop
		oifname "nsl*" drop
		iifname @domains drop
		oifname @domains drop
		ip saddr { @ACCOUNT_NET@, @DESKTOP_NET@, @POOL@ } drop
		ip daddr { @ACCOUNT_NET@, @DESKTOP_NET@, @POOL@ } drop
	}

	# From a machine to a server of its reach, by the interface behind which that server lies.
	chain to_server {
		ct state new jump limit_flows
		iifname . ip saddr . ip daddr . meta l4proto . th dport @reach oifname . ip daddr @servers accept
		goto refuse_flow
	}

	# From a server: replies to what a machine of its reach has opened. It opens nothing itself.
	chain from_server {
		iifname . ip saddr @servers meta l4proto { tcp, udp } ct direction reply ct original ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst @reach_replies accept
		goto refuse_flow
	}

	# More connections, or faster, than this machine may open.
	chain limit_flows {
		ip saddr @new_connections drop
@CONNECTION_RULES@	}

	# After every filter, ours and others': what of a link is still on its way here leaves it.
	chain heard_of_links {
		type filter hook input priority 300; policy accept;
		iifname "nsk*" update @link_left { iifname counter }
		iifname "nsl*" update @link_left { iifname counter }
	}

	chain sent_by_links {
		type filter hook forward priority 300; policy accept;
		iifname "nsk*" update @link_left { iifname counter }
		iifname "nsl*" oifname != "nsl*" update @link_left { iifname counter }
	}

	# A server whose connection is over is told; a machine hears nothing, nor does who only tries.
	chain refuse_flow {
		meta l4proto tcp ct state established reject with tcp reset
		drop
	}
}
table arp nonstop
delete table arp nonstop
table arp nonstop {
	set link_left { type ifname; size 65535; flags dynamic; }

	# Such frames as above.
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "nst*" drop
		iifname "nsk*" drop
	}

	chain heard_of_links {
		type filter hook input priority 300; policy accept;
		iifname "nsk*" update @link_left { iifname counter }
		iifname "nsl*" update @link_left { iifname counter }
	}

	chain output {
		type filter hook output priority filter; policy accept;
		oifname "nst*" drop
		oifname "nsk*" drop
	}
}
table bridge nonstop
delete table bridge nonstop
table bridge nonstop {
	# A machine's own tap, MAC and address, and whom it may speak to on its segment.
	set cards { type ifname . ether_addr; flags timeout; }
	set ports { type ifname . ether_addr . ipv4_addr; flags timeout; }
	set neighbours { type ifname . ipv4_addr; flags timeout; }
	# A machine's tap and address, and the server, protocol and port it may send to.
	set reach { type ifname . ipv4_addr . ipv4_addr . inet_proto . inet_service; flags timeout; }
	# A machine's tap and MAC on its link segment.
	set links { type ifname . ether_addr; flags timeout; }
	# How much a tap may send to everybody, or ask of ARP and DHCP; an element matches the rest.
	set broadcasts { type ifname; limit rate over 1/second burst 1 packets; }
	# Not rights: frames of links by the tap of their machine, as in the table before: those for the
	# other machine, those that were refused, and those that left.
	set link_between { type ifname; size 65535; flags dynamic,timeout; timeout 30d; }
	set link_refused { type ifname; size 65535; flags dynamic,timeout; timeout 30d; }
	set link_left { type ifname; size 65535; flags dynamic; }

	chain prerouting {
		type filter hook prerouting priority dstnat; policy accept;
		iifname "nst*" goto from_machine
		iifname "nsk*" goto from_link
	}

	# The host hears nothing from a link segment. Link-local frames (01:80:c2:00:00:0…) come here
	# without passing prerouting; all others have been judged there. What is for everybody comes here
	# beside the other machine, and is no attempt.
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "nsk*" ether daddr != { 01:00:00:00:00:00-01:ff:ff:ff:ff:ff, 33:33:00:00:00:00-33:33:ff:ff:ff:ff, ff:ff:ff:ff:ff:ff } update @link_refused { iifname counter }
		iifname "nsk*" drop
		ether daddr 01:80:c2:00:00:00-01:80:c2:00:00:0f iifname "nst*" goto from_machine
	}

	# The host says nothing on a link segment.
	chain output {
		type filter hook output priority filter; policy accept;
		oifname "nsk*" drop
	}

	# What it sends as itself comes first: that is nearly all.
	chain from_machine {
		ether type ip iifname . ether saddr . ip saddr @ports goto as_itself
		ether type arp iifname @broadcasts drop
		udp dport 67 iifname @broadcasts drop
		ether type ip iifname . ether saddr @cards ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
		ether type arp iifname . ether saddr . arp saddr ip @ports iifname . arp saddr ether @cards iifname . arp daddr ip @neighbours accept
		drop
	}

	# IPv4 from a machine's own address: to a server, to the host, or for DHCP.
	chain as_itself {
		iifname . ip saddr . ip daddr . meta l4proto . th dport @reach accept
		udp dport 67 iifname @broadcasts drop
		iifname . ip daddr @neighbours accept
		ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
		drop
	}

	# On a link segment: whatever the two machines have to say to each other, each from its own MAC.
	chain from_link {
		ether daddr { 01:00:00:00:00:00-01:ff:ff:ff:ff:ff, 33:33:00:00:00:00-33:33:ff:ff:ff:ff, ff:ff:ff:ff:ff:ff } iifname @broadcasts goto too_much
		ether daddr != ff:ff:ff:ff:ff:ff ether type arp iifname @broadcasts goto too_much
		iifname . ether saddr @links accept
		update @link_refused { iifname counter }
		drop
	}

	chain too_much {
		update @link_refused { iifname counter }
		drop
	}

	# A segment joins machines to the host, not to each other; a link only machines of the link.
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "nst*" drop
		oifname "nst*" drop
		iifname "nsk*" oifname "nsk*" goto between
		iifname "nsk*" update @link_refused { iifname counter }
		iifname "nsk*" drop
		oifname "nsk*" drop
	}

	chain between {
		update @link_between { iifname counter }
		accept
	}

	# After every filter, ours and others': what of a link is still on its way here leaves it.
	chain heard_of_links {
		type filter hook input priority 300; policy accept;
		iifname "nsk*" update @link_left { iifname counter }
	}

	chain sent_by_links {
		type filter hook forward priority 300; policy accept;
		iifname "nsk*" oifname != "nsk*" update @link_left { iifname counter }
	}
}
"#;
