//! The proof of reach: for staff.

use crate::{
    error::PageResult,
    page::{Badge, Page, Section, html, see_other},
    person::{Staff, ask},
};
use askama::Template;
use nonstop_api::{ProofColour, ProofView, Request};

#[derive(Template)]
#[template(path = "reach.html")]
struct Reach {
    p: Page,
    proof: Option<ProofView>,
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

    /// How long it took, in seconds.
    fn took(&self, proof: &ProofView) -> String {
        format!("{}.{:03}", proof.took_ms / 1000, proof.took_ms % 1000)
    }
}

pub(crate) async fn show(Staff(person): Staff) -> PageResult {
    let proof = ask!(person, Request::ReachProof => Proof);
    html(&Reach { p: person.page(Section::Reach), proof })
}

pub(crate) async fn prove(Staff(person): Staff) -> PageResult {
    person.ask(Request::ReachProve).await?;
    see_other("/reach?done=proven")
}
