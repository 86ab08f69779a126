//! `nonstop-samples disc` and `take`: samples written out, each byte of them checked by its hash.
//!
//! The order stands as JSON on standard input, the file to write is 3, and what was written is told as
//! JSON on standard output. Where it was not done, what is in the file is worth nothing.

use crate::{
    child::{Become, IN_MEMORY, READS, answer, asked, chain, confined_to_write, enter, given},
    days::{Day, DayError, Days},
    digest::Digest,
    disc::{self, Content, Disc},
    pack::Place,
    zip,
};
use nonstop_api::samples::{Order, OrderedItem, Written, WrittenItem};
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

/// Writes a disc of samples (ISO 9660 with Joliet and Rock Ridge).
///
/// Run as root; it gives that up before it reads anything.
#[derive(Debug, clap::Args)]
pub struct DiscArgs {
    #[command(flatten)]
    from: From,
}

/// Writes one sample, as it is or in a zip.
///
/// Run as root; it gives that up before it reads anything.
#[derive(Debug, clap::Args)]
pub struct TakeArgs {
    #[command(flatten)]
    from: From,
}

#[derive(Debug, clap::Args)]
struct From {
    /// The folder of published days.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The most bytes to write.
    #[arg(long, value_name = "BYTES", default_value_t = u64::MAX)]
    most: u64,
    #[command(flatten)]
    who: Become,
}

const MEMORY_BYTES: u64 = 1 << 30;
/// The longest order as JSON, in bytes.
const LONGEST: usize = 64 << 10;
/// The most samples of one order.
const MOST: usize = 64;
const PIECE: usize = 256 << 10;

/// Writes a disc. Exit code 0 if it is whole.
pub fn disc(args: &DiscArgs) -> ExitCode {
    answer(begin(&args.from).and_then(write_disc))
}

/// Writes one sample. Exit code 0 if it is whole.
pub fn take(args: &TakeArgs) -> ExitCode {
    answer(begin(&args.from).and_then(write_one))
}

/// An order, and what it is carried out with.
struct Begun {
    days: Vec<Arc<Day>>,
    /// Days that cannot be read.
    wrong: Vec<DayError>,
    out: File,
    order: Order,
}

fn begin(from: &From) -> Result<Begun, String> {
    let out = given(3).map_err(|e| format!("descriptor 3 must be a file to write to: {e}"))?;
    enter(&from.data).map_err(|e| format!("open {}: {e}", from.data.display()))?;
    confined_to_write(&from.who, MEMORY_BYTES, from.most, &[IN_MEMORY, READS])
        .map_err(|e| format!("nonstop-samples was not let go of its rights: {e}"))?;
    let order: Order = asked(LONGEST)?;
    if !(1..=MOST).contains(&order.items.len()) {
        return Err(format!("an order has 1 to {MOST} samples"));
    }
    let (days, wrong) =
        Days::new(Path::new("/"), true).all().map_err(|e| format!("list the days: {e}"))?;
    Ok(Begun { days, wrong, out, order })
}

fn write_one(begun: Begun) -> Result<Written, String> {
    let [item] = &begun.order.items[..] else { return Err("one sample is taken at a time".into()) };
    let name = file_name(item);
    disc::check(&name).map_err(|e| e.to_string())?;
    let found = Found::of(&begun, item)?;
    let content = found.content(item)?;
    let mut out = &begun.out;
    content.write(&mut |piece| out.write_all(piece)).map_err(|e| e.to_string())?;
    Ok(Written { bytes: content.bytes(), items: vec![found.written(name)] })
}

fn write_disc(begun: Begun) -> Result<Written, String> {
    let found = begun.order.items.iter().map(|item| Found::of(&begun, item));
    let found: Vec<Found> = found.collect::<Result<_, _>>()?;
    let Begun { out, order, .. } = begun;
    let mut disc = Disc::new(&order.volume).map_err(|e| e.to_string())?;
    for (item, found) in order.items.iter().zip(&found) {
        let file = disc::Item { name: file_name(item), content: found.content(item)? };
        disc.add(file).map_err(|e| e.to_string())?;
    }
    let mut out = BufWriter::with_capacity(1 << 20, out);
    disc.write(&mut out).map_err(|e| chain(&e))?;
    let bytes = out.stream_position().map_err(|e| format!("write the disc: {e}"))?;
    out.flush().map_err(|e| format!("write the disc: {e}"))?;
    let items = order.items.iter().zip(&found);
    let items = items.map(|(item, found)| found.written(file_name(item))).collect();
    Ok(Written { bytes, items })
}

fn file_name(item: &OrderedItem) -> String {
    if item.zip { format!("{}.zip", item.name) } else { item.name.clone() }
}

/// A sample that the days have.
struct Found {
    day: Arc<Day>,
    place: Place,
}

impl Found {
    /// The one that is ordered, of the newest day that has it. A day that cannot be read is told of
    /// only where no other has the sample.
    fn of(begun: &Begun, item: &OrderedItem) -> Result<Found, String> {
        let digest = Digest::read(&item.sha256).ok_or("a sample is named by its SHA-256")?;
        let mut wrong = begun.wrong.first().map(|e| chain(e));
        for day in &begun.days {
            let place = match day.sample(digest) {
                Ok(sample) => sample.and_then(|sample| sample.place),
                Err(e) => {
                    wrong.get_or_insert_with(|| chain(&e));
                    continue;
                }
            };
            match place {
                None => {}
                Some(place) if place.bytes == item.bytes => {
                    return Ok(Found { day: Arc::clone(day), place });
                }
                Some(place) => {
                    wrong.get_or_insert_with(|| {
                        format!(
                            "the day {} says that it has {} bytes, and {} were asked for",
                            day.day, place.bytes, item.bytes
                        )
                    });
                }
            }
        }
        Err(match wrong {
            None => format!("there is no sample {digest}"),
            Some(why) => format!("there is no sample {digest} in the days that can be read: {why}"),
        })
    }

    /// Gives all bytes to `to`; an error where they are not what their hash says.
    fn copy(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let pack = self.day.samples_pack().ok_or(io::ErrorKind::NotFound)?;
        let (mut at, mut hash, mut buffer) = (0, Sha256::new(), vec![0; PIECE]);
        loop {
            let n = self.place.read(pack, at, &mut buffer)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
            to(&buffer[..n])?;
            at += n as u64;
        }
        if Digest(hash.finalize().into()) != self.place.digest {
            let what = format!(
                "the bytes of sample {} of {} are broken on this host's disk: `nonstop data publish` \
                 the day again",
                self.place.digest, self.day.day
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(())
    }

    fn content(&self, item: &OrderedItem) -> Result<Box<dyn Content + '_>, String> {
        if !item.zip {
            return Ok(Box::new(Plain(self)));
        }
        let mut crc = zip::Crc::new();
        self.copy(&mut |piece| {
            crc.update(piece);
            Ok(())
        })
        .map_err(|e| e.to_string())?;
        let zip = zip::Zip::new(&item.name, self.place, crc.value());
        Ok(Box::new(Zipped { found: self, zip: zip.map_err(|e| e.to_string())? }))
    }

    fn written(&self, name: String) -> WrittenItem {
        let Place { digest, bytes, .. } = self.place;
        WrittenItem { sha256: digest.to_string(), name, bytes }
    }
}

struct Plain<'a>(&'a Found);

impl Content for Plain<'_> {
    fn bytes(&self) -> u64 {
        self.0.place.bytes
    }

    fn write(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.0.copy(to)
    }
}

struct Zipped<'a> {
    found: &'a Found,
    zip: zip::Zip,
}

impl Content for Zipped<'_> {
    fn bytes(&self) -> u64 {
        self.zip.bytes()
    }

    fn write(&self, to: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut sealing = self.zip.begin(to)?;
        self.found.copy(&mut |piece| sealing.add(piece, to))?;
        sealing.end(to)
    }
}
