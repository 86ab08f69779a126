//! Memory that viewers see and nobody but this process writes.

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use std::{
    ops::{Deref, DerefMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr,
};

/// A memory file, mapped, and sealed: its size is fixed, and no other descriptor of it can write or
/// be mapped to write.
#[derive(Debug)]
pub struct Shared {
    file: OwnedFd,
    start: *mut u8,
    length: usize,
}

impl Shared {
    /// `length` bytes of zeros; not 0.
    pub fn new(length: usize) -> Result<Self, Errno> {
        let file = memfd_create("picture", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, length as u64)?;
        #[expect(unsafe_code, reason = "rustix has no safe map")]
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else lies there.
        let start = unsafe {
            let (read, write) = (ProtFlags::READ, ProtFlags::WRITE);
            mmap(ptr::null_mut(), length, read | write, MapFlags::SHARED, &file, 0)?
        };
        let shared = Self { file, start: start.cast(), length };
        let fixed = SealFlags::SHRINK | SealFlags::GROW;
        fcntl_add_seals(&shared.file, fixed | SealFlags::FUTURE_WRITE | SealFlags::SEAL)?;
        Ok(shared)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        #[expect(unsafe_code, reason = "memory that the type owns")]
        // SAFETY: `start` is a mapping of `length` bytes that lives as long as `self`. The file
        // cannot shrink (sealed), and nobody else can write (sealed before any other had it), so
        // the bytes change by `deref_mut` alone. Other processes read; that is their affair.
        unsafe {
            std::slice::from_raw_parts(self.start, self.length)
        }
    }
}

impl DerefMut for Shared {
    fn deref_mut(&mut self) -> &mut [u8] {
        #[expect(unsafe_code, reason = "memory that the type owns")]
        // SAFETY: as in `deref`; `&mut self` makes this the only reference in this process.
        unsafe {
            std::slice::from_raw_parts_mut(self.start, self.length)
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "memory that the type owns")]
        // SAFETY: the mapping is this value's alone, and no slice of it outlives it.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::pwrite;

    #[test]
    fn viewers_read_it_and_can_neither_write_nor_shrink_nor_map_it_to_write() {
        let mut shared = Shared::new(8192).expect("memory");
        shared[100] = 7;
        let theirs = shared.as_fd().try_clone_to_owned().expect("a descriptor");
        let mut read = [0; 1];
        assert_eq!(rustix::io::pread(&theirs, &mut read, 100), Ok(1));
        assert_eq!(read, [7]);
        assert_eq!(pwrite(&theirs, &[1], 100), Err(Errno::PERM));
        assert_eq!(ftruncate(&theirs, 0), Err(Errno::PERM));
        #[expect(unsafe_code, reason = "rustix has no safe map")]
        // SAFETY: a new mapping, which is refused.
        let mapped =
            unsafe { mmap(ptr::null_mut(), 4096, ProtFlags::WRITE, MapFlags::SHARED, &theirs, 0) };
        assert_eq!(mapped.err(), Some(Errno::PERM));
    }
}
