//! The trace: for staff.

use crate::{
    error::PageResult,
    form::Fields,
    page::{Page, Section, html},
    person::{Staff, ask},
};
use askama::Template;
use nonstop_api::{Request, TraceVerification, TraceView};

/// Rows on the page.
const ROWS: u32 = 200;

#[derive(Template)]
#[template(path = "trace.html")]
struct List {
    p: Page,
    rows: Vec<TraceView>,
    verified: Option<TraceVerification>,
}

impl List {
    /// What else a row says, on one line.
    fn detail(row: &TraceView) -> String {
        match &row.detail {
            serde_json::Value::Null => String::new(),
            serde_json::Value::Object(fields) => {
                let plain = |v: &serde_json::Value| match v {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let pairs: Vec<_> =
                    fields.iter().map(|(k, v)| format!("{k}: {}", plain(v))).collect();
                pairs.join(", ")
            }
            other => other.to_string(),
        }
    }
}

pub(crate) async fn list(Staff(person): Staff) -> PageResult {
    let rows = ask!(person, Request::TraceList { limit: ROWS } => Trace);
    let verified = match Fields::query(&person.visitor.path).get("verify") {
        "1" => Some(ask!(person, Request::TraceVerify => TraceVerified)),
        _ => None,
    };
    html(&List { p: person.page(Section::Trace), rows, verified })
}
