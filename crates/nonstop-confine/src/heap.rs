//! One heap of the C library for all threads of a process that is to be confined.
//!
//! With more, the allocator reads files that are out of reach by then, and the filter ends the process for
//! it: how many processors there are when threads first meet (/sys/devices/system/cpu/online), and
//! whether memory is overcommitted when a thread's heap shrinks (/proc/sys/vm/overcommit_memory). Source:
//! `malloc/arena.c` and `sysdeps/unix/sysv/linux/malloc-sysdep.h` of glibc 2.36.

use std::{env, io, os::unix::process::CommandExt, process::Command};

/// What a process with threads has in its environment from its begin on.
pub const ONE_HEAP: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// Becomes itself anew with [`ONE_HEAP`], and `more`, in its environment; does nothing where it is there
/// already. To be called before there are threads.
///
/// Errors: the program is not found any more, or cannot be started.
pub fn with_one_heap(more: &[(&str, &str)]) -> io::Result<()> {
    let (name, value) = ONE_HEAP;
    if env::var_os(name).is_some_and(|is| is == value) {
        return Ok(());
    }
    let me = env::current_exe()?;
    let mut anew = Command::new(me);
    Err(anew.args(env::args_os().skip(1)).env(name, value).envs(more.iter().copied()).exec())
}
