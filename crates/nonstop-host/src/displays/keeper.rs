//! The thread that holds all brokers and viewers: starts, hears, and ends them.

use super::{
    DisplayConfig, DisplayEvent, DisplayHappening, Shown, Told,
    certificates::Certificates,
    processes::{Descriptors, Process, Users, link, listener},
    recordings::{self, Players},
};
use crate::HostError;
use nonstop_display::{
    control::{Order, Report, ViewerId, ViewerKind as Kind},
    link::Meter,
    wire::{self, WireError},
};
use nonstop_model::{
    MachineId,
    network::{RDP_PORT, display_address},
};
use nonstop_plan::{ObservedDisplay, Viewer, ViewerKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, PoisonError,
        mpsc::{Receiver, SyncSender},
    },
    time::{Duration, Instant},
};
use tracing::warn;

/// A broker that reports nothing for so long is ended: it may be holding up its guest.
const SILENCE: Duration = Duration::from_secs(2);

/// How long a viewer that broke is left alone before it is started anew.
const AGAIN: Duration = Duration::from_millis(300);

/// How often a recorder that was killed is started again, in all.
const RECORDER_AGAIN: u8 = 20;

/// How often children are looked at when nothing happens.
const TICK: Duration = Duration::from_millis(250);

/// How long the key of a display that nobody serves is kept: until a daemon that was started
/// anew has opened its displays again.
const KEYS_KEPT: Duration = Duration::from_secs(120);

/// Between two figures of a session that goes on.
const METERED: Duration = Duration::from_secs(300);

/// The owner's worker.
const OWNER: u8 = 0;

pub(super) type Reply<T> = SyncSender<Result<T, HostError>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Open { machine: MachineId, reply: Reply<()> },
    Attach { machine: MachineId, connection: OwnedFd, reply: Reply<()> },
    Close { machine: MachineId, reply: Reply<()> },
    OpenViewer { machine: MachineId, viewer: Viewer, reply: Reply<()> },
    CloseViewer { machine: MachineId, viewer: u8, reply: Reply<()> },
    Play { recording: u64, reply: Reply<OwnedFd> },
}

/// A display that is served.
struct Served {
    broker: Process,
    control: OwnedFd,
    heard: Instant,
    attached: bool,
    fingerprint: String,
    setup: Vec<u8>,
    viewers: BTreeMap<u8, Looker>,
}

/// A viewer's process, and what starts it again.
struct Looker {
    kind: Kind,
    asked: Option<ViewerKind>,
    listener: Option<OwnedFd>,
    process: Option<Process>,
    broke: Instant,
    session: Option<Meter>,
    metered: Instant,
    /// How often a recorder was started again.
    again: u8,
    /// Whether a recording has ended by itself: it is not begun anew in the same file.
    done: bool,
}

pub(super) struct Keeper {
    config: DisplayConfig,
    certificates: Certificates,
    inbox: Receiver<Command>,
    bell: Arc<OwnedFd>,
    shown: Shown,
    wake: Arc<dyn Fn() + Send + Sync>,
    told: Told,
    users: Users,
    served: BTreeMap<MachineId, Served>,
    players: Players,
    began: Instant,
}

impl Keeper {
    pub(super) fn new(
        config: DisplayConfig,
        certificates: Certificates,
        inbox: Receiver<Command>,
        bell: Arc<OwnedFd>,
        shown: Shown,
        wake: Arc<dyn Fn() + Send + Sync>,
        told: Told,
    ) -> Keeper {
        let (users, served) = (Users::new(), BTreeMap::new());
        let (players, began) = (Players::default(), Instant::now());
        Keeper {
            config,
            certificates,
            inbox,
            bell,
            shown,
            wake,
            told,
            users,
            served,
            players,
            began,
        }
    }

    /// Works until nobody can ask any more, and ends every child then.
    pub(super) fn run(mut self) {
        let mut looked = Instant::now();
        loop {
            self.wait();
            loop {
                match self.inbox.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                        self.served.keys().copied().collect::<Vec<_>>().into_iter().for_each(|m| {
                            self.end(m);
                        });
                        self.players.end(&mut self.users);
                        return;
                    }
                }
            }
            let machines: Vec<MachineId> = self.served.keys().copied().collect();
            for machine in machines {
                self.hear(machine);
            }
            if looked.elapsed() >= TICK {
                looked = Instant::now();
                self.look_after();
            }
            self.publish();
        }
    }

    /// Until somebody asks or reports, or a while has passed.
    fn wait(&self) {
        let mut files = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        files.extend(self.served.values().map(|s| PollFd::new(&s.control, PollFlags::IN)));
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        let _interrupted_is_fine = poll(&mut files, Some(&tick));
        let _emptied = rustix::io::read(&*self.bell, &mut [0; 8]);
    }

    fn obey(&mut self, command: Command) {
        let (result, reply) = match command {
            Command::Open { machine, reply } => (self.open(machine), reply),
            Command::Attach { machine, connection, reply } => {
                (self.attach(machine, connection), reply)
            }
            Command::Close { machine, reply } => {
                self.end(machine);
                self.certificates.forget(machine);
                (Ok(()), reply)
            }
            Command::OpenViewer { machine, viewer, reply } => {
                (self.open_viewer(machine, &viewer), reply)
            }
            Command::CloseViewer { machine, viewer, reply } => {
                self.end_viewer(machine, viewer);
                (Ok(()), reply)
            }
            Command::Play { recording, reply } => {
                let stream = self.players.start(&self.config, &mut self.users, recording);
                let _asker_gone = reply.send(stream);
                return;
            }
        };
        // What was asked for is seen by the next observation.
        self.publish();
        let _asker_gone = reply.send(result);
    }

    fn open(&mut self, machine: MachineId) -> Result<(), HostError> {
        if self.served.contains_key(&machine) {
            return Ok(());
        }
        let doing = || format!("serve the display of {machine}");
        let certificate = self.certificates.of(machine)?;
        let (ours, theirs) = link().map_err(|e| HostError::new(doing(), e))?;
        let descriptors = Descriptors { stdin: theirs, stdout: None, setup: None };
        let broker = Process::start(&self.config.program, "broker", &mut self.users, descriptors)
            .map_err(|e| {
            let program = self.config.program.display();
            HostError::new(doing(), e).help(format!("is {program} installed, and ours?"))
        })?;
        let served = Served {
            broker,
            control: ours,
            heard: Instant::now(),
            attached: false,
            fingerprint: certificate.fingerprint,
            setup: certificate.setup,
            viewers: BTreeMap::new(),
        };
        self.served.insert(machine, served);
        let began = self
            .order(machine, &Order::Begin { budget: self.config.budget }, None)
            .and_then(|()| self.add(machine, OWNER, Kind::Owner, None));
        if began.is_err() {
            self.end(machine);
        }
        began
    }

    fn attach(&mut self, machine: MachineId, connection: OwnedFd) -> Result<(), HostError> {
        self.order(machine, &Order::Attach, Some(&connection))?;
        if let Some(served) = self.served.get_mut(&machine) {
            served.attached = true;
        }
        Ok(())
    }

    fn open_viewer(&mut self, machine: MachineId, viewer: &Viewer) -> Result<(), HostError> {
        let served = self.served.get(&machine);
        if served.is_some_and(|served| served.viewers.contains_key(&viewer.id)) {
            return Ok(());
        }
        let kind = match viewer.kind {
            ViewerKind::Person { .. } => Kind::Guest,
            ViewerKind::Recorder { .. } => Kind::Recorder,
        };
        self.add(machine, viewer.id, kind, Some(viewer.kind.clone()))
    }

    /// Makes a viewer and starts it.
    fn add(
        &mut self,
        machine: MachineId,
        viewer: u8,
        kind: Kind,
        asked: Option<ViewerKind>,
    ) -> Result<(), HostError> {
        let doing = || format!("serve the display of {machine} to viewer {viewer}");
        let port = RDP_PORT + u16::from(viewer);
        let listener = match kind {
            Kind::Recorder => None,
            Kind::Owner | Kind::Guest => Some(
                listener(display_address(machine), port).map_err(|e| HostError::new(doing(), e))?,
            ),
        };
        let Some(served) = self.served.get_mut(&machine) else {
            return Err(HostError::new(doing(), "the display is not served"));
        };
        let now = Instant::now();
        let looker = Looker {
            kind,
            asked,
            listener,
            process: None,
            broke: now,
            session: None,
            metered: now,
            again: 0,
            done: false,
        };
        served.viewers.insert(viewer, looker);
        self.start_viewer(machine, viewer)
    }

    fn start_viewer(&mut self, machine: MachineId, viewer: u8) -> Result<(), HostError> {
        let doing = || format!("start viewer {viewer} of the display of {machine}");
        let failed = |e: std::io::Error| HostError::new(doing(), e);
        let Some(served) = self.served.get_mut(&machine) else { return Ok(()) };
        let Some(looker) = served.viewers.get_mut(&viewer) else { return Ok(()) };
        let (brokers, theirs) = link().map_err(failed)?;
        let (role, stdout, setup) = match (&looker.listener, &looker.asked) {
            (Some(listener), _) => {
                let listener = listener.try_clone().map_err(failed)?;
                ("worker", listener, served.setup.clone())
            }
            (None, Some(ViewerKind::Recorder { recording, max_bytes })) => {
                let (file, setup) = recordings::file_to_write(&self.config, *recording, *max_bytes)
                    .map_err(failed)?;
                ("recorder", file, setup)
            }
            (None, _) => return Ok(()),
        };
        let descriptors = Descriptors { stdin: theirs, stdout: Some(stdout), setup: Some(setup) };
        let process = Process::start(&self.config.program, role, &mut self.users, descriptors)
            .map_err(failed)?;
        looker.process = Some(process);
        let order = Order::AddViewer { viewer: ViewerId(viewer), kind: looker.kind };
        self.order(machine, &order, Some(&brokers))
    }

    /// Tells a broker. One that does not listen is ended, and the planner serves anew.
    fn order(
        &mut self,
        machine: MachineId,
        order: &Order,
        file: Option<&OwnedFd>,
    ) -> Result<(), HostError> {
        let doing = || format!("tell the broker of {machine}");
        let Some(served) = self.served.get(&machine) else {
            return Err(HostError::new(doing(), "the display is not served"));
        };
        wire::send(&served.control, order, file.map(AsFd::as_fd)).map_err(|e| {
            self.lose(machine, "does not listen");
            HostError::new(doing(), e)
        })
    }

    fn hear(&mut self, machine: MachineId) {
        // A broker that reports without end must not keep this thread from the others.
        for _ in 0..64 {
            let Some(served) = self.served.get_mut(&machine) else { return };
            match wire::receive::<Report>(&served.control) {
                Ok((report, _closed)) => {
                    served.heard = Instant::now();
                    self.heed(machine, report);
                }
                Err(WireError::Empty) => return,
                Err(_) => return self.lose(machine, "ended"),
            }
        }
    }

    fn heed(&mut self, machine: MachineId, report: Report) {
        let Some(served) = self.served.get_mut(&machine) else { return };
        match report {
            Report::Alive => {}
            Report::Attached => served.attached = true,
            Report::Lost => {
                served.attached = false;
                (self.wake)();
            }
            Report::Opened { viewer: ViewerId(viewer) } => {
                let Some(looker) = served.viewers.get_mut(&viewer) else { return };
                if looker.session.replace(Meter::default()).is_none() {
                    self.tell(machine, viewer, DisplayHappening::Opened);
                }
            }
            Report::Metered { viewer: ViewerId(viewer), meter } => {
                let Some(looker) = served.viewers.get_mut(&viewer) else { return };
                if looker.session.is_none() {
                    return;
                }
                looker.session = Some(meter);
                if looker.metered.elapsed() >= METERED {
                    looker.metered = Instant::now();
                    self.tell(machine, viewer, DisplayHappening::Metered(meter));
                }
            }
            Report::OverBudget { viewer: ViewerId(viewer), meter } => {
                let looker = served.viewers.get(&viewer);
                if looker.is_some_and(|looker| looker.session.is_some()) {
                    self.tell(machine, viewer, DisplayHappening::OverBudget(meter));
                }
            }
            Report::Closed { viewer: ViewerId(viewer), meter } => {
                let Some(looker) = served.viewers.get_mut(&viewer) else { return };
                if looker.session.take().is_some() {
                    self.tell(machine, viewer, DisplayHappening::Closed(meter));
                }
            }
            Report::Bad { viewer: ViewerId(viewer) } => self.viewer_fell(machine, viewer),
        }
    }

    fn tell(&self, machine: MachineId, viewer: u8, what: DisplayHappening) {
        (self.told)(DisplayEvent { machine, viewer, what });
    }

    /// A viewer ended, or must be, although nobody asked for it. It comes back; a recorder does not
    /// that is full or could not write, nor one that falls again and again.
    fn viewer_fell(&mut self, machine: MachineId, viewer: u8) {
        let served = self.served.get_mut(&machine);
        if let Some(looker) = served.and_then(|served| served.viewers.get_mut(&viewer))
            && looker.kind == Kind::Recorder
        {
            let by_itself = looker.process.as_mut().and_then(Process::code).is_some();
            looker.done = by_itself || looker.again >= RECORDER_AGAIN;
            looker.again += 1;
            if looker.done {
                self.tell(machine, viewer, DisplayHappening::RecordingStopped);
            }
        }
        self.viewer_broke(machine, viewer);
    }

    /// Ends a viewer's process; it is started again after a while.
    fn viewer_broke(&mut self, machine: MachineId, viewer: u8) {
        let Some(looker) =
            self.served.get_mut(&machine).and_then(|served| served.viewers.get_mut(&viewer))
        else {
            return;
        };
        looker.broke = Instant::now();
        if let Some(process) = looker.process.take() {
            process.end(&mut self.users);
        }
        if let Some(meter) = looker.session.take() {
            self.tell(machine, viewer, DisplayHappening::Closed(meter));
        }
    }

    /// What happens without anybody asking: the silent and the dead.
    fn look_after(&mut self) {
        self.players.look_after(&mut self.users);
        let machines: Vec<MachineId> = self.served.keys().copied().collect();
        for machine in machines {
            let Some(served) = self.served.get_mut(&machine) else { continue };
            if !served.broker.runs() {
                self.lose(machine, "ended");
                continue;
            }
            if served.heard.elapsed() > SILENCE {
                self.lose(machine, "has been silent");
                continue;
            }
            let viewers: Vec<u8> = served.viewers.keys().copied().collect();
            for viewer in viewers {
                self.look_after_viewer(machine, viewer);
            }
        }
        if self.began.elapsed() > KEYS_KEPT {
            for machine in self.certificates.kept() {
                if !self.served.contains_key(&machine) {
                    self.certificates.forget(machine);
                }
            }
        }
    }

    fn look_after_viewer(&mut self, machine: MachineId, viewer: u8) {
        let Some(looker) =
            self.served.get_mut(&machine).and_then(|served| served.viewers.get_mut(&viewer))
        else {
            return;
        };
        match looker.process.as_mut().map(Process::runs) {
            Some(true) => {}
            Some(false) => self.viewer_fell(machine, viewer),
            None if looker.broke.elapsed() > AGAIN && !looker.done => {
                if let Err(e) = self.start_viewer(machine, viewer) {
                    warn!("{e}: {}", e.source.as_ref().map_or(String::new(), |s| s.to_string()));
                }
            }
            None => {}
        }
    }

    /// A broker that cannot go on: everything of the display ends, and the planner serves anew.
    fn lose(&mut self, machine: MachineId, why: &str) {
        if self.served.contains_key(&machine) {
            warn!("the broker of the display of {machine} {why}; it is started again");
        }
        self.end(machine);
        (self.wake)();
    }

    fn end(&mut self, machine: MachineId) {
        let viewers: Vec<u8> =
            self.served.get(&machine).map_or(Vec::new(), |s| s.viewers.keys().copied().collect());
        for viewer in viewers {
            self.end_viewer(machine, viewer);
        }
        if let Some(served) = self.served.remove(&machine) {
            served.broker.end(&mut self.users);
        }
    }

    fn end_viewer(&mut self, machine: MachineId, viewer: u8) {
        self.viewer_broke(machine, viewer);
        let Some(served) = self.served.get_mut(&machine) else { return };
        if served.viewers.remove(&viewer).is_some() {
            let order = Order::RemoveViewer { viewer: ViewerId(viewer) };
            // The process is gone already: a broker that does not hear this loses nothing.
            let _lags = wire::send(&served.control, &order, None);
        }
    }

    fn publish(&self) {
        let observed = self.served.iter().map(|(machine, served)| {
            let asked = |(id, looker): (&u8, &Looker)| Some((*id, looker.asked.clone()?));
            let display = ObservedDisplay {
                attached: served.attached,
                viewers: served.viewers.iter().filter_map(asked).collect(),
                fingerprint: served.fingerprint.clone(),
            };
            (*machine, display)
        });
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = observed.collect();
    }
}
