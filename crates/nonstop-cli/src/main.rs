//! `nonstop`: a lab from the command line. A client of the same API as the portal.
//!
//! Results go to stdout, talk to stderr. Exit code 0: done; 1: failed; 2: misused.

mod args;
mod ask;
mod card;
mod check;
mod data;
mod desktop;
mod error;
mod export;
mod gateway;
mod image;
mod import;
mod local;
mod play;
mod reach;
mod render;
mod sample;
mod sessions;
mod table;
mod trace;
mod words;

use args::{Cli, Noun};
use clap::Parser;
use error::CliError;
use nonstop_model::Lab;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let code = if matches!(e, CliError::Misused(_)) { 2 } else { 1 };
            eprintln!("{:?}", miette::Report::new(e));
            ExitCode::from(code)
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    match &cli.noun {
        Noun::Lab(args::LabVerb::HostKey(_)) => {}
        Noun::Lab(verb) => return local::lab(cli, verb),
        Noun::Template(args::TemplateVerb::Check { files, xml }) => {
            return local::check_templates(cli, files, *xml);
        }
        Noun::Trace(verb) if trace::is_offline(verb) => return trace::run_offline(verb, cli.json),
        _ => {}
    }
    let lab = Lab::load(&cli.lab)?;
    match &cli.noun {
        Noun::Image(verb) => image::run(&lab, verb, cli.json),
        Noun::Desktop(verb) => desktop::run(&lab, verb, cli.json),
        Noun::Reach(args::ReachVerb::Prove { local, probe }) => {
            reach::run(&lab, *local, *probe, cli.json)
        }
        Noun::Data(verb) => data::run(&lab, verb, cli.json),
        Noun::Card(verb) => card::run(&lab, verb, cli.json),
        Noun::Export(verb) => export::run(&lab, verb, cli.json),
        Noun::Import(verb) => import::run(&lab, verb, cli.json),
        Noun::Sample(verb) => sample::run(&lab, verb, cli.json),
        Noun::Trace(verb) => trace::run(&lab, verb, cli.json),
        Noun::Check => check::run(&lab, cli.json),
        noun => ask::run(&lab, noun, cli.json),
    }
}

/// Columns of the terminal that a result goes to; None where it goes elsewhere, whole.
fn width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| width.0.into())
}

/// Prints a result.
fn print(text: &str) {
    use std::io::Write;
    // A reader that has gone (`| head`) is no failure of ours.
    let _gone = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
}

/// Prints a value for scripts.
fn print_json<T: serde::Serialize>(value: &T) {
    let text = serde_json::to_string_pretty(value).expect("our types have string keys");
    print(&text);
}
