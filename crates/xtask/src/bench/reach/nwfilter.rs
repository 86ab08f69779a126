//! libvirt's nwfilter: the filters that come with it against spoofing, and one of the lab's reach, bound
//! to the tap of every environment.

use super::{
    ground::{Ground, settle},
    rules::{Card, Rules},
};
use anyhow::{Context, Result};
use nonstop_testkit::{interrupt, lab::Lab, place::Place};
use std::{fs, path::Path, time::Instant};

/// Filters of libvirt's that ours is made of.
const SHIPPED: [&str; 4] =
    ["no-mac-spoofing", "no-ip-spoofing", "no-arp-mac-spoofing", "no-arp-ip-spoofing"];

/// A host under nwfilter.
pub(super) struct Nwfilter {
    ground: Ground,
    _lab: Lab,
}

impl Nwfilter {
    /// Starts one and binds the cards of `count` environments; gives also how long each of the
    /// bindings took, in ms.
    pub(super) fn start(fleet: &Path, count: u32) -> Result<(Nwfilter, Vec<f64>)> {
        let mut lab = Lab::temporary("bench-nwfilter")?.only(&["libvirtd"]);
        lab.start()?;
        let host = lab.lab_box()?.init();
        let place = Place::in_network(host);
        settle(&place)?;
        let mut rules = Rules::start(fleet, &Place::here())?;
        // Macros, and the one in the middle.
        let numbers: Vec<u32> = (0..count).map(|n| 2 * n + 1).collect();
        let middle = numbers[numbers.len() / 2];
        let measured = rules.card(middle)?;
        for name in SHIPPED {
            let path = format!("/etc/libvirt/nwfilter/{name}.xml");
            let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
            define(&lab, name, &text)?;
        }
        define(&lab, "nonstop-peer", &filter(&measured))?;
        let mut times = Vec::new();
        for n in numbers {
            interrupt::check()?;
            let card = rules.card(n)?;
            if n == middle {
                continue;
            }
            place.line(&format!("ip link add {} type bridge", card.bridge))?;
            place.line(&format!("ip link add {} type veth peer name p{}", card.tap, card.tap))?;
            place.line(&format!("ip link set {} master {} up", card.tap, card.bridge))?;
            times.push(bind(&lab, n, &card)?);
        }
        let ground = Ground::around_place(host, measured)?;
        times.push(bind(&lab, middle, &ground.card)?);
        let (first, last) = (times[0], times[times.len() - 1]);
        eprintln!("    the first binding took {first:.0} ms, the last one {last:.0} ms");
        Ok((Nwfilter { ground, _lab: lab }, times))
    }

    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }
}

/// What the machine may send, as our own rules have it on its tap.
fn filter(card: &Card) -> String {
    let accept =
        |what: &str| format!("<rule action='accept' direction='out' priority='500'>{what}</rule>");
    let to = |protocol: &str, to: &std::net::SocketAddrV4| {
        accept(&format!(
            "<ip srcipaddr='$IP' dstipaddr='{}' protocol='{protocol}' dstportstart='{}'/>",
            to.ip(),
            to.port()
        ))
    };
    [
        "<filter name='nonstop-peer' chain='root'>".to_string(),
        SHIPPED.map(|name| format!("<filterref filter='{name}'/>")).concat(),
        to("tcp", &card.tcp),
        to("udp", &card.udp),
        accept("<arp/>"),
        "<rule action='drop' direction='out' priority='1000'><mac/></rule></filter>".into(),
    ]
    .concat()
}

fn define(lab: &Lab, name: &str, xml: &str) -> Result<()> {
    let path = lab.dir().join(format!("{name}.xml"));
    fs::write(&path, xml).with_context(|| format!("write {}", path.display()))?;
    let path = path.display().to_string();
    lab.enter(&["virsh", "-q", "nwfilter-define", &path]).map(drop)
}

/// Binds the filter to `card`; gives the time in ms.
fn bind(lab: &Lab, number: u32, card: &Card) -> Result<f64> {
    let path = lab.dir().join(format!("binding-{number}.xml"));
    let xml = format!(
        "<filterbinding><owner><name>e{number}</name>\
         <uuid>00000000-0000-4000-8000-{number:012}</uuid></owner><portdev name='{}'/>\
         <mac address='{}'/><filterref filter='nonstop-peer'><parameter name='IP' value='{}'/>\
         </filterref></filterbinding>",
        card.tap, card.mac, card.address
    );
    fs::write(&path, xml).with_context(|| format!("write {}", path.display()))?;
    let path = path.display().to_string();
    let begun = Instant::now();
    lab.enter(&["virsh", "-q", "nwfilter-binding-create", &path])?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_filter_lets_through_what_our_rules_do() {
        let card = serde_json::json!({
            "bridge": "nsb00021", "tap": "nst00021", "mac": "52:54:00:00:00:15",
            "address": "10.128.1.82", "host": "10.128.1.81", "domain": "nsd0",
            "tcp": "10.80.0.3:80", "udp": "10.80.0.5:7000",
        });
        let filter = filter(&serde_json::from_value(card).expect("a card"));
        for accepted in [
            "<ip srcipaddr='$IP' dstipaddr='10.80.0.3' protocol='tcp' dstportstart='80'/>",
            "<ip srcipaddr='$IP' dstipaddr='10.80.0.5' protocol='udp' dstportstart='7000'/>",
        ] {
            assert!(filter.contains(accepted), "{filter}");
        }
        assert!(
            filter
                .ends_with("action='drop' direction='out' priority='1000'><mac/></rule></filter>")
        );
    }
}
