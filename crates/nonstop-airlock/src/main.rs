//! `nonstop-airlock inside|outside`: see the library.

use clap::Parser;
use nonstop_airlock::{Args, serve, target::Side};
use std::process::ExitCode;

/// WebDAV towards one side of a lab.
#[derive(Parser)]
#[command(name = "nonstop-airlock", version)]
enum Verb {
    /// Towards machines.
    Inside(Args),
    /// Towards researchers, through their tunnels.
    Outside(Args),
}

fn main() -> ExitCode {
    let done = match Verb::parse() {
        Verb::Inside(args) => serve(Side::Inside, &args),
        Verb::Outside(args) => serve(Side::Outside, &args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}
