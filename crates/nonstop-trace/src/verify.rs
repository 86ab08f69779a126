//! Holding a trace, row by row, against its own chain and against what was signed of it before.

use crate::{
    evidence::{Evidence, Source},
    row::{Hash, Row},
};
use serde::{Deserialize, Serialize};

/// What is taken from a trace, from its first row to its last.
#[derive(Debug)]
pub struct Verifier<'a> {
    evidence: &'a Evidence,
    rows: u64,
    head: Hash,
    broken_at: Option<u64>,
    agreed: Option<Agreed>,
    differs: Option<Differs>,
    /// How many of the lab's own heads were looked at.
    own: usize,
    own_differs: Option<u64>,
}

/// The last row for which a signed hash was kept elsewhere that is still the row's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The row.
    pub seq: u64,
    /// Where that stands.
    pub source: Source,
}

/// The trace is another than the one that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// Up to this row it is the same; 0 where that is not known of any.
    pub after: u64,
    /// In this row, at the latest, it is not.
    pub at: u64,
    /// The hash that was signed for that row.
    pub signed: Hash,
    /// The hash it has now.
    pub found: Hash,
    /// Where the signed one stands.
    pub source: Source,
}

/// Rows that were signed are not there any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncated {
    /// The last row that is there.
    pub rows: u64,
    /// A row that was signed.
    pub signed: u64,
    /// Where that stands.
    pub source: Source,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Rows whose hashes follow from each other, from the first on.
    pub rows: u64,
    /// The hash of the last of them.
    pub head: Hash,
    /// The first row whose hash does not follow, or whose number is not the next.
    pub broken_at: Option<u64>,
    /// The last row that is as it was signed.
    pub agreed: Option<Agreed>,
    /// Where the trace is not what was signed.
    pub differs: Option<Differs>,
    /// What is missing at its end.
    pub truncated: Option<Truncated>,
    /// The first row that is not what the lab's own head in its database says, or is not there.
    pub own_differs: Option<u64>,
    /// Rows for which two hashes were signed: the lab has shown two histories.
    pub contradicting: Vec<u64>,
    /// Heads that were held against it.
    pub heads: usize,
    /// Receipts that were held against it.
    pub receipts: usize,
    /// What was brought as evidence and is none, and why.
    pub refused: Vec<(Source, String)>,
}

impl Report {
    /// Whether nothing speaks against the trace, and nothing that was brought is worthless.
    pub fn good(&self) -> bool {
        self.broken_at.is_none()
            && self.differs.is_none()
            && self.truncated.is_none()
            && self.own_differs.is_none()
            && self.contradicting.is_empty()
            && self.refused.is_empty()
    }
}

impl<'a> Verifier<'a> {
    /// Begins before the first row.
    pub fn new(evidence: &'a Evidence) -> Verifier<'a> {
        let mut verifier = Verifier {
            evidence,
            rows: 0,
            head: Hash::ZERO,
            broken_at: None,
            agreed: None,
            differs: None,
            own: 0,
            own_differs: None,
        };
        // A receipt of the first row says what stands before it.
        verifier.hold(0);
        verifier.agreed = None;
        verifier
    }

    /// Takes the next row. What comes behind one that does not fit is not looked at.
    pub fn row(&mut self, row: &Row) {
        if self.broken_at.is_some() {
            return;
        }
        let next = self.rows + 1;
        if row.seq != next || row.recomputed(&self.head) != row.hash {
            self.broken_at = Some(next);
            return;
        }
        (self.rows, self.head) = (next, row.hash);
        self.hold(next);
        while let Some((seq, hash, _)) = self.evidence.own_points().get(self.own)
            && *seq <= next
        {
            self.own += 1;
            if *seq == next && *hash != self.head {
                self.own_differs.get_or_insert(next);
            }
        }
    }

    /// Holds the last row against what was signed for it.
    fn hold(&mut self, seq: u64) {
        for (signed, source) in self.evidence.points().get(&seq).into_iter().flatten() {
            if *signed != self.head {
                let after = self.agreed.as_ref().map_or(0, |agreed| agreed.seq);
                let (signed, found, source) = (*signed, self.head, source.clone());
                let differs = Differs { after, at: seq, signed, found, source };
                self.differs.get_or_insert(differs);
            } else if self.differs.is_none() {
                self.agreed = Some(Agreed { seq, source: source.clone() });
            }
        }
    }

    /// What was found: the trace ends here.
    pub fn finish(self) -> Report {
        let points = self.evidence.points();
        let beyond = points.range(self.rows + 1..).next();
        let truncated = beyond.filter(|_| self.broken_at.is_none()).and_then(|_| {
            let (signed, known) = points.last_key_value()?;
            let source = known.first()?.1.clone();
            Some(Truncated { rows: self.rows, signed: *signed, source })
        });
        let own_left = self.evidence.own_points().get(self.own).map(|(seq, ..)| *seq);
        let own_left = own_left.filter(|_| self.broken_at.is_none());
        let contradicting = points.iter().filter(|(_, known)| known.len() > 1);
        Report {
            rows: self.rows,
            head: self.head,
            broken_at: self.broken_at,
            agreed: self.agreed,
            differs: self.differs,
            truncated,
            own_differs: self.own_differs.or(own_left),
            contradicting: contradicting.map(|(seq, _)| *seq).collect(),
            heads: self.evidence.heads(),
            receipts: self.evidence.receipts(),
            refused: self.evidence.refused().to_vec(),
        }
    }
}
