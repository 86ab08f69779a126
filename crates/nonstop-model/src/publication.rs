//! Publications: how a file that arrived for a data domain becomes a day of its data.
//!
//! A file is taken out of the inbox, checked to its last record, loaded beside what is there, and
//! shown in one step. What it is, is said by its name and by where it arrived.

use crate::{data_domain::Resource, ids::PublicationId};
use jiff::{Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

/// How the name of a file begins that the CLI is copying into an inbox; it is not taken.
pub const UPLOAD: &str = ".upload-";

/// How the name of a file ends that holds a day of samples.
pub const SAMPLES: &str = ".samples.tar";

/// The longest name of a file that is taken, in bytes.
pub const LONGEST_FILE_NAME: usize = 200;

/// A file on its way to be a day of a data domain, or what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Handed out once; folders derive from it.
    pub id: PublicationId,
    /// The data domain.
    pub domain: String,
    /// What it is offered as.
    pub kind: Resource,
    /// The day that its name says; None for a name that is no day.
    pub day: Option<Date>,
    /// Its name in the inbox.
    pub file: String,
    /// Who asked for it: a person, an admin, or the watcher of inboxes.
    pub by: String,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// When that became its state.
    pub changed_at: Timestamp,
    /// How far it is.
    pub state: PublicationState,
}

/// How far a publication is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicationState {
    /// It is, or is about to be, out of the inbox.
    Taken,
    /// It was read to its last record.
    Checked(Content),
    /// It lies beside the day that is shown.
    Loaded(Content, Rows),
    /// Machines see it.
    Published {
        /// What is in it.
        content: Content,
        /// Rows in PostgreSQL.
        rows: Rows,
        /// When its file was changed last, in nanoseconds since 1970: another time means another
        /// file.
        modified_ns: i64,
        /// Somebody wants it loaded into PostgreSQL again.
        load: bool,
    },
    /// It was not fit to be published; the file lies among the rejected ones.
    Rejected {
        /// Why.
        reason: String,
    },
    /// The same day was published again.
    Replaced(Content),
    /// It was older than data are kept.
    Expired(Content),
}

/// Rows in PostgreSQL; None where the data domain has none here.
pub type Rows = Option<u64>;

impl PublicationState {
    /// What is known of its file.
    pub fn content(&self) -> Option<&Content> {
        match self {
            PublicationState::Checked(content)
            | PublicationState::Loaded(content, _)
            | PublicationState::Published { content, .. }
            | PublicationState::Replaced(content)
            | PublicationState::Expired(content) => Some(content),
            PublicationState::Taken | PublicationState::Rejected { .. } => None,
        }
    }

    /// Whether it is on its way.
    pub fn is_under_way(&self) -> bool {
        matches!(
            self,
            PublicationState::Taken | PublicationState::Checked(_) | PublicationState::Loaded(..)
        )
    }

    /// Its word in lists, tables and the database.
    pub fn word(&self) -> &'static str {
        match self {
            PublicationState::Taken => "taken",
            PublicationState::Checked(_) => "checked",
            PublicationState::Loaded(..) => "loaded",
            PublicationState::Published { .. } => "published",
            PublicationState::Rejected { .. } => "rejected",
            PublicationState::Replaced(_) => "replaced",
            PublicationState::Expired(_) => "expired",
        }
    }
}

/// What a file that was read to its end is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// What it holds.
    #[serde(flatten)]
    pub holds: Holds,
}

/// What a file of a day holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Holds {
    /// Packets.
    Packets(Packets),
    /// Samples and reports of dynamic analysis; at least one of either.
    Samples {
        /// Samples in it.
        samples: u64,
        /// Reports in it.
        reports: u64,
    },
}

/// The packets of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// `pcap` or `pcapng`.
    pub format: CaptureFormat,
    /// How many.
    pub packets: u64,
    /// Time of the earliest packet.
    pub first: Timestamp,
    /// Time of the latest packet.
    pub last: Timestamp,
}

impl Content {
    /// Its packets; None for a day of samples.
    pub fn packets(&self) -> Option<&Packets> {
        match &self.holds {
            Holds::Packets(packets) => Some(packets),
            Holds::Samples { .. } => None,
        }
    }

    /// The name under which it is published as `day`: of samples the one that it is brought by.
    pub fn published_name(&self, day: Date) -> String {
        match &self.holds {
            Holds::Packets(packets) => published_name(day, packets.format),
            Holds::Samples { .. } => format!("{day}{SAMPLES}"),
        }
    }
}

/// Formats of files of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptureFormat {
    /// That of libpcap.
    Pcap,
    /// The next generation's.
    Pcapng,
}

impl CaptureFormat {
    /// Its word, which is also the end of the names of its files.
    pub fn word(self) -> &'static str {
        match self {
            CaptureFormat::Pcap => "pcap",
            CaptureFormat::Pcapng => "pcapng",
        }
    }
}

impl std::str::FromStr for CaptureFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pcap" => Ok(CaptureFormat::Pcap),
            "pcapng" => Ok(CaptureFormat::Pcapng),
            _ => Err(format!("`{text}` is no format of packets")),
        }
    }
}

/// The name under which `day` is published.
pub fn published_name(day: Date, format: CaptureFormat) -> String {
    format!("{day}.{}", format.word())
}

/// What a file of this name is published as. One that is named after nothing counts as packets.
pub fn kind_of(name: &str) -> Resource {
    if name.ends_with(SAMPLES) { Resource::Samples } else { Resource::Pcap }
}

/// The day that the name of a file says: `2030-01-31.pcap`, `20300131.pcapng`,
/// `2030-01-31.samples.tar`.
///
/// The end of the name of a file of packets says no more than that: which format it has is read from
/// it.
pub fn day_of(name: &str) -> Option<Date> {
    let ends = [".pcap", ".pcapng", SAMPLES];
    let day = ends.iter().find_map(|end| name.strip_suffix(end))?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = match day.len() {
        8 if digits(day) => vec![&day[..4], &day[4..6], &day[6..]],
        10 if day.is_ascii() => day.split('-').collect(),
        _ => return None,
    };
    let [year, month, date] = parts[..] else { return None };
    let fits = [(year, 4), (month, 2), (date, 2)];
    if !fits.iter().all(|(part, length)| part.len() == *length && digits(part)) {
        return None;
    }
    Date::new(year.parse().ok()?, month.parse().ok()?, date.parse().ok()?).ok()
}

/// Which of `days` are older than the `keep` that are kept, counted from the newest of them.
pub fn too_old(days: &[Date], keep: Option<u32>) -> Vec<Date> {
    let (Some(keep), Some(newest)) = (keep, days.iter().max()) else { return Vec::new() };
    let age = |day: &Date| newest.since(*day).map_or(0, |span| span.get_days());
    days.iter().filter(|day| i64::from(age(day)) >= i64::from(keep)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_day_or_is_none() {
        let day = Date::constant(2028, 2, 29);
        for good in ["2028-02-29.pcap", "2028-02-29.pcapng", "20280229.pcap", "20280229.pcapng"] {
            assert_eq!((day_of(good), kind_of(good)), (Some(day), Resource::Pcap), "{good}");
        }
        for good in ["2028-02-29.samples.tar", "20280229.samples.tar"] {
            assert_eq!((day_of(good), kind_of(good)), (Some(day), Resource::Samples), "{good}");
        }
        for bad in [
            "2027-02-29.pcap",
            "2028-2-29.pcap",
            "2028-02-29",
            "2028-02-29.pcap.gz",
            "2028-02-29.PCAP",
            "+028-02-29.pcap",
            "2028+02+29.pcap",
            "202802290.pcap",
            "２０２８.pcap",
            "x2028-02-29.pcap",
            ".pcap",
            ".samples.tar",
            "2028-02-29.tar",
            "2028-02-29.samples.tar.gz",
            "2028-02-29samples.tar",
        ] {
            assert_eq!(day_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn days_are_kept_as_counted_from_the_newest_one() {
        let day = |d| Date::constant(2028, 3, d);
        let days = [day(1), day(5), day(4), day(3)];
        assert_eq!(too_old(&days, Some(2)), [day(1), day(3)]);
        assert_eq!(too_old(&days, Some(5)), []);
        assert_eq!(too_old(&days, None), []);
        assert_eq!(too_old(&[], Some(1)), []);
    }
}
