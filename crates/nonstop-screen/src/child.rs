//! What is left to a process that holds somebody's file.

use nonstop_confine::{ConfineError, Left, THREADS, confine, refuse_clone3};

/// As whom, and with how much memory.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Given {
    /// The user to look as.
    #[arg(long, default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub uid: u32,
    /// The group to look as.
    #[arg(long, default_value_t = 65534, value_parser = clap::value_parser!(u32).range(1..))]
    pub gid: u32,
    /// Memory beside the file itself, in MiB.
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u64).range(32..))]
    pub memory_mib: u64,
    /// Seconds of a processor.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub cpu_seconds: u64,
}

/// System calls beside those that every process needs: reading at a place, the seed of a table.
const CALLS: &[i64] = &[
    17,  // pread64
    318, // getrandom
];

/// Closes everything but standard input, output and error: the first thing that these programs do,
/// so that nothing that somebody left open is theirs, or a program's of the lab.
pub fn close_others() {
    let Ok(open) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> =
        open.flatten().filter_map(|fd| fd.file_name().to_str()?.parse().ok()).collect();
    // The one by which the folder was read is closed by now.
    let is_open = |number: &i32| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok();
    for number in open.into_iter().filter(|number| *number > 2).filter(is_open) {
        #[expect(unsafe_code, reason = "closes what nobody here has opened")]
        // SAFETY: this process has opened nothing yet, so no value of its owns the descriptor, and
        // it is open: there is one thread.
        unsafe {
            rustix::io::close(number);
        }
    }
}

/// So many threads, of all that look at files at once, may be: the kernel counts them by user.
const THREADS_OF_ALL: u64 = 1000;

/// Leaves this process with standard input, output and error, threads beside the first if `threaded`,
/// and `mapped_bytes` of address space for the file.
///
/// It must be root's, and of one thread.
pub fn confined(given: Given, threaded: bool, mapped_bytes: u64) -> Result<(), ConfineError> {
    let calls: &[&[i64]] = if threaded { &[CALLS, THREADS] } else { &[CALLS] };
    if threaded {
        refuse_clone3()?;
    }
    confine(Left {
        uid: given.uid,
        gid: given.gid,
        memory_bytes: (given.memory_mib << 20).saturating_add(mapped_bytes),
        file_bytes: 1 << 20,
        files: 3,
        threads: if threaded { THREADS_OF_ALL } else { 0 },
        cpu_seconds: Some(given.cpu_seconds),
        calls,
    })
}
