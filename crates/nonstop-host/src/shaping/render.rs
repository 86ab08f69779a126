//! Limits as scripts for `sh`, with what `ip`, `tc` and `nft` are to do.
//!
//! Each way an account has a class with its limit and two below it, one for desktops and one for all
//! else, which each get half of it and lend what they do not use; a desktop is served first. In
//! front of each is a short queue in bytes: what does not fit is dropped, and the sender, who is on
//! this host or in a machine on it, slows down at once.

use super::DEVICE;
use nonstop_model::{lab::ACCOUNT_UIDS, network::DESKTOP_NET};
use nonstop_plan::Shaping;
use std::{collections::BTreeSet, fmt::Write};

/// The qdisc's handle: above every class of an account.
const ROOT: &str = "f000";

/// The class of packets that have lost theirs, by a change by hand: little, for all together.
const LOST: u32 = 0xeeee;

/// What marks a connection as an account's: "NS" in its upper half, in its lower the account.
const MARK: u32 = 0x4e53_0000;

/// Each way, an account's class and those for desktops and for all else: its number plus this.
const UP: [u32; 3] = [0, 10_000, 20_000];
const DOWN: [u32; 3] = [30_000, 40_000, 50_000];

/// Packets are cut to what an Ethernet carries: loopback's of 64 KiB would last 52 ms each at
/// 10 Mbit/s.
const SEGMENT: u32 = 1400;

/// What Ethernet, IP and TCP add to a full segment: a limit is of what people get.
const HEADERS: u32 = 66;

fn with_headers(kbit: u32) -> u32 {
    kbit + (u64::from(kbit) * u64::from(HEADERS) / u64::from(SEGMENT)) as u32
}

fn account(uid: u32) -> u32 {
    uid - ACCOUNT_UIDS
}

fn mark(uid: u32) -> String {
    format!("{:#x}", MARK | account(uid))
}

/// The script that makes `shaping` hold.
pub(super) fn make(shaping: &Shaping) -> String {
    let mut script = String::new();
    let limited = shaping.limited().next().is_some();
    if limited {
        script += &device();
        script += "tc -batch - <<'END'\n";
        script += &classes(shaping);
        script += "END\n";
    }
    script += "nft -f - <<'END'\n";
    script += &tables(shaping);
    script += "END\n";
    if !limited {
        script += &remove_device();
    }
    script
}

fn device() -> String {
    format!(
        "ip link show dev {DEVICE} >/dev/null 2>&1 || ip link add name {DEVICE} type ifb\n\
         ip link set dev {DEVICE} addrgenmode none\n\
         ip link set dev {DEVICE} up\n\
         tc qdisc show dev {DEVICE} | grep -q '^qdisc htb {ROOT}: root ' || \
         tc qdisc replace dev {DEVICE} root handle {ROOT}: htb default {LOST:x}\n"
    )
}

/// The script that removes the device with all classes.
pub(super) fn remove_device() -> String {
    format!("if ip link show dev {DEVICE} >/dev/null 2>&1; then ip link del dev {DEVICE}; fi\n")
}

/// Bridges of the same names, for an empty network namespace.
pub(super) fn stand_ins(shaping: &Shaping) -> String {
    let segments: BTreeSet<_> = shaping.desks.iter().map(|desk| desk.segment.as_str()).collect();
    segments.into_iter().map(|name| format!("ip link add name {name} type bridge\n")).collect()
}

/// The script that lists all that [`make`] makes.
pub(super) fn list() -> String {
    format!(
        "set +e; exec 2>/dev/null\n\
         for family in inet netdev; do nft -j list table $family nonstop_shape; done\n\
         tc qdisc show dev {DEVICE}\n\
         tc class show dev {DEVICE}\n\
         ip -o link show dev {DEVICE} | grep -o '<.*>'\n\
         exit 0\n"
    )
}

fn classes(shaping: &Shaping) -> String {
    let mut batch = class(LOST, None, 1000, 1000, 0) + &queue(LOST, 1000);
    for (uid, kbit) in shaping.limited() {
        let kbit = with_headers(kbit);
        for [whole, desktop, rest] in [UP, DOWN] {
            let [whole, desktop, rest] = [whole, desktop, rest].map(|kind| kind + account(uid));
            batch += &class(whole, None, kbit, kbit, 0);
            for (leaf, prio) in [(desktop, 0), (rest, 1)] {
                batch += &class(leaf, Some(whole), (kbit / 2).max(8), kbit, prio);
                batch += &queue(leaf, kbit);
            }
        }
    }
    batch
}

fn class(minor: u32, parent: Option<u32>, rate_kbit: u32, ceil_kbit: u32, prio: u8) -> String {
    let parent = parent.map(|parent| format!("{parent:x}")).unwrap_or_default();
    // A few packets, or a millisecond of the limit: fewer could not be had back in time.
    let burst = (ceil_kbit / 8).max(6000);
    format!(
        "class replace dev {DEVICE} parent {ROOT}:{parent} classid {ROOT}:{minor:x} htb \
         rate {rate_kbit}kbit ceil {ceil_kbit}kbit burst {burst} cburst {burst} quantum 3000 \
         prio {prio}\n"
    )
}

/// A queue of 20 ms, and of eight packets at least. TBF never waits at this rate: it cuts what the
/// kernel has joined into one piece back into packets.
fn queue(minor: u32, kbit: u32) -> String {
    let bytes = (kbit / 8 * 20).max(12_000);
    format!(
        "qdisc replace dev {DEVICE} parent {ROOT}:{minor:x} handle {minor:x}: tbf \
         rate 100gbit burst 3200 limit {bytes}\n"
    )
}

/// Commands that delete the classes of `listed`, as `tc class show` lists them, which `shaping` has
/// no use for.
pub(super) fn leftovers(listed: &str, shaping: &Shaping) -> String {
    let wanted: BTreeSet<u32> = shaping
        .limited()
        .flat_map(|(uid, _)| UP.into_iter().chain(DOWN).map(move |kind| kind + account(uid)))
        .chain([LOST])
        .collect();
    let classes = listed.lines().filter_map(|line| {
        let id = line.strip_prefix("class htb ")?.split(' ').next()?;
        let minor = u32::from_str_radix(id.strip_prefix(ROOT)?.strip_prefix(':')?, 16).ok()?;
        (!wanted.contains(&minor)).then_some((line.contains(" root "), minor))
    });
    // Those below others first.
    let unwanted: BTreeSet<(bool, u32)> = classes.collect();
    let delete =
        |(_, minor): (bool, u32)| format!("tc class del dev {DEVICE} classid {ROOT}:{minor:x}\n");
    unwanted.into_iter().map(delete).collect()
}

fn tables(shaping: &Shaping) -> String {
    let people = shaping.limits.keys().map(|uid| format!("{uid} : {}", mark(*uid)));
    let mut script = String::from(
        "table inet nonstop_shape\ndelete table inet nonstop_shape\ntable inet nonstop_shape {\n",
    );
    script += &map("people", "uid : mark", people);
    for (name, kind) in
        [("up_desktop", UP[1]), ("up", UP[2]), ("down_desktop", DOWN[1]), ("down", DOWN[2])]
    {
        let class = |(uid, _)| format!("{} : {ROOT}:{:x}", mark(uid), kind + account(uid));
        script += &map(name, "mark : classid", shaping.limited().map(class));
    }
    script += &OUTPUT
        .replace("@MARK@", &format!("{MARK:#x}"))
        .replace("@SEGMENT@", &SEGMENT.to_string())
        .replace("@DESKTOP_NET@", &DESKTOP_NET.to_string());
    script += "}\ntable netdev nonstop_shape\ndelete table netdev nonstop_shape\n";
    if shaping.limited().next().is_some() {
        script += &detours(shaping);
    }
    script
}

fn map(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    let elements = match elements.is_empty() {
        true => String::new(),
        false => format!(" elements = {{ {} }}", elements.join(", ")),
    };
    format!("\tmap {name} {{ type {kind};{elements} }}\n")
}

// A connection keeps its mark, so that a limit which is set or changed holds for what is open.
// Whatever goes to a bridge of ours as an account goes to a desktop.
const OUTPUT: &str = r#"
	chain output {
		type filter hook output priority 10; policy accept;
		ct state new ct direction original ct mark set meta skuid map @people
		ct mark & 0xffff0000 == @MARK@ jump person
	}

	chain person {
		tcp flags syn tcp option maxseg size set @SEGMENT@
		ct direction original meta priority set ct mark map @up
		ct direction original ip daddr @DESKTOP_NET@ meta priority set ct mark map @up_desktop
		ct direction original oifname "nsb*" meta priority set ct mark map @up_desktop
		ct direction reply meta priority set ct mark map @down
		ct direction reply ip saddr @DESKTOP_NET@ meta priority set ct mark map @down_desktop
	}
"#;

/// The table that leads packets with a class over the device; what a guest says to the gateway gets
/// its class there.
fn detours(shaping: &Shaping) -> String {
    let segments: BTreeSet<_> = shaping.desks.iter().map(|desk| desk.segment.as_str()).collect();
    let quoted = |name: &str| format!("\"{name}\"");
    let bridges: Vec<String> = segments.iter().map(|name| quoted(name)).collect();
    let mut leaving = bridges.clone();
    leaving.insert(0, quoted("lo"));
    let mut script = format!(
        "table netdev nonstop_shape {{\n\tchain leaving {{\n\t\ttype filter hook egress devices = {{ {} }} \
         priority 0; policy accept;\n\t\tmeta priority {ROOT}:0-{ROOT}:ffff fwd to \"{DEVICE}\"\n\t}}\n",
        leaving.join(", ")
    );
    if !bridges.is_empty() {
        let mut class = String::new();
        for desk in &shaping.desks {
            let minor = DOWN[1] + account(desk.uid);
            let comma = if class.is_empty() { "" } else { ", " };
            write!(class, "{comma}{} . {} : {ROOT}:{minor:x}", desk.address, desk.port)
                .expect("a string takes all");
        }
        write!(
            script,
            "\tmap desks {{ type ipv4_addr . inet_service : classid; elements = {{ {class} }} }}\n\
             \tchain arriving {{\n\t\ttype filter hook ingress devices = {{ {} }} priority 0; policy accept;\n\
             \t\tmeta protocol ip meta priority set ip saddr . tcp sport map @desks fwd to \"{DEVICE}\"\n\t}}\n",
            bridges.join(", ")
        )
        .expect("a string takes all");
    }
    script + "}\n"
}
