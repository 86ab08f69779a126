//! pcapng: blocks, each with its length at both ends. A section says the byte order, describes its
//! interfaces, and holds packets of them; what else it holds is passed over.

use super::{
    CaptureError, Fault, Found, LONGEST, Link, Order, lengths,
    window::{MOST, Window},
};
use std::io::Read;

/// The type of the block that begins a section: the same in both byte orders.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// The longest block that is passed over, in bytes: Wireshark's bound.
const LONGEST_BLOCK: u32 = 16 << 20;
/// Interfaces of a section that are remembered.
const MOST_INTERFACES: usize = 4096;
/// Type and first length of a block.
const HEAD: usize = 8;
/// The second length of a block.
const TAIL: usize = 4;
/// What a block of packets has before its data, head included.
const PACKET_HEAD: usize = 28;

/// What a section has said so far.
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

struct Interface {
    /// Its number, and what is known of it: one that nobody listens at harms nothing.
    link: Result<Link, u32>,
    clock: Clock,
}

/// How an interface tells time.
#[derive(Debug, Clone, Copy)]
struct Clock {
    ticks: Ticks,
    /// Seconds to add.
    offset: i64,
}

#[derive(Debug, Clone, Copy)]
enum Ticks {
    /// Each so many nanoseconds.
    Each(u64),
    /// So many a second, whatever their length.
    ASecond(u128),
}

impl Section {
    /// Reads the block that begins the first section, whose type was seen.
    pub(super) fn begin<R: Read>(window: &mut Window<R>) -> Result<Self, CaptureError> {
        let mut section = Self { order: Order::Little, interfaces: Vec::new() };
        section.start(window)?;
        Ok(section)
    }

    /// Finds the next packet and has the window hold it.
    pub(super) fn next<R: Read>(
        &mut self,
        window: &mut Window<R>,
    ) -> Result<Option<Found>, CaptureError> {
        loop {
            let there = window.fill(HEAD)?;
            if there == 0 {
                return Ok(None);
            }
            if there < HEAD {
                return wrong(window, torn(HEAD, there));
            }
            let kind = self.order.u32(window.bytes());
            if kind == SECTION {
                self.start(window)?;
                continue;
            }
            let length = self.order.u32(&window.bytes()[4..]);
            match kind {
                ENHANCED_PACKET | OBSOLETE_PACKET => {
                    let block = self.block(window, length)?;
                    return match self.packet(&window.bytes()[..block], kind) {
                        Ok(found) => Ok(Some(found)),
                        Err(fault) => wrong(window, fault),
                    };
                }
                SIMPLE_PACKET => {
                    self.block(window, length)?;
                    return wrong(window, Fault::NoTime);
                }
                INTERFACE => {
                    let block = self.block(window, length)?;
                    match self.interface(&window.bytes()[..block]) {
                        Ok(interface) => self.interfaces.push(interface),
                        Err(fault) => return wrong(window, fault),
                    }
                    window.take(block);
                }
                _ => self.pass(window, length)?,
            }
        }
    }

    /// Reads a block that begins a section: byte order anew, interfaces forgotten.
    fn start<R: Read>(&mut self, window: &mut Window<R>) -> Result<(), CaptureError> {
        const LEAST: usize = 28;
        let there = window.fill(LEAST)?;
        if there < 12 {
            return wrong(window, torn(LEAST, there));
        }
        let magic = Order::Little.u32(&window.bytes()[8..]);
        let order = match magic {
            0x1a2b_3c4d => Order::Little,
            0x4d3c_2b1a => Order::Big,
            _ => return wrong(window, Fault::Order(magic)),
        };
        let length = order.u32(&window.bytes()[4..]);
        if (length as usize) < LEAST {
            return wrong(window, Fault::Block(length));
        }
        let began = Self { order, interfaces: Vec::new() };
        let block = began.block(window, length)?;
        let version = (order.u16(&window.bytes()[12..]), order.u16(&window.bytes()[14..]));
        if version.0 != 1 {
            return wrong(window, Fault::Version(version.0, version.1));
        }
        window.take(block);
        *self = began;
        Ok(())
    }

    /// Has the window hold a block of `length` bytes whose ends agree; its length again.
    #[inline]
    fn block<R: Read>(&self, window: &mut Window<R>, length: u32) -> Result<usize, CaptureError> {
        let block = length as usize;
        if !possible(length) || block > MOST {
            return wrong(window, Fault::Block(length));
        }
        let there = window.fill(block)?;
        if there < block {
            return wrong(window, torn(block, there));
        }
        let end = self.order.u32(&window.bytes()[block - TAIL..]);
        if end != length {
            return wrong(window, Fault::BlockEnd { begin: length, end });
        }
        Ok(block)
    }

    /// Passes over a block of `length` bytes, which may be more than the window holds.
    fn pass<R: Read>(&self, window: &mut Window<R>, length: u32) -> Result<(), CaptureError> {
        if !possible(length) || length > LONGEST_BLOCK {
            return wrong(window, Fault::Block(length));
        }
        let offset = window.offset();
        let fail = |fault| Err(CaptureError::file(0, offset, fault));
        let mut left = length as usize - TAIL;
        while left > 0 {
            let step = left.min(MOST);
            let there = window.fill(step)?.min(step);
            window.take(there);
            left -= there;
            if there < step {
                return fail(torn(length as usize, length as usize - TAIL - left));
            }
        }
        let there = window.fill(TAIL)?;
        if there < TAIL {
            return fail(torn(length as usize, length as usize - TAIL + there));
        }
        let end = self.order.u32(window.bytes());
        if end != length {
            return fail(Fault::BlockEnd { begin: length, end });
        }
        window.take(TAIL);
        Ok(())
    }

    /// What a whole block says of an interface.
    fn interface(&self, block: &[u8]) -> Result<Interface, Fault> {
        const OPTIONS: usize = 16;
        if self.interfaces.len() == MOST_INTERFACES {
            return Err(Fault::Interfaces(MOST_INTERFACES));
        }
        let Some(mut options) = block.get(OPTIONS..block.len() - TAIL) else {
            return Err(Fault::Block(block.len() as u32));
        };
        let number = u32::from(self.order.u16(&block[8..]));
        let link = Link::numbered(number).ok_or(number);
        let mut clock = Clock { ticks: Ticks::Each(1000), offset: 0 };
        while options.len() >= 4 {
            let (code, length) = (self.order.u16(options), self.order.u16(&options[2..]));
            let length = usize::from(length);
            let Some(value) = options.get(4..4 + length) else { return Err(Fault::Option) };
            match (code, value) {
                (0, _) => break,
                (9, [resolution]) => clock.ticks = Ticks::of(*resolution).ok_or(Fault::Time)?,
                (14, value) if length == 8 => {
                    let (low, high) = (self.order.u32(value), self.order.u32(&value[4..]));
                    let (low, high) = match self.order {
                        Order::Little => (low, high),
                        Order::Big => (high, low),
                    };
                    clock.offset = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                (9 | 14, _) => return Err(Fault::Option),
                _ => {}
            }
            options = options.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(Interface { link, clock })
    }

    /// What a whole block says of a packet.
    #[inline]
    fn packet(&self, block: &[u8], kind: u32) -> Result<Found, Fault> {
        let room = block.len().checked_sub(PACKET_HEAD + TAIL);
        let Some(room) = room else { return Err(Fault::Block(block.len() as u32)) };
        let interface = match kind {
            ENHANCED_PACKET => self.order.u32(&block[8..]),
            _ => u32::from(self.order.u16(&block[8..])),
        };
        let known = self.interfaces.get(interface as usize);
        let Interface { link, clock } = known.ok_or(Fault::Interface(interface))?;
        let (high, low) = (self.order.u32(&block[12..]), self.order.u32(&block[16..]));
        let captured = self.order.u32(&block[20..]);
        let length = self.order.u32(&block[24..]);
        lengths(captured, length)?;
        if captured as usize > room {
            return Err(Fault::Block(block.len() as u32));
        }
        Ok(Found {
            nanoseconds: clock.read(u64::from(high) << 32 | u64::from(low)).ok_or(Fault::Time)?,
            link: (*link).map_err(Fault::Link)?,
            length,
            before: PACKET_HEAD,
            captured: captured as usize,
            whole: block.len(),
        })
    }
}

impl Ticks {
    /// By the option `if_tsresol`: a power of ten, or of two where the highest bit is set.
    fn of(resolution: u8) -> Option<Ticks> {
        match (resolution & 0x80 != 0, u32::from(resolution & 0x7f)) {
            (false, power @ 0..=9) => Some(Ticks::Each(10_u64.pow(9 - power))),
            (false, power) => Some(Ticks::ASecond(10_u128.checked_pow(power)?)),
            (true, power) => Some(Ticks::ASecond(1_u128 << power)),
        }
    }
}

impl Clock {
    /// Nanoseconds since 1970.
    #[inline]
    fn read(self, ticks: u64) -> Option<i64> {
        let nanoseconds = match self.ticks {
            Ticks::Each(nanoseconds) => {
                i64::try_from(ticks).ok()?.checked_mul(nanoseconds.cast_signed())?
            }
            Ticks::ASecond(many) => {
                let ticks = u128::from(ticks);
                let (seconds, rest) = (ticks / many, ticks % many);
                let rest = rest * 1_000_000_000 / many;
                i64::try_from(seconds.checked_mul(1_000_000_000)? + rest).ok()?
            }
        };
        nanoseconds.checked_add(self.offset.checked_mul(1_000_000_000)?)
    }
}

/// Whether a block can have this length at all.
#[inline]
fn possible(length: u32) -> bool {
    length as usize >= HEAD + TAIL && length.is_multiple_of(4)
}

fn torn(wanted: usize, there: usize) -> Fault {
    Fault::Torn { wanted: wanted as u64, there: there as u64 }
}

#[cold]
fn wrong<R: Read, T>(window: &Window<R>, fault: Fault) -> Result<T, CaptureError> {
    Err(CaptureError::file(0, window.offset(), fault))
}

/// The begin of a file of one section, whose one interface is of Ethernet and nanoseconds.
pub(super) fn begin() -> Vec<u8> {
    let section = [SECTION, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28];
    // The option if_tsresol, of one byte and padded, and the end of options.
    let interface = [INTERFACE, 32, 1, LONGEST, 0x0001_0009, 9, 0, 32];
    section.iter().chain(&interface).flat_map(|word| word.to_le_bytes()).collect()
}

/// What stands before and after the padded data of a packet in such a file.
pub(super) fn ends(nanoseconds: i64, length: u32) -> ([u8; PACKET_HEAD], [u8; TAIL]) {
    let block = (PACKET_HEAD + TAIL) as u32 + length.next_multiple_of(4);
    let ticks = nanoseconds.cast_unsigned();
    let words = [ENHANCED_PACKET, block, 0, (ticks >> 32) as u32, ticks as u32, length, length];
    let mut head = [0; PACKET_HEAD];
    for (bytes, word) in head.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    (head, block.to_le_bytes())
}

// A packet as long as may be, and as much again of options, is in reach of the window.
const _: () = assert!(2 * LONGEST as usize + PACKET_HEAD + TAIL <= MOST);
