//! Displays of guests, served to people: for each a broker and its viewers, confined children of
//! this program (see the crate `nonstop-rdp`).
//!
//! This program opens the sockets and starts the processes; it reads nothing that a guest, its
//! QEMU or a client says but a broker's short reports. One thread holds all children: they end
//! with it, so that without the daemon nobody looks.

mod certificates;
mod keeper;
mod processes;
mod recordings;

use crate::{HostError, authority::Authority};
use certificates::Certificates;
use keeper::{Command, Keeper};
use nonstop_display::link::Meter;
use nonstop_model::{Lab, MachineId};
use nonstop_plan::{ObservedDisplay, Viewer};
use rustix::event::EventfdFlags;
use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender},
    },
};

/// What the displays of a lab are made of.
#[derive(Debug, Clone)]
pub struct DisplayConfig {
    /// The program `nonstop-rdp`.
    pub program: PathBuf,
    /// The folder of the lab's authority, which holds the keys of recordings; root's alone.
    pub authority: PathBuf,
    /// Holds the keys and certificates of displays, on a tmpfs; root's alone.
    pub certificates: PathBuf,
    /// Holds recordings; root's alone.
    pub recordings: PathBuf,
    /// Bytes that a session may get in an hour.
    pub budget: Option<u64>,
}

impl DisplayConfig {
    /// That of `lab`.
    pub fn of(lab: &Lab) -> DisplayConfig {
        DisplayConfig {
            program: lab.programs.join("nonstop-rdp"),
            authority: lab.authority(),
            certificates: lab.run.join("displays"),
            recordings: lab.recordings(),
            budget: lab.desktop.budget_mib_per_hour.map(|mib| u64::from(mib) << 20),
        }
    }
}

/// Something that happened at a display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisplayEvent {
    /// Whose display.
    pub machine: MachineId,
    /// Who looks: 0 is the owner, else a [`Viewer`]'s number.
    pub viewer: u8,
    /// What.
    pub what: DisplayHappening,
}

/// What happened at a display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisplayHappening {
    /// A session began.
    Opened,
    /// The session goes on; told now and then, while its figures change.
    Metered(Meter),
    /// The session has used up its bytes of this hour and is slowed down.
    OverBudget(Meter),
    /// A recording ended by itself: it is full, or could not be written.
    RecordingStopped,
    /// The session ended.
    Closed(Meter),
}

/// Called, from the displays' own thread, when something happens at one. It must not wait.
pub type Told = Box<dyn Fn(DisplayEvent) + Send>;

/// The displays of a lab.
pub struct Displays {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
    shown: Shown,
}

type Shown = Arc<Mutex<BTreeMap<MachineId, ObservedDisplay>>>;

impl Displays {
    /// Starts the thread that holds the children; none is there yet. `wake` is called from it
    /// when a display needs the planner. `authority` signs what they show.
    pub fn start(
        config: DisplayConfig,
        authority: Arc<Authority>,
        wake: Arc<dyn Fn() + Send + Sync>,
        told: Told,
    ) -> Result<Displays, HostError> {
        let doing = || "make displays ready".to_string();
        let certificates = Certificates::open(&config.certificates, authority)?;
        recordings::prepare(&config)?;
        let bell = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|e| HostError::new(doing(), e))?;
        let (bell, shown) = (Arc::new(bell), Shown::default());
        let (commands, inbox) = mpsc::channel();
        let keeper = Keeper::new(
            config,
            certificates,
            inbox,
            Arc::clone(&bell),
            Arc::clone(&shown),
            wake,
            told,
        );
        std::thread::Builder::new()
            .name("displays".into())
            .spawn(move || keeper.run())
            .map_err(|e| HostError::new(doing(), e))?;
        Ok(Displays { commands, bell, shown })
    }

    /// What is served now.
    pub fn observe(&self) -> BTreeMap<MachineId, ObservedDisplay> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves the display of `machine` to its owner. Repeatable.
    pub fn open(&self, machine: MachineId) -> Result<(), HostError> {
        self.ask(|reply| Command::Open { machine, reply })
    }

    /// Shows what comes over `connection`, in place of what was shown before.
    pub fn attach(&self, machine: MachineId, connection: OwnedFd) -> Result<(), HostError> {
        self.ask(|reply| Command::Attach { machine, connection, reply })
    }

    /// Ends everybody's look at `machine`; nobody gets a further frame. Repeatable.
    pub fn close(&self, machine: MachineId) -> Result<(), HostError> {
        self.ask(|reply| Command::Close { machine, reply })
    }

    /// Lets another look. Repeatable.
    pub fn open_viewer(&self, machine: MachineId, viewer: &Viewer) -> Result<(), HostError> {
        self.ask(|reply| Command::OpenViewer { machine, viewer: viewer.clone(), reply })
    }

    /// Ends that. Repeatable.
    pub fn close_viewer(&self, machine: MachineId, viewer: u8) -> Result<(), HostError> {
        self.ask(|reply| Command::CloseViewer { machine, viewer, reply })
    }

    /// What a recording holds, decrypted by a confined child, as a pipe.
    pub fn play(&self, recording: u64) -> Result<OwnedFd, HostError> {
        self.ask(|reply| Command::Play { recording, reply })
    }

    fn ask<T>(&self, command: impl FnOnce(keeper::Reply<T>) -> Command) -> Result<T, HostError> {
        let gone = || HostError::new("serve displays", "the thread that holds them has ended");
        let (reply, answer) = mpsc::sync_channel(1);
        self.commands.send(command(reply)).map_err(|_| gone())?;
        let _rung = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        answer.recv().map_err(|_| gone())?
    }
}
