//! What can be typed: `nonstop NOUN VERB`, each flag defined once.

use crate::words::{Wait, instant};
use clap::{Parser, Subcommand};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use nonstop_api::PowerAction;
use nonstop_model::{
    AccountName, Bandwidth, EnvironmentId, ImageName, MachineRole, RequestId, Role, SnapshotName,
    TemplateName,
};
use std::path::PathBuf;

/// Runs a lab from the command line.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The file that describes the lab.
    #[arg(long, global = true, env = "NONSTOP_LAB", default_value = "/etc/nonstop/lab.yaml")]
    pub(crate) lab: PathBuf,
    /// Print JSON for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Researchers and staff.
    #[command(subcommand)]
    Account(AccountVerb),
    /// IC cards: readers, and whose cards there are.
    #[command(subcommand)]
    Card(crate::card::CardVerb),
    /// Environment templates.
    #[command(subcommand)]
    Template(TemplateVerb),
    /// What researchers apply for.
    #[command(subcommand)]
    Request(RequestVerb),
    /// What staff granted.
    #[command(subcommand)]
    Environment(EnvironmentVerb),
    /// Sessions at the gateway.
    #[command(subcommand)]
    Session(SessionVerb),
    /// The clock that periods, cards and grace times go by.
    #[command(subcommand)]
    Clock(ClockVerb),
    /// Displays of machines: sessions, who else looks, recordings.
    #[command(subcommand)]
    Desktop(crate::desktop::DesktopVerb),
    /// Base images; works without the daemon.
    #[command(subcommand)]
    Image(ImageVerb),
    /// Days of data: published, on their way, and not fit.
    #[command(subcommand)]
    Data(crate::data::DataVerb),
    /// Files that leave the lab, and what was decided on them.
    #[command(subcommand)]
    Export(crate::export::ExportVerb),
    /// Files that were brought in.
    #[command(subcommand)]
    Import(crate::import::ImportVerb),
    /// Samples of malware: searching them, and putting them before a guest.
    #[command(subcommand)]
    Sample(crate::sample::SampleVerb),
    /// Who did what, and whether the record of it is what it was.
    #[command(subcommand)]
    Trace(crate::trace::TraceVerb),
    /// What may reach what.
    #[command(subcommand)]
    Reach(ReachVerb),
    /// The lab file itself, which works without the daemon, and the gateway's host key.
    #[command(subcommand)]
    Lab(LabVerb),
    /// What would change on the host, and what stands in the way.
    Plan,
    /// What is missing on this host, and how to mend it; works without the daemon. Exit code 1 if
    /// anything is.
    Check,
    /// Figures of the lab.
    Stats,
    /// Who the daemon takes you for.
    Whoami,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Enter an account.
    Add {
        /// Login name: a lower-case letter, then lower-case letters, digits or `-`.
        name: AccountName,
        /// `researcher` or `staff`.
        #[arg(long)]
        role: Role,
        /// Name of the person.
        #[arg(long)]
        full_name: String,
        /// Where the person works.
        #[arg(long)]
        affiliation: String,
        /// The data domain that a researcher works on, as lab.yaml names it; needed where the lab
        /// has several.
        #[arg(long)]
        edition: Option<String>,
        /// A network the person comes from, such as 192.0.2.0/24; may be repeated. 0.0.0.0/0 is
        /// anywhere, and has to be said.
        #[arg(long)]
        source: Vec<Ipv4Net>,
        /// A file with an OpenSSH public key; may be repeated. Only where `software_keys` is on.
        #[arg(long)]
        key_file: Vec<PathBuf>,
    },
    /// List accounts.
    List,
    /// Show one account.
    Show {
        /// Whose.
        name: AccountName,
    },
    /// Stop an account from logging in; what it has open is cut.
    Suspend {
        /// Whose.
        name: AccountName,
        /// Why.
        #[arg(long)]
        reason: String,
        /// Make it active again instead.
        #[arg(long)]
        undo: bool,
    },
    /// Let a researcher work on another data domain, once nothing is left of environments of the
    /// earlier one.
    Edition {
        /// Who.
        name: AccountName,
        /// The data domain, as lab.yaml names it.
        edition: String,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Limit what an account moves through the gateway; open connections too.
    Bandwidth {
        /// Whose.
        name: AccountName,
        /// In kbit/s each way, shared by all its sessions; `none` for no limit, `default` for the
        /// lab's.
        bandwidth: Bandwidth,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// Say anew which networks a person comes from. Sessions that come from others end.
    Sources {
        /// Who.
        name: AccountName,
        /// Networks, such as 192.0.2.0/24; 0.0.0.0/0 is anywhere.
        #[arg(required = true)]
        sources: Vec<Ipv4Net>,
        /// Why.
        #[arg(long)]
        reason: String,
    },
    /// How a person connects, as a file for nonstop-connect; it holds no secret.
    Profile {
        /// Whose.
        name: AccountName,
        /// Where to write it; else it is printed.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// End an account and its environments for good.
    Remove {
        /// Whose.
        name: AccountName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateVerb {
    /// List the templates that can be applied for.
    List,
    /// Show one template.
    Show {
        /// Which.
        name: TemplateName,
    },
    /// Check template files, by default all of the lab; works without the daemon. Exit code 1 if
    /// anything is wrong with one.
    Check {
        /// Files.
        files: Vec<PathBuf>,
        /// Also print what libvirt would be told: each segment's network, each machine's domain.
        #[arg(long)]
        xml: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RequestVerb {
    /// Apply for an environment in the name of a researcher.
    Apply {
        /// For whom.
        #[arg(long)]
        account: AccountName,
        /// For which template.
        #[arg(long)]
        template: TemplateName,
        /// For so many hours, from now or `--from`.
        #[arg(long, required_unless_present = "until", conflicts_with = "until")]
        hours: Option<u32>,
        /// From when, such as 2030-01-31T09:00:00Z, or 2030-01-31T09:00 on this host's clock; now
        /// by default.
        #[arg(long, value_parser = instant)]
        from: Option<Timestamp>,
        /// Until when.
        #[arg(long, value_parser = instant)]
        until: Option<Timestamp>,
        /// What for.
        #[arg(long)]
        purpose: String,
    },
    /// List requests.
    List,
    /// Grant a request.
    Approve {
        /// Which.
        id: RequestId,
        #[command(flatten)]
        wait: Wait,
    },
    /// Refuse a request.
    Refuse {
        /// Which.
        id: RequestId,
        /// Why, for the researcher to read.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EnvironmentVerb {
    /// List environments.
    List {
        /// Also those that are gone.
        #[arg(long)]
        all: bool,
    },
    /// Show one environment.
    Show {
        /// Which.
        id: EnvironmentId,
        #[command(flatten)]
        wait: Wait,
    },
    /// Switch machines: on, off (asked, then stopped), kill (at once), reset.
    Power {
        /// Which.
        id: EnvironmentId,
        /// What to do.
        action: PowerAction,
        /// Only the machine of this role.
        #[arg(long)]
        machine: Option<MachineRole>,
    },
    /// Put machines back to clean: nothing that a guest wrote is carried over.
    Revert {
        /// Which.
        id: EnvironmentId,
        /// Only the machine of this role.
        #[arg(long)]
        machine: Option<MachineRole>,
    },
    /// Keep what machines are, memory included, and go back to it.
    #[command(subcommand)]
    Snapshot(SnapshotVerb),
    /// Move the end of its period.
    Extend {
        /// Which.
        id: EnvironmentId,
        /// The new end, such as 2030-01-31T09:00:00Z, or 2030-01-31T09:00 on this host's clock.
        #[arg(long, value_parser = instant)]
        until: Timestamp,
    },
    /// End it now; its disks stay for the grace time.
    End {
        /// Which.
        id: EnvironmentId,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotVerb {
    /// Keep what its machines are now: all at one time; those that run stand still for some
    /// seconds, and their memory is kept too.
    Take {
        /// Of which environment.
        id: EnvironmentId,
        /// What to call it: letters and digits, and ` ._-` within.
        name: SnapshotName,
        /// Only the machine of this role.
        #[arg(long)]
        machine: Option<MachineRole>,
        /// Wait until it is taken, at most so many seconds.
        #[arg(long, num_args = 0..=1, default_missing_value = "120", value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// List them, the oldest first.
    List {
        /// Of which environment.
        id: EnvironmentId,
    },
    /// Make machines what they were; what they are now is lost.
    Return {
        /// In which environment.
        id: EnvironmentId,
        /// To which.
        name: SnapshotName,
        /// Only the machine of this role.
        #[arg(long)]
        machine: Option<MachineRole>,
        /// Wait until they run on, at most so many seconds.
        #[arg(long, num_args = 0..=1, default_missing_value = "120", value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Keep one no longer. One that is just being taken is given up.
    Delete {
        /// In which environment.
        id: EnvironmentId,
        /// Which.
        name: SnapshotName,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClockVerb {
    /// What it says, and whether it believes the host's wall clock.
    Show,
    /// Believe the host's wall clock again after it was set: what ends by it, ends now.
    Confirm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// List open sessions.
    List {
        /// Also closed ones.
        #[arg(long)]
        all: bool,
        /// Instead, the logins of so many last hours that were refused, and why.
        #[arg(long, value_name = "HOURS", num_args = 0..=1, default_missing_value = "24",
              conflicts_with = "all", value_parser = clap::value_parser!(u32).range(1..))]
        failures: Option<u32>,
    },
    /// List sources that the kernel refused before SSH in the last hour.
    Refused,
    /// End one session, and none of the person's others.
    End {
        /// Which.
        id: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Build images from their recipes.
    Build {
        /// Which.
        #[arg(required = true)]
        names: Vec<ImageName>,
        /// The folder of recipes.
        #[arg(long, default_value = "/usr/share/nonstop/images")]
        recipes: PathBuf,
        /// Build even if the recipe has not changed; takes in newer packages.
        #[arg(long)]
        force: bool,
    },
    /// List built images.
    List,
    /// Check every file of every image against its digest.
    Check,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ReachVerb {
    /// Who may reach what, and whether the kernel holds it now.
    Show,
    /// Prove from the running kernel that what gets through is what templates allow, for every
    /// sender, target and kind of traffic, with the rule that decides. Exit code 1 unless it holds.
    Prove {
        /// Read the kernel here, beside what the daemon wanted last; works while it is stopped.
        #[arg(long)]
        local: bool,
        /// Also try it: start canary machines of each template, send frames of every layer from them,
        /// and judge by what is captured. Takes a minute or two, and 128 MiB a canary.
        #[arg(long, conflicts_with = "local")]
        probe: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LabVerb {
    /// Check the lab file.
    Check,
    /// Print the JSON schema of `lab.yaml`, or of templates.
    Schema {
        /// Of templates instead.
        #[arg(long)]
        template: bool,
    },
    /// The gateway's host key, which clients know the lab by.
    #[command(subcommand)]
    HostKey(HostKeyVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum HostKeyVerb {
    /// Show it, and the next one while it is being changed.
    Show,
    /// Begin to change it: make the next one, and tell clients of it as they log in.
    Rotate,
    /// Put the next one in its place, once everybody knows it.
    Finish,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_is_defined_once_and_every_verb_has_a_line_of_help() {
        Cli::command().debug_assert();
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn misused_words_are_refused_before_anything_is_asked() {
        for words in [
            "nonstop",
            "nonstop account add Root --role researcher --full-name a --affiliation b",
            "nonstop account add alice --role king --full-name a --affiliation b",
            "nonstop request apply --account alice --template macro --purpose x",
            "nonstop request apply --account a --template b --purpose x --hours 1 --until 2030-01-01T00:00:00Z",
            "nonstop request approve e1",
            "nonstop environment power e1 explode",
            "nonstop environment snapshot take e1 ../x",
            "nonstop environment snapshot return e1",
            "nonstop export fetch x1",
            "nonstop export refuse x1",
            "nonstop export list --state eaten",
            "nonstop export list --waiting --all",
            "nonstop export show e1",
            "nonstop sample inject e1",
            "nonstop sample inject x1 abcdef01",
            "nonstop sample record x1",
            "nonstop sample list --type",
        ] {
            assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
