//! Reach as programs and people see it: what is wanted, proven and probed.

use super::Problem;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One thing that may reach another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachView {
    /// Who: an account or a machine.
    pub from: String,
    /// What: a portal, a desktop, a service.
    pub to: String,
    /// Protocol, address and port.
    pub by: String,
    /// Whether the kernel holds it now.
    pub granted: bool,
}

/// What was proven of reach from the running kernel. Bounded: what does not fit is counted in
/// `left_out`; the whole lies in the file that `ReachProve` gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofView {
    /// In a word.
    pub colour: ProofColour,
    /// When the kernel was first read for it.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// How many cells the matrix has: each sender, target and kind of traffic.
    pub cells: u64,
    /// How many machines were looked at.
    pub machines: u64,
    /// What differs from what the lab wants.
    pub differences: Vec<String>,
    /// What could not be proven, and why.
    pub not_proven: Vec<String>,
    /// What differed at the first reading and was gone at a later one.
    pub passing: Vec<PassingView>,
    /// What somebody else changed lately and the daemon put right, newest first.
    pub drifts: Vec<DriftView>,
    /// Cells in which something is allowed or gets through.
    pub open: Vec<OpenCellView>,
    /// All other cells, by what decides them.
    pub closed: Vec<ClosedCellsView>,
    /// Each edition beside the data domains of the others.
    #[serde(default)]
    pub between: Vec<BetweenView>,
    /// Servers and services for which only a listener stands.
    pub stand_ins: Vec<String>,
    /// How many lines were left out of all these lists.
    pub left_out: u64,
}

/// The isolation as it was tried out: what is running, and how the last one went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeView {
    /// Since when one is running.
    pub since: Option<Timestamp>,
    /// How far it is, in words.
    pub how_far: String,
    /// The last one that came to an end.
    pub last: Option<ProbedView>,
}

/// How a probe went. Bounded as [`ProofView`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedView {
    /// When it began.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Why it came to no end, if so; then all else is empty.
    pub problem: Option<Problem>,
    /// Whether all went as the lab wants it.
    pub holds: bool,
    /// The machines that sent.
    pub canaries: u64,
    /// How many frames were tried.
    pub tried: u64,
    /// How many of them the lab allows.
    pub allowed: u64,
    /// How many had to arrive nowhere.
    pub denied: u64,
    /// Those of them that arrived in a copy of the network without rules.
    pub controlled: u64,
    /// What went otherwise.
    pub differences: Vec<String>,
    /// What could not be shown.
    pub not_shown: Vec<String>,
    /// How many lines were left out of these lists.
    pub left_out: u64,
}

/// A proof in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofColour {
    /// What gets through is what the lab wants, proven.
    Green,
    /// It is not.
    Red,
    /// Something could not be evaluated, so nothing is said.
    Unproven,
}

/// When the last proof was made, and its colour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofSummary {
    /// In a word.
    pub colour: ProofColour,
    /// When the kernel was read.
    pub at: Timestamp,
}

/// What differed for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassingView {
    /// What.
    pub what: String,
    /// When it was seen.
    pub seen_at: Timestamp,
    /// When it was seen to be gone.
    pub gone_by: Timestamp,
}

/// What somebody changed by hand and was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftView {
    /// When it was found.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// A cell of the matrix in which something is allowed or gets through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCellView {
    /// Who sends.
    pub from: String,
    /// To whom.
    pub to: String,
    /// Whether only a listener stands for the target.
    pub stand_in: bool,
    /// What kind of traffic.
    pub what: String,
    /// What may get through.
    pub allowed: String,
    /// What does.
    pub reachable: String,
    /// Green: the two agree; red: they do not.
    pub colour: ProofColour,
    /// The rule that decides.
    pub rule: String,
}

/// What machines of one edition reach of another's servers, which is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BetweenView {
    /// Of which edition the machines are; None for those of none.
    pub from: Option<String>,
    /// Whose servers.
    pub to: String,
    /// How many machines.
    pub machines: u64,
    /// How many servers.
    pub servers: u64,
    /// How many cells were looked at.
    pub cells: u64,
    /// How many of them are not closed.
    pub open: u64,
}

/// Cells in which nothing gets through, decided by one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedCellsView {
    /// What kind of traffic.
    pub what: String,
    /// The rule that decides.
    pub rule: String,
    /// How many cells.
    pub cells: u64,
    /// How many senders.
    pub senders: u64,
    /// Some of the cells: from whom to whom.
    pub examples: Vec<String>,
}
