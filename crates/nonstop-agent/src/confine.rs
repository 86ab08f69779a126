//! Giving up everything that the child does not need, before it hears the first word.

use rustix::{
    process::{Resource, Rlimit, setrlimit},
    thread::{
        UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
        unshare_unsafe,
    },
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;

/// Confinement that failed: the child must end.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel refused.
    #[error("give up rights")]
    Kernel(#[from] rustix::io::Errno),
    /// The filter of system calls cannot be made.
    #[error("filter system calls")]
    Filter(#[from] seccompiler::BackendError),
    /// The filter of system calls cannot be loaded.
    #[error("load the filter of system calls")]
    Load(#[from] seccompiler::Error),
}

/// System calls of x86-64 that are left: reading, writing and waiting on what is open, memory,
/// time, and ending. Numbers from the kernel's `syscall_64.tbl`.
const ALLOWED: &[i64] = &[
    0,   // read
    1,   // write
    3,   // close
    7,   // poll
    9,   // mmap
    10,  // mprotect
    11,  // munmap
    12,  // brk
    15,  // rt_sigreturn
    25,  // mremap
    28,  // madvise
    60,  // exit
    131, // sigaltstack
    202, // futex
    228, // clock_gettime
    231, // exit_group
    271, // ppoll
];

/// Leaves this process with its open descriptors and nothing else, as the user `uid` and group
/// `gid`. It must be root's, and of one thread. Any other system call then ends it.
pub fn confine(uid: u32, gid: u32) -> Result<(), ConfineError> {
    private_namespaces()?;
    for (resource, limit) in [
        (Resource::As, 64 << 20),
        (Resource::Cpu, 2),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nproc, 0),
        (Resource::Nofile, 3),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    let (user, group) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    set_no_new_privs(true)?;
    let allowed: BTreeMap<i64, Vec<_>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let filter = SeccompFilter::new(
        allowed,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

/// A network without interfaces, and no IPC or mounts shared with the host.
fn private_namespaces() -> rustix::io::Result<()> {
    let flags = UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWNS;
    #[expect(unsafe_code, reason = "rustix marks it so for CLONE_FILES and CLONE_VM alone")]
    // SAFETY: neither descriptors nor memory are unshared, and there is one thread.
    unsafe {
        unshare_unsafe(flags)
    }
}
