//! Injections: what was put before debuggees, how far that is, and the record of each run.

use super::samples::Debuggee;
use crate::{
    error::{PageError, PageResult},
    form::{Fields, Wrong},
    page::{Page, Section, html},
    person::{Person, Staff, ask},
    preview::Piece,
    record::Record,
};
use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use nonstop_api::{EnvironmentView, Request, samples::InjectionView};
use nonstop_model::{EnvironmentId, InjectBy, InjectionId, InjectionState};

/// The part of an environment's page.
#[derive(Default)]
pub(super) struct Injections {
    /// Whether anything can be put into it, or once was.
    shown: bool,
    /// Whether the machine is wanted on: it has to be.
    pub(super) on: bool,
    pub(super) rows: Vec<InjectionView>,
}

impl Injections {
    /// Those of `e`.
    pub(super) async fn of(person: &Person, e: &EnvironmentView) -> Result<Injections, PageError> {
        let Some(debuggee) = Debuggee::of(e) else { return Ok(Injections::default()) };
        let asked = Request::InjectionList { environment: Some(e.id) };
        Ok(Injections { shown: true, on: debuggee.on, rows: ask!(person, asked => Injections) })
    }

    pub(super) fn shown(&self) -> bool {
        self.shown
    }

    /// Whether one is just being put in.
    pub(super) fn putting_in(&self) -> bool {
        self.rows.iter().any(|row| row.state == InjectionState::Preparing)
    }

    /// Whether a disc is there, or on its way.
    pub(super) fn has_disc(&self) -> bool {
        self.rows.iter().any(|row| {
            row.by == InjectBy::Disc
                && matches!(row.state, InjectionState::Preparing | InjectionState::There)
        })
    }
}

#[derive(Template)]
#[template(path = "injections.html")]
struct List {
    p: Page,
    rows: Vec<InjectionView>,
    fields: Fields,
    wrong: Wrong,
}

pub(crate) async fn list(Staff(person): Staff) -> PageResult {
    let fields = Fields::query(&person.visitor.path);
    let mut p = person.page(Section::Data);
    let environment = match fields.get("environment") {
        "" => Ok(None),
        text => text.parse::<EnvironmentId>().map(Some),
    };
    let Ok(environment) = environment else {
        let mut wrong = Wrong::default();
        wrong.note("environment", p.f.field_environment);
        return html(&List { p, rows: Vec::new(), fields, wrong });
    };
    let rows = ask!(person, Request::InjectionList { environment } => Injections);
    if rows.iter().any(|row| row.state == InjectionState::Preparing) {
        p = p.refreshing(5);
    }
    html(&List { p, rows, fields, wrong: Wrong::default() })
}

#[derive(Template)]
#[template(path = "injection.html")]
struct Show {
    p: Page,
    id: InjectionId,
    record: Record,
}

/// The record of a run as a page to print.
pub(crate) async fn show(person: Person, Path(id): Path<InjectionId>) -> PageResult {
    let file = ask!(person, Request::InjectionRecord { id } => Record);
    let section = if person.is_staff() { Section::Data } else { Section::Home };
    let p = person.page(section);
    let record = Record::of(p.s, &file);
    html(&Show { p, id, record })
}

/// The file, as it was signed.
pub(crate) async fn file(person: Person, Path(id): Path<InjectionId>) -> PageResult {
    let file = ask!(person, Request::InjectionRecord { id } => Record);
    let name = format!("attachment; filename=\"nonstop-{id}-record.json\"");
    let name = HeaderValue::try_from(name).map_err(|_| PageError::Unexpected)?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], file).into_response())
}
