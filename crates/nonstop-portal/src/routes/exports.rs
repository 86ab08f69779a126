//! Exports: the queue of those that wait for a person, one with all that a decision needs, and
//! deciding. Its owner sees no more of one than the lab tells outside.

use crate::{
    error::{PageError, PageResult},
    form::{Fields, Wrong},
    page::{Page, Section, html, see_other},
    person::{Person, Staff, ask},
    preview::{self, Piece, Preview},
    transfer::{RuleText, rules},
};
use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::{Html, IntoResponse},
};
use nonstop_api::{ApiError, ExportView, Reply, Request};
use nonstop_model::{EnvironmentId, ExportId, ExportState};
use std::{fs::File, time::Duration};

/// How long a page waits for its preview; it is shown without one then.
const PREVIEW_PATIENCE: Duration = Duration::from_secs(15);

/// As many exports does the daemon tell of at once.
const MOST: usize = 1000;

/// States in the order of the filter; none of them is what waits.
const STATES: [ExportState; 8] = [
    ExportState::Submitted,
    ExportState::Screening,
    ExportState::Held,
    ExportState::Blocked,
    ExportState::Released,
    ExportState::Refused,
    ExportState::Withdrawn,
    ExportState::Revoked,
];

#[derive(Template)]
#[template(path = "exports.html")]
struct List {
    p: Page,
    exports: Vec<ExportView>,
    /// Beside the queue, those that were blocked in the last days.
    blocked: Vec<ExportView>,
    fields: Fields,
    wrong: Wrong,
    /// Whether there may be more than were looked through.
    cut: bool,
}

impl List {
    fn empty(p: Page, fields: Fields) -> List {
        let (exports, blocked) = (Vec::new(), Vec::new());
        List { p, exports, blocked, fields, wrong: Wrong::default(), cut: false }
    }

    fn most(&self) -> usize {
        MOST
    }

    fn states(&self) -> [ExportState; 8] {
        STATES
    }

    /// Whether the filter is at `word`.
    fn is(&self, word: &str) -> bool {
        self.fields.get("state") == word
    }

    /// Whether it is the queue that is shown.
    fn is_queue(&self) -> bool {
        self.is("")
    }
}

pub(crate) async fn list(Staff(person): Staff) -> PageResult {
    let fields = Fields::query(&person.visitor.path);
    let mut list = List::empty(person.page(Section::Exports), fields.clone());
    let environment = match fields.get("environment") {
        "" => Ok(None),
        text => text.parse::<EnvironmentId>().map(Some),
    };
    let Ok(environment) = environment else {
        list.wrong.note("environment", list.p.f.field_environment);
        return html(&list);
    };
    let state = STATES.into_iter().find(|state| state.as_str() == fields.get("state"));
    let waiting = fields.get("state").is_empty();
    let asked = Request::ExportList { environment, waiting, all: !waiting };
    list.exports = ask!(person, asked => Exports);
    list.cut = list.exports.len() >= MOST;
    list.exports.retain(|x| state.is_none_or(|state| x.state == state));
    if waiting {
        let lately = Request::ExportList { environment, waiting: false, all: false };
        list.blocked = ask!(person, lately => Exports);
        list.blocked.retain(|x| x.state == ExportState::Blocked);
    }
    let account = fields.get("account");
    for all in [&mut list.exports, &mut list.blocked] {
        all.retain(|x| account.is_empty() || x.account.as_str() == account);
    }
    html(&list)
}

#[derive(Template)]
#[template(path = "export.html")]
struct Show {
    p: Page,
    x: ExportView,
    /// Whether it is shown to its owner.
    own: bool,
    rules: Vec<RuleText>,
    preview: Option<Preview>,
    /// Why a decision was not taken.
    said: Option<ApiError>,
    /// What was typed with it.
    fields: Fields,
    /// Where a machine reads more.
    inside: String,
}

impl Show {
    async fn of(person: &Person, id: ExportId) -> Result<Show, PageError> {
        let x = ask!(person, Request::ExportShow { id } => Export);
        let own = x.account == person.account.name;
        let section = if person.is_staff() { Section::Exports } else { Section::Transfers };
        let mut p = person.page(section);
        if x.state.is_under_way() {
            p = p.refreshing(3);
        }
        let screened = x.about.as_ref().is_some_and(|about| about.sha256.is_some());
        let preview = match person.is_staff() && screened {
            true => Some(preview_of(person, id).await),
            false => None,
        };
        Ok(Show {
            rules: rules(p.f, &x.rules),
            inside: status_page(person),
            said: None,
            fields: Fields::default(),
            p,
            x,
            own,
            preview,
        })
    }

    /// Whether its owner may still say something to it.
    fn may_note(&self) -> bool {
        self.own && self.x.state.can_be_withdrawn()
    }

    /// Whether it was released, now or once.
    fn has_receipt(&self) -> bool {
        matches!(self.x.state, ExportState::Released | ExportState::Revoked)
    }
}

/// Where a machine reads what became of its exports.
pub(super) fn status_page(person: &Person) -> String {
    format!("http://airlock:{}/status", person.app.lab.airlock.port)
}

/// A decision does not depend on the preview: whatever goes wrong with it, the page is shown.
async fn preview_of(person: &Person, id: ExportId) -> Preview {
    // A picture comes beside the answer, and is left there: the browser asks for it by itself.
    let asked = person.ask(Request::ExportPreview { id });
    match tokio::time::timeout(PREVIEW_PATIENCE, asked).await {
        Ok(Ok(Reply::Preview(seen))) => Preview::of(seen),
        Ok(Err(PageError::Refused(said))) => Preview::None(said.message),
        _ => Preview::Failed,
    }
}

pub(crate) async fn show(person: Person, Path(id): Path<ExportId>) -> PageResult {
    html(&Show::of(&person, id).await?)
}

/// The picture in an export, its pixels alone.
pub(crate) async fn picture(Staff(person): Staff, Path(id): Path<ExportId>) -> PageResult {
    let asked = Request::ExportPreview { id };
    let read = |file: File| preview::picture_anew(file);
    let answer = person.app.ask_for_file(&person.visitor.connection, asked, read).await?;
    // Of what is no picture, or too large a one, none comes.
    let png = answer.and_then(|(_, png)| png).ok_or(PageError::Missing)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/png")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("inline; filename=\"preview.png\"")),
    ];
    Ok((headers, png).into_response())
}

pub(crate) async fn release(
    Staff(person): Staff,
    Path(id): Path<ExportId>,
    fields: Fields,
) -> PageResult {
    let reason = fields.get("reason").to_string();
    let done = "/exports?done=export_released";
    decide(&person, id, Request::ExportRelease { id, reason }, done, fields).await
}

pub(crate) async fn refuse(
    Staff(person): Staff,
    Path(id): Path<ExportId>,
    fields: Fields,
) -> PageResult {
    let reason = fields.get("reason").to_string();
    let done = "/exports?done=export_refused";
    decide(&person, id, Request::ExportRefuse { id, reason }, done, fields).await
}

pub(crate) async fn revoke(
    Staff(person): Staff,
    Path(id): Path<ExportId>,
    fields: Fields,
) -> PageResult {
    let reason = fields.get("reason").to_string();
    let done = format!("/exports/{id}?done=export_revoked");
    decide(&person, id, Request::ExportRevoke { id, reason }, &done, fields).await
}

pub(crate) async fn note(person: Person, Path(id): Path<ExportId>, fields: Fields) -> PageResult {
    let note = fields.get("note").to_string();
    let done = format!("/exports/{id}?done=noted");
    decide(&person, id, Request::ExportNote { id, note }, &done, fields).await
}

/// Asks for `request`. Where the lab says no, the export is shown as it is now, with the reason and
/// with what was typed: somebody else may have decided meanwhile.
async fn decide(
    person: &Person,
    id: ExportId,
    request: Request,
    done: &str,
    fields: Fields,
) -> PageResult {
    match person.ask(request).await {
        Ok(_) => see_other(done),
        Err(error) => {
            let PageError::Refused(said) = error.clone() else { return Err(error) };
            // Where there is none, or none that may be seen, that is what is said.
            let mut page = Show::of(person, id).await?;
            // It would be the form that is sent again.
            page.p.refresh = None;
            let page = Show { said: Some(said), fields, ..page };
            Ok((error.status(), Html(page.render()?)).into_response())
        }
    }
}

/// The file that says what was released.
pub(crate) async fn receipt(person: Person, Path(id): Path<ExportId>) -> PageResult {
    let file = ask!(person, Request::ExportReceipt { id } => Receipt);
    let name = format!("attachment; filename=\"nonstop-{id}-receipt.json\"");
    let name = HeaderValue::try_from(name).map_err(|_| PageError::Unexpected)?;
    let kind = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], file).into_response())
}
