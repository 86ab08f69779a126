//! The daemon's own rules with the rights of a fleet, in a kernel.

use crate::environment::{Environment, config};
use nonstop_host::firewall::Firewall;
use std::{fs::File, os::fd::AsFd, thread};

/// Loads the rules as the daemon does, into the network namespace of the calling thread.
pub(crate) fn load(firewall: &Firewall) {
    firewall.load().expect("the rules are loaded");
}

/// Gives the first `count` environments all of their rights, into that of the calling thread.
pub(crate) fn grant(firewall: &Firewall, count: u32) {
    let numbers: Vec<u32> = (1..=count).collect();
    for some in numbers.chunks(100) {
        let rights: Vec<_> = some.iter().flat_map(|n| Environment(*n).rights()).collect();
        firewall.grant_all(&rights).expect("granted");
    }
}

/// A firewall of the fleet's lab.
pub(crate) fn firewall() -> Firewall {
    Firewall::new(config())
}

/// Does `act` in a thread in the network namespace of the process `pid`.
pub(crate) fn inside<T: Send>(pid: u32, act: impl FnOnce() -> T + Send) -> T {
    let enter_and_act = || {
        let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("it is there");
        rustix::thread::move_into_link_name_space(namespace.as_fd(), None).expect("root");
        act()
    };
    thread::scope(|scope| scope.spawn(enter_and_act).join().expect("no panic inside"))
}
