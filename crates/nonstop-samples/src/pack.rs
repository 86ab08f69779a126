//! Contents one after the other in a file, masked.
//!
//! At rest nothing is executable, no scanner of the host knows what it is, and no key has to be kept:
//! each content is XORed with ChaCha20 (RFC 8439) under a key that derives from its own SHA-256. That
//! is no secret, as the hash is not: it keeps a host's programs from taking a sample for a file of
//! theirs. Who may read a pack is for the file system to say. Reading begins at any byte.

use crate::digest::Digest;
use chacha20::{
    ChaCha20,
    cipher::{KeyIvInit, StreamCipher, StreamCipherSeek},
};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
};

/// How a pack begins.
pub const MAGIC: &[u8; 16] = b"nonstop samples\n";
/// What keys derive from, before the hash.
const KEY: &[u8] = b"nonstop sample 1\0";

/// The mask of the content whose SHA-256 is `digest`, from its byte `at` on.
pub fn mask(digest: Digest, at: u64) -> ChaCha20 {
    let key = Sha256::new().chain_update(KEY).chain_update(digest.0).finalize();
    // A key masks one content, so its nonce need not differ.
    let mut cipher = ChaCha20::new(&key, &[0; 12].into());
    cipher.seek(at);
    cipher
}

/// A pack that is being written.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    at: u64,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(MAGIC)?;
        Ok(Writer { out, at: MAGIC.len() as u64 })
    }

    /// Where the next content begins, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Adds `bytes` of a content, which are masked in place.
    pub fn add(&mut self, mask: &mut ChaCha20, bytes: &mut [u8]) -> io::Result<()> {
        mask.apply_keystream(bytes);
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// The file, once all is in it.
    pub fn end(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Where a content lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its first byte.
    pub at: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl Place {
    /// Fills `buffer` with what `pack` has of this content from its byte `from` on, as far as it goes;
    /// gives how many bytes that were, 0 at its end.
    ///
    /// Whether it is what its hash says is for the reader of all of it to see.
    pub fn read(&self, pack: &File, from: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(from)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let buffer = &mut buffer[..wanted];
        if buffer.is_empty() {
            return Ok(0);
        }
        pack.read_exact_at(buffer, self.at.saturating_add(from))?;
        mask(self.digest, from).apply_keystream(buffer);
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    #[test]
    fn what_lies_there_is_none_of_it_and_comes_back_from_any_byte() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = tempfile::tempfile().expect("a file");
        let mut pack = Writer::new(&file).expect("begun");
        let place = Place { digest: digest(&text), at: pack.at(), bytes: text.len() as u64 };
        let mut mask = mask(place.digest, 0);
        for piece in text.chunks(777) {
            pack.add(&mut mask, &mut piece.to_vec()).expect("written");
        }
        pack.end().expect("written");
        let mut lies = vec![0; 64];
        file.read_exact_at(&mut lies, place.at).expect("read");
        assert_ne!(lies, text[..64]);
        for from in [0, 1, 63, 64, 65, 399_999, 400_000, 400_001] {
            let mut found = vec![0; 1000];
            let read = place.read(&file, from as u64, &mut found).expect("read");
            let there = text.get(from..).unwrap_or_default();
            assert_eq!(found[..read], there[..there.len().min(1000)], "from {from}");
        }
    }
}
