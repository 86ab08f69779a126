//! Who a handler works for: any person, or one of the staff. Having one is the proof.

use crate::{
    app::App,
    error::PageError,
    guard::Visitor,
    page::{Page, Section},
};
use axum::{extract::FromRequestParts, http::request::Parts};
use nonstop_api::{AccountView, MeView, Reply, Request};
use nonstop_model::Role;
use std::sync::Arc;

/// The person behind the connection, as the daemon knows them.
pub(crate) struct Person {
    /// Who and in which lab.
    pub(crate) me: MeView,
    /// The account.
    pub(crate) account: AccountView,
    pub(crate) app: Arc<App>,
    pub(crate) visitor: Visitor,
}

impl Person {
    /// Asks the daemon as this person.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, PageError> {
        self.app.ask(&self.visitor.connection, request).await
    }

    /// The frame of a page in `section`.
    pub(crate) fn page(&self, section: Section) -> Page {
        let mut page = Page::new(&self.app, &self.visitor);
        page.me = Some(self.account.clone());
        page.clock = self.me.clock.clone();
        page.heads_late = self.me.heads_late.clone();
        page.waiting = self.me.exports_waiting.filter(|_| self.is_staff());
        page.section = section;
        page
    }

    /// Whether they are of the staff.
    pub(crate) fn is_staff(&self) -> bool {
        self.account.role == Role::Staff
    }
}

impl FromRequestParts<Arc<App>> for Person {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Person, PageError> {
        let visitor = parts.extensions.get::<Visitor>().cloned().ok_or(PageError::Unexpected)?;
        let Reply::Me(me) = app.ask(&visitor.connection, Request::WhoAmI).await? else {
            return Err(PageError::Unexpected);
        };
        let account = me.account.clone().ok_or(PageError::Unexpected)?;
        Ok(Person { me, account, app: Arc::clone(app), visitor })
    }
}

/// A person of the staff. The daemon checks again; this keeps pages from others.
pub(crate) struct Staff(pub(crate) Person);

impl FromRequestParts<Arc<App>> for Staff {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Staff, PageError> {
        let person = Person::from_request_parts(parts, app).await?;
        if person.is_staff() { Ok(Staff(person)) } else { Err(PageError::Forbidden) }
    }
}

impl<S: Sync> FromRequestParts<S> for crate::form::Fields {
    type Rejection = PageError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, PageError> {
        parts.extensions.get::<Self>().cloned().ok_or(PageError::Bad)
    }
}

/// Asks, and takes the one kind of reply that fits.
macro_rules! ask {
    ($person:expr, $request:expr => $kind:ident) => {
        match $person.ask($request).await? {
            nonstop_api::Reply::$kind(value) => value,
            _ => return Err($crate::error::PageError::Unexpected),
        }
    };
}
pub(crate) use ask;
