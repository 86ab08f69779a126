//! `nonstop-portal`: serves the portal of one lab.

use clap::Parser;
use jiff::{Timestamp, tz::TimeZone};
use nonstop_model::Lab;
use nonstop_portal::{App, keep_listening};
use std::path::PathBuf;

/// Serves the portal of a lab on its accounts' addresses.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file that describes the lab.
    #[arg(long, env = "NONSTOP_LAB", default_value = "/etc/nonstop/lab.yaml")]
    lab: PathBuf,
}

fn main() -> miette::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A log that lies on a full disk must not end the program.
        .log_internal_errors(false)
        .init();
    let lab = Lab::load(&args.lab)?;
    lock_down().map_err(|e| miette::miette!("give up rights: {e}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| miette::miette!("start the runtime: {e}"))?;
    let app = App::new(lab, TimeZone::system(), Timestamp::now);
    runtime.block_on(keep_listening(app))
}

/// Gains no right by any program, and keeps pages with passwords out of core files.
fn lock_down() -> std::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
