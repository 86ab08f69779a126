//! `nonstop-agent UID GID`: started by `nonstopd` with the task on standard input and the guest's
//! channel as standard output, and the file that the guest is given, if any, as standard error.
//! Confines itself, carries out the one task, answers with a byte or a few.

use nonstop_agent::{Put, Task, put, set_password};
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
        // What it gives a guest it encodes, and it writes in pieces to a channel that is slow.
        cpu_seconds: Some(20),
        calls: &[],
    };
    if let Err(e) = confine(left) {
        eprintln!("nonstop-agent: {e}");
        return ExitCode::FAILURE;
    }
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let Some(task) = read_task(stdin.as_fd()) else { return ExitCode::FAILURE };
    let say = |answer: &[u8]| rustix::io::write(stdin.as_fd(), answer) == Ok(answer.len());
    let said = match task {
        Task::SetPassword(task) => say(&[set_password(&task, stdout.as_fd()).byte()]),
        Task::PutFile(task) => {
            let tell = |so_far: Put| {
                // Without who wants it, the guest is given no more.
                if !say(&so_far.bytes()) {
                    std::process::exit(1);
                }
            };
            say(&put(&task, stderr.as_fd(), stdout.as_fd(), tell).bytes())
        }
    };
    if said { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
