//! `nonstop-screen VERB < FILE`: see the library.

use clap::Parser;
use nonstop_screen::{measure, preview, rules, run};
use std::process::ExitCode;

/// The checks of one file, and its preview: what nonstopd starts to look at the file on standard
/// input.
#[derive(Parser)]
#[command(name = "nonstop-screen", version)]
enum Verb {
    Measure(measure::Args),
    Preview(preview::Args),
    Rules(rules::Args),
    Run(run::Args),
    #[command(hide = true)]
    RunInside(run::InsideArgs),
}

fn main() -> ExitCode {
    nonstop_screen::child::close_others();
    match Verb::parse() {
        Verb::Measure(args) => measure::run(&args),
        Verb::Preview(args) => preview::run(&args),
        Verb::Rules(args) => rules::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::RunInside(args) => run::run_inside(&args),
    }
}
