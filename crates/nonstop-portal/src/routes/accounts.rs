//! Accounts: for staff.

use crate::{
    error::{PageError, PageResult},
    form::{Fields, Wrong},
    page::{Page, Section, again, html, see_other},
    person::{Person, Staff, ask},
    texts::{Texts, fill},
};
use askama::Template;
use axum::extract::Path;
use ipnet::Ipv4Net;
use nonstop_api::{AccountView, ApiError, CardView, ErrorCode, Request};
use nonstop_model::{AccountName, AccountState, CardState, Role};

#[derive(Template)]
#[template(path = "accounts.html")]
struct List {
    p: Page,
    accounts: Vec<AccountView>,
}

pub(crate) async fn list(Staff(person): Staff) -> PageResult {
    let accounts = ask!(person, Request::AccountList => Accounts);
    html(&List { p: person.page(Section::Accounts), accounts })
}

#[derive(Template)]
#[template(path = "account.html")]
struct Show {
    p: Page,
    a: AccountView,
    /// Whether staff may suspend it, and change its edition.
    may_suspend: bool,
    /// The editions that it could change to.
    editions: Vec<String>,
    cards: Vec<CardView>,
    /// The line of a card's public key that was refused, and why.
    line: String,
    /// Networks that were refused.
    sources: String,
    said: Option<ApiError>,
}

pub(crate) async fn show(Staff(person): Staff, Path(name): Path<AccountName>) -> PageResult {
    html(&page_of(&person, name).await?)
}

async fn page_of(person: &Person, name: AccountName) -> Result<Show, PageError> {
    let cards = ask!(person, Request::CardList { account: Some(name.clone()) } => Cards);
    let a = ask!(person, Request::AccountShow { name } => Account);
    let may_suspend = a.role == Role::Researcher && a.state != AccountState::Removed;
    let mut editions = person.me.lab.editions.clone();
    editions.retain(|edition| a.edition.as_ref() != Some(edition));
    let (p, said) = (person.page(Section::Accounts), None);
    let (line, sources) = (String::new(), String::new());
    Ok(Show { p, a, may_suspend, editions, cards, line, sources, said })
}

/// Enters the public key of a card that somebody else has made.
pub(crate) async fn add_card(
    Staff(person): Staff,
    Path(name): Path<AccountName>,
    fields: Fields,
) -> PageResult {
    let line = fields.get("line").trim().to_string();
    let asked = Request::CardAdd { account: name.clone(), line: line.clone() };
    match person.ask(asked).await {
        Ok(_) => see_other(&format!("/accounts/{name}?done=card_added")),
        Err(PageError::Refused(said)) => {
            again(&Show { line, said: Some(said), ..page_of(&person, name).await? })
        }
        Err(e) => Err(e),
    }
}

/// Says anew which networks the person comes from.
pub(crate) async fn sources(
    Staff(person): Staff,
    Path(name): Path<AccountName>,
    fields: Fields,
) -> PageResult {
    let typed = fields.get("sources").to_string();
    let asked = match networks(&fields) {
        Ok(sources) => {
            let (name, reason) = (name.clone(), fields.get("reason").to_string());
            person.ask(Request::AccountSources { name, sources, reason }).await
        }
        Err(said) => Err(PageError::Refused(said)),
    };
    match asked {
        Ok(_) => see_other(&format!("/accounts/{name}?done=sources")),
        Err(PageError::Refused(said)) => {
            let page = page_of(&person, name).await?;
            again(&Show { sources: typed, said: Some(said), ..page })
        }
        Err(e) => Err(e),
    }
}

/// Networks, one a line. Errors: the first that is none.
fn networks(fields: &Fields) -> Result<Vec<Ipv4Net>, ApiError> {
    let network = |line: &str| {
        network(line).ok_or_else(|| {
            let short: String = line.chars().take(60).collect();
            ApiError::new(ErrorCode::Invalid, format!("`{short}` is not a network"))
                .help("use a form like 192.0.2.0/24, or one address")
        })
    };
    fields.lines("sources").map(network).collect()
}

#[derive(Template)]
#[template(path = "account_new.html")]
struct Form {
    p: Page,
    editions: Vec<String>,
    fields: Fields,
    wrong: Wrong,
    said: Option<ApiError>,
}

impl Form {
    fn new(person: &Person, fields: Fields) -> Form {
        let p = person.page(Section::Accounts);
        let editions = person.me.lab.editions.clone();
        Form { p, editions, fields, wrong: Wrong::default(), said: None }
    }

    fn is_chosen(&self, edition: &str) -> bool {
        self.fields.get("edition") == edition || self.editions.len() == 1
    }
}

pub(crate) async fn form(Staff(person): Staff) -> PageResult {
    html(&Form::new(&person, Fields::default()))
}

pub(crate) async fn add(Staff(person): Staff, fields: Fields) -> PageResult {
    let request = match entry(&fields, &person.me.lab.editions, person.visitor.lang.texts()) {
        Ok(request) => request,
        Err(wrong) => return again(&Form { wrong, ..Form::new(&person, fields) }),
    };
    match person.ask(request).await {
        Ok(nonstop_api::Reply::Account(a)) => {
            see_other(&format!("/accounts/{}?done=added", a.name))
        }
        Ok(_) => Err(PageError::Unexpected),
        Err(PageError::Refused(said)) => {
            again(&Form { said: Some(said), ..Form::new(&person, fields) })
        }
        Err(e) => Err(e),
    }
}

/// Reads the form. Errors: every field that is wrong.
fn entry(fields: &Fields, editions: &[String], t: &'static Texts) -> Result<Request, Wrong> {
    let mut wrong = Wrong::default();
    let name = fields.get("name").parse::<AccountName>().ok();
    if name.is_none() {
        wrong.note("name", t.field_account);
    }
    for field in ["full_name", "affiliation"] {
        if fields.get(field).is_empty() {
            wrong.note(field, t.field_required);
        }
    }
    let edition = editions.iter().find(|edition| *edition == fields.get("edition"));
    if edition.is_none() && !editions.is_empty() {
        wrong.note("edition", t.field_edition);
    }
    let mut sources = Vec::new();
    for line in fields.lines("sources") {
        match network(line) {
            Some(net) => sources.push(net),
            None => {
                let short: String = line.chars().take(60).collect();
                wrong.note("sources", fill(t.field_source, short));
            }
        }
    }
    if sources.is_empty() && wrong.of("sources").is_empty() {
        wrong.note("sources", t.field_sources);
    }
    match name {
        Some(name) if wrong.is_empty() => Ok(Request::AccountAdd {
            name,
            full_name: fields.get("full_name").into(),
            affiliation: fields.get("affiliation").into(),
            role: Role::Researcher,
            edition: edition.cloned(),
            sources,
            keys: fields.lines("keys").map(String::from).collect(),
        }),
        _ => Err(wrong),
    }
}

/// A network, or one address as a network of itself.
fn network(text: &str) -> Option<Ipv4Net> {
    text.parse().ok().or_else(|| text.parse::<std::net::Ipv4Addr>().ok().map(Ipv4Net::from))
}

pub(crate) async fn edition(
    Staff(person): Staff,
    Path(name): Path<AccountName>,
    fields: Fields,
) -> PageResult {
    let page = format!("/accounts/{name}?done=edition");
    let (edition, reason) = (fields.get("edition").into(), fields.get("reason").into());
    person.ask(Request::AccountEdition { name, edition, reason }).await?;
    see_other(&page)
}

pub(crate) async fn suspend(
    Staff(person): Staff,
    Path(name): Path<AccountName>,
    fields: Fields,
) -> PageResult {
    set_state(&person, name, true, &fields).await
}

pub(crate) async fn resume(
    Staff(person): Staff,
    Path(name): Path<AccountName>,
    fields: Fields,
) -> PageResult {
    set_state(&person, name, false, &fields).await
}

async fn set_state(
    person: &Person,
    name: AccountName,
    suspend: bool,
    fields: &Fields,
) -> PageResult {
    let done = if suspend { "suspended" } else { "resumed" };
    let page = format!("/accounts/{name}?done={done}");
    let reason = fields.get("reason").to_string();
    person.ask(Request::AccountSuspend { name, suspend, reason }).await?;
    see_other(&page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::ENGLISH;

    #[test]
    fn a_single_address_is_a_network_and_a_misspelt_one_is_named() {
        let fields = |sources: &str| {
            Fields::default()
                .with("name", "alice")
                .with("full_name", "Alice")
                .with("affiliation", "University")
                .with("sources", sources)
        };
        let good = entry(&fields("192.0.2.7\n\n198.51.100.0/24"), &[], &ENGLISH);
        let Ok(Request::AccountAdd { sources, .. }) = good else { panic!("{good:?}") };
        assert_eq!(
            sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.7/32", "198.51.100.0/24"]
        );
        let wrong = entry(&fields("192.0.2.0/33"), &[], &ENGLISH).expect_err("no such prefix");
        assert_eq!(wrong.of("sources"), "Not a network: 192.0.2.0/33");
        let none = entry(&fields(" "), &[], &ENGLISH).expect_err("anywhere has to be said");
        assert!(none.of("sources").contains("0.0.0.0/0"), "{}", none.of("sources"));
    }

    #[test]
    fn an_edition_is_chosen_among_the_labs() {
        let fields = |edition: &str| {
            let fields = Fields::default().with("name", "erin").with("full_name", "Erin");
            let fields = fields.with("sources", "0.0.0.0/0");
            fields.with("affiliation", "University").with("edition", edition)
        };
        let editions = ["intermediate".to_string(), "mws".to_string()];
        let good = entry(&fields("mws"), &editions, &ENGLISH);
        let Ok(Request::AccountAdd { edition, .. }) = good else { panic!("{good:?}") };
        assert_eq!(edition.as_deref(), Some("mws"));
        for wrong in ["", "other"] {
            let wrong = entry(&fields(wrong), &editions, &ENGLISH).expect_err("none of them");
            assert_eq!(wrong.of("edition"), "Choose an edition.");
        }
    }
}
