//! Transfers: what a researcher has brought in and exported, and how to; for staff, what anybody
//! has brought in.

use super::exports::status_page;
use crate::{
    error::PageResult,
    form::{Fields, Wrong},
    page::{Page, Section, html, see_other},
    person::{Person, Staff, ask},
    preview::Piece,
    transfer::{Mount, RuleText, rules},
};
use askama::Template;
use nonstop_api::{EnvironmentStateView, ExportView, ImportView, Request};
use nonstop_model::EnvironmentId;

#[derive(Template)]
#[template(path = "transfers.html")]
struct Transfers {
    p: Page,
    exports: Vec<ExportView>,
    imports: Vec<ImportView>,
    rules: Vec<RuleText>,
    mount: Mount,
    /// The one environment whose files are shown; None for all.
    only: Option<EnvironmentId>,
    /// Whether what has ended is shown, too.
    ended: bool,
    /// Where a machine reads more.
    inside: String,
}

impl Transfers {
    /// The same page with what has ended, or without.
    fn other(&self) -> String {
        let environment = self.only.map_or(String::new(), |id| format!("environment={id}"));
        let ended = if self.ended { "" } else { "all=1" };
        let query = [environment.as_str(), ended].join("&");
        format!("/transfers?{}", query.trim_matches('&'))
    }
}

pub(crate) async fn show(person: Person) -> PageResult {
    if person.is_staff() {
        return see_other("/exports");
    }
    let query = Fields::query(&person.visitor.path);
    let only = query.get("environment").parse::<EnvironmentId>().ok();
    let ended = query.get("all") == "1";
    let asked = Request::ExportList { environment: only, waiting: false, all: ended };
    let exports = ask!(person, asked => Exports);
    let imports = ask!(person, Request::ImportList { environment: only, all: ended } => Imports);
    let environments = ask!(person, Request::EnvironmentList { all: false } => Environments);
    let mut p = person.page(Section::Transfers);
    if exports.iter().any(|x| x.state.is_under_way()) {
        p = p.refreshing(5);
    }
    let ids: Vec<String> = exports.iter().flat_map(|x| x.rules.iter().cloned()).collect();
    let open = environments.iter().filter(|e| match e.state {
        EnvironmentStateView::Preparing | EnvironmentStateView::Ready => {
            only.is_none_or(|only| e.id == only)
        }
        EnvironmentStateView::Waiting
        | EnvironmentStateView::Ended
        | EnvironmentStateView::Gone => false,
    });
    let (lab, account) = (&person.app.lab, &person.account);
    let gateway = &person.me.lab.connect;
    let open = open.map(|e| e.id);
    let mount = Mount::of(p.f, gateway, &lab.airlock, &account.name, account.address, open);
    let (rules, inside) = (rules(p.f, &ids), status_page(&person));
    html(&Transfers { p, exports, imports, rules, mount, only, ended, inside })
}

#[derive(Template)]
#[template(path = "imports.html")]
struct Imports {
    p: Page,
    imports: Vec<ImportView>,
    fields: Fields,
    wrong: Wrong,
}

pub(crate) async fn imports(Staff(person): Staff) -> PageResult {
    let fields = Fields::query(&person.visitor.path);
    let (p, mut wrong) = (person.page(Section::Exports), Wrong::default());
    let environment = match fields.get("environment") {
        "" => Ok(None),
        text => text.parse::<EnvironmentId>().map(Some),
    };
    let Ok(environment) = environment else {
        wrong.note("environment", p.f.field_environment);
        return html(&Imports { p, imports: Vec::new(), fields, wrong });
    };
    let mut imports = ask!(person, Request::ImportList { environment, all: true } => Imports);
    let account = fields.get("account");
    imports.retain(|i| account.is_empty() || i.account.as_str() == account);
    html(&Imports { p, imports, fields, wrong })
}
