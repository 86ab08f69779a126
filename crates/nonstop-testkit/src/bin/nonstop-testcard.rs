//! A PIV card in a virtual reader; see [`nonstop_testkit::card`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match nonstop_testkit::card::main(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nonstop-testcard: {e:#}");
            ExitCode::FAILURE
        }
    }
}
