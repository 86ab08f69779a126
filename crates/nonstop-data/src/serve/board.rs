//! How far each server is, written down at every change.

use anyhow::{Context, Result};
use nonstop_api::serving::{Served, ServedState, Serving};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// All servers.
#[derive(Debug)]
pub(super) struct Board {
    path: PathBuf,
    serving: Mutex<Serving>,
}

impl Board {
    /// One that is written to `path`; nothing is on it.
    pub(super) fn new(path: PathBuf) -> Board {
        Board { path, serving: Mutex::default() }
    }

    /// Puts `server` of `domain` on it; gives its place.
    pub(super) fn add(&self, domain: &str, server: &str) -> usize {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.servers.push(Served {
            domain: domain.into(),
            server: server.into(),
            state: ServedState::Waiting,
            why: None,
            restarts: 0,
        });
        serving.servers.len() - 1
    }

    /// The server at `place` is in `state`.
    pub(super) fn is(&self, place: usize, state: ServedState) {
        self.change(place, |served| {
            served.state = state;
            if state == ServedState::Listens {
                served.why = None;
            }
        });
    }

    /// The server at `place` ended, and this is `why`.
    pub(super) fn ended(&self, place: usize, why: String) {
        self.change(place, |served| {
            served.state = ServedState::Ended;
            served.why = Some(why);
            served.restarts += 1;
        });
    }

    fn change(&self, place: usize, change: impl FnOnce(&mut Served)) {
        {
            let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(served) = serving.servers.get_mut(place) else { return };
            let before = served.clone();
            change(served);
            if *served == before {
                return;
            }
        }
        if let Err(e) = self.write() {
            eprintln!("nonstop-data serve: {e:#}");
        }
    }

    /// Writes it down, whole.
    pub(super) fn write(&self) -> Result<()> {
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.ready = serving.servers.iter().all(|s| s.state == ServedState::Listens);
        let text = serde_json::to_vec(&*serving)?;
        let part = self.path.with_extension("part");
        fs::write(&part, text)
            .and_then(|()| fs::set_permissions(&part, Permissions::from_mode(0o644)))
            .and_then(|()| fs::rename(&part, &self.path))
            .with_context(|| format!("write {}", self.path.display()))
    }
}
