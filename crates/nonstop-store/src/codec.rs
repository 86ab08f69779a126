//! Between Rust's types and SQLite's columns.

use crate::StoreError;
use jiff::Timestamp;
use rusqlite::{Row, Rows};
use std::fmt::Display;

/// All of `rows`, each by `from`.
pub(crate) fn all<T>(
    mut rows: Rows<'_>,
    from: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(from(row)?);
    }
    Ok(all)
}

/// Microseconds since 1970.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A time from its column.
pub(crate) fn time(column: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(column).map_err(|e| corrupt("a time", e))
}

/// A value from its text column.
pub(crate) fn parsed<T: std::str::FromStr<Err: Display>>(
    what: &'static str,
    column: &str,
) -> Result<T, StoreError> {
    column.parse().map_err(|e| corrupt(what, e))
}

/// A value from its JSON column.
pub(crate) fn json<T: serde::de::DeserializeOwned>(
    what: &'static str,
    column: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(column).map_err(|e| corrupt(what, e))
}

/// The JSON of a value of ours.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our types have string keys and finite numbers")
}

/// A row that this version cannot read.
pub(crate) fn corrupt(what: &'static str, why: impl Display) -> StoreError {
    StoreError::Corrupt { what, why: why.to_string() }
}
