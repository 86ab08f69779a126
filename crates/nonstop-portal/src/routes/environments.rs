//! One environment: how it is, its machines and desktops, and what can be done with them.

use super::{
    injections::Injections,
    snapshots::{self, Snapshots},
};
use crate::{
    desktop::{self, Desktop},
    error::{PageError, PageResult},
    form::Fields,
    page::{Page, Section, html, see_other},
    person::{Person, Staff, ask},
    preview::Piece,
    transfer,
};
use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderName, HeaderValue, header},
    response::IntoResponse,
};
use nonstop_api::{EnvironmentStateView, EnvironmentView, MachineStateView, MachineView, Request};
use nonstop_model::{EnvironmentId, MachineRole, Power, RdpPolicy, RevertPolicy, SegmentKind};

#[derive(Template)]
#[template(path = "environment.html")]
struct Show {
    p: Page,
    e: EnvironmentView,
    machines: Vec<Row>,
    /// Whether it is granted: machines can be switched.
    alive: bool,
    /// Whether any machine is wanted on, and whether any is wanted off.
    any_on: bool,
    any_off: bool,
    /// Whether machines may be put back to clean.
    can_revert: bool,
    snapshots: Snapshots,
    injections: Injections,
    /// Fingerprint of the gateway's host key.
    host_key: String,
    /// Whether it is shown to its owner.
    own: bool,
    /// Where its files are found through the tunnel.
    files: String,
}

/// A machine and its desktop.
struct Row {
    m: MachineView,
    /// Whether it is joined to the other machines.
    linked: bool,
    on: bool,
    ready: bool,
    desktop: Option<Desktop>,
}

pub(crate) async fn show(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    let e = ask!(person, Request::EnvironmentShow { id } => Environment);
    let mut p = person.page(Section::Home);
    let alive = match e.state {
        EnvironmentStateView::Waiting
        | EnvironmentStateView::Preparing
        | EnvironmentStateView::Ready => true,
        EnvironmentStateView::Ended | EnvironmentStateView::Gone => false,
    };
    if e.state == EnvironmentStateView::Preparing {
        p = p.refreshing(3);
    }
    let snapshots = match alive {
        true => snapshots::of(&person, &p, &e).await?,
        false => Snapshots::default(),
    };
    let injections = Injections::of(&person, &e).await?;
    if snapshots.taking() || injections.putting_in() {
        p = p.refreshing(3);
    }
    let gateway = &person.me.lab.connect;
    let machines = e.machines.iter().map(|m| Row {
        linked: m.networks.contains(&SegmentKind::Link),
        on: m.power == Power::On,
        ready: m.state == MachineStateView::Ready,
        desktop: Desktop::of(gateway, &e, m),
        m: m.clone(),
    });
    let machines: Vec<Row> = machines.collect();
    let own = e.account == person.account.name;
    let any_on = machines.iter().any(|row| row.on);
    let any_off = machines.iter().any(|row| !row.on);
    let can_revert = e.revert == RevertPolicy::Anytime;
    // Both, while one takes the other's place.
    let next = gateway.next_host_key.as_ref().map(|next| next.fingerprint.as_str());
    let host_key = std::iter::once(gateway.fingerprint.as_str()).chain(next).collect::<Vec<_>>();
    let host_key = host_key.join(", ");
    let files = transfer::url(id, person.app.lab.airlock.outside_port);
    html(&Show {
        p,
        e,
        machines,
        alive,
        any_on,
        any_off,
        can_revert,
        snapshots,
        injections,
        host_key,
        own,
        files,
    })
}

pub(crate) async fn power(
    person: Person,
    Path(id): Path<EnvironmentId>,
    fields: Fields,
) -> PageResult {
    // Without a machine all of them are meant.
    let role = match fields.get("machine") {
        "" => None,
        role => Some(role.parse::<MachineRole>().map_err(|_| PageError::Bad)?),
    };
    let action = fields.get("action").parse().map_err(|_| PageError::Bad)?;
    person.ask(Request::EnvironmentPower { id, role, action }).await?;
    see_other(&format!("/environments/{id}?done=power"))
}

/// Asks before something that cannot be taken back.
#[derive(Template)]
#[template(path = "confirm.html")]
pub(super) struct Confirm {
    pub(super) p: Page,
    pub(super) heading: String,
    pub(super) what: &'static str,
    pub(super) button: &'static str,
    pub(super) back: String,
}

pub(crate) async fn ask_revert(
    person: Person,
    Path((id, role)): Path<(EnvironmentId, MachineRole)>,
) -> PageResult {
    let e = ask!(person, Request::EnvironmentShow { id } => Environment);
    if e.machines.iter().all(|m| m.role != role) {
        return Err(PageError::Missing);
    }
    let p = person.page(Section::Home);
    let heading = p.fill(p.t.revert_title, format!("{id} {}", p.machine_role(&role)));
    let (what, button) = (p.t.revert_what, p.t.revert_do);
    html(&Confirm { p, heading, what, button, back: format!("/environments/{id}") })
}

pub(crate) async fn ask_revert_unit(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    let _there = ask!(person, Request::EnvironmentShow { id } => Environment);
    let p = person.page(Section::Home);
    let heading = p.fill(p.t.revert_title, id);
    let (what, button) = (p.t.revert_unit_what, p.t.revert_do);
    html(&Confirm { p, heading, what, button, back: format!("/environments/{id}") })
}

pub(crate) async fn revert_unit(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    person.ask(Request::EnvironmentRevert { id, role: None }).await?;
    see_other(&format!("/environments/{id}?done=reverted"))
}

pub(crate) async fn revert(
    person: Person,
    Path((id, role)): Path<(EnvironmentId, MachineRole)>,
) -> PageResult {
    person.ask(Request::EnvironmentRevert { id, role: Some(role) }).await?;
    see_other(&format!("/environments/{id}?done=reverted"))
}

pub(crate) async fn ask_end(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    let e = ask!(person, Request::EnvironmentShow { id } => Environment);
    let p = person.page(Section::Home);
    let heading = p.fill(p.t.end_title, e.id);
    let (what, button) = (p.t.end_what, p.t.end_do);
    html(&Confirm { p, heading, what, button, back: format!("/environments/{id}") })
}

pub(crate) async fn end(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    person.ask(Request::EnvironmentEnd { id }).await?;
    see_other(&format!("/environments/{id}?done=ended"))
}

pub(crate) async fn extend(
    Staff(person): Staff,
    Path(id): Path<EnvironmentId>,
    fields: Fields,
) -> PageResult {
    let until = super::requests::instant(fields.get("until"), &person.app.zone);
    let until = until.ok_or(PageError::Bad)?;
    person.ask(Request::EnvironmentExtend { id, until }).await?;
    see_other(&format!("/environments/{id}?done=extended"))
}

pub(crate) async fn rdp_file(
    person: Person,
    Path((id, role)): Path<(EnvironmentId, MachineRole)>,
) -> PageResult {
    let e = ask!(person, Request::EnvironmentShow { id } => Environment);
    let machine = e.machines.iter().find(|m| m.role == role).ok_or(PageError::Missing)?;
    let file = desktop::rdp_file(machine).ok_or(PageError::Missing)?;
    rdp_answer(&format!("nonstop-{id}-{role}.rdp"), file)
}

/// `file` as a download called `name`.
pub(super) fn rdp_answer(name: &str, file: String) -> PageResult {
    let name = format!("attachment; filename=\"{name}\"");
    let headers: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/x-rdp")),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(name).map_err(|_| PageError::Unexpected)?,
        ),
    ];
    Ok((headers, file).into_response())
}
