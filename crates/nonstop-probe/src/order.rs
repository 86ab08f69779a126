//! What is to be probed, and from where.

use crate::frame::MacBytes;
use nonstop_reach::{
    Wanted,
    wanted::{Card, Machine, Segment},
};
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, path::PathBuf};

/// What is to be probed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// What the lab wants.
    pub wanted: Wanted,
    /// The machines that send.
    pub canaries: Vec<Canary>,
    /// Data domains whose servers run on this host.
    pub domains: Vec<Domain>,
}

/// A machine that sends what it is told to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// Its name in `wanted`.
    pub machine: String,
    /// Where its cards take their frames, in the order of its cards.
    pub guns: Vec<PathBuf>,
}

/// A data domain whose servers run on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The host's interface.
    pub interface: String,
    /// The network namespace of its servers.
    pub namespace: PathBuf,
}

/// The order cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// A canary that is not among the machines.
    #[error("the canary {0} is not among the machines that are wanted")]
    Unknown(String),
    /// A canary with fewer ways in than cards.
    #[error("the canary {0} has {1} cards and {2} ways to them")]
    Cards(String, usize, usize),
    /// A hardware address that is none.
    #[error("`{0}` of {1} is not a hardware address")]
    Mac(String, String),
    /// A card on no segment.
    #[error("{0} has a card on {1}, which is no segment")]
    Segment(String, String),
}

impl Order {
    /// Whether it can be carried out.
    pub fn check(&self) -> Result<(), OrderError> {
        for canary in &self.canaries {
            let machine = self.machine(&canary.machine);
            let machine = machine.ok_or_else(|| OrderError::Unknown(canary.machine.clone()))?;
            let (cards, ways) = (machine.cards.len(), canary.guns.len());
            if cards != ways {
                return Err(OrderError::Cards(canary.machine.clone(), cards, ways));
            }
        }
        for machine in &self.wanted.machines {
            for card in &machine.cards {
                if mac(&card.mac).is_none() {
                    return Err(OrderError::Mac(card.mac.clone(), machine.name.clone()));
                }
                if self.segment(card).is_none() {
                    return Err(OrderError::Segment(machine.name.clone(), card.segment.clone()));
                }
            }
        }
        Ok(())
    }

    /// The machine with this name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.wanted.machines.iter().find(|machine| machine.name == name)
    }

    /// The segment of a card.
    pub fn segment(&self, card: &Card) -> Option<&Segment> {
        self.wanted.segment(&card.segment)
    }

    /// The host's address on the segment of a card; None on a link.
    pub fn gate(&self, card: &Card) -> Option<Ipv4Addr> {
        self.segment(card)?.host.map(|(address, _)| address)
    }

    /// The machine and card of a tap.
    pub fn behind_tap(&self, tap: &str) -> Option<(&Machine, &Card)> {
        let all = self.wanted.machines.iter().flat_map(|m| m.cards.iter().map(move |c| (m, c)));
        all.into_iter().find(|(_, card)| card.tap == tap)
    }
}

/// The bytes of a hardware address that is written with colons.
pub fn mac(text: &str) -> Option<MacBytes> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
