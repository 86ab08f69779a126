//! Gives every inode of a fresh ext4 one change time.
//!
//! `mke2fs -d` copies the source's change times, which no program can set (e2fsprogs 1.47.0;
//! later ones clamp them to SOURCE_DATE_EPOCH). The image has no metadata checksums, so the
//! field can be written in place.

use crate::error::{At, ImageError};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Sets the change time of all inodes in use in the ext4 image `path` to `seconds`.
pub(crate) fn set_change_times(path: &Path, seconds: u32) -> Result<(), ImageError> {
    let file = File::options().read(true).write(true).open(path).at("open", path)?;
    let mut superblock = [0; 1024];
    file.read_exact_at(&mut superblock, 1024).at("read superblock of", path)?;
    let half = |at: usize| u16::from_le_bytes([superblock[at], superblock[at + 1]]);
    let word = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;

    assert_eq!(half(0x38), 0xef53, "{} is an ext4 file system", path.display());
    // Features that would need more than the plain field to change.
    const METADATA_CSUM: u32 = 0x400;
    const GDT_CSUM: u32 = 0x10;
    assert_eq!(word(0x64) & METADATA_CSUM, 0, "made without metadata_csum");
    let (block, inode_size) = (1024_u64 << word(0x18), u64::from(half(0x58)));
    let (per_group, inodes) = (word(0x28), word(0x0));
    let descriptor = if word(0x60) & 0x80 != 0 { u64::from(half(0xfe)) } else { 32 };
    let descriptors = (u64::from(word(0x14)) + 1) * block;

    for group in 0..inodes.div_ceil(per_group) {
        let mut entry = vec![0; descriptor as usize];
        let at = descriptors + u64::from(group) * descriptor;
        file.read_exact_at(&mut entry, at).at("read group of", path)?;
        let low = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]);
        let high = match entry.get(0x28..0x2c) {
            Some(b) => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            None => 0,
        };
        let table = (u64::from(high) << 32 | u64::from(low)) * block;
        let unused = match word(0x64) & GDT_CSUM {
            0 => 0,
            _ => u32::from(u16::from_le_bytes([entry[0x1c], entry[0x1d]])),
        };
        let mut inodes = vec![0; ((per_group - unused) as u64 * inode_size) as usize];
        file.read_exact_at(&mut inodes, table).at("read inodes of", path)?;
        for inode in inodes.chunks_exact_mut(inode_size as usize) {
            let links = u16::from_le_bytes([inode[0x1a], inode[0x1b]]);
            if links == 0 {
                continue;
            }
            inode[0xc..0x10].copy_from_slice(&seconds.to_le_bytes());
            // Nanoseconds, where the inode is large enough to have them.
            if let Some(extra) = inode.get_mut(0x84..0x88) {
                extra.fill(0);
            }
        }
        file.write_all_at(&inodes, table).at("write inodes of", path)?;
    }
    file.sync_all().at("sync", path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, process::Command};

    /// Makes a file system of two files with mke2fs as a build does, and hashes it.
    fn image(dir: &Path, name: &str) -> Vec<u8> {
        let tree = dir.join(name);
        fs::create_dir(&tree).expect("mkdir");
        fs::write(tree.join("a"), "one").expect("write");
        fs::write(tree.join("b"), "two").expect("write");
        let times = Command::new("touch")
            .args(["-d", "@1700000000"])
            .arg(tree.join("a"))
            .arg(tree.join("b"))
            .arg(&tree)
            .status()
            .expect("touch");
        assert!(times.success());
        let raw = dir.join(format!("{name}.raw"));
        let uuid = "0e5174a8-345c-8e65-8fb2-f880dcb85025";
        let made = Command::new("mke2fs")
            .env("PATH", crate::tools::PATH)
            .env("E2FSPROGS_FAKE_TIME", "1700000000")
            .args(["-q", "-t", "ext4", "-O", "^metadata_csum,^uninit_bg", "-U", uuid])
            .args(["-E", &format!("hash_seed={uuid},root_owner=0:0"), "-d"])
            .args([&tree, &raw])
            .arg("8M")
            .status()
            .expect("mke2fs");
        assert!(made.success());
        set_change_times(&raw, 1_700_000_000).expect("set");
        let clean = Command::new("e2fsck")
            .env("PATH", crate::tools::PATH)
            .args(["-fn"])
            .arg(&raw)
            .output()
            .expect("e2fsck");
        assert!(clean.status.success(), "{}", String::from_utf8_lossy(&clean.stdout));
        fs::read(raw).expect("read")
    }

    #[test]
    fn two_file_systems_made_at_different_times_are_the_same() {
        let dir = tempfile::tempdir().expect("temp dir");
        let one = image(dir.path(), "one");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let two = image(dir.path(), "two");
        assert!(one == two, "the images differ");
    }
}
