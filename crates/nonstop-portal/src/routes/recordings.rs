//! Recordings of displays, for staff: begun, ended, and looked at once a reason was given.

use crate::{
    error::{PageError, PageResult},
    form::Fields,
    page::{Page, Section, html, see_other},
    person::{Person, Staff, ask},
    playback::{self, Look},
};
use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use jiff::Timestamp;
use nonstop_api::{RecordingView, Reply, Request};
use nonstop_display::recording::RecordingError;
use nonstop_model::{EnvironmentId, MachineRole};
use std::fs::File;

#[derive(Template)]
#[template(path = "recordings.html")]
struct List {
    p: Page,
    recordings: Vec<RecordingView>,
}

pub(crate) async fn list(Staff(person): Staff) -> PageResult {
    let recordings = ask!(person, Request::RecordingList => Recordings);
    html(&List { p: person.page(Section::Displays), recordings })
}

pub(crate) async fn begin(
    Staff(person): Staff,
    Path((id, role)): Path<(EnvironmentId, MachineRole)>,
    fields: Fields,
) -> PageResult {
    let reason = fields.get("reason").to_string();
    person.ask(Request::RecordingBegin { id, role, reason }).await?;
    see_other("/recordings?done=recording")
}

pub(crate) async fn end(Staff(person): Staff, Path(id): Path<u64>) -> PageResult {
    person.ask(Request::RecordingEnd { id }).await?;
    see_other("/recordings?done=recording_ended")
}

/// Why it is looked at; then it may be, for an hour.
pub(crate) async fn play(Staff(person): Staff, Path(id): Path<u64>, fields: Fields) -> PageResult {
    let reason = fields.get("reason").to_string();
    person.ask(Request::RecordingPlay { id, reason }).await?;
    see_other(&format!("/recordings/{id}"))
}

#[derive(Template)]
#[template(path = "recording.html")]
struct Show {
    p: Page,
    r: RecordingView,
    look: Look,
    /// Whether it plays from here.
    film: bool,
}

impl Show {
    /// A time of the recording.
    fn at(&self, ms: &u64) -> String {
        let at = i64::try_from(*ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        at.map_or_else(String::new, |at| self.p.second(at))
    }

    /// Where in the recording this is.
    fn place(&self) -> String {
        let place = self.p.fill(self.p.t.recording_at, self.look.number);
        self.p.fill(&place, self.look.pictures)
    }

    fn before(&self, by: usize) -> usize {
        self.look.number.saturating_sub(by).max(1)
    }

    fn after(&self, by: usize) -> usize {
        (self.look.number + by).min(self.look.pictures)
    }

    fn after_film(&self) -> usize {
        playback::after_film(self.look.number).min(self.look.pictures)
    }
}

pub(crate) async fn show(Staff(person): Staff, Path(id): Path<u64>) -> PageResult {
    let query = Fields::query(&person.visitor.path);
    let (at, film) = (number(&query), query.get("film") == "1");
    let (r, look) = read(&person, id, move |stream| playback::look(stream, at)).await?;
    html(&Show { p: person.page(Section::Displays), r, look, film })
}

pub(crate) async fn picture(Staff(person): Staff, Path(id): Path<u64>) -> PageResult {
    let at = number(&Fields::query(&person.visitor.path));
    let (_, png) = read(&person, id, move |stream| playback::picture(stream, at)).await?;
    png_answer(png)
}

pub(crate) async fn film(Staff(person): Staff, Path(id): Path<u64>) -> PageResult {
    let at = number(&Fields::query(&person.visitor.path));
    let (_, png) = read(&person, id, move |stream| playback::film(stream, at)).await?;
    png_answer(png)
}

fn number(query: &Fields) -> usize {
    query.get("at").parse().unwrap_or(1)
}

fn png_answer(png: Option<Vec<u8>>) -> PageResult {
    let png = png.ok_or(PageError::Missing)?;
    let kind = HeaderValue::from_static("image/png");
    Ok(([(header::CONTENT_TYPE, kind)], png).into_response())
}

/// Reads the recording `id`, if the person has said why.
async fn read<T: Send + 'static>(
    person: &Person,
    id: u64,
    how: impl FnOnce(File) -> Result<T, RecordingError> + Send + 'static,
) -> Result<(RecordingView, T), PageError> {
    let request = Request::RecordingStream { id };
    let answer = person.app.ask_for_file(&person.visitor.connection, request, how).await?;
    let (reply, read) = answer.ok_or_else(|| {
        tracing::error!("recording {id} came without its file");
        PageError::Unexpected
    })?;
    let Reply::Recording(recording) = reply else { return Err(PageError::Unexpected) };
    let read = read.map_err(|e| {
        tracing::error!("read recording {id}: {e}");
        PageError::Unexpected
    })?;
    Ok((recording, read))
}
