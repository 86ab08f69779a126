//! Files of packets, small ones: what tests bring to data domains.

use std::{fs, io, path::Path};

/// Writes `packets` empty frames to a file at `path` in the format of libpcap, one a minute from
/// `from`, in seconds since 1970.
pub fn write_pcap(path: &Path, from: u32, packets: u32) -> io::Result<()> {
    let mut bytes = Vec::new();
    // Magic of microseconds, version 2.4, zone, accuracy, longest packet, Ethernet.
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1_u32] {
        bytes.extend(word.to_le_bytes());
    }
    for n in 0..packets {
        let frame = [[0xff_u8; 6].as_slice(), &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], &n.to_be_bytes()];
        let frame = frame.concat();
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        for word in [from + n * 60, n, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    fs::write(path, bytes)
}
