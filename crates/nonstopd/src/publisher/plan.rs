//! What is to be done next for a publication: a pure function of how far it is and of what lies in
//! the folders.
//!
//! ```text
//! taken --Check--> checked --Load--> loaded --Prepare, Show--> published
//!   any of the three --Reject--> rejected --PutAside
//! ```
//!
//! A step's effects come before the row that says they are done, but for `Reject`, which decides.
//! Each can be repeated, so a cut at any instant leads on from what is seen.

use nonstop_model::{Publication, PublicationId, PublicationState};

/// What lies in the folders of a publication.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// A file of its name lies in the inbox.
    pub in_inbox: bool,
    /// The file, where it was taken to.
    pub taken: Option<TakenFile>,
    /// What its check made of it lies beside it; true where nothing is made.
    pub made: bool,
    /// The folder that it was taken to is there, or one in which its day was prepared, or what it
    /// replaced.
    pub leftovers: bool,
    /// Its day lies prepared beside the published ones.
    pub prepared: bool,
    /// The publication that its day shows.
    pub shown: Option<PublicationId>,
}

/// A file that was taken out of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenFile {
    /// It is a file: no folder, link, pipe or device.
    pub regular: bool,
    /// Names that it has in the file system.
    pub links: u64,
    /// It is root's, and nobody may open it for writing.
    pub guarded: bool,
    /// Somebody has it open for writing.
    pub written: bool,
}

/// One step of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Move its file out of the inbox, and keep everybody from writing it.
    Take,
    /// Look again later.
    Wait(&'static str),
    /// Read it to its last record.
    Check,
    /// Load it into PostgreSQL, beside what is there.
    Load,
    /// Make the folder of its day, beside the published ones.
    Prepare,
    /// Show it: to PostgreSQL's readers, then in place of the published folder.
    Show,
    /// It is shown already, though the row does not say that it was checked: the database is a
    /// restored backup.
    Recover,
    /// It cannot be published.
    Reject(&'static str),
    /// Move its file to the rejected ones.
    PutAside,
    /// Remove what was needed on the way.
    Clean,
    /// Load the published file again.
    LoadAgain,
}

/// The step that leads `publication` on; None where it has arrived.
pub fn next(publication: &Publication, seen: &Seen) -> Option<Step> {
    let is_shown = seen.shown == Some(publication.id);
    match &publication.state {
        PublicationState::Taken | PublicationState::Checked(_) if is_shown => Some(Step::Recover),
        PublicationState::Taken => Some(taken(publication, seen)),
        PublicationState::Checked(_) if seen.taken.is_none() || !seen.made => {
            Some(Step::Reject(VANISHED))
        }
        PublicationState::Checked(_) => Some(Step::Load),
        PublicationState::Loaded(..) if is_shown || seen.prepared => Some(Step::Show),
        PublicationState::Loaded(..) if seen.taken.is_none() || !seen.made => {
            Some(Step::Reject(VANISHED))
        }
        PublicationState::Loaded(..) => Some(Step::Prepare),
        PublicationState::Rejected { .. } if seen.taken.is_some() => Some(Step::PutAside),
        PublicationState::Published { .. }
        | PublicationState::Rejected { .. }
        | PublicationState::Replaced(_)
        | PublicationState::Expired(_)
            if seen.leftovers =>
        {
            Some(Step::Clean)
        }
        PublicationState::Published { load: true, .. } => Some(Step::LoadAgain),
        PublicationState::Published { .. }
        | PublicationState::Rejected { .. }
        | PublicationState::Replaced(_)
        | PublicationState::Expired(_) => None,
    }
}

const VANISHED: &str = "the file has vanished from the folder that nonstopd had taken it to: somebody removed it there; \
    bring it again";

fn taken(publication: &Publication, seen: &Seen) -> Step {
    let Some(file) = &seen.taken else {
        return match seen.in_inbox {
            true => Step::Take,
            false => Step::Reject(
                "the file was gone from the inbox before it could be taken: bring it again",
            ),
        };
    };
    if !file.regular {
        return Step::Reject("this is no file, but a folder, link, pipe or device");
    }
    if file.links > 1 {
        return Step::Reject(
            "the file has other names in the file system, by which it could be changed after it \
             was checked: bring a copy",
        );
    }
    if !file.guarded {
        return Step::Take;
    }
    if publication.day.is_none() {
        return Step::Reject(
            "its name is no day: call it YYYY-MM-DD.pcap, .pcapng or .samples.tar (or YYYYMMDD), as \
             it begins and ends in this data domain",
        );
    }
    if file.written {
        return Step::Wait("somebody has the file open for writing");
    }
    Step::Check
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{Timestamp, civil::Date};
    use nonstop_model::Resource;

    const TAKEN: TakenFile = TakenFile { regular: true, links: 1, guarded: true, written: false };

    fn publication(state: PublicationState) -> Publication {
        Publication {
            id: PublicationId(7),
            domain: "intermediate".into(),
            kind: Resource::Pcap,
            day: Some(Date::constant(2030, 1, 31)),
            file: "2030-01-31.pcap".into(),
            by: "watcher".into(),
            taken_at: Timestamp::UNIX_EPOCH,
            changed_at: Timestamp::UNIX_EPOCH,
            state,
        }
    }

    #[test]
    fn only_a_file_that_nobody_can_change_any_more_is_read() {
        let taken = publication(PublicationState::Taken);
        let next = |file| next(&taken, &Seen { taken: Some(file), ..Seen::default() });
        assert_eq!(next(TAKEN), Some(Step::Check));
        assert_eq!(next(TakenFile { guarded: false, ..TAKEN }), Some(Step::Take));
        assert!(matches!(next(TakenFile { written: true, ..TAKEN }), Some(Step::Wait(_))));
        assert!(matches!(next(TakenFile { links: 2, ..TAKEN }), Some(Step::Reject(_))));
        assert!(matches!(next(TakenFile { regular: false, ..TAKEN }), Some(Step::Reject(_))));
    }

    #[test]
    fn a_row_whose_file_is_nowhere_is_rejected_and_one_that_is_shown_is_not() {
        let taken = publication(PublicationState::Taken);
        assert!(matches!(next(&taken, &Seen::default()), Some(Step::Reject(_))));
        let inbox = Seen { in_inbox: true, ..Seen::default() };
        assert_eq!(next(&taken, &inbox), Some(Step::Take));
        let shown = Seen { shown: Some(PublicationId(7)), ..Seen::default() };
        assert_eq!(next(&taken, &shown), Some(Step::Recover));
        let other = Seen { shown: Some(PublicationId(6)), ..Seen::default() };
        assert!(matches!(next(&taken, &other), Some(Step::Reject(_))));
    }
}
