//! Samples: searching them, choosing some, and putting those before the debuggee of an environment.
//!
//! What is chosen travels in the query: a form that is sent again keeps it, without scripts.

use crate::{
    error::{PageError, PageResult},
    form::{Fields, Wrong},
    page::{Page, Section, html, see_other},
    person::{Person, Staff, ask},
    preview::Piece,
};
use askama::Template;
use axum::{
    extract::Path,
    http::StatusCode,
    response::{Html, IntoResponse},
};
use jiff::civil::Date;
use nonstop_api::{
    ApiError, DataDomainView, EnvironmentView, Reply, Request,
    samples::{InjectItem, SamplePage, SampleQuery, SampleView},
};
use nonstop_model::{EnvironmentId, InjectBy, MachineRole, Power, Resource, injection};

/// Samples of a page.
const PAGE: u32 = 50;

/// A field that chooses a sample: this, and its hash.
const CHOICE: &str = "s-";

/// A field that names the file of one: this, and its hash.
const NAME: &str = "n-";

/// What was searched, and what came of it.
struct Search {
    fields: Fields,
    wrong: Wrong,
    /// Those that fit; none where the question was wrong.
    found: Vec<SampleView>,
    /// Where the next ones begin.
    after: Option<String>,
    /// Why nothing was looked for, as the lab says.
    said: Option<ApiError>,
    status: StatusCode,
}

impl Search {
    /// Asks what `fields` say, of `domain`.
    async fn of(
        person: &Person,
        p: &Page,
        fields: Fields,
        domain: Option<String>,
    ) -> Result<Search, PageError> {
        let mut wrong = Wrong::default();
        let query = query(p, &fields, &mut wrong);
        let none = Search::nothing(fields);
        if !wrong.is_empty() {
            return Ok(Search { wrong, status: StatusCode::UNPROCESSABLE_ENTITY, ..none });
        }
        match person.ask(Request::SampleList { domain, query }).await {
            Ok(Reply::Samples(SamplePage { samples: found, after })) => {
                Ok(Search { found, after, ..none })
            }
            Ok(_) => Err(PageError::Unexpected),
            Err(error) => match error.clone() {
                PageError::Refused(said) => {
                    Ok(Search { said: Some(said), status: error.status(), ..none })
                }
                _ => Err(error),
            },
        }
    }

    /// What comes of no search.
    fn nothing(fields: Fields) -> Search {
        let (found, wrong) = (Vec::new(), Wrong::default());
        Search { fields, wrong, found, after: None, said: None, status: StatusCode::OK }
    }

    /// Whether nothing in particular was searched.
    fn is_plain(&self) -> bool {
        let all = ["hash", "family", "tag", "kind", "text", "from", "until", "after"];
        all.into_iter().all(|name| self.fields.get(name).is_empty())
    }
}

/// The question that `fields` are; what is wrong with them into `wrong`.
fn query(p: &Page, fields: &Fields, wrong: &mut Wrong) -> SampleQuery {
    let hash = fields.get("hash").to_ascii_lowercase();
    if hash.len() > 64 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        wrong.note("hash", p.s.field_hash);
    }
    let mut day = |name: &'static str| match fields.get(name) {
        "" => None,
        text => {
            let day = text.parse::<Date>().ok();
            if day.is_none() {
                wrong.note(name, p.s.field_date);
            }
            day
        }
    };
    let (from, until) = (day("from"), day("until"));
    if from.zip(until).is_some_and(|(from, until)| until < from) {
        wrong.note("until", p.s.field_days);
    }
    let after = fields.get("after");
    SampleQuery {
        hash,
        family: fields.get("family").into(),
        tag: fields.get("tag").into(),
        kind: fields.get("kind").into(),
        text: fields.get("text").into(),
        from,
        until,
        after: (!after.is_empty()).then(|| after.into()),
        limit: PAGE,
    }
}

/// The hashes that `fields` choose, each once.
fn chosen(fields: &Fields) -> Vec<String> {
    fields.beginning(CHOICE).map(|(hash, _)| hash).filter(|h| is_hash(h)).map(Into::into).collect()
}

fn is_hash(text: &str) -> bool {
    injection::check_sha256(text).is_ok()
}

/// Where samples go in an environment.
pub(super) struct Debuggee {
    /// The folder that its agent puts files into; None without an agent.
    folder: Option<String>,
    /// Whether it is wanted on.
    pub(super) on: bool,
}

impl Debuggee {
    /// That of `e`; None where nothing can be put in.
    pub(super) fn of(e: &EnvironmentView) -> Option<Debuggee> {
        let machine = e.machines.iter().find(|m| m.role == MachineRole::Debuggee)?;
        let folder = machine.import.clone().filter(|_| machine.agent);
        Some(Debuggee { folder, on: machine.power == Power::On })
    }
}

#[derive(Template)]
#[template(path = "sample_choice.html")]
struct Choice {
    p: Page,
    id: EnvironmentId,
    search: Search,
    chosen: Vec<String>,
    /// What is wrong with what was chosen.
    wrong: String,
}

impl Choice {
    /// Whether a sample can be ticked among those that were found.
    fn may_choose(&self, sample: &SampleView) -> bool {
        sample.bytes.is_some() && !self.chosen.contains(&sample.sha256)
    }
}

#[derive(Template)]
#[template(path = "sample_inject.html")]
struct Inject {
    p: Page,
    id: EnvironmentId,
    debuggee: Debuggee,
    chosen: Vec<String>,
    fields: Fields,
    /// Why it was not done.
    said: Option<ApiError>,
    /// The query that leads back to the choice.
    back: String,
}

impl Inject {
    fn name_of(&self, sha256: &str) -> &str {
        self.fields.get(&format!("{NAME}{sha256}"))
    }

    fn by_agent(&self) -> bool {
        self.fields.get("by") == "agent"
    }
}

/// The environment `id` of `person` themselves, into which something can be put.
async fn own(person: &Person, id: EnvironmentId) -> Result<(EnvironmentView, Debuggee), PageError> {
    let e = ask!(person, Request::EnvironmentShow { id } => Environment);
    if e.account != person.account.name {
        return Err(PageError::Forbidden);
    }
    let debuggee = Debuggee::of(&e).ok_or(PageError::Missing)?;
    Ok((e, debuggee))
}

/// Searching and choosing; with `go`, what to do with what is chosen.
pub(crate) async fn choose(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    let (_, debuggee) = own(&person, id).await?;
    let p = person.page(Section::Home);
    let fields = Fields::query(&person.visitor.path);
    let chosen = chosen(&fields);
    let go = !fields.get("go").is_empty();
    let wrong = match chosen.len() {
        0 if go => p.s.choose_first.to_string(),
        n if n > injection::MOST_ITEMS => p.fill(p.s.choose_fewer, injection::MOST_ITEMS),
        _ => String::new(),
    };
    if go && wrong.is_empty() {
        let back = back(&chosen);
        return html(&Inject { p, id, debuggee, chosen, fields, said: None, back });
    }
    let search = Search::of(&person, &p, fields, None).await?;
    let status = search.status;
    let page = Choice { p, id, search, chosen, wrong };
    Ok((status, Html(page.render()?)).into_response())
}

/// The query in which `chosen` are ticked.
fn back(chosen: &[String]) -> String {
    let ticked: Vec<_> = chosen.iter().map(|hash| format!("{CHOICE}{hash}=1")).collect();
    ticked.join("&")
}

/// Puts what was chosen in. Where the lab says no, the form is shown again with the reason.
pub(crate) async fn inject(
    person: Person,
    Path(id): Path<EnvironmentId>,
    fields: Fields,
) -> PageResult {
    let (_, debuggee) = own(&person, id).await?;
    let chosen = chosen(&fields);
    let name = |hash: &String| {
        let name = fields.get(&format!("{NAME}{hash}"));
        (!name.is_empty()).then(|| name.to_string())
    };
    let samples =
        chosen.iter().map(|sha256| InjectItem { sha256: sha256.clone(), name: name(sha256) });
    let by = match fields.get("by") {
        "disc" => InjectBy::Disc,
        "agent" => InjectBy::Agent,
        _ => return Err(PageError::Bad),
    };
    let zip = !fields.get("zip").is_empty();
    let asked = Request::SampleInject { environment: id, samples: samples.collect(), by, zip };
    match person.ask(asked).await {
        Ok(_) => see_other(&format!("/environments/{id}?done=injecting#injections")),
        Err(error) => {
            let PageError::Refused(said) = error.clone() else { return Err(error) };
            let back = back(&chosen);
            let mut p = person.page(Section::Home);
            // Where a change of the language leads: this page answers a form.
            p.path = format!("/environments/{id}/samples?go=1&{back}");
            let page = Inject { p, id, debuggee, chosen, fields, said: Some(said), back };
            Ok((error.status(), Html(page.render()?)).into_response())
        }
    }
}

pub(crate) async fn eject(person: Person, Path(id): Path<EnvironmentId>) -> PageResult {
    person.ask(Request::SampleEject { environment: id }).await?;
    see_other(&format!("/environments/{id}?done=ejecting#injections"))
}

#[derive(Template)]
#[template(path = "samples.html")]
struct Store {
    p: Page,
    search: Search,
    domains: Vec<DataDomainView>,
}

impl Store {
    /// Whether `domain` is the one that was chosen.
    fn is(&self, domain: &str) -> bool {
        self.search.fields.get("domain") == domain
    }
}

/// What the lab has, for staff.
pub(crate) async fn store(Staff(person): Staff) -> PageResult {
    let p = person.page(Section::Data);
    let fields = Fields::query(&person.visitor.path);
    let mut domains = ask!(person, Request::DataList { domain: None } => DataDomains);
    domains.retain(|d| d.offers.iter().any(|o| matches!(o, Resource::Samples | Resource::Reports)));
    // A search is in one domain; where none was chosen, in the first.
    let chosen = fields.get("domain");
    let first = domains.iter().map(|domain| domain.name.clone()).next();
    let Some(domain) = Some(chosen.to_string()).filter(|name| !name.is_empty()).or(first) else {
        let search = Search::nothing(fields);
        return html(&Store { p, search, domains });
    };
    let search = Search::of(&person, &p, fields, Some(domain)).await?;
    let status = search.status;
    let page = Store { p, search, domains };
    Ok((status, Html(page.render()?)).into_response())
}
