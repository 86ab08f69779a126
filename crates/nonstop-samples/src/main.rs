//! `nonstop-samples VERB`: see the library.

use clap::Parser;
use nonstop_samples::{check, find, generate, give, serve};
use std::process::ExitCode;

/// Samples and reports of a data domain: what nonstopd starts to touch them, and their servers.
#[derive(Parser)]
#[command(name = "nonstop-samples", version)]
enum Verb {
    CheckSamples(check::Args),
    Find(find::Args),
    Disc(give::DiscArgs),
    Take(give::TakeArgs),
    Serve(serve::Args),
    Generate(generate::Args),
}

fn main() -> ExitCode {
    match Verb::parse() {
        Verb::CheckSamples(args) => check::run(&args),
        Verb::Find(args) => find::run(&args),
        Verb::Disc(args) => give::disc(&args),
        Verb::Take(args) => give::take(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Generate(args) => generate::run(&args),
    }
}
