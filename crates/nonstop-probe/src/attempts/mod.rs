//! What is tried: for each card of each canary, frames to every other machine, the gateway, the
//! host's other addresses, every server, the world beyond, and everybody, of every kind that a cell
//! of the matrix asks about.

mod host;
mod scene;
mod sender;
mod targets;

pub use scene::Scene;

use crate::{
    frame::{EVERYBODY, mac},
    marker::Marker,
};
use nonstop_reach::{probe::Order, question::What, wanted::Port};
use sender::{Draft, Sender};
use std::net::Ipv4Addr;

/// To whom a frame is meant to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// A machine.
    Machine(String),
    /// A server of a data domain.
    Server(String),
    /// The host on the sender's own segment.
    Gate,
    /// The host at any other address, or on a segment where it should be nobody.
    Host,
    /// Beyond the lab.
    Elsewhere,
    /// Whoever hears it.
    Everybody,
}

/// What must become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// It arrives nowhere that the lab does not allow.
    Nothing,
    /// It arrives.
    Arrives,
    /// It is answered.
    Answered,
    /// It opens a connection, by which bytes arrive.
    Connects,
}

/// One frame that is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its mark.
    pub marker: Marker,
    /// The canary, by its number in the order.
    pub canary: usize,
    /// Its card.
    pub card: usize,
    /// What it is.
    pub what: What,
    /// To whom.
    pub to: To,
    /// In words.
    pub label: String,
    /// What must become of it.
    pub expect: Expect,
    /// The port that it is for, if the protocol has ports.
    pub port: Option<Port>,
    /// The address that it is for, if it has one.
    pub target: Option<Ipv4Addr>,
    /// Its source port, by which an answer is known.
    pub source_port: u16,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Everything that `order` tries in `scene`, in an order in which no card sends many in a row.
pub fn attempts(order: &Order, scene: &Scene, run: u32) -> Vec<Attempt> {
    let mut by_sender: Vec<Vec<Draft>> = Vec::new();
    for (canary, of) in order.canaries.iter().enumerate() {
        let Some(machine) = order.machine(&of.machine) else { continue };
        for (card, of) in machine.cards.iter().enumerate() {
            let Some(mac) = mac(&of.mac) else { continue };
            let mut sender = Sender {
                order,
                scene,
                place: (canary, card),
                name: &machine.name,
                card: of,
                mac,
                // On a link it gives itself one.
                own: of.address.unwrap_or(Ipv4Addr::new(192, 168, 99, 100 + canary as u8)),
                bridge: scene.bridges.get(&of.segment).copied().unwrap_or(EVERYBODY),
                made: Vec::new(),
            };
            sender.all();
            by_sender.push(sender.made);
        }
    }
    let mut senders: Vec<_> = by_sender.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        for drafts in &mut senders {
            if let Some(draft) = drafts.next() {
                let number = all.len() as u32;
                all.push(draft.finish(Marker::attempt(run, number)));
            }
        }
        if all.len() == before {
            return all;
        }
    }
}
