//! What tells a frame of ours from every other, wherever it is captured.

/// What tells a frame of ours from every other: the run's number, then the frame's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Marker {
    /// Chosen at random for each run.
    pub run: u32,
    /// The frame's number; see [`Marker::about`].
    pub number: u32,
}

/// What a frame with a marker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// An attempt, by its number from 0.
    Attempt(u32),
    /// Bytes over the connection that an attempt has opened.
    Data(u32),
    /// Only what keeps the conversation going: nobody asks where it arrives.
    Talk,
}

const DATA: u32 = 1 << 31;
const TALK: u32 = 1 << 30;

impl Marker {
    /// That of the attempt `number`.
    pub fn attempt(run: u32, number: u32) -> Marker {
        Marker { run, number }
    }

    /// That of bytes over the connection that it has opened.
    pub fn data(self) -> Marker {
        Marker { number: self.number | DATA, ..self }
    }

    /// One of the conversation; none has the same `number` as another.
    pub fn talk(run: u32, number: u32) -> Marker {
        Marker { run, number: number | TALK }
    }

    /// What the frame is.
    pub fn about(self) -> About {
        match self.number {
            number if number & TALK != 0 => About::Talk,
            number if number & DATA != 0 => About::Data(number & !DATA),
            number => About::Attempt(number),
        }
    }

    /// Its eight bytes.
    pub fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.run.to_be_bytes());
        bytes[4..].copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    /// The same as text, for where bytes would not pass: names.
    pub fn text(self) -> String {
        format!("{:08x}{:08x}", self.run, self.number)
    }

    /// The marker of `run` that `bytes` hold, whichever way it is written.
    pub fn find(run: u32, bytes: &[u8]) -> Option<Marker> {
        let number = run.to_be_bytes();
        let raw = bytes
            .windows(8)
            .find(|window| window[..4] == number)
            .map(|window| u32::from_be_bytes([window[4], window[5], window[6], window[7]]));
        let text = format!("{run:08x}");
        let written = || {
            let at = bytes
                .windows(16)
                .find(|window| window[..8].eq_ignore_ascii_case(text.as_bytes()))?;
            u32::from_str_radix(std::str::from_utf8(&at[8..]).ok()?, 16).ok()
        };
        raw.or_else(written).map(|number| Marker { run, number })
    }
}
