//! The home page: what is yours, or for staff what is to do and how the lab is.

use crate::{
    error::PageResult,
    page::{Page, Section, html},
    person::{Person, ask},
};
use askama::Template;
use nonstop_api::{EnvironmentStateView, EnvironmentView, Request, RequestView, StatsView};
use nonstop_model::RequestState;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    p: Page,
    environments: Vec<EnvironmentView>,
    open: Vec<RequestView>,
    /// The lab's figures, for staff.
    stats: Option<StatsView>,
}

pub(crate) async fn home(person: Person) -> PageResult {
    let mut environments = ask!(person, Request::EnvironmentList { all: false } => Environments);
    environments.retain(|e| e.state != EnvironmentStateView::Gone);
    let mut open = ask!(person, Request::RequestList => Requests);
    open.retain(|r| r.state == RequestState::Open);
    let stats = match person.is_staff() {
        true => Some(ask!(person, Request::Stats => Stats)),
        false => None,
    };
    let mut p = person.page(Section::Home);
    if environments.iter().any(|e| e.state == EnvironmentStateView::Preparing) {
        p = p.refreshing(5);
    }
    html(&Home { p, environments, open, stats })
}
