//! `nonstop-agent UID GID`: started by `nonstopd` with the task on standard input and the guest's
//! channel as standard output. Confines itself, carries out the one task, answers with one byte.

use nonstop_agent::{Task, carry_out};
use nonstop_confine::{Left, confine};
use std::{io, os::fd::AsFd, process::ExitCode};

/// The longest task that is read, in bytes.
const LONGEST_TASK: usize = 4096;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse::<u32>());
    let (Some(Ok(uid)), Some(Ok(gid)), None) = (numbers.next(), numbers.next(), numbers.next())
    else {
        eprintln!("nonstop-agent is started by nonstopd: nonstop-agent UID GID");
        return ExitCode::from(2);
    };
    if uid == 0 || gid == 0 {
        eprintln!("nonstop-agent does not run as root");
        return ExitCode::from(2);
    }
    let left = Left {
        uid,
        gid,
        memory_bytes: 64 << 20,
        file_bytes: 0,
        files: 3,
        threads: 0,
        cpu_seconds: Some(2),
        calls: &[],
    };
    if let Err(e) = confine(left) {
        eprintln!("nonstop-agent: {e}");
        return ExitCode::FAILURE;
    }
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let Some(task) = read_task(stdin.as_fd()) else { return ExitCode::FAILURE };
    let verdict = carry_out(&task, stdout.as_fd());
    match rustix::io::write(stdin.as_fd(), &[verdict.byte()]) {
        Ok(1) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn read_task(from: std::os::fd::BorrowedFd<'_>) -> Option<Task> {
    let mut json = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        match rustix::io::read(from, &mut buffer).ok()? {
            0 => return serde_json::from_slice(&json).ok(),
            n => json.extend_from_slice(&buffer[..n]),
        }
        if json.len() > LONGEST_TASK {
            return None;
        }
    }
}
