//! The file on standard input, as memory: rules look at all of it at once, and the kernel takes pages
//! back that were looked at.
#![allow(unsafe_code)]

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};
use std::{io, ptr};

/// Maps `size` bytes of standard input, for as long as this process lives.
///
/// Nobody may shorten the file meanwhile: the kernel then ends this process, and who started it
/// holds the file.
pub fn stdin(size: u64) -> io::Result<&'static [u8]> {
    let length = usize::try_from(size).map_err(io::Error::other)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: a new mapping at a place that the kernel chooses touches no other memory.
    let place = unsafe {
        mmap(ptr::null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, rustix::stdio::stdin(), 0)
    }?;
    // SAFETY: the range is the mapping just made; the advice changes no content.
    let _only_faster = unsafe { madvise(place, length, Advice::Sequential) };
    // SAFETY: the mapping is of `length` bytes, readable, never unmapped, and of a file that nobody
    // can write any more (the daemon holds that by a lease before it hands the file over).
    Ok(unsafe { std::slice::from_raw_parts(place.cast::<u8>(), length) })
}
