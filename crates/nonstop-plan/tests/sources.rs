//! From where the gateway is reached: networks of accounts, as rights with a lease.

use jiff::Timestamp;
use nonstop_model::PublicKey;
use nonstop_plan::{
    AccountGate, Desired, FirewallState, GateKey, Grant, Observed, Step, plan, wanted_grants,
};
use std::{collections::BTreeMap, time::Duration};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// An account with a key that comes from `sources`.
fn account(name: &str, uid: u32, sources: &[&str]) -> AccountGate {
    AccountGate {
        name: name.parse().expect("a name"),
        uid,
        address: "127.64.0.1".parse().expect("an address"),
        keys: vec![GateKey { key: PublicKey("ssh-ed25519 AAAA".into()), until: None }],
        sources: sources.iter().map(|net| net.parse().expect("a network")).collect(),
        targets: Vec::new(),
    }
}

fn desired(accounts: impl IntoIterator<Item = AccountGate>) -> Desired {
    Desired {
        accounts: accounts.into_iter().map(|gate| (gate.name.clone(), gate)).collect(),
        environments: BTreeMap::new(),
        lease: Duration::from_secs(60),
        bandwidth_kbit: BTreeMap::new(),
        portal_port: 8080,
        transfer_port: 8081,
        sessions_to_end: Vec::new(),
    }
}

/// The networks that are wanted.
fn networks(desired: &Desired) -> Vec<String> {
    let grants = wanted_grants(desired, &Observed::default(), NOW);
    grants.keys().filter_map(network).collect()
}

fn network(grant: &Grant) -> Option<String> {
    match grant {
        Grant::Source { net } => Some(net.to_string()),
        _ => None,
    }
}

#[test]
fn each_network_is_wanted_once_and_as_long_as_somebody_comes_from_it() {
    let alice = account("alice", 70_001, &["192.0.2.0/24", "198.51.100.7/32"]);
    let bob = account("bob", 70_002, &["192.0.2.0/24", "192.0.2.128/25"]);
    let both = desired([alice.clone(), bob.clone()]);
    assert_eq!(networks(&both), ["192.0.2.0/24", "192.0.2.128/25", "198.51.100.7/32"]);
    assert_eq!(networks(&desired([bob])), ["192.0.2.0/24", "192.0.2.128/25"]);
    let no_card = AccountGate { keys: Vec::new(), ..alice };
    assert!(networks(&desired([no_card])).is_empty(), "who cannot log in opens no door");
    assert_eq!(networks(&desired([account("carol", 70_003, &[])])), ["0.0.0.0/0"]);
}

#[test]
fn a_network_that_nobody_comes_from_is_shut_first_and_ends_no_session_of_others() {
    let wanted = desired([account("alice", 70_001, &["192.0.2.0/24"])]);
    let held = ["192.0.2.0/24", "198.51.100.0/24"];
    let held = held.map(|net| {
        (Grant::Source { net: net.parse().expect("a network") }, Some(Duration::from_secs(50)))
    });
    let observed = Observed {
        firewall: FirewallState { current: true, grants: held.into() },
        ..Observed::default()
    };
    let plan = plan(&wanted, &observed, NOW);
    let gone = Grant::Source { net: "198.51.100.0/24".parse().expect("a network") };
    assert_eq!(plan.cut, [Step::Revoke { grant: gone.clone() }]);
    assert!(!gone.ends_sessions());
    let given = plan.grant.iter().filter_map(|step| match step {
        Step::Grant { grant, .. } => network(grant),
        _ => None,
    });
    assert_eq!(given.count(), 0, "the other has most of its lease left");
    assert!(plan.wake_at.is_some(), "and is looked at before that ends");
}
