//! The part of the file that is looked at: bytes from where reading is up to as many as are wanted.

use std::io::{self, ErrorKind, Read};

/// The most that can be wanted at once.
pub(super) const MOST: usize = 1 << 20;

pub(super) struct Window<R> {
    source: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the file before those in `buffer`.
    before: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn new(source: R) -> Self {
        let buffer = vec![0; MOST].into_boxed_slice();
        Self { source, buffer, start: 0, end: 0, before: 0 }
    }

    /// The byte of the file at which the window begins.
    pub(super) fn offset(&self) -> u64 {
        self.before + self.start as u64
    }

    /// What is there; at least as much as the last `fill` said.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until `wanted` bytes are there or the file ends; says how many are, which may be more.
    #[inline]
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        if self.end - self.start < wanted {
            self.read(wanted)?;
        }
        Ok(self.end - self.start)
    }

    #[cold]
    fn read(&mut self, wanted: usize) -> io::Result<()> {
        assert!(wanted <= MOST, "callers look at lengths before they want them");
        self.buffer.copy_within(self.start..self.end, 0);
        self.before += self.start as u64;
        self.end -= self.start;
        self.start = 0;
        while self.end < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(n) => self.end += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Moves past `n` bytes that are there, and lends them.
    #[inline]
    pub(super) fn take(&mut self, n: usize) -> &[u8] {
        let taken = self.start..self.start + n;
        self.start = taken.end;
        &self.buffer[taken]
    }
}
