//! Writes files of packets, little-endian: pcap of microseconds, or pcapng of nanoseconds.

use super::{Format, LONGEST, pcap, pcapng};
use std::io::{self, Write};

/// Writes records of Ethernet.
pub struct Writer<W> {
    out: W,
    format: Format,
}

impl<W: Write> Writer<W> {
    /// Writes the begin of a file to `out`, which had better be buffered.
    pub fn new(mut out: W, format: Format) -> io::Result<Self> {
        match format {
            Format::Pcap => out.write_all(&pcap::begin())?,
            Format::Pcapng => out.write_all(&pcapng::begin())?,
        }
        Ok(Self { out, format })
    }

    /// Writes a whole frame that came at `nanoseconds` since 1970: after that year, before 2106.
    ///
    /// # Panics
    /// If the frame is empty or longer than [`LONGEST`].
    pub fn record(&mut self, nanoseconds: i64, frame: &[u8]) -> io::Result<()> {
        assert!((1..=LONGEST as usize).contains(&frame.len()), "it could not be read again");
        match self.format {
            Format::Pcap => {
                self.out.write_all(&pcap::head(nanoseconds, frame.len() as u32))?;
                self.out.write_all(frame)
            }
            Format::Pcapng => {
                let (head, tail) = pcapng::ends(nanoseconds, frame.len() as u32);
                self.out.write_all(&head)?;
                self.out.write_all(frame)?;
                self.out.write_all(&[0; 3][..frame.len().next_multiple_of(4) - frame.len()])?;
                self.out.write_all(&tail)
            }
        }
    }

    /// Writes what is still in a buffer; the file is whole.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}
