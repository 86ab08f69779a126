//! Values as people write and read them, the same under every noun.

use clap::Args;
use jiff::Timestamp;
pub(crate) use nonstop_model::text::revealed;
use serde::Serialize;

/// The word that a value has in JSON: one name for a thing everywhere.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

/// A time to the second.
pub(crate) fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Bytes, rounded.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// Whether to wait until an environment is ready.
#[derive(Debug, Clone, Args)]
pub(crate) struct Wait {
    /// Wait until it is ready, at most so many seconds, and show how far it is.
    #[arg(long, num_args = 0..=1, default_missing_value = "300", value_name = "SECONDS")]
    pub(crate) wait: Option<u64>,
}

/// A time with its zone, or on this host's clock.
pub(crate) fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let local = text.parse::<jiff::civil::DateTime>().ok();
    local.and_then(|local| jiff::tz::TimeZone::system().to_timestamp(local).ok()).ok_or_else(|| {
        "use a time such as 2030-01-31T09:00:00Z, or 2030-01-31T09:00 on this host's clock".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_zone_or_is_of_this_host() {
        assert_eq!(
            instant("2030-01-31T09:00:00+09:00").expect("good").to_string(),
            "2030-01-31T00:00:00Z"
        );
        assert!(instant("2030-01-31T09:00").is_ok() && instant("2030-01-31 09:00").is_ok());
        assert!(instant("tomorrow").is_err());
    }
}
