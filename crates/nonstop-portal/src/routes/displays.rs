//! Displays: who looked and what went through, who else may look, and for staff the raw ways.

use crate::{
    desktop::{self, Desktop},
    error::{PageError, PageResult},
    form::Fields,
    page::{Page, Section, html, see_other},
    person::{Person, ask},
};
use askama::Template;
use axum::extract::Path;
use nonstop_api::{DesktopSessionView, EnvironmentView, Request, ViewGrantView};
use nonstop_model::{EnvironmentId, MachineRole, RdpPolicy};
use std::time::Duration;

#[derive(Template)]
#[template(path = "displays.html")]
struct List {
    p: Page,
    sessions: Vec<DesktopSessionView>,
    all: bool,
    views: Vec<View>,
    /// Environments whose desktop comes the raw way, for staff.
    raw: Vec<EnvironmentView>,
}

/// A permission to see, and how to get there if it is the visitor's own.
struct View {
    v: ViewGrantView,
    way: Option<Desktop>,
}

pub(crate) async fn list(person: Person) -> PageResult {
    let all = Fields::query(&person.visitor.path).get("all") == "1";
    let request = Request::DesktopSessions { environment: None, all, over_budget: false };
    let sessions = ask!(person, request => DesktopSessions);
    let views = ask!(person, Request::ViewList => Views);
    let views = views.into_iter().map(|v| View {
        way: (v.account == person.account.name && v.ready)
            .then(|| Desktop::of_view(&person.me.lab.connect, &v)),
        v,
    });
    let raw = match person.is_staff() {
        true => {
            let mut all = ask!(person, Request::EnvironmentList { all: false } => Environments);
            all.retain(|e| e.machines.iter().any(|m| m.rdp == RdpPolicy::Guest));
            all
        }
        false => Vec::new(),
    };
    let views = views.collect();
    html(&List { p: person.page(Section::Displays), sessions, all, views, raw })
}

pub(crate) async fn open_view(
    person: Person,
    Path((id, role)): Path<(EnvironmentId, MachineRole)>,
    fields: Fields,
) -> PageResult {
    let account = fields.get("account").parse().map_err(|_| PageError::Bad)?;
    let hours: u32 = fields.get("hours").parse().map_err(|_| PageError::Bad)?;
    let length = Duration::from_secs(u64::from(hours) * 3600);
    let until = (person.app.now)().checked_add(length).map_err(|_| PageError::Bad)?;
    let reason = fields.get("reason").to_string();
    person.ask(Request::ViewOpen { id, role, account, reason, until }).await?;
    see_other("/displays?done=view")
}

pub(crate) async fn end_view(person: Person, Path(id): Path<u64>) -> PageResult {
    person.ask(Request::ViewEnd { id }).await?;
    see_other("/displays?done=view_ended")
}

pub(crate) async fn view_rdp_file(person: Person, Path(id): Path<u64>) -> PageResult {
    let views = ask!(person, Request::ViewList => Views);
    let own = views.iter().find(|v| v.id == id && v.account == person.account.name);
    let view = own.ok_or(PageError::Missing)?;
    let name = format!("nonstop-{}-{}-view.rdp", view.environment, view.role);
    super::environments::rdp_answer(&name, desktop::view_rdp_file(view))
}
