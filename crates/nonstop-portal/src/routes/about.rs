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
use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_api::{AccountView, ConnectView};
use sha1::{Digest, Sha1};

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
    /// SHA-1 of the lab's certificate, as Windows shows it; None where there is none.
    thumbprint: Option<String>,
}

/// The certificate of the lab's authority, to install in a client once.
pub(crate) async fn authority(person: Person) -> impl IntoResponse {
    let kind = HeaderValue::from_static("application/x-pem-file");
    let name = HeaderValue::from_static("attachment; filename=\"nonstop-lab.crt\"");
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    (headers, person.me.lab.authority.clone())
}

/// SHA-1 of the first certificate in `pem`, in hex.
fn thumbprint(pem: &str) -> Option<String> {
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1)?.split("-----END").next()?;
    let text: String = body.split_ascii_whitespace().collect();
    Some(hex::encode(Sha1::digest(BASE64_STANDARD.decode(text).ok()?)))
}

pub(crate) async fn about(person: Person) -> PageResult {
    let (account, connect) = (person.account.clone(), person.me.lab.connect.clone());
    let far = (account.address.to_string(), connect.portal_port);
    let tunnel = ssh(&connect, &account.name, NEAR, &far);
    let url = format!("http://localhost:{NEAR}/");
    let thumbprint = thumbprint(&person.me.lab.authority);
    html(&About { p: person.page(Section::About), account, connect, tunnel, url, thumbprint })
}
