//! The bytes of a sample or a report, in the shape that was asked for.

use crate::{
    days::Day,
    digest::Digest,
    pack::Place,
    zip::{Crc, Zip},
};
use nonstop_data::web::Source;
use nonstop_http::all;
use rustix::net::SendFlags;
use sha2::{Digest as _, Sha256};
use std::{io, net::TcpStream, ops::Range, sync::Arc};

const PIECE: usize = 128 << 10;

/// Something that is given.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) day: Arc<Day>,
    pub(super) place: Place,
    pub(super) way: Way,
    /// What is told of who takes it.
    pub(super) what: String,
}

/// In which shape they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A sample as it is.
    Plain,
    /// A sample in a zip, whole.
    Zip,
    /// A report as it came.
    Report,
}

/// A zip of the sample at `place`, whose CRC-32 is `crc`.
pub(super) fn zip_of(place: Place, crc: u32) -> io::Result<Zip> {
    Zip::new(&format!("{}.bin", place.digest), place, crc)
}

type To<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

impl Source for Open {
    fn what(&self) -> &str {
        &self.what
    }

    fn sha256(&self) -> String {
        self.place.digest.to_string()
    }

    fn give(
        &self,
        stream: &TcpStream,
        range: Range<u64>,
        went: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        self.write(range, &mut |piece| {
            all(stream, piece, SendFlags::empty())?;
            went(piece.len() as u64);
            Ok(())
        })
    }
}

impl Open {
    /// Gives the bytes `range` to `to`. A whole that is not what its hash says ends before its end, so
    /// that nobody takes it for whole.
    fn write(&self, range: Range<u64>, to: &mut To<'_>) -> io::Result<()> {
        match self.way {
            Way::Plain | Way::Report => self.copy(range, to),
            Way::Zip => {
                let (all, mut crc) = (0..self.place.bytes, Crc::new());
                self.copy(all.clone(), &mut |piece| {
                    crc.update(piece);
                    Ok(())
                })?;
                let zip = zip_of(self.place, crc.value())?;
                let mut sealing = zip.begin(to)?;
                self.copy(all, &mut |piece| sealing.add(piece, to))?;
                sealing.end(to)
            }
        }
    }

    fn copy(&self, range: Range<u64>, to: &mut To<'_>) -> io::Result<()> {
        let pack = match self.way {
            Way::Report => self.day.reports_pack(),
            Way::Plain | Way::Zip => self.day.samples_pack().ok_or(io::ErrorKind::NotFound)?,
        };
        let whole = range == (0..self.place.bytes);
        let (mut at, mut hash) = (range.start, Sha256::new());
        let mut buffer = vec![0; PIECE];
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
            let n = self.place.read(pack, at, &mut buffer[..wanted])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += n as u64;
            if whole {
                hash.update(&buffer[..n]);
                if at == range.end && Digest(hash.clone().finalize().into()) != self.place.digest {
                    let Place { digest, .. } = self.place;
                    let day = self.day.day;
                    let what = format!("the bytes of {digest} of {day} are broken on this disk");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
            to(&buffer[..n])?;
        }
        Ok(())
    }
}
