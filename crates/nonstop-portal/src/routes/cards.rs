//! Cards of accounts, and the file with which a researcher's PC connects.

use crate::{
    error::{PageError, PageResult},
    form::Fields,
    page::{Page, Section, again, html, see_other},
    person::{Person, Staff, ask},
};
use askama::Template;
use axum::{
    extract::Path,
    http::{HeaderValue, header},
    response::IntoResponse,
};
use nonstop_api::{ApiError, CardView, Request};
use nonstop_model::{AccountName, CardId, CardState};

#[derive(Template)]
#[template(path = "card_revoke.html")]
struct Revoke {
    p: Page,
    card: CardView,
    said: Option<ApiError>,
}

impl Revoke {
    async fn of(person: &Person, id: CardId) -> Result<Revoke, PageError> {
        let cards = ask!(person, Request::CardList { account: None } => Cards);
        let card = cards.into_iter().find(|card| card.id == id).ok_or(PageError::Missing)?;
        Ok(Revoke { p: person.page(Section::Accounts), card, said: None })
    }
}

pub(crate) async fn ask_revoke(Staff(person): Staff, Path(id): Path<CardId>) -> PageResult {
    html(&Revoke::of(&person, id).await?)
}

pub(crate) async fn revoke(
    Staff(person): Staff,
    Path(id): Path<CardId>,
    fields: Fields,
) -> PageResult {
    let page = Revoke::of(&person, id).await?;
    let reason = fields.get("reason").to_string();
    match person.ask(Request::CardRevoke { card: id, reason }).await {
        Ok(_) => see_other(&format!("/accounts/{}?done=card_revoked", page.card.account)),
        Err(PageError::Refused(said)) => again(&Revoke { said: Some(said), ..page }),
        Err(e) => Err(e),
    }
}

/// One's own way to the lab, for nonstop-connect.
pub(crate) async fn profile(person: Person) -> PageResult {
    let name = person.account.name.clone();
    file(&person, name).await
}

/// That of another, for staff to hand out.
pub(crate) async fn profile_of(Staff(person): Staff, Path(name): Path<AccountName>) -> PageResult {
    file(&person, name).await
}

async fn file(person: &Person, name: AccountName) -> PageResult {
    let disposition = format!("attachment; filename=\"nonstop-{name}.json\"");
    let profile = ask!(person, Request::ProfileShow { account: Some(name) } => Profile);
    let disposition = HeaderValue::try_from(disposition).map_err(|_| PageError::Unexpected)?;
    let kind = HeaderValue::from_static("application/json");
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, profile).into_response())
}
