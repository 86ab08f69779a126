//! The proof of reach: for staff.

use crate::{
    error::PageResult,
    page::{Badge, Page, Section, html, see_other},
    person::{Staff, ask},
};
use askama::Template;
use nonstop_api::{ProbeView, ProbedView, ProofColour, ProofView, Request};

#[derive(Template)]
#[template(path = "reach.html")]
struct Reach {
    p: Page,
    proof: Option<ProofView>,
    probe: ProbeView,
}

impl Reach {
    fn cell_badge(&self, colour: &ProofColour) -> Badge {
        let t = self.p.t;
        let (class, text) = match colour {
            ProofColour::Green => ("good", t.cell_agrees),
            ProofColour::Red => ("bad", t.cell_differs),
            ProofColour::Unproven => ("busy", t.proof_unproven),
        };
        Badge { class, text }
    }

    fn between_badge(&self, open: &u64) -> Badge {
        let t = self.p.t;
        let (class, text) = match open {
            0 => ("good", t.between_closed),
            _ => ("bad", t.between_open),
        };
        Badge { class, text }
    }

    fn probe_badge(&self, probed: &ProbedView) -> Badge {
        let t = self.p.t;
        let (class, text) = match (probed.holds, &probed.problem) {
            (true, _) => ("good", t.probe_holds),
            (false, None) => ("bad", t.probe_fails),
            (false, Some(_)) => ("busy", t.probe_broke),
        };
        Badge { class, text }
    }

    /// How long it took, in seconds.
    fn took(&self, proof: &ProofView) -> String {
        format!("{}.{:03}", proof.took_ms / 1000, proof.took_ms % 1000)
    }
}

pub(crate) async fn show(Staff(person): Staff) -> PageResult {
    let proof = ask!(person, Request::ReachProof => Proof);
    let probe = ask!(person, Request::ReachProbed => Probe);
    html(&Reach { p: person.page(Section::Reach), proof, probe })
}

pub(crate) async fn prove(Staff(person): Staff) -> PageResult {
    person.ask(Request::ReachProve).await?;
    see_other("/reach?done=proven")
}

pub(crate) async fn probe(Staff(person): Staff) -> PageResult {
    person.ask(Request::ReachProbe).await?;
    see_other("/reach?done=probing")
}
