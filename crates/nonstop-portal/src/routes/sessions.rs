//! Sessions at the gateway: one's own, or for staff all.

use crate::{
    error::PageResult,
    form::Fields,
    page::{Page, Section, html, see_other},
    person::{Person, ask},
};
use askama::Template;
use axum::extract::Path;
use nonstop_api::{RefusedLoginsView, Request, SessionView};

#[derive(Template)]
#[template(path = "sessions.html")]
struct List {
    p: Page,
    sessions: Vec<SessionView>,
    all: bool,
    refused: Option<RefusedLoginsView>,
}

/// Refusals that the page shows; the CLI shows more.
const ROWS: usize = 100;

pub(crate) async fn list(person: Person) -> PageResult {
    let all = Fields::query(&person.visitor.path).get("all") == "1";
    let sessions = ask!(person, Request::SessionList { all } => Sessions);
    let refused = match person.is_staff() {
        false => None,
        true => {
            let request = Request::RefusedLogins { hours: 24 };
            let mut refused = ask!(person, request => RefusedLogins);
            refused.rows.truncate(ROWS);
            Some(refused)
        }
    };
    html(&List { p: person.page(Section::Sessions), sessions, all, refused })
}

pub(crate) async fn end(person: Person, Path(id): Path<u64>) -> PageResult {
    person.ask(Request::SessionEnd { id }).await?;
    see_other("/sessions?done=session")
}
