//! Giving up everything that a process which hears hostile words does not need, before it hears the
//! first of them: its rights, its namespaces, and nearly all system calls.

mod heap;
mod root;

pub use heap::{ONE_HEAP, with_one_heap};
pub use root::keep_only;

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit},
    thread::{
        UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
        unshare_unsafe,
    },
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;

/// Confinement that failed: the process must end.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The kernel refused.
    #[error("give up rights")]
    Kernel(#[from] Errno),
    /// Whoever started this process is gone.
    #[error("whoever started this is gone")]
    Orphan,
    /// The filter of system calls cannot be made.
    #[error("filter system calls")]
    Filter(#[from] seccompiler::BackendError),
    /// The filter of system calls cannot be loaded.
    #[error("load the filter of system calls")]
    Load(#[from] seccompiler::Error),
}

/// What is left to a process.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Bytes of address space.
    pub memory_bytes: u64,
    /// Bytes that a file may grow to by its hand; memory files count.
    pub file_bytes: u64,
    /// Open descriptors.
    pub files: u64,
    /// Threads beside the first, made by `clone` alone; see [`refuse_clone3`].
    pub threads: u64,
    /// Seconds of a processor; None for no bound.
    pub cpu_seconds: Option<u64>,
    /// Lists of system calls (x86-64, numbers of the kernel's `syscall_64.tbl`) beside [`ALWAYS`].
    pub calls: &'a [&'a [i64]],
}

/// System calls that every process needs: reading, writing and waiting on what is
/// open, memory, time, and ending.
pub const ALWAYS: &[i64] = &[
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

/// System calls of a process that exchanges messages with others of ours.
pub const MESSAGES: &[i64] = &[
    46,  // sendmsg
    47,  // recvmsg
    318, // getrandom: the seed of a HashMap
];

/// System calls of a process with threads beside the first: how they begin, wait and end.
pub const THREADS: &[i64] = &[
    13,  // rt_sigaction
    14,  // rt_sigprocmask
    24,  // sched_yield
    35,  // nanosleep
    157, // prctl: a name for a thread
    186, // gettid
    204, // sched_getaffinity
    230, // clock_nanosleep
    234, // tgkill
    273, // set_robust_list
    302, // prlimit64: the size of a stack
    334, // rseq
];

/// System calls on TCP connections that come to a listener that is open.
pub const TCP: &[i64] = &[
    44,  // sendto
    45,  // recvfrom
    48,  // shutdown
    51,  // getsockname
    52,  // getpeername
    54,  // setsockopt
    55,  // getsockopt
    72,  // fcntl
    288, // accept4
];

/// Leaves this process with its open descriptors and what `left` names. It must be root's, and of
/// one thread. Any other system call then ends it, and so does the end of the thread that started
/// it.
pub fn confine(left: Left<'_>) -> Result<(), ConfineError> {
    let parent = getppid();
    private_namespaces()?;
    confine_child_of(parent, left, &[])
}

/// The same, and also in the groups `more`: what such a process may read is of several groups.
pub fn confine_in_groups(left: Left<'_>, more: &[u32]) -> Result<(), ConfineError> {
    let parent = getppid();
    private_namespaces()?;
    confine_child_of(parent, left, more)
}

/// The same, in the namespaces that it is in: for one whose starter has not the right to make others,
/// and whose calls reach nothing of them.
pub fn confine_in_place(left: Left<'_>) -> Result<(), ConfineError> {
    confine_child_of(getppid(), left, &[])
}

fn confine_child_of(
    parent: Option<rustix::process::Pid>,
    left: Left<'_>,
    groups: &[u32],
) -> Result<(), ConfineError> {
    for (resource, limit) in [
        (Resource::As, left.memory_bytes),
        (Resource::Fsize, left.file_bytes),
        (Resource::Core, 0),
        (Resource::Nproc, left.threads + u64::from(left.threads > 0)),
        (Resource::Nofile, left.files),
    ] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    if let Some(seconds) = left.cpu_seconds {
        let limit = Rlimit { current: Some(seconds), maximum: Some(seconds) };
        setrlimit(Resource::Cpu, limit)?;
    }
    let user = rustix::fs::Uid::from_raw(left.uid);
    let group = rustix::fs::Gid::from_raw(left.gid);
    let groups: Vec<_> = groups.iter().map(|id| rustix::fs::Gid::from_raw(*id)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    set_no_new_privs(true)?;
    // After the change of user, which clears it; and whoever ended before it took hold is missed
    // by it, hence the second look.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        return Err(ConfineError::Orphan);
    }
    let calls = ALWAYS.iter().chain(left.calls.iter().copied().flatten());
    let mut allowed: BTreeMap<i64, Vec<_>> = calls.map(|call| (*call, Vec::new())).collect();
    if left.threads > 0 {
        // A thread, never a process: the flag CLONE_THREAD stands in the first argument.
        let thread = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(CLONE_THREAD),
            CLONE_THREAD,
        )?;
        allowed.insert(CLONE, vec![SeccompRule::new(vec![thread])?]);
        allowed.insert(CLONE3, Vec::new());
    }
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

const CLONE: i64 = 56;
const CLONE3: i64 = 435;
const CLONE_THREAD: u64 = 0x0001_0000;

/// Makes `clone3`, whose arguments a filter cannot see, unknown: the C library takes `clone` then.
pub fn refuse_clone3() -> Result<(), ConfineError> {
    const ENOSYS: u32 = 38;
    refuse(&[CLONE3], ENOSYS)
}

/// Makes `calls` (x86-64, and the same of its x32) fail with `errno` from now on, here and in all
/// that is started: for programs that are not ours, of which nobody knows what else they need.
pub fn refuse(calls: &[i64], errno: u32) -> Result<(), ConfineError> {
    const X32: i64 = 0x4000_0000;
    set_no_new_privs(true)?;
    let rules = calls.iter().flat_map(|call| [(*call, Vec::new()), (*call | X32, Vec::new())]);
    let filter = SeccompFilter::new(
        rules.collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        TargetArch::x86_64,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

/// Lets this process make unix sockets alone, whatever else it is allowed later.
pub fn refuse_other_sockets() -> Result<(), ConfineError> {
    const SOCKET: i64 = 41;
    const SOCKETPAIR: i64 = 53;
    const EAFNOSUPPORT: u32 = 97;
    const AF_UNIX: u64 = 1;
    set_no_new_privs(true)?;
    let other = || {
        let family = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, AF_UNIX)?;
        SeccompRule::new(vec![family])
    };
    let filter = SeccompFilter::new(
        BTreeMap::from([(SOCKET, vec![other()?]), (SOCKETPAIR, vec![other()?])]),
        SeccompAction::Allow,
        SeccompAction::Errno(EAFNOSUPPORT),
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
