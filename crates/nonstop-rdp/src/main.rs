//! `nonstop-rdp broker UID`, `worker UID`, `recorder UID`, `player UID`: started by `nonstopd` as
//! root, with what each may use as its descriptors. Each confines itself before it hears the first
//! word of a guest's side or a client's.

use nonstop_rdp::{broker, recorder, worker};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = match args[..] {
        ["broker", uid] => user(uid).map(|uid| broker::run(uid).map_err(|e| e.to_string())),
        ["worker", uid] => user(uid).map(|uid| worker::run(uid).map_err(|e| e.to_string())),
        ["recorder", uid] => user(uid).map(|uid| recorder::run(uid).map_err(|e| e.to_string())),
        ["player", uid] => user(uid).map(|uid| recorder::play(uid).map_err(|e| e.to_string())),
        _ => None,
    };
    match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(told)) => {
            eprintln!("nonstop-rdp: {told}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!(
                "nonstop-rdp is started by nonstopd: nonstop-rdp broker|worker|recorder|player UID"
            );
            ExitCode::from(2)
        }
    }
}

/// A user that is not root.
fn user(uid: &str) -> Option<u32> {
    uid.parse().ok().filter(|uid| *uid != 0)
}
