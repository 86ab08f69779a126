//! The file of a recording: chunks, each an age message of its own behind a mark and a length.
//!
//! A chunk is written whole at the file's end and synced, so that a file that was cut, or whose
//! recorder was killed, is readable up to its last whole chunk. A recorder that is started again
//! appends to what is there; a reader finds the next mark behind a chunk that is not whole.

use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use nonstop_display::recording::{LONGEST, Record};
use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
};

/// Begins each chunk.
const MARK: &[u8; 8] = b"NSREC\x01\r\n";

/// The mark and the length.
const HEAD: usize = 12;

/// A chunk is closed when its records have so many bytes.
const CHUNK: usize = 256 * 1024;

/// The most bytes that the records of a chunk have.
const MOST_PLAIN: usize = CHUNK + LONGEST + 4;

/// The most bytes of an encrypted chunk: age adds a head and 16 bytes to each 64 KiB, and deflate
/// a little to what it cannot make smaller.
const MOST_SEALED: usize = MOST_PLAIN + 64 * 1024;

/// Kept free for the chunk that says that the recording is full.
const RESERVE: u64 = 1024;

/// A recording that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The file cannot be written.
    #[error("write the recording")]
    Io(#[from] io::Error),
    /// The recipient is none.
    #[error("the recipient is not of age: {0}")]
    Recipient(&'static str),
    /// age refused.
    #[error("encrypt for the recipient")]
    Encrypt(#[from] age::EncryptError),
    /// The recording has as many bytes as it may have; that has been written down.
    #[error("the recording is full")]
    Full,
}

/// Writes chunks.
pub(super) struct Chunks {
    file: OwnedFd,
    recipient: age::x25519::Recipient,
    size: u64,
    max_bytes: u64,
    plain: Vec<u8>,
}

impl Chunks {
    /// Appends to `file`, which grows to at most `max_bytes`.
    ///
    /// Errors: `Full` if it has grown to that already; nothing is written then.
    pub(super) fn new(file: OwnedFd, recipient: &str, max_bytes: u64) -> Result<Self, ChunkError> {
        let recipient = recipient.parse().map_err(ChunkError::Recipient)?;
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size.saturating_add(RESERVE) > max_bytes {
            return Err(ChunkError::Full);
        }
        Ok(Self { file, recipient, size, max_bytes, plain: Vec::new() })
    }

    /// Whether another recorder wrote to the file before.
    pub(super) fn goes_on(&self) -> bool {
        self.size > 0
    }

    /// Whether records wait to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Adds a record; a chunk that has enough is written.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), ChunkError> {
        record.append(&mut self.plain);
        if self.plain.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<(), ChunkError> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let plain = std::mem::take(&mut self.plain);
        let sealed = seal(&plain, &self.recipient)?;
        if self.size + sealed.len() as u64 + RESERVE > self.max_bytes {
            let mut last = Vec::new();
            Record::Full.append(&mut last);
            let sealed = seal(&last, &self.recipient)?;
            self.write(&sealed)?;
            return Err(ChunkError::Full);
        }
        self.write(&sealed)
    }

    fn write(&mut self, sealed: &[u8]) -> Result<(), ChunkError> {
        let mut rest = sealed;
        while !rest.is_empty() {
            match rustix::io::write(self.file.as_fd(), rest) {
                Ok(written) => {
                    rest = &rest[written..];
                    self.size += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
        rustix::fs::fdatasync(&self.file).map_err(io::Error::from)?;
        Ok(())
    }
}

fn seal(plain: &[u8], recipient: &age::x25519::Recipient) -> Result<Vec<u8>, ChunkError> {
    let recipients = std::iter::once(recipient as &dyn age::Recipient);
    let mut chunk = MARK.to_vec();
    chunk.extend_from_slice(&[0; 4]);
    let encrypted = age::Encryptor::with_recipients(recipients)?.wrap_output(chunk)?;
    let mut deflated = DeflateEncoder::new(encrypted, Compression::fast());
    deflated.write_all(plain)?;
    let mut chunk = deflated.finish()?.finish()?;
    let length = u32::try_from(chunk.len() - HEAD).map_err(io::Error::other)?;
    chunk[MARK.len()..HEAD].copy_from_slice(&length.to_le_bytes());
    Ok(chunk)
}

/// The records of a sealed chunk, without mark and length. None for what no recorder has sealed.
fn open(sealed: &[u8], identity: &age::x25519::Identity) -> Option<Vec<u8>> {
    let message = age::Decryptor::new(sealed).ok()?;
    let decrypted = message.decrypt(std::iter::once(identity as &dyn age::Identity)).ok()?;
    let mut plain = Vec::new();
    let most = MOST_PLAIN as u64;
    DeflateDecoder::new(decrypted).take(most + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= MOST_PLAIN).then_some(plain)
}

/// Reads chunks.
pub(super) struct Opened<R> {
    from: R,
    identity: age::x25519::Identity,
    held: Vec<u8>,
    ended: bool,
}

impl<R: Read> Opened<R> {
    /// Reads what comes out of `from`, with `identity`.
    pub(super) fn new(from: R, identity: age::x25519::Identity) -> Self {
        Self { from, identity, held: Vec::new(), ended: false }
    }

    /// The records of the next chunk, and whether something before it could not be read; None at
    /// the end of the last whole chunk.
    pub(super) fn next_chunk(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut lost = false;
        loop {
            if let Some((plain, length)) = self.chunk_here()? {
                self.held.drain(..length);
                return Ok(Some((plain, lost)));
            }
            if self.held.is_empty() && self.ended {
                return Ok(None);
            }
            lost = true;
            self.skip_to_mark();
        }
    }

    /// The chunk that begins at the first byte, and its length in the file.
    fn chunk_here(&mut self) -> io::Result<Option<(Vec<u8>, usize)>> {
        self.hold(HEAD)?;
        let Some((mark, length)) = self.held.get(..HEAD).map(|head| head.split_at(MARK.len()))
        else {
            return Ok(None);
        };
        let length = length.try_into().map_or(usize::MAX, |l| u32::from_le_bytes(l) as usize);
        if mark != MARK || length > MOST_SEALED {
            return Ok(None);
        }
        self.hold(HEAD + length)?;
        let sealed = self.held.get(HEAD..HEAD + length);
        let plain = sealed.and_then(|sealed| open(sealed, &self.identity));
        Ok(plain.map(|plain| (plain, HEAD + length)))
    }

    /// Holds `length` bytes, or all that there are.
    fn hold(&mut self, length: usize) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.held.len() < length && !self.ended {
            match self.from.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(read) => self.held.extend_from_slice(&buffer[..read]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Drops bytes up to the next mark, or what cannot be the beginning of one.
    fn skip_to_mark(&mut self) {
        let tail = self.held.get(1..).unwrap_or(&[]);
        let next = tail.windows(MARK.len()).position(|bytes| bytes == MARK).map(|at| at + 1);
        let kept = if self.ended { 0 } else { MARK.len() - 1 };
        let drop = next.unwrap_or(self.held.len().saturating_sub(kept).max(1));
        self.held.drain(..drop.min(self.held.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nonstop_display::link::Input;
    use std::fs::File;

    fn typed(at_ms: u64) -> Record {
        Record::Typed { at_ms, input: Input::Key { qnum: 30, down: true } }
    }

    /// A file with a chunk for each number, and where each ends: age adds some bytes at random.
    fn recorded(identity: &age::x25519::Identity, chunks: u64) -> (Vec<u8>, Vec<usize>) {
        let mut file = tempfile::tempfile().expect("a file");
        let writes = OwnedFd::from(file.try_clone().expect("a descriptor"));
        let public = identity.to_public().to_string();
        let mut to = Chunks::new(writes, &public, 1 << 20).expect("begun");
        let mut ends = Vec::new();
        for at_ms in 0..chunks {
            to.add(&typed(at_ms)).expect("added");
            to.flush().expect("written");
            ends.push(usize::try_from(to.size).expect("small"));
        }
        (read(&mut file), ends)
    }

    fn read(file: &mut File) -> Vec<u8> {
        use std::io::Seek;
        let mut bytes = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut bytes).expect("read");
        bytes
    }

    /// The times of what can be read, and whether something was lost before each.
    fn opened(bytes: &[u8], identity: &age::x25519::Identity) -> Vec<(u64, bool)> {
        let mut from = Opened::new(bytes, identity.clone());
        let mut found = Vec::new();
        while let Some((plain, lost)) = from.next_chunk().expect("read") {
            match postcard::from_bytes(&plain[4..]).expect("a record") {
                Record::Typed { at_ms, .. } => found.push((at_ms, lost)),
                other => panic!("{other:?}"),
            }
        }
        found
    }

    #[test]
    fn a_cut_or_damaged_file_gives_every_whole_chunk() {
        let identity = age::x25519::Identity::generate();
        let (whole, ends) = recorded(&identity, 3);
        assert_eq!(opened(&whole, &identity), [(0, false), (1, false), (2, false)]);
        let (first, second) = (ends[0], ends[1]);
        for cut in [second, second + 1, second + 5, second + 100, whole.len() - 1] {
            assert_eq!(opened(&whole[..cut], &identity), [(0, false), (1, false)], "cut at {cut}");
        }
        // A recorder was killed in its second chunk, and another appended.
        let torn = [&whole[..second - 7], &whole[second..]].concat();
        assert_eq!(opened(&torn, &identity), [(0, false), (2, true)]);
        for at in [first, first + 9, first + 11, first + 60, second - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            assert_eq!(opened(&changed, &identity), [(0, false), (2, true)], "changed at {at}");
        }
        assert_eq!(opened(&[], &identity), []);
        assert_eq!(opened(&vec![0x4e; 100_000], &identity), []);
    }

    #[test]
    fn another_identity_reads_nothing() {
        let identity = age::x25519::Identity::generate();
        let (whole, _) = recorded(&identity, 2);
        assert_eq!(opened(&whole, &age::x25519::Identity::generate()), []);
    }
}
