//! Reach: who may reach what by what is wanted, and what is proven of it from the kernel.

use super::{Service, refusal};
use crate::{
    caller::Caller,
    desired::desired,
    prover::{Proved, cut},
};
use nonstop_api::{
    ApiError, BetweenView, ClosedCellsView, ErrorCode, OpenCellView, ProofColour, ProofSummary,
    ProofView, ReachView, Reply,
};
use nonstop_model::{SegmentKind, SegmentName};
use nonstop_plan::{
    DesiredEnvironment, DesiredMachine, Desktop, Grant, link_grant, port_grant, reach_grant,
};
use nonstop_reach::{Proof, between::Between, matrix::Cell, question::What};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Seek, Write},
    os::fd::OwnedFd,
};

/// The most lines of each list that an answer holds, and the longest of them: a page shows it
/// all, and an answer has an end.
pub(super) const LINES: usize = 100;
const CELLS: usize = 1000;
const CLOSED: usize = 200;
pub(super) const LINE: usize = 400;
const EXAMPLES: usize = 12;

impl Service {
    pub(super) fn reach_show(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        let now = self.now();
        let desired = self.db.read(|read| desired(read, &self.lab, now)).map_err(refusal)?;
        let held = self.status.observed().firewall.grants;
        let mut rows = Vec::new();
        for gate in desired.accounts.values() {
            let (uid, address) = (gate.uid, gate.address);
            let (portal, transfer) = (desired.portal_port, desired.transfer_port);
            for (to, port, grant) in [
                ("portal", portal, Grant::Portal { uid, address, port: portal }),
                ("transfer", transfer, Grant::Transfer { uid, address, port: transfer }),
            ] {
                rows.push(ReachView {
                    from: gate.name.to_string(),
                    to: to.into(),
                    by: format!("tcp {address}:{port}"),
                    granted: held.contains_key(&grant),
                });
            }
        }
        for environment in desired.environments.values() {
            for machine in &environment.machines {
                let own = rows_of(machine, environment);
                let desktop = machine.desktop.zip(desired.accounts.get(&environment.account));
                let desktop = desktop.map(|(Desktop { address, port, .. }, gate)| {
                    let to = format!("desktop of {}", machine.id);
                    let grant = Grant::Desktop { uid: gate.uid, address, port };
                    (gate.name.to_string(), to, format!("tcp {address}:{port}"), grant)
                });
                let all = desktop.into_iter().chain(own);
                rows.extend(all.map(|(from, to, by, grant)| ReachView {
                    from,
                    to,
                    by,
                    granted: held.contains_key(&grant),
                }));
            }
        }
        Ok(Reply::Reach(rows))
    }

    /// Proves now; the whole proof lies in the file, as JSON.
    pub(super) fn reach_prove(&self, caller: &Caller) -> Result<(Reply, OwnedFd), ApiError> {
        caller.must_be_staff()?;
        let Some(proved) = self.prover.prove() else {
            let message = "nothing can be proven before the first pass of the reconciler";
            return Err(ApiError::new(ErrorCode::Conflict, message)
                .help("look at `nonstop check`: something keeps the host from being observed"));
        };
        let file = as_file(&*proved.proof)
            .map_err(|e| ApiError::new(ErrorCode::Internal, format!("hand over the proof: {e}")))?;
        Ok((Reply::Proof(Some(self.proof_view(&proved))), file))
    }

    pub(super) fn reach_proof(&self, caller: &Caller) -> Result<Reply, ApiError> {
        caller.must_be_staff()?;
        Ok(Reply::Proof(self.prover.last().map(|proved| self.proof_view(&proved))))
    }

    pub(super) fn proof_summary(&self) -> Option<ProofSummary> {
        let last = self.prover.last()?;
        Some(ProofSummary { colour: last.colour(), at: last.at })
    }

    fn proof_view(&self, proved: &Proved) -> ProofView {
        let proof = &*proved.proof;
        let mut left_out = 0;
        let mut lines = |all: &[String]| {
            left_out += all.len().saturating_sub(LINES);
            all.iter().take(LINES).map(|line| cut(line, LINE)).collect()
        };
        let (differences, not_proven) = (lines(&proof.differences), lines(&proof.not_proven));
        let stand_ins = lines(&proof.stand_ins);
        // What does not agree comes first, so that it is never what is left out.
        let (bad, good): (Vec<&Cell>, Vec<&Cell>) = proof.cells.iter().partition(|c| !c.agrees);
        let open = bad.into_iter().chain(good).take(CELLS).map(|cell| open_cell(cell, proof));
        let mut closed = closed_cells(proof);
        left_out += proof.cells.len().saturating_sub(CELLS) + closed.len().saturating_sub(CLOSED);
        left_out += proof.between.len().saturating_sub(LINES);
        left_out += proved.passing.len().saturating_sub(LINES);
        closed.truncate(CLOSED);
        let mut passing = proved.passing.clone();
        passing.truncate(LINES);
        passing.iter_mut().for_each(|passing| passing.what = cut(&passing.what, LINE));
        let mut drifts = self.status.drifts();
        drifts.iter_mut().for_each(|drift| drift.what = cut(&drift.what, LINE));
        ProofView {
            colour: proved.colour(),
            at: proved.at,
            took_ms: proved.took.as_millis() as u64,
            cells: proof.count() as u64,
            machines: proved.machines as u64,
            differences,
            not_proven,
            passing,
            drifts,
            open: open.collect(),
            closed,
            between: proof.between.iter().take(LINES).map(between_view).collect(),
            stand_ins,
            left_out: left_out as u64,
        }
    }
}

fn between_view(between: &Between) -> BetweenView {
    BetweenView {
        from: between.from.clone(),
        to: between.to.clone(),
        machines: between.machines as u64,
        servers: between.servers as u64,
        cells: between.cells as u64,
        open: between.open as u64,
    }
}

fn open_cell(cell: &Cell, proof: &Proof) -> OpenCellView {
    OpenCellView {
        from: cut(&cell.from, LINE),
        to: cut(&cell.to, LINE),
        stand_in: proof.stand_ins.contains(&cell.to),
        what: cell.what.to_string(),
        allowed: cut(&cell.allowed, LINE),
        reachable: cut(&cell.reachable, LINE),
        colour: match (&cell.not_proven, cell.agrees) {
            (Some(_), _) => ProofColour::Unproven,
            (None, true) => ProofColour::Green,
            (None, false) => ProofColour::Red,
        },
        rule: cut(&cell.rule, LINE),
    }
}

/// Closed cells by kind and rule.
fn closed_cells(proof: &Proof) -> Vec<ClosedCellsView> {
    #[derive(Default)]
    struct Group<'a> {
        cells: usize,
        senders: BTreeSet<&'a str>,
        examples: Vec<String>,
    }
    let mut groups: BTreeMap<(What, &str), Group<'_>> = BTreeMap::new();
    for closed in &proof.closed {
        let group = groups.entry((closed.what, &closed.rule)).or_default();
        group.cells += closed.count;
        group.senders.insert(&closed.from);
        let room = EXAMPLES.saturating_sub(group.examples.len());
        let pairs = closed.to.iter().take(room).map(|to| format!("{} → {to}", closed.from));
        group.examples.extend(pairs.map(|pair| cut(&pair, LINE)));
    }
    let view = |((what, rule), group): ((What, &str), Group<'_>)| ClosedCellsView {
        what: what.to_string(),
        rule: cut(rule, LINE),
        cells: group.cells as u64,
        senders: group.senders.len() as u64,
        examples: group.examples,
    };
    groups.into_iter().map(view).collect()
}

/// `value` as JSON in memory of its own, to be read from the start.
pub(super) fn as_file(value: &impl serde::Serialize) -> io::Result<OwnedFd> {
    let memory = rustix::fs::memfd_create("proof", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut writer = io::BufWriter::new(File::from(memory));
    serde_json::to_writer(&mut writer, value)?;
    writer.flush()?;
    let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file.into())
}

/// What `machine` may reach: from, to, by which way, and the right that says so.
fn rows_of(
    machine: &DesiredMachine,
    environment: &DesiredEnvironment,
) -> Vec<(String, String, String, Grant)> {
    let from = machine.id.to_string();
    let mut rows = Vec::new();
    if let Some(address) = machine.address {
        let by = format!("udp {}:67, 53", environment.segment.host());
        let grant = port_grant(machine, address);
        rows.push((from.clone(), "dhcp, dns".into(), by, grant));
    }
    for target in &machine.reach {
        let Some(source) = machine.address else { continue };
        let by = format!("{} {}:{}", target.protocol, target.address, target.port);
        rows.push((from.clone(), target.server.clone(), by, reach_grant(machine, source, target)));
    }
    if machine.networks.contains(&SegmentKind::Link) {
        let peers = environment.machines.iter();
        let peers = peers.filter(|m| m.id != machine.id && m.networks.contains(&SegmentKind::Link));
        let by = SegmentName::of_kind(SegmentKind::Link, environment.id);
        rows.extend(peers.map(|peer| {
            let grant = link_grant(machine);
            (from.clone(), peer.id.to_string(), format!("link {by}"), grant)
        }));
    }
    rows
}
