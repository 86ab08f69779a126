//! The outer process and the PID 1 of a lab's box; see [`nonstop_testkit::init`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match nonstop_testkit::init::main(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nonstop-box: {e:#}");
            ExitCode::FAILURE
        }
    }
}
