//! The home page: what is yours, or for staff what is to do and how the lab is.

use crate::{
    error::PageResult,
    page::{Page, Section, html},
    person::{Person, ask},
};
use askama::Template;
use nonstop_api::{
    DesktopSessionView, EnvironmentStateView, EnvironmentView, Request, RequestView, StatsView,
};
use nonstop_model::RequestState;

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    p: Page,
    environments: Vec<EnvironmentView>,
    open: Vec<RequestView>,
    /// Displays that used up their bytes of an hour, for staff.
    over: Vec<DesktopSessionView>,
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
    let over_budget = Request::DesktopSessions { environment: None, all: true, over_budget: true };
    let over = match person.is_staff() {
        true => ask!(person, over_budget => DesktopSessions),
        false => Vec::new(),
    };
    let mut p = person.page(Section::Home);
    if environments.iter().any(|e| e.state == EnvironmentStateView::Preparing) {
        p = p.refreshing(5);
    }
    html(&Home { p, environments, open, over, stats })
}
