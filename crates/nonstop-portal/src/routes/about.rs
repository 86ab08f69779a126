//! About the lab: the gateway, its key, and who the visitor is taken for.

use crate::{
    desktop::{BY_CARD, ssh},
    error::PageResult,
    page::{Page, Section, html},
    person::{Person, ask},
};
use askama::Template;
use axum::{
    http::{HeaderValue, header},
    response::IntoResponse,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use nonstop_api::{AccountView, CardView, ConnectView, Request};
use nonstop_model::CardState;
use sha1::{Digest, Sha1};

/// The ports on a researcher's PC that lead to the portal and the file transfer in what we tell them.
const NEAR: u16 = 8080;
const NEAR_TRANSFER: u16 = 8081;

#[derive(Template)]
#[template(path = "about.html")]
struct About {
    p: Page,
    account: AccountView,
    connect: ConnectView,
    cards: Vec<CardView>,
    tunnel: String,
    url: String,
    transfer_url: String,
    /// SHA-1 of the lab's certificate, as Windows shows it; None where there is none.
    thumbprint: Option<String>,
    /// `SHA256:…` over the authority's public key.
    authority: String,
    by_card: &'static str,
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
    let own = Request::CardList { account: Some(person.account.name.clone()) };
    let cards = ask!(person, own => Cards);
    let (account, connect) = (person.account.clone(), person.me.lab.connect.clone());
    let far = |port| (account.address.to_string(), port);
    let (portal, transfer) = (far(connect.portal_port), far(person.app.lab.airlock.outside_port));
    let tunnel = ssh(&connect, &account.name, &[(NEAR, &portal), (NEAR_TRANSFER, &transfer)]);
    let transfer_url = format!("http://localhost:{NEAR_TRANSFER}/dav/");
    let url = format!("http://localhost:{NEAR}/");
    let thumbprint = thumbprint(&person.me.lab.authority);
    let authority = person.me.lab.authority_fingerprint.clone();
    let (p, by_card) = (person.page(Section::About), BY_CARD);
    html(&About {
        p,
        account,
        connect,
        cards,
        tunnel,
        url,
        transfer_url,
        thumbprint,
        authority,
        by_card,
    })
}
