//! Stands in for servers that are not built yet; see [`nonstop_testkit::stand_in`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match nonstop_testkit::stand_in::main(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nonstop-stand-in: {e:#}");
            ExitCode::FAILURE
        }
    }
}
