//! What all handlers share: the lab, the way to the daemon, the clock, and the routes.

use crate::{
    error::PageError,
    guard::guard,
    listen::Connection,
    routes::{
        about, accounts, cards, data, displays, environments, exports, home, injections, language,
        reach, recordings, requests, samples, sessions, snapshots, trace, transfers,
    },
    token::Secret,
};
use axum::{
    Router,
    http::{HeaderValue, header},
    middleware,
    response::IntoResponse,
    routing::{get, post},
};
use jiff::{Timestamp, tz::TimeZone};
use nonstop_api::{CallError, Client, Reply, Request};
use nonstop_model::Lab;
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    os::fd::AsFd,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Questions to the daemon at once; it answers 64, and the CLI's share a socket of their own.
const ASKS: usize = 48;

/// The portal of one lab.
pub struct App {
    pub(crate) lab: Lab,
    pub(crate) client: Client,
    pub(crate) secret: Secret,
    pub(crate) zone: TimeZone,
    pub(crate) now: fn() -> Timestamp,
    asks: Arc<Semaphore>,
}

impl App {
    /// The portal of `lab`, showing times in `zone`, with `now` as its clock.
    pub fn new(lab: Lab, zone: TimeZone, now: fn() -> Timestamp) -> Arc<App> {
        let client = Client::new(lab.portal_socket()).timeout(Duration::from_secs(20));
        Arc::new(App {
            lab,
            client,
            secret: Secret::new(),
            zone,
            now,
            asks: Arc::new(Semaphore::new(ASKS)),
        })
    }

    /// Asks the daemon as the person behind `connection`.
    pub(crate) async fn ask(
        &self,
        connection: &Arc<Connection>,
        request: Request,
    ) -> Result<Reply, PageError> {
        let connection = Arc::clone(connection);
        // Held by the thread that asks, which outlives a handler that was given up.
        let own = Arc::clone(&connection.asks).acquire_owned().await;
        let all = Arc::clone(&self.asks).acquire_owned().await;
        let client = self.client.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = (own, all);
            client.call_as(&request, connection.fd.as_fd())
        });
        Ok(answer.await.map_err(|_| PageError::Unexpected)??)
    }

    /// Asks for something that comes as an open file, and reads that with `read` before anybody
    /// else's turn: it may take a while, and what it reads from ends with it. None if no file came
    /// with the answer.
    pub(crate) async fn ask_for_file<T: Send + 'static>(
        &self,
        connection: &Arc<Connection>,
        request: Request,
        read: impl FnOnce(File) -> T + Send + 'static,
    ) -> Result<Option<(Reply, T)>, PageError> {
        let connection = Arc::clone(connection);
        let own = Arc::clone(&connection.asks).acquire_owned().await;
        let all = Arc::clone(&self.asks).acquire_owned().await;
        let client = self.client.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let _turn = (own, all);
            match client.call_for_file_as(&request, connection.fd.as_fd()) {
                Ok((reply, file)) => Ok(Some((reply, read(File::from(file))))),
                Err(CallError::NoFile) => Ok(None),
                Err(e) => Err(e),
            }
        });
        Ok(answer.await.map_err(|_| PageError::Unexpected)??)
    }

    /// All pages.
    pub fn router(self: &Arc<App>) -> Router {
        Router::new()
            .route("/", get(home::home))
            .route("/requests", get(requests::list))
            .route("/requests/new", get(requests::form).post(requests::apply))
            .route("/requests/{id}", get(requests::show))
            .route("/requests/{id}/approve", post(requests::approve))
            .route("/requests/{id}/refuse", post(requests::refuse))
            .route("/environments/{id}", get(environments::show))
            .route("/environments/{id}/power", post(environments::power))
            .route(
                "/environments/{id}/revert",
                get(environments::ask_revert_unit).post(environments::revert_unit),
            )
            .route(
                "/environments/{id}/revert/{role}",
                get(environments::ask_revert).post(environments::revert),
            )
            .route("/environments/{id}/snapshots", post(snapshots::take))
            .route(
                "/environments/{id}/snapshots/{snapshot}/return",
                get(snapshots::ask_return).post(snapshots::go_back),
            )
            .route(
                "/environments/{id}/snapshots/{snapshot}/return/{role}",
                get(snapshots::ask_return_one).post(snapshots::go_back_one),
            )
            .route(
                "/environments/{id}/snapshots/{snapshot}/delete",
                get(snapshots::ask_delete).post(snapshots::delete),
            )
            .route("/environments/{id}/samples", get(samples::choose))
            .route("/environments/{id}/inject", post(samples::inject))
            .route("/environments/{id}/eject", post(samples::eject))
            .route("/environments/{id}/end", get(environments::ask_end).post(environments::end))
            .route("/environments/{id}/extend", post(environments::extend))
            .route("/environments/{id}/rdp/{role}", get(environments::rdp_file))
            .route("/environments/{id}/view/{role}", post(displays::open_view))
            .route("/environments/{id}/record/{role}", post(recordings::begin))
            .route("/displays", get(displays::list))
            .route("/views/{id}/end", post(displays::end_view))
            .route("/views/{id}/rdp", get(displays::view_rdp_file))
            .route("/recordings", get(recordings::list))
            .route("/recordings/{id}", get(recordings::show))
            .route("/recordings/{id}/picture", get(recordings::picture))
            .route("/recordings/{id}/film", get(recordings::film))
            .route("/recordings/{id}/play", post(recordings::play))
            .route("/recordings/{id}/end", post(recordings::end))
            .route("/accounts", get(accounts::list))
            .route("/accounts/new", get(accounts::form).post(accounts::add))
            .route("/accounts/{name}", get(accounts::show))
            .route("/accounts/{name}/suspend", post(accounts::suspend))
            .route("/accounts/{name}/resume", post(accounts::resume))
            .route("/accounts/{name}/edition", post(accounts::edition))
            .route("/accounts/{name}/sources", post(accounts::sources))
            .route("/accounts/{name}/cards", post(accounts::add_card))
            .route("/accounts/{name}/profile", get(cards::profile_of))
            .route("/cards/{id}/revoke", get(cards::ask_revoke).post(cards::revoke))
            .route("/profile", get(cards::profile))
            .route("/sessions", get(sessions::list))
            .route("/sessions/{id}/end", post(sessions::end))
            .route("/transfers", get(transfers::show))
            .route("/imports", get(transfers::imports))
            .route("/exports", get(exports::list))
            .route("/exports/{id}", get(exports::show))
            .route("/exports/{id}/preview.png", get(exports::picture))
            .route("/exports/{id}/receipt", get(exports::receipt))
            .route("/exports/{id}/release", post(exports::release))
            .route("/exports/{id}/refuse", post(exports::refuse))
            .route("/exports/{id}/revoke", post(exports::revoke))
            .route("/exports/{id}/note", post(exports::note))
            .route("/samples", get(samples::store))
            .route("/injections", get(injections::list))
            .route("/injections/{id}", get(injections::show))
            .route("/injections/{id}/record", get(injections::file))
            .route("/data", get(data::show))
            .route("/data/publish", post(data::publish))
            .route("/reach", get(reach::show))
            .route("/reach/prove", post(reach::prove))
            .route("/reach/probe", post(reach::probe))
            .route("/trace", get(trace::list))
            .route("/about", get(about::about))
            .route("/about/ca.crt", get(about::authority))
            .route("/language", post(language::choose))
            .route("/style.css", get(style))
            .route("/mark.svg", get(mark))
            .layer(middleware::from_fn_with_state(Arc::clone(self), guard))
            .with_state(Arc::clone(self))
    }
}

const STYLE: &str = include_str!("../pages/style.css");

/// Changes with the stylesheet, so that a browser may keep it.
pub(crate) static STYLE_VERSION: LazyLock<String> =
    LazyLock::new(|| hex::encode(&Sha256::digest(STYLE)[..6]));

async fn style() -> impl IntoResponse {
    asset("text/css; charset=utf-8", STYLE)
}

async fn mark() -> impl IntoResponse {
    asset("image/svg+xml", include_str!("../pages/mark.svg"))
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let kept = HeaderValue::from_static("private, max-age=86400");
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CACHE_CONTROL, kept)], text)
}
