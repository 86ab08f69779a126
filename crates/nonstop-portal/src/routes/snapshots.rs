//! Snapshots of an environment's machines: what there is, taking one, going back to one, deleting
//! one. They are shown on the environment's page.

use super::environments::Confirm;
use crate::{
    error::{PageError, PageResult},
    form::Fields,
    page::{Badge, Page, Section, html, see_other},
    person::{Person, ask},
};
use axum::extract::Path;
use nonstop_api::{EnvironmentView, Request, SnapshotView};
use nonstop_model::{EnvironmentId, MachineRole, RevertPolicy, SnapshotId, SnapshotState};

/// The part of an environment's page.
#[derive(Default)]
pub(super) struct Snapshots {
    pub(super) rows: Vec<Row>,
    /// Whether another may be taken.
    pub(super) may_take: bool,
}

/// One of them.
pub(super) struct Row {
    pub(super) s: SnapshotView,
    pub(super) badge: Badge,
    /// Whether one can return to it.
    pub(super) whole: bool,
    /// Why it could not be taken; empty for one that could.
    pub(super) why: String,
}

impl Snapshots {
    /// Whether there is anything to show.
    pub(super) fn shown(&self) -> bool {
        self.may_take || !self.rows.is_empty()
    }

    /// Whether one is just being taken.
    pub(super) fn taking(&self) -> bool {
        self.rows.iter().any(|row| row.s.state == SnapshotState::Taking)
    }
}

/// Those of `e`, as its page shows them.
pub(super) async fn of(
    person: &Person,
    p: &Page,
    e: &EnvironmentView,
) -> Result<Snapshots, PageError> {
    let may_take = e.snapshots > 0 && e.revert == RevertPolicy::Anytime;
    if !may_take {
        return Ok(Snapshots { rows: Vec::new(), may_take });
    }
    let rows = all(person, e.id).await?.into_iter().map(|s| {
        let (class, text, why) = match &s.state {
            SnapshotState::Taking => ("busy", p.t.snapshot_taking, ""),
            SnapshotState::Whole => ("good", p.t.snapshot_whole, ""),
            SnapshotState::Failed { why } => ("bad", p.t.snapshot_failed, why.as_str()),
            SnapshotState::Deleted => ("quiet", p.t.state_gone, ""),
        };
        let (whole, why) = (s.state == SnapshotState::Whole, why.to_owned());
        Row { badge: Badge { class, text }, whole, why, s }
    });
    Ok(Snapshots { rows: rows.collect(), may_take })
}

async fn all(person: &Person, id: EnvironmentId) -> Result<Vec<SnapshotView>, PageError> {
    Ok(ask!(person, Request::SnapshotList { id } => Snapshots))
}

async fn one(
    person: &Person,
    id: EnvironmentId,
    snapshot: SnapshotId,
) -> Result<SnapshotView, PageError> {
    let found = all(person, id).await?.into_iter().find(|s| s.id == snapshot);
    found.ok_or(PageError::Missing)
}

pub(crate) async fn take(
    person: Person,
    Path(id): Path<EnvironmentId>,
    fields: Fields,
) -> PageResult {
    let role = match fields.get("machine") {
        "" => None,
        role => Some(role.parse::<MachineRole>().map_err(|_| PageError::Bad)?),
    };
    let name = fields.get("name").parse().map_err(|_| PageError::Bad)?;
    person.ask(Request::SnapshotTake { id, name, role }).await?;
    see_other(&format!("/environments/{id}?done=taking"))
}

pub(crate) async fn ask_return(
    person: Person,
    Path((id, snapshot)): Path<(EnvironmentId, SnapshotId)>,
) -> PageResult {
    let s = one(&person, id, snapshot).await?;
    let p = person.page(Section::Home);
    let heading = p.fill(p.t.snapshot_return_title, &s.name);
    let (what, button) = (p.t.snapshot_return_what, p.t.snapshot_return_do);
    html(&Confirm { p, heading, what, button, back: format!("/environments/{id}") })
}

pub(crate) async fn go_back(
    person: Person,
    Path((id, snapshot)): Path<(EnvironmentId, SnapshotId)>,
) -> PageResult {
    let name = one(&person, id, snapshot).await?.name;
    person.ask(Request::SnapshotReturn { id, name, role: None }).await?;
    see_other(&format!("/environments/{id}?done=returned"))
}

pub(crate) async fn ask_return_one(
    person: Person,
    Path((id, snapshot, role)): Path<(EnvironmentId, SnapshotId, MachineRole)>,
) -> PageResult {
    let s = one(&person, id, snapshot).await?;
    if s.machines.iter().all(|m| m.role != role) {
        return Err(PageError::Missing);
    }
    let p = person.page(Section::Home);
    let which = format!("{} ({})", s.name, p.machine_role(&role));
    let heading = p.fill(p.t.snapshot_return_title, which);
    let (what, button) = (p.t.snapshot_return_what, p.t.snapshot_return_do);
    html(&Confirm { p, heading, what, button, back: format!("/environments/{id}") })
}

pub(crate) async fn go_back_one(
    person: Person,
    Path((id, snapshot, role)): Path<(EnvironmentId, SnapshotId, MachineRole)>,
) -> PageResult {
    let name = one(&person, id, snapshot).await?.name;
    person.ask(Request::SnapshotReturn { id, name, role: Some(role) }).await?;
    see_other(&format!("/environments/{id}?done=returned"))
}

pub(crate) async fn ask_delete(
    person: Person,
    Path((id, snapshot)): Path<(EnvironmentId, SnapshotId)>,
) -> PageResult {
    let s = one(&person, id, snapshot).await?;
    let p = person.page(Section::Home);
    let heading = p.fill(p.t.snapshot_delete_title, &s.name);
    let (what, button) = (p.t.snapshot_delete_what, p.t.snapshot_delete_do);
    html(&Confirm { p, heading, what, button, back: format!("/environments/{id}") })
}

pub(crate) async fn delete(
    person: Person,
    Path((id, snapshot)): Path<(EnvironmentId, SnapshotId)>,
) -> PageResult {
    let name = one(&person, id, snapshot).await?.name;
    person.ask(Request::SnapshotDelete { id, name }).await?;
    see_other(&format!("/environments/{id}?done=snapshot_deleted"))
}
