//! What a probe is told to do, and what it reports. `nonstop-probe` does it.

use crate::{
    question::What,
    wanted::{Card, Machine, Segment, Wanted},
};
use serde::{Deserialize, Serialize};
use std::{fmt::Write as _, net::Ipv4Addr, path::PathBuf};

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
                if crate::value::mac(&card.mac).is_none() {
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

/// What a probe has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether everything went as the lab wants it, with a control for all that is closed, and the
    /// proof says the same.
    pub holds: bool,
    /// How many frames were tried.
    pub tried: usize,
    /// How many of them the lab allows; all of these arrived, if it holds.
    pub allowed: usize,
    /// How many had to arrive nowhere.
    pub denied: usize,
    /// Those of them that arrived in a copy of the network.
    pub controlled: usize,
    /// The machines that sent.
    pub canaries: Vec<String>,
    /// By sender, target and kind.
    pub cells: Vec<ProbedCell>,
    /// What went otherwise than the lab wants it.
    pub differences: Vec<String>,
    /// What could not be shown, and why.
    pub not_shown: Vec<String>,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// What was tried of one kind from one sender to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedCell {
    /// Who sent.
    pub from: String,
    /// To whom.
    pub to: String,
    /// What.
    pub what: What,
    /// How many frames.
    pub tried: usize,
    /// How many had to arrive.
    pub allowed: usize,
    /// How many arrived.
    pub arrived: usize,
    /// Where those that had to arrive nowhere arrived as a control.
    pub control: Vec<String>,
    /// Whether all went as the lab wants it.
    pub agrees: bool,
}

impl Report {
    /// As a table for people: what arrived, what was closed with what control, and what differs.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let row = |text: &mut String, fields: [&str; 6]| {
            let [from, to, what, tried, arrived, control] = fields;
            let line =
                format!("{from:18}  {to:22}  {what:16}  {tried:>5}  {arrived:>7}  {control}");
            let _ = writeln!(text, "{}", line.trim_end());
        };
        row(&mut text, ["FROM", "TO", "WHAT", "TRIED", "ARRIVED", "CONTROL ARRIVED"]);
        for cell in &self.cells {
            let (tried, arrived) = (cell.tried.to_string(), cell.arrived.to_string());
            let control = match cell.agrees {
                true => cell.control.join(", "),
                false => "DIFFERS".into(),
            };
            row(&mut text, [&cell.from, &cell.to, cell.what.word(), &tried, &arrived, &control]);
        }
        for (title, lines) in [("DIFFERENCES", &self.differences), ("NOT SHOWN", &self.not_shown)] {
            if !lines.is_empty() {
                let _ = writeln!(text, "\n{title}");
                for line in lines {
                    let _ = writeln!(text, "  {line}");
                }
            }
        }
        let verdict = if self.holds { "It holds" } else { "IT DOES NOT HOLD" };
        let _ = writeln!(
            text,
            "\n{verdict}: {} frames by {} canaries in {} s; {} allowed, {} denied and {} of these shown to \
             arrive in a copy without rules; {} differences, {} not shown.",
            self.tried,
            self.canaries.len(),
            self.seconds,
            self.allowed,
            self.denied,
            self.controlled,
            self.differences.len(),
            self.not_shown.len()
        );
        text
    }
}
