//! What stands in sshd's way and what listens to it.
//!
//! - `nonstop-gate [--socket PATH]`: the hook in the login path, which `pam_exec` runs (`hook`).
//! - `nonstop-gate watch [--socket PATH] -- SSHD…`: starts sshd and has its words heard (`watch`).
//! - `nonstop-gate ear`: what hears them, without rights; started by `watch` (`ear`).

mod ear;
mod hook;
mod sorting;
mod watch;
mod words;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

const USAGE: &str = "nonstop-gate: in a PAM file: nonstop-gate [--socket PATH]
nonstop-gate: in sshd's unit: nonstop-gate watch [--socket PATH] -- /usr/sbin/sshd -D -e -f FILE";

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&str> = args.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    match &words[..] {
        [] => hook::run(PathBuf::from(hook::SOCKET)),
        ["--socket", path] => hook::run(PathBuf::from(path)),
        ["watch", "--socket", path, "--", sshd @ ..] if !sshd.is_empty() => {
            watch::run(PathBuf::from(path), sshd)
        }
        ["watch", "--", sshd @ ..] if !sshd.is_empty() => {
            watch::run(PathBuf::from(watch::SOCKET), sshd)
        }
        ["ear", begin, uid, gid] => ear::run(*begin == "anew", uid, gid),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
