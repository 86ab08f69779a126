//! The proof: the matrix, what differs, and whether it all holds.

use crate::{
    between::{self, Between},
    drift,
    host::Host,
    kernel::Kernel,
    listing::NoListing,
    matrix::{self, Cell, Closed, Matrix},
    question::What,
    wanted::Wanted,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What was proven.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Whether what gets through is what the lab wants, proven, with nothing strange on the host.
    pub holds: bool,
    /// Cells in which something is allowed or gets through.
    pub cells: Vec<Cell>,
    /// Cells in which nothing does.
    pub closed: Vec<Closed>,
    /// Each edition beside the data domains of the others.
    #[serde(default)]
    pub between: Vec<Between>,
    /// What differs, in plain words.
    pub differences: Vec<String>,
    /// What could not be proven, and why.
    pub not_proven: Vec<String>,
    /// Servers, and services of the lab, for which only a listener stands.
    pub stand_ins: Vec<String>,
}

/// Proves `wanted` from what was read of the kernel. No I/O.
///
/// Errors: the listing of the rules is none.
pub fn prove(kernel: &Kernel, wanted: &Wanted) -> Result<Proof, NoListing> {
    let host = Host::new(kernel)?;
    let Matrix { cells, closed } = matrix::matrix(&host, wanted);
    let mut differences = drift::differences(&host, wanted);
    differences.extend(between::crossing(wanted));
    let mut not_proven: BTreeSet<String> = drift::strange(&host, wanted).into_iter().collect();
    for cell in cells.iter().filter(|cell| !cell.agrees) {
        let Cell { from, to, what, allowed, reachable, rule, .. } = cell;
        match &cell.not_proven {
            Some(why) => _ = not_proven.insert(format!("{from} to {to}, {what}: {why}")),
            None => differences.push(format!(
                "{from} to {to}, {what}: allowed {allowed}, gets through {reachable} ({rule})"
            )),
        }
    }
    let stand_ins = wanted.servers.iter().filter(|server| server.stand_in);
    let stand_ins = stand_ins.map(|server| &server.name).chain(&wanted.stand_ins);
    Ok(Proof {
        holds: differences.is_empty() && not_proven.is_empty(),
        between: between::between(wanted, &cells, &closed),
        cells,
        closed,
        differences,
        not_proven: not_proven.into_iter().collect(),
        stand_ins: stand_ins.cloned().collect(),
    })
}

impl Proof {
    /// How many cells there are.
    pub fn count(&self) -> usize {
        self.cells.len() + self.closed.iter().map(|closed| closed.count).sum::<usize>()
    }

    /// As a table for people: first what is open, then what is closed and by what, then what
    /// differs.
    pub fn table(&self) -> String {
        let mut rows = vec![
            ["FROM", "TO", "WHAT", "ALLOWED", "GETS THROUGH", "", "DECIDED BY"].map(str::to_string),
        ];
        for cell in &self.cells {
            let to = match self.stand_ins.contains(&cell.to) {
                true => format!("{} (stand-in)", cell.to),
                false => cell.to.clone(),
            };
            let judged = match (&cell.not_proven, cell.agrees) {
                (Some(_), _) => "not proven",
                (None, true) => "ok",
                (None, false) => "DIFFERS",
            };
            rows.push([
                cell.from.clone(),
                to,
                cell.what.to_string(),
                cell.allowed.clone(),
                cell.reachable.clone(),
                judged.into(),
                cell.rule.clone(),
            ]);
        }
        let mut text = columns(&rows);
        let mut closed: BTreeMap<(What, &str), (usize, BTreeSet<&str>)> = BTreeMap::new();
        for group in &self.closed {
            let entry = closed.entry((group.what, &group.rule)).or_default();
            entry.0 += group.count;
            entry.1.insert(&group.from);
        }
        let mut rows = vec![["CLOSED", "CELLS", "SENDERS", "DECIDED BY"].map(str::to_string)];
        for ((what, rule), (count, senders)) in closed {
            let (count, senders) = (count.to_string(), senders.len().to_string());
            rows.push([what.to_string(), count, senders, rule.into()]);
        }
        let _ = write!(text, "\n{}", columns(&rows));
        if !self.between.is_empty() {
            let _ = write!(text, "\n{}", columns(&self.editions()));
        }
        for (title, lines) in [("DIFFERENCES", &self.differences), ("NOT PROVEN", &self.not_proven)]
        {
            if !lines.is_empty() {
                let _ = write!(text, "\n{title}\n");
                for line in lines {
                    let _ = writeln!(text, "  {line}");
                }
            }
        }
        let verdict = if self.holds { "It holds" } else { "IT DOES NOT HOLD" };
        let _ = writeln!(
            text,
            "\n{verdict}: {} cells, {} differences, {} not proven.",
            self.count(),
            self.differences.len(),
            self.not_proven.len()
        );
        text
    }
}

impl Proof {
    fn editions(&self) -> Vec<[String; 6]> {
        let titles = ["BETWEEN EDITIONS", "SERVERS OF", "MACHINES", "SERVERS", "CELLS", "OPEN"];
        let row = |between: &Between| {
            let Between { from, to, machines, servers, cells, open } = between;
            let counts = [machines, servers, cells].map(ToString::to_string);
            let [machines, servers, cells] = counts;
            let open = if *open == 0 { "none".into() } else { format!("{open}: NOT CLOSED") };
            let from = from.clone().unwrap_or_else(|| "(none)".into());
            [from, to.clone(), machines, servers, cells, open]
        };
        std::iter::once(titles.map(String::from)).chain(self.between.iter().map(row)).collect()
    }
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, field) in widths.iter_mut().zip(row) {
            *width = field.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, field) in widths.iter().zip(row) {
            let _ = write!(line, "{field:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
