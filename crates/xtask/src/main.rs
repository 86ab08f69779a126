//! `cargo xtask`: the only door to building, trying and testing NONSTOP.
//!
//! Builds on a bare machine: it links neither libvirt nor PC/SC, installs what is missing
//! and then builds the rest.

mod bench;
mod connect;
mod demo;
mod install;
#[cfg(test)]
mod layering;
mod run;
mod stages;
mod test;
mod tools;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tries and tests NONSTOP")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// A whole lab in a box on this machine, from packages to a researcher's desktop
    Demo(demo::Options),
    /// Installs what tests need and runs them all
    Test {
        /// Only tests whose name contains this
        filter: Option<String>,
    },
    /// Builds `nonstop-connect` for researchers' PCs with Windows
    Connect {
        /// The system
        #[arg(value_parser = ["windows"])]
        system: String,
    },
    /// Measures ours beside a peer: one JSON line a comparison on stdout
    Bench {
        /// Which comparison
        name: String,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = run::catch_signals().and_then(|()| match cli.task {
        Task::Demo(options) => demo::demo(&options),
        Task::Test { filter } => test::test(filter.as_deref()),
        Task::Connect { system: _ } => {
            connect::windows().map(|file| println!("{}", file.display()))
        }
        Task::Bench { name } => bench::bench(&name),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if nonstop_testkit::interrupt::interrupted() => {
            eprintln!("xtask: interrupted; nothing of the lab is left running");
            ExitCode::from(130)
        }
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}
