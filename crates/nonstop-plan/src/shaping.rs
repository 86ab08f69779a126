//! How fast each account moves bytes through the gateway.

use crate::{
    desired::{Desired, Phase},
    planner::Grants,
    step::Grant,
};
use nonstop_model::{SegmentName, network::DESKTOP_NET};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

/// Everything that bounds what accounts move through the gateway, each way by itself. All sessions
/// of an account share its limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Shaping {
    /// Limits in kbit/s, by the account's uid; None for an account without one.
    pub limits: BTreeMap<u32, Option<u32>>,
    /// Desktops that guests serve themselves to limited accounts.
    pub desks: BTreeSet<Desk>,
}

/// A desktop behind a bridge, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Desk {
    /// The bridge.
    pub segment: SegmentName,
    /// Where the guest serves it.
    pub address: Ipv4Addr,
    /// TCP port.
    pub port: u16,
    /// The account's uid.
    pub uid: u32,
}

impl Shaping {
    /// The accounts that have a limit, by uid, with it in kbit/s.
    pub fn limited(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.limits.iter().filter_map(|(uid, limit)| Some((*uid, (*limit)?)))
    }
}

impl fmt::Display for Shaping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limited = self.limited().count();
        write!(f, "limit the bandwidth of {limited} of {} accounts", self.limits.len())
    }
}

/// The limits that are wanted, given what the kernel is to let through.
pub fn wanted_shaping(desired: &Desired, granted: &Grants) -> Shaping {
    let limits: BTreeMap<u32, Option<u32>> = desired
        .accounts
        .values()
        .map(|gate| (gate.uid, desired.bandwidth_kbit.get(&gate.uid).copied()))
        .collect();
    let live = desired.environments.values().filter(|e| e.phase == Phase::Live);
    let desks = live.flat_map(|environment| {
        let uid = desired.accounts.get(&environment.account).map(|gate| gate.uid);
        environment.machines.iter().filter_map(move |machine| {
            let (uid, desktop) = (uid?, machine.desktop?);
            Some(Desk {
                segment: SegmentName::of(environment.id),
                address: desktop.address,
                port: desktop.port,
                uid,
            })
        })
    });
    let behind_a_bridge = |desk: &Desk| {
        let Desk { uid, address, port, .. } = *desk;
        !DESKTOP_NET.contains(&address)
            && granted.contains_key(&Grant::Desktop { uid, address, port })
            && limits.get(&uid).is_some_and(Option::is_some)
    };
    let desks = desks.filter(behind_a_bridge).collect();
    Shaping { limits, desks }
}
