//! `nonstop-data VERB`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("nonstop-data: started by nonstopd, or as `nonstop-data serve --lab FILE`");
    ExitCode::from(2)
}
