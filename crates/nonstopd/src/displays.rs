//! What happens at displays, written into the trace by a thread of its own: the host's must not
//! wait for the database.

use crate::{Clock, status::chain};
use nonstop_display::link::Meter;
use nonstop_host::displays::{DisplayEvent, DisplayHappening, Told};
use nonstop_store::Db;
use serde_json::json;
use std::sync::{Arc, mpsc};
use tracing::{error, warn};

/// Rows that wait for the database. Sessions begin and end at the pace of people; what comes
/// faster is an attack, and its rows are counted instead of written.
const WAITING: usize = 256;

/// Starts the thread, and gives what the host calls.
pub fn recorder(db: Arc<Db>, clock: Arc<dyn Clock>) -> std::io::Result<Told> {
    let (events, inbox) = mpsc::sync_channel::<DisplayEvent>(WAITING);
    std::thread::Builder::new().name("display-trace".into()).spawn(move || {
        while let Ok(event) = inbox.recv() {
            let (action, meter) = match event.what {
                DisplayHappening::Opened => ("desktop.open", Meter::default()),
                DisplayHappening::OverBudget(meter) => ("desktop.over_budget", meter),
                DisplayHappening::Closed(meter) => ("desktop.close", meter),
            };
            let detail = json!({
                "viewer": event.viewer,
                "frames": meter.frames,
                "bytes_out": meter.bytes_out,
                "keys_in": meter.keys_in,
            });
            let written = db.write("nonstopd", clock.now(), |w| {
                w.trace(action, &event.machine, detail.clone())
            });
            if let Err(e) = written {
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
