//! Requests: applying for an environment, and deciding.

use crate::{
    error::{PageError, PageResult},
    form::{Fields, Wrong},
    page::{Page, Section, again, html, see_other},
    person::{Person, Staff, ask},
    texts::Texts,
};
use askama::Template;
use axum::extract::Path;
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use nonstop_api::{ApiError, Request, RequestView, TemplateView};
use nonstop_model::{Period, RdpPolicy, RequestId, RequestState, TemplateName};

/// The longest period that the form offers, in hours; the daemon's own limit is the same.
const LONGEST_HOURS: i64 = 366 * 24;

#[derive(Template)]
#[template(path = "requests.html")]
struct List {
    p: Page,
    requests: Vec<RequestView>,
}

pub(crate) async fn list(person: Person) -> PageResult {
    let requests = ask!(person, Request::RequestList => Requests);
    html(&List { p: person.page(Section::Requests), requests })
}

#[derive(Template)]
#[template(path = "request.html")]
struct Show {
    p: Page,
    r: RequestView,
    may_decide: bool,
}

pub(crate) async fn show(person: Person, Path(id): Path<RequestId>) -> PageResult {
    let requests = ask!(person, Request::RequestList => Requests);
    let r = requests.into_iter().find(|r| r.id == id).ok_or(PageError::Missing)?;
    let may_decide =
        person.is_staff() && r.state == RequestState::Open && r.account != person.account.name;
    html(&Show { p: person.page(Section::Requests), r, may_decide })
}

#[derive(Template)]
#[template(path = "apply.html")]
struct Form {
    p: Page,
    templates: Vec<TemplateView>,
    fields: Fields,
    wrong: Wrong,
    said: Option<ApiError>,
}

impl Form {
    async fn new(person: &Person, fields: Fields) -> Result<Form, PageError> {
        let templates = ask!(person, Request::TemplateList => Templates);
        let p = person.page(Section::Requests);
        Ok(Form { p, templates, fields, wrong: Wrong::default(), said: None })
    }

    fn is_chosen(&self, template: &TemplateName) -> bool {
        self.fields.get("template") == template.as_str() || self.templates.len() == 1
    }
}

pub(crate) async fn form(person: Person) -> PageResult {
    html(&Form::new(&person, Fields::default().with("hours", "8")).await?)
}

/// What an application says, parsed.
struct Application {
    template: TemplateName,
    period: Period,
    purpose: String,
}

pub(crate) async fn apply(person: Person, fields: Fields) -> PageResult {
    let t = person.visitor.lang.texts();
    let read = application(&fields, (person.app.now)(), &person.app.zone, t);
    let application = match read {
        Ok(application) => application,
        Err(wrong) => return again(&Form { wrong, ..Form::new(&person, fields).await? }),
    };
    let asked = person
        .ask(Request::RequestApply {
            account: None,
            template: application.template,
            period: application.period,
            purpose: application.purpose,
        })
        .await;
    match asked {
        Ok(nonstop_api::Reply::Request(r)) => {
            see_other(&format!("/requests/{}?done=applied", r.id))
        }
        Ok(_) => Err(PageError::Unexpected),
        Err(PageError::Refused(said)) => {
            again(&Form { said: Some(said), ..Form::new(&person, fields).await? })
        }
        Err(e) => Err(e),
    }
}

/// Reads the form. Errors: every field that is wrong.
fn application(
    fields: &Fields,
    now: Timestamp,
    zone: &TimeZone,
    t: &'static Texts,
) -> Result<Application, Wrong> {
    let mut wrong = Wrong::default();
    let template = fields.get("template").parse::<TemplateName>().ok();
    if template.is_none() {
        wrong.note("template", t.field_template);
    }
    let from = match fields.get("from") {
        "" => Some(now),
        text => instant(text, zone),
    };
    if from.is_none() {
        wrong.note("from", t.field_time);
    }
    let until = match (fields.get("hours"), fields.get("until")) {
        ("", "") => Err(("hours", t.field_required)),
        (hours, "") => {
            match hours.parse::<i64>().ok().filter(|h| (1..=LONGEST_HOURS).contains(h)) {
                Some(hours) => Ok(from.and_then(|from| {
                    from.checked_add(jiff::SignedDuration::from_hours(hours)).ok()
                })),
                None => Err(("hours", t.field_hours)),
            }
        }
        ("", until) => instant(until, zone).map(Some).ok_or(("until", t.field_time)),
        _ => Err(("until", t.field_length)),
    };
    let until = until.unwrap_or_else(|(field, text)| {
        wrong.note(field, text);
        None
    });
    let period = from.zip(until).and_then(|(from, until)| match Period::new(from, until) {
        Ok(period) => Some(period),
        Err(_) => {
            wrong.note("until", t.field_order);
            None
        }
    });
    let purpose = fields.get("purpose").to_string();
    if purpose.is_empty() {
        wrong.note("purpose", t.field_required);
    }
    match (template, period) {
        (Some(template), Some(period)) if wrong.is_empty() => {
            Ok(Application { template, period, purpose })
        }
        _ => Err(wrong),
    }
}

/// A time as a browser's field sends it, on the lab's clock.
pub(crate) fn instant(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let local: DateTime = text.parse().ok()?;
    zone.to_timestamp(local).ok()
}

pub(crate) async fn approve(Staff(person): Staff, Path(id): Path<RequestId>) -> PageResult {
    let environment = ask!(person, Request::RequestApprove { id } => Environment);
    see_other(&format!("/environments/{}?done=approved", environment.id))
}

pub(crate) async fn refuse(
    Staff(person): Staff,
    Path(id): Path<RequestId>,
    fields: Fields,
) -> PageResult {
    let reason = fields.get("reason").to_string();
    person.ask(Request::RequestRefuse { id, reason }).await?;
    see_other(&format!("/requests/{id}?done=refused"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::ENGLISH;

    fn read(pairs: &[(&str, &str)]) -> Result<(String, String), Vec<String>> {
        let fields = pairs.iter().fold(Fields::default(), |f, (k, v)| f.with(k, *v));
        let zone = TimeZone::get("Asia/Tokyo").unwrap_or(TimeZone::fixed(jiff::tz::offset(9)));
        let now = "2030-01-01T00:00:00Z".parse().expect("a time");
        application(&fields, now, &zone, &ENGLISH)
            .map(|a| (a.period.from().to_string(), a.period.until().to_string()))
            .map_err(|wrong| {
                let all = ["template", "from", "hours", "until", "purpose"];
                all.into_iter().filter(|f| !wrong.of(f).is_empty()).map(String::from).collect()
            })
    }

    #[test]
    fn hours_count_from_now_and_times_are_read_on_the_labs_clock() {
        let base = [("template", "macro"), ("purpose", "scan")];
        let with = |more: &[(&'static str, &'static str)]| read(&[&base, more].concat());
        let got = |from: &str, until: &str| Ok((from.to_string(), until.to_string()));
        assert_eq!(with(&[("hours", "2")]), got("2030-01-01T00:00:00Z", "2030-01-01T02:00:00Z"));
        assert_eq!(
            with(&[("from", "2030-01-02T09:00"), ("until", "2030-01-02T18:00")]),
            got("2030-01-02T00:00:00Z", "2030-01-02T09:00:00Z")
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        let names = |all: &[&str]| Err(all.iter().map(|s| s.to_string()).collect());
        assert_eq!(read(&[]), names(&["template", "hours", "purpose"]));
        let base = [("template", "macro"), ("purpose", "scan")];
        let with = |more: &[(&'static str, &'static str)]| read(&[&base, more].concat());
        assert_eq!(with(&[("hours", "2"), ("until", "2030-01-02T09:00")]), names(&["until"]));
        assert_eq!(with(&[("hours", "-1")]), names(&["hours"]));
        assert_eq!(with(&[("hours", "99999999999999999999")]), names(&["hours"]));
        assert_eq!(with(&[("from", "tomorrow"), ("hours", "1")]), names(&["from"]));
        assert_eq!(with(&[("until", "2029-01-01T00:00")]), names(&["until"]));
    }
}
