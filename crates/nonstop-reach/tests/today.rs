//! A small lab with the rules that are loaded today, proven from what the real kernel lists.

mod lab;

use lab::{Lab, our_rules};
use nonstop_reach::{Proof, prove, wanted::*};

fn card(n: u8, segment: &str, address: Option<&str>) -> Card {
    let (tap, mac) = match address {
        Some(_) => (format!("nst0000{n}"), format!("52:54:00:00:00:0{n}")),
        None => (format!("nsk0000{n}"), format!("56:54:00:00:00:0{n}")),
    };
    let address = address.map(|address| address.parse().expect("an address"));
    Card { segment: segment.into(), tap, mac, address }
}

fn segment(bridge: &str, host: &str) -> Segment {
    let net: ipnet::Ipv4Net = host.parse().expect("a network");
    Segment { bridge: bridge.into(), host: Some((net.addr(), net.trunc())) }
}

fn two_machines() -> (Lab, Wanted) {
    let lab = Lab::new();
    let mut wanted = Wanted::default();
    for n in 1..=2u8 {
        let (bridge, net) = (format!("nsb0000{n}"), format!("10.77.0.{}", 16 * (n - 1)));
        let base: std::net::Ipv4Addr = net.parse().expect("an address");
        let at = |k: u32| std::net::Ipv4Addr::from(u32::from(base) + k).to_string();
        lab.bridge(&bridge, Some(&format!("{}/28", at(1))));
        let card = card(n, &bridge, Some(&at(2)));
        lab.tap(&card.tap, &bridge, &card.mac);
        wanted.segments.push(segment(&bridge, &format!("{}/28", at(1))));
        wanted.machines.push(Machine {
            name: format!("macro {n}"),
            running: true,
            cards: vec![card],
            ..Machine::default()
        });
    }
    lab.nft(&our_rules());
    for machine in &wanted.machines {
        let Card { tap, mac, address, .. } = &machine.cards[0];
        let address = address.expect("on an access segment");
        let gate = std::net::Ipv4Addr::from(u32::from(address) - 1);
        lab.nft(&format!(
            "add element bridge nonstop ports {{ {tap} . {mac} . {address} }}
             add element bridge nonstop cards {{ {tap} . {mac} }}
             add element bridge nonstop neighbours {{ {tap} . {address}, {tap} . {gate} }}"
        ));
    }
    (lab, wanted)
}

fn proof(lab: &Lab, wanted: &Wanted) -> Proof {
    prove(&lab.kernel(), wanted).expect("a listing")
}

#[test]
fn a_machine_reaches_dhcp_and_dns_and_nothing_else() {
    let (lab, wanted) = two_machines();
    let proof = proof(&lab, &wanted);
    println!("{}", proof.table());
    insta::assert_snapshot!(proof.table());
}
