//! `nonstop-data VERB`: see the library.

use clap::Parser;
use nonstop_data::{check, days, generate, pcap, rdb, serve};
use std::process::ExitCode;

/// The data of a data domain: what nonstopd starts to touch it, and its servers.
#[derive(Parser)]
#[command(name = "nonstop-data", version)]
enum Verb {
    Check(check::Args),
    Generate(generate::Args),
    Serve(serve::Args),
    Pcap(pcap::Args),
    Load(days::LoadArgs),
    Swap(days::SwapArgs),
    Drop(days::DropArgs),
    Days(days::DaysArgs),
    Rdb(rdb::Args),
    #[command(hide = true)]
    RdbKeep(rdb::Args),
    #[command(hide = true)]
    RdbFront(rdb::FrontArgs),
}

fn main() -> ExitCode {
    match Verb::parse() {
        Verb::Check(args) => check::run(&args),
        Verb::Generate(args) => generate::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Pcap(args) => pcap::run(&args),
        Verb::Load(args) => days::load(&args),
        Verb::Swap(args) => days::swap(&args),
        Verb::Drop(args) => days::drop_day(&args),
        Verb::Days(args) => days::days(&args),
        Verb::Rdb(args) => rdb::run(&args),
        Verb::RdbKeep(args) => rdb::keep(&args),
        Verb::RdbFront(args) => rdb::front(&args),
    }
}
