//! The file that is looked at.

use rustix::{
    fs::{Advice, FileType, OFlags, fadvise, fcntl_getfl, fstat},
    stdio::stdin,
};
use std::io;

/// Bytes that can be read at any place.
pub trait Bytes {
    /// How many there are.
    fn size(&self) -> u64;

    /// Reads some of those from `at` on; 0 at the end alone.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Fills `buffer` with what stands from `at` on, and says how much of it that is: less at the
    /// end alone.
    fn fill_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(at.saturating_add(filled as u64), &mut buffer[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    /// At most `most` bytes from `at` on.
    fn piece(&self, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let there = self.size().saturating_sub(at).min(most as u64);
        let mut piece = vec![0; usize::try_from(there).unwrap_or(most)];
        let filled = self.fill_at(at, &mut piece)?;
        piece.truncate(filled);
        Ok(piece)
    }
}

impl Bytes for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        let n = buffer.len().min(self.len() - at);
        buffer[..n].copy_from_slice(&self[at..at + n]);
        Ok(n)
    }
}

/// The file on standard input. Where others have read to does not matter.
#[derive(Debug, Clone, Copy)]
pub struct Stdin {
    size: u64,
}

impl Stdin {
    /// Looks at what is on standard input, before rights are given up.
    ///
    /// Errors: it is no file that is open for reading.
    pub fn open() -> Result<Stdin, String> {
        let told = |e| format!("look at standard input: {e}");
        let stat = fstat(stdin()).map_err(told)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(
                "standard input must be the file itself: `nonstop-screen ... < FILE`".into()
            );
        }
        if fcntl_getfl(stdin()).map_err(told)?.contains(OFlags::WRONLY) {
            return Err("standard input must be open for reading".into());
        }
        // Only makes it faster.
        let _ = fadvise(stdin(), 0, None, Advice::Sequential);
        Ok(Stdin { size: stat.st_size.unsigned_abs() })
    }
}

impl Bytes for Stdin {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::pread(stdin(), &mut *buffer, at) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}
