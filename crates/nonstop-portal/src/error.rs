//! Errors as pages: what is wrong, why, and what to do.
//!
//! A handler returns a [`PageError`]; the answer carries it to the guard, which knows the
//! visitor's language and makes the page. An error of the framework itself (no such page, wrong
//! method) is made a page there too.

use crate::{
    app::App,
    guard::Visitor,
    page::{Page, Section},
    texts::Texts,
};
use askama::Template;
use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use nonstop_api::{ApiError, CallError, ErrorCode, WireError};
use tracing::{error, warn};

/// Why a page cannot be shown or an action was not done.
#[derive(Debug, Clone)]
pub(crate) enum PageError {
    /// A foreign `Host`.
    Host,
    /// A form of another site.
    Origin,
    /// A form without its token.
    Token,
    /// The request makes no sense.
    Bad,
    /// A form over the limit.
    TooLarge,
    /// Only staff may.
    Forbidden,
    /// No such page.
    Missing,
    /// It took too long.
    Slow,
    /// The daemon said no.
    Refused(ApiError),
    /// The daemon does not answer.
    NoDaemon,
    /// A page could not be made, or the daemon answered something else.
    Unexpected,
}

/// The result of a handler.
pub(crate) type PageResult = Result<Response, PageError>;

impl From<CallError> for PageError {
    fn from(e: CallError) -> PageError {
        match e {
            CallError::Refused(refusal) => PageError::Refused(refusal),
            CallError::Connect { .. } | CallError::Wire(WireError::Io(_)) => PageError::NoDaemon,
            CallError::Wire(_) | CallError::NoFile => {
                error!("{e}");
                PageError::Unexpected
            }
        }
    }
}

impl From<askama::Error> for PageError {
    fn from(e: askama::Error) -> PageError {
        error!("make a page: {e}");
        PageError::Unexpected
    }
}

impl PageError {
    /// The status that an answer has with it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            PageError::Host | PageError::Origin | PageError::Token | PageError::Forbidden => {
                StatusCode::FORBIDDEN
            }
            PageError::Bad => StatusCode::BAD_REQUEST,
            PageError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            PageError::Missing => StatusCode::NOT_FOUND,
            PageError::Slow => StatusCode::GATEWAY_TIMEOUT,
            PageError::NoDaemon => StatusCode::SERVICE_UNAVAILABLE,
            PageError::Unexpected => StatusCode::INTERNAL_SERVER_ERROR,
            PageError::Refused(refusal) => match refusal.code {
                ErrorCode::Invalid => StatusCode::BAD_REQUEST,
                ErrorCode::NotFound => StatusCode::NOT_FOUND,
                ErrorCode::Forbidden => StatusCode::FORBIDDEN,
                ErrorCode::Conflict | ErrorCode::Capacity => StatusCode::CONFLICT,
                ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// Heading, why, and what to do.
    fn words(&self, t: &'static Texts) -> [&'static str; 3] {
        let bad = [t.error_bad, t.error_bad_what, t.error_bad_help];
        let forbidden = [t.error_forbidden, t.error_forbidden_what, t.error_forbidden_help];
        let missing = [t.error_missing, t.error_missing_what, t.error_missing_help];
        let conflict = [t.error_conflict, t.error_conflict_what, t.error_conflict_help];
        let internal = [t.error_internal, t.error_internal_what, t.error_internal_help];
        match self {
            PageError::Host => [t.error_host, t.error_host_what, t.error_host_help],
            PageError::Origin => [t.error_origin, t.error_origin_what, t.error_origin_help],
            PageError::Token => [t.error_token, t.error_token_what, t.error_token_help],
            PageError::Bad => bad,
            PageError::TooLarge => [t.error_large, t.error_large_what, t.error_bad_help],
            PageError::Forbidden => forbidden,
            PageError::Missing => missing,
            PageError::Slow => [t.error_slow, t.error_slow_what, t.error_missing_help],
            PageError::NoDaemon => [t.error_daemon, t.error_daemon_what, t.error_daemon_help],
            PageError::Unexpected => internal,
            PageError::Refused(refusal) => match refusal.code {
                ErrorCode::Invalid => bad,
                ErrorCode::NotFound => missing,
                ErrorCode::Forbidden => forbidden,
                ErrorCode::Conflict | ErrorCode::Capacity => conflict,
                ErrorCode::Internal => internal,
            },
        }
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    p: Page,
    status: u16,
    words: [&'static str; 3],
    said: Option<&'a ApiError>,
}

/// Whether `answer` is a page of ours (a form with errors): it says itself what is wrong.
fn is_page(answer: &Response) -> bool {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// `answer`, or the page of the error that it carries.
pub(crate) fn page(app: &App, visitor: &Visitor, answer: Response) -> Response {
    let status = answer.status();
    let error = match answer.extensions().get::<PageError>() {
        Some(error) => error.clone(),
        None if status.is_success() || status.is_redirection() || is_page(&answer) => {
            return answer;
        }
        None if status == StatusCode::NOT_FOUND => PageError::Missing,
        None if status.is_client_error() => PageError::Bad,
        None => PageError::Unexpected,
    };
    match &error {
        PageError::Host | PageError::Origin | PageError::Token => {
            warn!(address = %visitor.connection.address, "a request was refused: {error:?}");
        }
        PageError::NoDaemon | PageError::Unexpected | PageError::Slow => {
            warn!(address = %visitor.connection.address, "a page failed: {error:?}");
        }
        _ => {}
    }
    let mut p = Page::new(app, visitor);
    if matches!(error, PageError::NoDaemon) && !visitor.path.contains("still=1") {
        p.refresh = Some(5);
    }
    let said = if let PageError::Refused(refusal) = &error { Some(refusal) } else { None };
    let status = if status.is_success() { error.status() } else { status };
    let words = error.words(p.t);
    let html = ErrorPage { p, status: status.as_u16(), words, said }.render();
    match html {
        Ok(html) => (status, Html(html)).into_response(),
        Err(_) => status.into_response(),
    }
}
