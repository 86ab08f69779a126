//! About the lab: the gateway, its key, and who the visitor is taken for.

use crate::{
    desktop::ssh,
    error::PageResult,
    page::{Page, Section, html},
    person::Person,
};
use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::IntoResponse,
};
use nonstop_api::{AccountView, ConnectView};

/// The port on a researcher's PC that leads to the portal in what we tell them.
const NEAR: u16 = 8080;

#[derive(Template)]
#[template(path = "about.html")]
struct About {
    p: Page,
    account: AccountView,
    connect: ConnectView,
    tunnel: String,
    url: String,
}

/// The certificate of the lab's authority, to install in a client once.
pub(crate) async fn authority(person: Person) -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/x-pem-file");
    let name = HeaderValue::from_static("attachment; filename=\"nonstop-lab.crt\"");
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    (headers, person.me.lab.authority.clone())
}

pub(crate) async fn about(person: Person) -> PageResult {
    let (account, connect) = (person.account.clone(), person.me.lab.connect.clone());
    let far = (account.address.to_string(), connect.portal_port);
    let tunnel = ssh(&connect, &account.name, NEAR, &far);
    let url = format!("http://localhost:{NEAR}/");
    html(&About { p: person.page(Section::About), account, connect, tunnel, url })
}
