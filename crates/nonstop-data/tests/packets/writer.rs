//! A writer of pcap and pcapng in every variant that there is, right or wrong.

/// Byte order of the machine that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

/// Bytes, with numbers in one order.
pub(crate) struct Bytes(pub(crate) Vec<u8>, pub(crate) Order);

impl Bytes {
    pub(crate) fn u16(&mut self, n: u16) -> &mut Self {
        self.put(&n.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, n: u32) -> &mut Self {
        self.put(&n.to_le_bytes())
    }

    pub(crate) fn u64(&mut self, n: u64) -> &mut Self {
        self.put(&n.to_le_bytes())
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn put(&mut self, little: &[u8]) -> &mut Self {
        match self.1 {
            Order::Little => self.0.extend_from_slice(little),
            Order::Big => self.0.extend(little.iter().rev()),
        }
        self
    }
}

/// The header of a file of pcap.
pub(crate) fn pcap(order: Order, nanoseconds: bool, link: u32) -> Bytes {
    let mut file = Bytes(Vec::new(), order);
    file.u32(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
    file.u16(2).u16(4).u32(0).u32(0).u32(262_144).u32(link);
    file
}

/// Adds a record; `fraction` in what the file counts in.
pub(crate) fn record(file: &mut Bytes, seconds: u32, fraction: u32, length: u32, data: &[u8]) {
    file.u32(seconds).u32(fraction).u32(data.len() as u32).u32(length).raw(data);
}

/// Adds a block of pcapng: `body` is padded.
pub(crate) fn block(file: &mut Bytes, kind: u32, body: impl FnOnce(&mut Bytes)) {
    let mut inside = Bytes(Vec::new(), file.1);
    body(&mut inside);
    inside.0.resize(inside.0.len().next_multiple_of(4), 0);
    let length = inside.0.len() as u32 + 12;
    file.u32(kind).u32(length).raw(&inside.0).u32(length);
}

/// Begins a section in the byte order of `file`.
pub(crate) fn section(file: &mut Bytes) {
    block(file, 0x0a0d_0d0a, |body| {
        body.u32(0x1a2b_3c4d).u16(1).u16(0).u64(u64::MAX);
    });
}

/// Describes an interface, with `options` as (code, value).
pub(crate) fn interface(file: &mut Bytes, link: u16, options: &[(u16, &[u8])]) {
    block(file, 1, |body| {
        body.u16(link).u16(0).u32(0);
        for (code, value) in options {
            body.u16(*code).u16(value.len() as u16).raw(value);
            body.0.resize(body.0.len().next_multiple_of(4), 0);
        }
        if !options.is_empty() {
            body.u32(0);
        }
    });
}

/// Adds an enhanced packet block.
pub(crate) fn enhanced(file: &mut Bytes, interface: u32, ticks: u64, length: u32, data: &[u8]) {
    block(file, 6, |body| {
        body.u32(interface).u32((ticks >> 32) as u32).u32(ticks as u32);
        body.u32(data.len() as u32).u32(length).raw(data);
    });
}

/// Adds a packet block of the kind that came before it.
pub(crate) fn obsolete(file: &mut Bytes, interface: u16, ticks: u64, length: u32, data: &[u8]) {
    block(file, 2, |body| {
        body.u16(interface).u16(0).u32((ticks >> 32) as u32).u32(ticks as u32);
        body.u32(data.len() as u32).u32(length).raw(data);
    });
}

/// A file of pcapng that has begun.
pub(crate) fn pcapng(order: Order) -> Bytes {
    let mut file = Bytes(Vec::new(), order);
    section(&mut file);
    file
}
