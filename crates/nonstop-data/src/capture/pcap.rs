//! pcap: a header of 24 bytes, then records of a header of 16 bytes and what was captured.

use super::{CaptureError, Fault, Found, LONGEST, Link, Order, lengths, window::Window};
use std::io::Read;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// What the header of a file says.
pub(super) struct Header {
    order: Order,
    /// Parts of a second that times are told in.
    parts: u32,
    link: Link,
}

/// Whether `magic`, read as little-endian, is that of a file of pcap.
pub(super) fn is_magic(magic: u32) -> bool {
    [MICROSECONDS, NANOSECONDS].iter().any(|known| magic == *known || magic == known.swap_bytes())
}

impl Header {
    /// Reads the header of a file whose magic was seen.
    pub(super) fn read<R: Read>(window: &mut Window<R>) -> Result<Self, CaptureError> {
        let wrong = |fault| Err(CaptureError::file(0, 0, fault));
        let there = window.fill(FILE_HEADER)?;
        if there < FILE_HEADER {
            return wrong(Fault::Torn { wanted: FILE_HEADER as u64, there: there as u64 });
        }
        let header = window.bytes();
        let mut order = Order::Little;
        if ![MICROSECONDS, NANOSECONDS].contains(&order.u32(header)) {
            order = Order::Big;
        }
        let parts = if order.u32(header) == MICROSECONDS { 1_000_000 } else { 1_000_000_000 };
        let version = (order.u16(&header[4..]), order.u16(&header[6..]));
        if version != (2, 4) {
            return wrong(Fault::Version(version.0, version.1));
        }
        // The upper bits tell of a checksum at the end of each frame.
        let number = order.u32(&header[20..]) & 0x03ff_ffff;
        let Some(link) = Link::numbered(number) else { return wrong(Fault::Link(number)) };
        window.take(FILE_HEADER);
        Ok(Self { order, parts, link })
    }

    /// Finds the next record and has the window hold it.
    #[inline]
    pub(super) fn next<R: Read>(
        &self,
        window: &mut Window<R>,
    ) -> Result<Option<Found>, CaptureError> {
        let there = window.fill(RECORD_HEADER)?;
        let wrong = |window: &Window<R>, fault| Err(CaptureError::file(0, window.offset(), fault));
        if there < RECORD_HEADER {
            if there == 0 {
                return Ok(None);
            }
            let torn = Fault::Torn { wanted: RECORD_HEADER as u64, there: there as u64 };
            return wrong(window, torn);
        }
        let header = &window.bytes()[..RECORD_HEADER];
        let seconds = self.order.u32(header);
        let fraction = self.order.u32(&header[4..]);
        let captured = self.order.u32(&header[8..]);
        let length = self.order.u32(&header[12..]);
        if let Err(fault) = lengths(captured, length) {
            return wrong(window, fault);
        }
        if fraction >= self.parts {
            return wrong(window, Fault::Fraction(fraction));
        }
        let captured = captured as usize;
        let whole = RECORD_HEADER + captured;
        let there = window.fill(whole)?;
        if there < whole {
            return wrong(window, Fault::Torn { wanted: whole as u64, there: there as u64 });
        }
        let nanoseconds = i64::from(seconds) * 1_000_000_000
            + i64::from(fraction) * i64::from(1_000_000_000 / self.parts);
        let link = self.link;
        Ok(Some(Found { nanoseconds, link, length, before: RECORD_HEADER, captured, whole }))
    }
}

/// The header of a file of microseconds and Ethernet.
pub(super) fn begin() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..4].copy_from_slice(&MICROSECONDS.to_le_bytes());
    header[4] = 2;
    header[6] = 4;
    header[16..20].copy_from_slice(&LONGEST.to_le_bytes());
    header[20] = 1;
    header
}

/// The header of a record of such a file.
pub(super) fn head(nanoseconds: i64, length: u32) -> [u8; RECORD_HEADER] {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&(seconds as u32).to_le_bytes());
    header[4..8].copy_from_slice(&((rest / 1000) as u32).to_le_bytes());
    header[8..12].copy_from_slice(&length.to_le_bytes());
    header[12..].copy_from_slice(&length.to_le_bytes());
    header
}
