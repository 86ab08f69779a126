//! The trace: for staff.

use crate::{
    error::PageResult,
    form::Fields,
    page::{Page, Section, html},
    person::{Staff, ask},
};
use askama::Template;
use nonstop_api::{Request, TraceVerification, TraceView};
use serde_json::Value;

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
        line(&row.detail)
    }
}

/// A value as a person reads it: names and values without the signs of JSON.
fn line(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(line).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pair = |(name, value): (&String, &Value)| match value {
                Value::Object(_) => format!("{name} ({})", line(value)),
                _ => format!("{name}: {}", line(value)),
            };
            fields.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

pub(crate) async fn list(Staff(person): Staff) -> PageResult {
    let rows =
        ask!(person, Request::TraceList { limit: ROWS, wanted: Default::default() } => Trace);
    let verified = match Fields::query(&person.visitor.path).get("verify") {
        "1" => Some(ask!(person, Request::TraceVerify => TraceVerified)),
        _ => None,
    };
    html(&List { p: person.page(Section::Trace), rows, verified })
}
