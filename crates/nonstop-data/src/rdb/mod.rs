//! PostgreSQL of one data domain: `nonstop-data rdb --lab FILE --domain NAME`.
//!
//! Two servers and a front. The *writer* is reached by a unix socket alone, by those who load days.
//! The *reader* follows it as a hot standby: what cannot be written is no message board. Machines
//! speak with the *front*, which knows them by their address. Why so: `decisions/0014`.

pub mod cluster;
pub mod front;
mod front_child;
pub mod keeper;
mod leftovers;
pub mod namespace;
pub mod places;
mod process;
mod schema;
mod watchdog;

use std::{path::PathBuf, process::ExitCode};

/// Keeps PostgreSQL of a data domain running, and the front that machines speak with. Root, in the
/// network namespace of the data domain.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The file that describes the lab.
    #[arg(long, env = "NONSTOP_LAB", default_value = "/etc/nonstop/lab.yaml")]
    pub lab: PathBuf,
    /// The data domain.
    #[arg(long)]
    pub domain: String,
}

/// What machines speak with; started by `rdb` alone.
#[derive(Debug, Clone, clap::Args)]
pub struct FrontArgs {
    setup: String,
}

/// The verb `rdb`.
pub fn run(args: &Args) -> ExitCode {
    told("rdb", namespace::run(&args.lab, &args.domain))
}

/// The verb `rdb-keep`.
pub fn keep(args: &Args) -> ExitCode {
    told("rdb", keeper::keep(&args.lab, &args.domain))
}

/// The verb `rdb-front`.
pub fn front(args: &FrontArgs) -> ExitCode {
    let setup = serde_json::from_str(&args.setup).map_err(anyhow::Error::from);
    told("rdb front", setup.and_then(|setup| Ok(front::run(setup)?)))
}

fn told(who: &str, ended: anyhow::Result<()>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{who}: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// The database that machines see.
pub const DATABASE: &str = "darknet";

/// The role that may everything, on either server; known by its user, root.
pub const KEEPER: &str = "nonstop";

/// The role that owns the tables, on the writer.
pub const LOADER: &str = "loader";

/// The role of the machines on the segment at `slot`.
pub fn role(slot: u32) -> String {
    format!("machine_{slot:05}")
}
