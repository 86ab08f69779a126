//! A zip archive of one file, with the password `infected`: how people who study malware hand it to
//! each other.
//!
//! The file is stored as it is and encrypted as PKWARE's APPNOTE 6.3, 6.1 has it, which every unzip,
//! 7-Zip and Windows since XP read. It keeps nothing secret: it keeps a sample from being started by a
//! slip of the hand, or eaten by a scanner.

use crate::pack::Place;
use std::io;

/// The password.
pub const PASSWORD: &[u8] = b"infected";

/// The longest name in an archive, in bytes.
const LONGEST_NAME: usize = 255;
/// What stands before an encrypted file's bytes.
const SALT: usize = 12;
const LOCAL: usize = 30;
const CENTRAL: usize = 46;
const END: usize = 22;
/// 1 January 1980, the first day that a zip knows: the same sample gives the same archive.
const DATE: u16 = 0x21;
/// Encrypted, and the name is UTF-8.
const FLAGS: u16 = 1 | 1 << 11;

/// A CRC-32 under way.
#[derive(Debug, Default)]
pub struct Crc(crc32fast::Hasher);

impl Crc {
    /// Of nothing yet.
    pub fn new() -> Crc {
        Crc::default()
    }

    /// Of `bytes` more.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Of all that was given.
    pub fn value(self) -> u32 {
        self.0.finalize()
    }
}

/// An archive, before its first byte.
#[derive(Debug, Clone)]
pub struct Zip {
    name: String,
    place: Place,
    crc: u32,
}

/// Where bytes go.
pub type To<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Zip {
    /// One that has the sample at `place`, whose CRC-32 is `crc`, under `name`.
    ///
    /// Errors: the name or the sample is longer than a zip can have.
    pub fn new(name: &str, place: Place, crc: u32) -> io::Result<Zip> {
        let long = name.is_empty() || name.len() > LONGEST_NAME;
        if long || place.bytes > u64::from(u32::MAX) - 4096 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too long for a zip"));
        }
        Ok(Zip { name: name.into(), place, crc })
    }

    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        (LOCAL + CENTRAL + END + SALT + 2 * self.name.len()) as u64 + self.place.bytes
    }

    /// Writes what stands before the sample's bytes.
    pub fn begin(&self, to: &mut To<'_>) -> io::Result<Sealing<'_>> {
        let mut head = Vec::with_capacity(LOCAL + self.name.len() + SALT);
        head.extend(b"PK\x03\x04");
        self.common(&mut head);
        head.extend(self.name.as_bytes());
        let mut keys = Keys::new(PASSWORD);
        // Eleven bytes of any kind, and one by which a reader knows a wrong password at once.
        let mut salt: Vec<u8> = self.place.digest.0[..SALT - 1].to_vec();
        salt.push((self.crc >> 24) as u8);
        salt.iter_mut().for_each(|byte| *byte = keys.sealed(*byte));
        head.extend(salt);
        to(&head)?;
        Ok(Sealing { zip: self, keys, buffer: Vec::new() })
    }

    /// What the heads at both places share: from the version on to the lengths.
    fn common(&self, head: &mut Vec<u8>) {
        let size = self.place.bytes as u32;
        for word in [20, FLAGS, 0, 0, DATE] {
            head.extend(word.to_le_bytes());
        }
        for word in [self.crc, size + SALT as u32, size] {
            head.extend(word.to_le_bytes());
        }
        head.extend((self.name.len() as u16).to_le_bytes());
        head.extend([0; 2]);
    }
}

/// An archive that is being written.
#[derive(Debug)]
pub struct Sealing<'a> {
    zip: &'a Zip,
    keys: Keys,
    buffer: Vec<u8>,
}

impl Sealing<'_> {
    /// Writes the sample's next bytes.
    pub fn add(&mut self, bytes: &[u8], to: &mut To<'_>) -> io::Result<()> {
        self.buffer.clear();
        let keys = &mut self.keys;
        self.buffer.extend(bytes.iter().map(|byte| keys.sealed(*byte)));
        to(&self.buffer)
    }

    /// Writes what stands behind the last of them.
    pub fn end(self, to: &mut To<'_>) -> io::Result<()> {
        let Zip { name, place, .. } = self.zip;
        let mut tail = Vec::with_capacity(CENTRAL + END + name.len());
        // As MS-DOS would have made it: no rights are kept.
        tail.extend(b"PK\x01\x02\x14\0");
        self.zip.common(&mut tail);
        // No comment, the first disk, attributes of none, and the file's head is at 0.
        tail.extend([0; 14]);
        tail.extend(name.as_bytes());
        let central = tail.len() as u32;
        let at = (LOCAL + name.len() + SALT) as u32 + place.bytes as u32;
        tail.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
        tail.extend(central.to_le_bytes());
        tail.extend(at.to_le_bytes());
        tail.extend([0; 2]);
        to(&tail)
    }
}

/// The three keys of the cipher.
#[derive(Debug, Clone)]
struct Keys(u32, u32, u32);

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut value, mut bit) = (n as u32, 0);
        while bit < 8 {
            value = if value & 1 == 1 { 0xedb8_8320 ^ (value >> 1) } else { value >> 1 };
            bit += 1;
        }
        table[n] = value;
        n += 1;
    }
    table
}

fn crc(value: u32, byte: u8) -> u32 {
    TABLE[usize::from(value as u8 ^ byte)] ^ (value >> 8)
}

impl Keys {
    fn new(password: &[u8]) -> Keys {
        let mut keys = Keys(0x1234_5678, 0x2345_6789, 0x3456_7890);
        password.iter().for_each(|byte| keys.turn(*byte));
        keys
    }

    fn turn(&mut self, byte: u8) {
        self.0 = crc(self.0, byte);
        self.1 = (self.1.wrapping_add(self.0 & 0xff)).wrapping_mul(134_775_813).wrapping_add(1);
        self.2 = crc(self.2, (self.1 >> 24) as u8);
    }

    fn sealed(&mut self, byte: u8) -> u8 {
        let mix = (self.2 | 2) & 0xffff;
        let sealed = byte ^ (mix.wrapping_mul(mix ^ 1) >> 8) as u8;
        self.turn(byte);
        sealed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use sha2::{Digest as _, Sha256};
    use std::process::Command;

    fn archive(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut sum = Crc::new();
        sum.update(bytes);
        let digest = Digest(Sha256::digest(bytes).into());
        let place = Place { digest, at: 0, bytes: bytes.len() as u64 };
        let zip = Zip::new(name, place, sum.value()).expect("short");
        let mut all = Vec::new();
        let mut to = |piece: &[u8]| {
            all.extend_from_slice(piece);
            Ok(())
        };
        let mut sealing = zip.begin(&mut to).expect("written");
        bytes.chunks(1000).for_each(|piece| sealing.add(piece, &mut to).expect("written"));
        sealing.end(&mut to).expect("written");
        assert_eq!(all.len() as u64, zip.bytes());
        all
    }

    #[test]
    fn unzip_and_7z_open_it_with_the_password_and_not_without() {
        let dir = tempfile::tempdir().expect("a folder");
        for (n, bytes) in [vec![], b"MZ harmless".to_vec(), vec![0x5a; 100_001]].iter().enumerate()
        {
            let path = dir.path().join(format!("{n}.zip"));
            std::fs::write(&path, archive("検体 x.exe", bytes)).expect("written");
            let run = |line: &[&str]| {
                let mut command = Command::new(line[0]);
                command.env("LC_ALL", "C.UTF-8").args(&line[1..]).arg(&path);
                command.output().expect("unzip and 7z are there")
            };
            let unzip = run(&["unzip", "-P", "infected", "-p"]);
            assert!(unzip.status.success(), "{}", String::from_utf8_lossy(&unzip.stderr));
            assert!(unzip.stdout == *bytes, "unzip {n}");
            let seven = run(&["7z", "x", "-so", "-pinfected"]);
            assert!(seven.status.success() && seven.stdout == *bytes, "7z {n}");
            let test = run(&["7z", "t", "-pinfected"]);
            assert!(String::from_utf8_lossy(&test.stdout).contains("Everything is Ok"));
            if !bytes.is_empty() {
                assert!(!run(&["unzip", "-P", "other", "-p"]).status.success(), "another password");
            }
            let names = String::from_utf8(run(&["7z", "l", "-ba"]).stdout).expect("text");
            assert!(names.contains("検体 x.exe"), "{names}");
        }
    }
}
