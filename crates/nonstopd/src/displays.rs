//! What happens at displays, written into the trace by a thread of its own: the host's must not
//! wait for the database.

use crate::{Clock, status::chain};
use nonstop_host::displays::{DisplayEvent, DisplayHappening, Told};
use nonstop_model::MachineId;
use nonstop_store::{Db, DesktopSessionId, StoreError};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
};
use tracing::{error, warn};

/// Rows that wait for the database. Sessions begin and end at the pace of people; what comes
/// faster is an attack, and what does not fit is missing from the trace, which is said in the log.
const WAITING: usize = 256;

/// Sessions that are open, by display and place.
type Open = BTreeMap<(MachineId, u8), DesktopSessionId>;

/// Closes the records of sessions of a daemon that is gone, starts the thread, and gives what the
/// host calls.
///
/// `recordings` is the folder of recordings.
pub fn recorder(db: Arc<Db>, clock: Arc<dyn Clock>, recordings: PathBuf) -> anyhow::Result<Told> {
    db.write("nonstopd", clock.now(), |w| w.close_forgotten_desktops())?;
    let (events, inbox) = mpsc::sync_channel::<DisplayEvent>(WAITING);
    std::thread::Builder::new().name("display-trace".into()).spawn(move || {
        let mut open = Open::new();
        while let Ok(event) = inbox.recv() {
            if let Err(e) = record(&db, &*clock, &recordings, &mut open, &event) {
                error!("record what happened at the display of {}: {}", event.machine, chain(&e));
            }
        }
    })?;
    Ok(Box::new(move |event| {
        if events.try_send(event).is_err() {
            warn!("too much happens at displays: one event is not in the trace");
        }
    }))
}

fn record(
    db: &Db,
    clock: &dyn Clock,
    recordings: &Path,
    open: &mut Open,
    event: &DisplayEvent,
) -> Result<(), StoreError> {
    let place = (event.machine, event.viewer);
    match event.what {
        DisplayHappening::Opened => {
            let looker = db.read(|read| read.looker(event.machine, event.viewer))?;
            // A recording is no person: it has rows of its own.
            let Some((account, kind)) = looker else { return Ok(()) };
            let forgotten = open.remove(&place);
            let id = db.write("nonstopd", clock.now(), |w| {
                if let Some(forgotten) = forgotten {
                    w.desktop_lost(forgotten)?;
                }
                w.desktop_opened(event.machine, &account, kind)
            })?;
            open.insert(place, id);
        }
        DisplayHappening::Metered(meter) => {
            let Some(id) = open.get(&place).copied() else { return Ok(()) };
            db.write("nonstopd", clock.now(), |w| {
                w.desktop_metered(id, meter.frames, meter.bytes_out, meter.keys_in)
            })?;
        }
        DisplayHappening::RecordingStopped => {
            let recording = db.read(|read| read.recording_at(event.machine, event.viewer))?;
            let Some(recording) = recording else { return Ok(()) };
            warn!("recording {recording} of {} ended by itself", event.machine);
            let bytes = recorded_bytes(recordings, recording);
            let note = "it ended by itself: it was full, its file could not be written, or its recorder failed again and again";
            db.write("nonstopd", clock.now(), |w| w.end_recording(recording, bytes, note))?;
        }
        DisplayHappening::OverBudget(meter) => {
            let Some(id) = open.get(&place).copied() else { return Ok(()) };
            warn!("a session at the display of {} has used up its bytes of this hour", place.0);
            db.write("nonstopd", clock.now(), |w| {
                w.desktop_over_budget(id, meter.frames, meter.bytes_out, meter.keys_in)
            })?;
        }
        DisplayHappening::Closed(meter) => {
            let Some(id) = open.remove(&place) else { return Ok(()) };
            db.write("nonstopd", clock.now(), |w| {
                w.desktop_closed(id, meter.frames, meter.bytes_out, meter.keys_in)
            })?;
        }
    }
    Ok(())
}

/// Bytes of the file of a recording among `recordings`; 0 if there is none.
pub(crate) fn recorded_bytes(recordings: &Path, recording: u64) -> u64 {
    fs::metadata(recordings.join(format!("{recording}.age"))).map_or(0, |file| file.len())
}
