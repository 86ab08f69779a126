//! Words of imports and exports: how far they are, what rules are about, and how files are brought
//! and fetched.

use crate::{
    desktop::ssh,
    lang::Lang,
    page::{At, Badge, Page},
    preview::Pieces,
    texts::{fill, transfers},
};
use nonstop_api::{ConnectView, ExportView, ImportState};
use nonstop_model::{AccountName, EnvironmentId, ExportState, lab::Airlock, screening::Kind};
use std::net::Ipv4Addr;

/// What a rule is about, and how to mend it; of a rule of the lab's own, no more than that it is one.
pub(crate) struct RuleText {
    /// Its id.
    pub(crate) id: String,
    /// What it is about.
    pub(crate) says: &'static str,
    /// How to mend it in general; may be empty.
    pub(crate) mend: &'static str,
}

/// The texts of the rules `ids`, each once.
pub(crate) fn rules(f: &'static transfers::Texts, ids: &[String]) -> Vec<RuleText> {
    let mut all: Vec<RuleText> = Vec::new();
    for id in ids {
        if all.iter().all(|rule| rule.id != *id) {
            all.push(rule(f, id));
        }
    }
    all
}

fn rule(f: &'static transfers::Texts, id: &str) -> RuleText {
    // Those of the lab's own folder are `yara.` or `program.` and a name.
    let kind = id.split('.').next().unwrap_or(id);
    let (says, mend) = match kind {
        "protected" => (f.rule_protected, f.rule_protected_mend),
        "type" => (f.rule_type, f.rule_type_mend),
        "mismatch" => (f.rule_mismatch, f.rule_mismatch_mend),
        "rules-broken" => (f.rule_broken, f.rule_broken_mend),
        "appended" => (f.rule_appended, f.rule_appended_mend),
        "malformed" => (f.rule_malformed, f.rule_malformed_mend),
        "encrypted" => (f.rule_encrypted, f.rule_encrypted_mend),
        "archive" | "compressed" => (f.rule_archive, f.rule_archive_mend),
        "size" => (f.rule_size, f.rule_size_mend),
        "name" => (f.rule_name, f.rule_name_mend),
        "review" => (f.rule_review, f.rule_review_mend),
        "screening-failed" => (f.rule_failed, f.rule_failed_mend),
        "yara" => (f.rule_yara, f.rule_yara_mend),
        "program" => (f.rule_program, f.rule_yara_mend),
        _ => (f.rule_other, ""),
    };
    RuleText { id: id.into(), says, mend }
}

impl Page {
    /// How far an export is.
    pub(crate) fn export_badge(&self, state: &ExportState) -> Badge {
        let f = self.f;
        let (class, text) = match state {
            ExportState::Submitted => ("busy", f.export_submitted),
            ExportState::Screening => ("busy", f.export_screening),
            ExportState::Held => ("busy", f.export_held),
            ExportState::Blocked => ("bad", f.export_blocked),
            ExportState::Released => ("good", f.export_released),
            ExportState::Refused => ("bad", f.export_refused),
            ExportState::Withdrawn => ("quiet", f.export_withdrawn),
            ExportState::Revoked => ("quiet", f.export_revoked),
        };
        Badge { class, text }
    }

    /// What that means to its owner.
    pub(crate) fn export_means(&self, state: &ExportState) -> &'static str {
        let f = self.f;
        match state {
            ExportState::Submitted => f.export_submitted_what,
            ExportState::Screening => f.export_screening_what,
            ExportState::Held => f.export_held_what,
            ExportState::Blocked => f.export_blocked_what,
            ExportState::Released => f.export_released_what,
            ExportState::Refused => f.export_refused_what,
            ExportState::Withdrawn => f.export_withdrawn_what,
            ExportState::Revoked => f.export_revoked_what,
        }
    }

    /// How far an import is.
    pub(crate) fn import_badge(&self, state: &ImportState) -> Badge {
        let f = self.f;
        let (class, text) = match state {
            ImportState::Looking => ("busy", f.import_looking),
            ImportState::Visible => ("good", f.import_visible),
            ImportState::Refused => ("bad", f.import_refused),
            ImportState::Removed => ("quiet", f.import_removed),
        };
        Badge { class, text }
    }

    /// What a rule asks for.
    pub(crate) fn verdict_badge(&self, verdict: &str) -> Badge {
        let f = self.f;
        let (class, text) = match verdict {
            "pass" => ("good", f.verdict_pass),
            "block" => ("bad", f.verdict_block),
            _ => ("busy", f.verdict_hold),
        };
        Badge { class, text }
    }

    /// How long `x` has waited for what comes next; empty where nothing does.
    pub(crate) fn waits(&self, x: &ExportView) -> String {
        match x.state {
            ExportState::Held => self.ago_twice(x.changed_at),
            state if state.is_under_way() => self.ago_twice(x.submitted_at),
            _ => String::new(),
        }
    }

    /// How long ago, as the two largest units.
    fn ago_twice(&self, at: impl At) -> String {
        let seconds = self.now.duration_since(at.at()).as_secs().max(0);
        let t = self.t;
        let parts = [
            (t.days, seconds / 86_400),
            (t.hours, seconds / 3600 % 24),
            (t.minutes, seconds / 60 % 60),
            (t.seconds, seconds % 60),
        ];
        let first = parts.iter().position(|(_, n)| *n > 0).unwrap_or(3);
        let shown = parts[first..].iter().take(if first == 2 { 1 } else { 2 });
        let shown = shown.filter(|(_, n)| *n > 0 || first == 3);
        shown.map(|(unit, n)| fill(unit, n)).collect::<Vec<_>>().join(" ")
    }

    /// A text of somebody else's in pieces, so that nothing in it hides.
    pub(crate) fn pieces(&self, text: &str) -> Pieces {
        Pieces::of(text)
    }

    /// What a file is, in the reader's language; a word that is not known, as it is.
    pub(crate) fn kind(&self, word: &str) -> String {
        let called = Kind::named(word).map(|kind| kind.called());
        called.map_or(word.into(), |words| words.said(self.lang == Lang::Ja).into())
    }

    /// The beginning of a hash, to be compared by eye.
    pub(crate) fn short(&self, sha256: &str) -> String {
        sha256.chars().take(12).collect()
    }
}

/// How a researcher brings and fetches files.
pub(crate) struct Mount {
    /// The command that opens the way.
    pub(crate) ssh: String,
    /// The environments that have files, newest first.
    pub(crate) environments: Vec<MountedEnvironment>,
    /// How much: imports of an environment, one export, exports of a day and of a period.
    pub(crate) limits: String,
}

/// Where the files of one environment are found on the researcher's PC, and what is typed there.
pub(crate) struct MountedEnvironment {
    /// Which.
    pub(crate) id: EnvironmentId,
    /// The whole of it.
    pub(crate) url: String,
    /// Windows' command that makes it a drive.
    pub(crate) explorer: String,
    /// davfs2's command.
    pub(crate) davfs: String,
    /// rclone's, in and out.
    pub(crate) rclone: [String; 2],
    /// curl's, in and out.
    pub(crate) curl: [String; 2],
}

impl Mount {
    /// How `account`, whose address is `address`, reaches the files of `environments`.
    pub(crate) fn of(
        f: &'static transfers::Texts,
        gateway: &ConnectView,
        airlock: &Airlock,
        account: &AccountName,
        address: Ipv4Addr,
        environments: impl Iterator<Item = EnvironmentId>,
    ) -> Mount {
        // The same number near and far, as nonstop-connect does where it can.
        let port = airlock.outside_port;
        let size = |mib: u64| match mib {
            mib if mib % 1024 == 0 => format!("{} GiB", mib / 1024),
            mib => format!("{mib} MiB"),
        };
        let limits = [airlock.import_mib, airlock.file_mib, airlock.day_mib, airlock.period_mib];
        let limits =
            limits.iter().fold(f.mount_limits.to_string(), |text, mib| fill(&text, size(*mib)));
        Mount {
            ssh: ssh(gateway, account, &[(port, &(address.to_string(), port))]),
            environments: environments.map(|id| MountedEnvironment::of(id, port)).collect(),
            limits,
        }
    }
}

/// Where the files of `id` are, at the near end of a tunnel that has the number of its far end.
pub(crate) fn url(id: EnvironmentId, port: u16) -> String {
    format!("http://localhost:{port}/dav/{id}/")
}

impl MountedEnvironment {
    fn of(id: EnvironmentId, port: u16) -> MountedEnvironment {
        let url = url(id, port);
        let rclone = |from: &str, to: &str| format!("rclone copy --webdav-url {url} {from} {to}");
        MountedEnvironment {
            id,
            explorer: format!("net use * {}", url.trim_end_matches('/')),
            davfs: format!("sudo mount -t davfs {url} /mnt"),
            rclone: [rclone("FILE", ":webdav:import/"), rclone(":webdav:export/", "FOLDER")],
            curl: [format!("curl -T FILE {url}import/"), format!("curl -O {url}export/FILE")],
            url,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_model::screening::RuleId;

    #[test]
    fn every_rule_of_ours_is_told_of_with_a_way_to_mend_it() {
        for id in RuleId::OURS.iter().copied().chain(["yara", "yara.packer", "program.words"]) {
            let told = rule(&transfers::ENGLISH, id);
            assert!(told.says != transfers::ENGLISH.rule_other && !told.mend.is_empty(), "{id}");
        }
        let ids = ["size".into(), "of-tomorrow".into(), "size".into()];
        let told: Vec<_> =
            rules(&transfers::ENGLISH, &ids).into_iter().map(|rule| rule.says).collect();
        assert_eq!(told, [transfers::ENGLISH.rule_size, transfers::ENGLISH.rule_other]);
    }
}
