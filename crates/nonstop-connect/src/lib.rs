//! The parts of `nonstop-connect`, told from the outside in: what is asked for ([`Request`]), what is
//! kept ([`store`]), the card ([`card`]), the tunnel ([`ssh`], [`heard`]), the desktops ([`desktop`]).
//!
//! What is run is made by pure functions from the system, the profile and paths, so that tests on
//! Linux see the command lines of macOS and Windows.

mod args;
mod askpass;
mod browser;
pub mod card;
mod connect;
pub mod desktop;
mod fetch;
mod hand;
pub mod heard;
pub mod os;
mod say;
pub mod ssh;
pub mod store;
pub mod trouble;
mod tunnel;

pub use args::{Request, Verb};
pub use say::Lang;

use std::process::ExitCode;
use trouble::Trouble;

/// Does what the arguments ask for.
pub fn main() -> ExitCode {
    if let Some(code) = askpass::asked_by_ssh() {
        return code;
    }
    let lang = Lang::here();
    let request = match Request::parse(std::env::args_os().skip(1), lang) {
        Ok(request) => request,
        Err(misuse) => {
            eprintln!("nonstop-connect: {misuse}");
            return ExitCode::from(2);
        }
    };
    let lang = request.lang;
    match hand::handle(&request) {
        Ok(()) | Err(Trouble::Stopped) => ExitCode::SUCCESS,
        Err(trouble) if request.json => {
            say::event(&serde_json::json!({
                "event": "trouble", "kind": trouble.kind(), "says": trouble.says(lang),
            }));
            ExitCode::FAILURE
        }
        Err(trouble) => {
            eprintln!("nonstop-connect: {}", trouble.says(lang));
            ExitCode::FAILURE
        }
    }
}
