//! Writing what a recording holds into a folder: pictures as PNG, what was typed as JSON lines.

use crate::{error::CliError, print, print_json};
use nonstop_api::{Client, Reply, Request};
use nonstop_display::recording::{Frame, Moment, Playback};
use serde_json::json;
use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Says why to the daemon, and writes recording `id` into `out`.
pub(crate) fn run(
    client: &Client,
    id: u64,
    reason: &str,
    out: &Path,
    json: bool,
) -> Result<(), CliError> {
    client.call(&Request::RecordingPlay { id, reason: reason.into() })?;
    let (reply, stream) = client.call_for_file(&Request::RecordingStream { id })?;
    let Reply::Recording(recording) = reply else { return Err(CliError::Otherwise) };
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| CliError::Write { path, source }
    };
    own_folder(out).map_err(at(out))?;
    let log = out.join("moments.jsonl");
    let mut moments = BufWriter::new(own_file(&log).map_err(at(&log))?);
    let mut playback = Playback::new(BufReader::new(File::from(stream)));
    let (mut pictures, mut typed, mut lost) = (0_u64, 0_u64, 0_u64);
    while let Some(moment) =
        playback.next_moment().map_err(|source| CliError::Recording { id, source })?
    {
        let line = match moment {
            Moment::Shown { at_ms, .. } => {
                pictures += 1;
                let name = format!("{pictures:06}.png");
                let path = out.join(&name);
                png(&path, &playback.with_pointer()).map_err(at(&path))?;
                json!({ "at": time(at_ms), "picture": name })
            }
            Moment::Typed { at_ms, input } => {
                typed += 1;
                json!({ "at": time(at_ms), "typed": input })
            }
            Moment::Lost => {
                lost += 1;
                json!({ "lost": "a part of the recording is missing here" })
            }
            Moment::Full => json!({ "full": "the recording has as many bytes as it may have" }),
        };
        writeln!(moments, "{line}").map_err(at(&log))?;
    }
    moments.flush().map_err(at(&log))?;
    if json {
        print_json(&json!({
            "recording": id, "pictures": pictures, "typed": typed, "missing_parts": lost,
            "missing_bytes": recording.missing_bytes,
        }));
    } else {
        let out = out.display();
        print(&format!("{pictures} pictures and {typed} events of input are in {out}"));
    }
    if lost > 0 || recording.missing_bytes > 0 {
        return Err(CliError::Damaged { id, parts: lost, bytes: recording.missing_bytes });
    }
    Ok(())
}

/// Makes a folder that nobody else reads: what was typed is in it, passwords too. One that holds
/// something already is refused, so that no two recordings are mixed.
fn own_folder(out: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(out)?;
    if fs::read_dir(out)?.next().is_some() {
        return Err(io::Error::other("the folder is not empty: name a new one"));
    }
    fs::set_permissions(out, fs::Permissions::from_mode(0o700))
}

fn own_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn time(at_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at_ms).unwrap_or(i64::MAX));
    at.map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

fn png(path: &Path, frame: &Frame) -> io::Result<()> {
    let file = BufWriter::new(own_file(path)?);
    let mut encoder = png::Encoder::new(file, frame.width.into(), frame.height.into());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header()?.write_image_data(&frame.rgb)?;
    Ok(())
}
