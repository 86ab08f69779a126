//! The table that holds one day of one publication, and its indexes.

use crate::wire::quoted;
use jiff::{Timestamp, civil::Date};
use nonstop_model::PublicationId;

/// A day as one publication has it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) day: Date,
    pub(super) publication: PublicationId,
}

impl Part {
    /// The name of its table in the schema `parts`; never another's.
    pub(super) fn name(&self) -> String {
        format!("d{}_{}", self.day.strftime("%Y%m%d"), self.publication)
    }

    /// Makes the table. The check is what lets it become a partition without being read.
    pub(super) fn create(&self, from: Timestamp, until: Timestamp) -> String {
        let (name, from, until) = (self.name(), time(from), time(until));
        format!(
            "create table parts.{name} (like public.packets,
                 constraint in_day check (time >= {from} and time < {until}))
             with (autovacuum_enabled = off)"
        )
    }

    /// Takes rows, none of which anybody has seen: they need no vacuum, ever.
    pub(super) fn copy(&self) -> String {
        format!("copy parts.{} from stdin with (format binary, freeze)", self.name())
    }

    /// The indexes, one statement each: time in a few pages, since a day comes in order; and what
    /// is asked for by address, network and service. Each of those has few values for many rows,
    /// which PostgreSQL keeps once: 7 bytes a row where the table has 80. Since nobody changes a
    /// day, such a question is answered from its index alone.
    pub(super) fn indexes(&self) -> [String; 4] {
        let name = self.name();
        ["using brin (time)", "(src)", "(dst)", "(dport, protocol)"]
            .map(|columns| format!("create index on parts.{name} {columns}"))
    }

    /// Makes it the day's partition.
    pub(super) fn attach(&self, from: &str, until: &str) -> String {
        let (name, from, until) = (self.name(), quoted(from), quoted(until));
        format!(
            "alter table public.packets attach partition parts.{name}
                 for values from ({from}) to ({until});
             alter table parts.{name} drop constraint in_day"
        )
    }
}

/// Takes `part` away from `packets` and removes it; it is a name that [`Part::name`] made.
pub(super) fn detach(part: &str) -> String {
    format!("alter table public.packets detach partition parts.{part}; drop table parts.{part}")
}

/// `time` as SQL.
pub(super) fn time(time: Timestamp) -> String {
    quoted(&time.to_string())
}
