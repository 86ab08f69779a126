//! libvirt: guests and networks of this lab, listed, made and ended.
//!
//! Everything is transient: what ends is gone, and after a power cut nothing has to be undefined.
//! The call that makes a thing also marks it ([`LabMark`]). libvirtd may go away and come back at
//! any time: calls then fail with a clear error and work again by themselves.

mod drive;
mod ends;
mod ffi;
mod link;
mod mark;
mod memory;
mod mend;
mod pool;
mod segment;
mod watch;

pub use mark::{LabMark, domain_name};
pub use memory::Kept;
pub(crate) use memory::is_whole;
pub use segment::{network_xml, switches};
pub use watch::Wake;

use crate::{
    HostError,
    access::open_to_others,
    domain::{Accelerator, Guest, Uefi, agent_socket, card_socket, domain_xml, test_socket},
};
use nonstop_model::{ImageManifest, InjectionId, MachineId, Segment, SegmentKind, SegmentName};
use nonstop_plan::{DesiredMachine, EndReason, ObservedMachine, ObservedSegment, SegmentHost};
use pool::{Failure, Link, Pool};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;
use virt::{
    domain::Domain,
    error::{Error, ErrorNumber},
    network::Network,
    sys,
};
use watch::Watch;

/// libvirt of this host, for one lab.
pub struct Libvirt {
    lab: LabMark,
    agent_dir: PathBuf,
    accelerator: Accelerator,
    /// For listings, which must not wait behind a guest that takes seconds to end.
    listing: Arc<Pool>,
    /// For everything else; one connection a call.
    work: Arc<Pool>,
    watch: Arc<Watch>,
    marks: Mutex<Marks>,
    starting: Mutex<Starting>,
    mended: Mutex<Option<Instant>>,
}

/// What a listing found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Bridges.
    pub segments: BTreeMap<SegmentName, ObservedSegment>,
    /// Running guests.
    pub machines: BTreeMap<MachineId, ObservedMachine>,
    /// Those of them whose processors stand still, but for a full disk.
    pub paused: BTreeSet<MachineId>,
    /// What lies in the drives of those that have one.
    pub drives: BTreeMap<MachineId, Option<InjectionId>>,
    /// How guests ended since the last listing; told once.
    pub ended: BTreeMap<MachineId, EndReason>,
}

type Running = BTreeMap<MachineId, ObservedMachine>;
type Drives = BTreeMap<MachineId, Option<InjectionId>>;

/// Marks that were read before, of guests by UUID and libvirt's number of this run of theirs.
#[derive(Default)]
struct Marks {
    connection: u64,
    /// And whether it has a drive, which does not change while it runs.
    known: HashMap<(Uuid, u32), (ObservedMachine, Option<bool>)>,
}

/// Guests that are being started, and how many starts were begun.
#[derive(Default)]
struct Starting {
    begun: u64,
    now: BTreeSet<MachineId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Libvirt {
    /// libvirt at `qemu:///system` for the lab marked `lab`; connects when it is first needed.
    ///
    /// `agent_dir` will hold the sockets of guests' channels: it is made, for root alone. `wake`
    /// is called from another thread at every event in the life of a guest of this lab and
    /// whenever libvirtd went or came. Errors: the folder cannot be made.
    pub fn connect(
        lab: LabMark,
        agent_dir: PathBuf,
        accelerator: Accelerator,
        wake: Wake,
    ) -> Result<Libvirt, HostError> {
        let doing = || format!("make the folder {} for guests' channels", agent_dir.display());
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&agent_dir)
            .map_err(|e| HostError::new(doing(), e))?;
        fs::set_permissions(&agent_dir, fs::Permissions::from_mode(0o700))
            .map_err(|e| HostError::new(doing(), e))?;
        let start =
            |e: &dyn std::fmt::Display| HostError::new("start libvirt's event loop", e.to_string());
        let listing = Pool::new(URI).map_err(|e| start(&e))?;
        let work = Pool::new(URI).map_err(|e| start(&e))?;
        let watch = Watch::start(lab, &work, wake).map_err(|e| start(&e))?;
        Ok(Libvirt {
            lab,
            agent_dir,
            accelerator,
            listing,
            work,
            watch,
            marks: Mutex::default(),
            starting: Mutex::default(),
            mended: Mutex::default(),
        })
    }

    /// Lists this lab's segments and running guests, and tells how guests ended since the last
    /// call. Things of others are not seen. What needs no decision is mended on the way, now and
    /// then: guests paused by a full disk, a dnsmasq that died.
    ///
    /// Errors: libvirtd cannot be reached; the ends are then told by a later call.
    pub fn observe(&self) -> Result<Listing, HostError> {
        let sockets = self.sockets();
        let doing = || "list guests and networks".to_string();
        let (machines, drives, paused, segments) = self
            .listing
            .with(|link| {
                let (machines, drives) = self.list_machines(link)?;
                Ok((machines, drives, self.list_paused(link)?, self.list_segments(link)?))
            })
            .map_err(|e| explain(doing(), e))?;
        self.watch.wait_until_listening(LISTENING);
        let running: BTreeSet<MachineId> = machines.keys().copied().collect();
        self.remove_stale(sockets, &running);
        let ended = self.watch.take(running);
        self.mend();
        Ok(Listing { segments, machines, drives, paused, ended })
    }

    fn mend(&self) {
        {
            let mut mended = lock(&self.mended);
            if mended.is_some_and(|at| at.elapsed() < MENDING) {
                return;
            }
            *mended = Some(Instant::now());
        }
        if let Err(e) = self.work.with(|link| mend::mend(&self.lab, link)) {
            tracing::warn!("mend guests and networks: {e}");
        }
    }

    fn list_machines(&self, link: &Link) -> Result<(Running, Drives), Error> {
        let mut known = {
            let mut marks = lock(&self.marks);
            let new = std::mem::take(&mut *marks);
            // libvirt's numbers begin anew with it.
            if new.connection == link.number { new.known } else { HashMap::new() }
        };
        let (mut machines, mut drives) = (Running::new(), Drives::new());
        let mut seen = HashMap::new();
        for domain in link.connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
            let uuid = domain.uuid()?;
            let Some(machine) = self.lab.machine_of(&domain.name()?, uuid) else { continue };
            let Some(run) = domain.id() else { continue };
            let mark = match known.remove(&(uuid, run)) {
                Some(mark) => mark,
                None => match self.read_mark(machine, &domain)? {
                    Some(mark) => (mark, None),
                    None => continue,
                },
            };
            let (mark, has_drive) = mark;
            let in_drive = if has_drive == Some(false) { None } else { what_is_in(&domain)? };
            if let Some(disc) = in_drive {
                drives.insert(machine, disc);
            }
            seen.insert((uuid, run), (mark, Some(in_drive.is_some())));
            machines.insert(machine, mark);
        }
        *lock(&self.marks) = Marks { connection: link.number, known: seen };
        Ok((machines, drives))
    }

    /// Guests that stand still because somebody wanted it so, or were kept or restored so.
    fn list_paused(&self, link: &Link) -> Result<BTreeSet<MachineId>, Error> {
        let mut paused = BTreeSet::new();
        for domain in link.connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_PAUSED)? {
            let Some(machine) = self.lab.machine_of(&domain.name()?, domain.uuid()?) else {
                continue;
            };
            match domain.state() {
                Ok((_, reason)) if memory::is_by_will(&reason) => {
                    paused.insert(machine);
                }
                Err(e) if !is(&e, &[ErrorNumber::NoDomain]) => return Err(e),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(paused)
    }

    /// The mark on a guest; None for one that has just gone.
    fn read_mark(
        &self,
        machine: MachineId,
        domain: &Domain,
    ) -> Result<Option<ObservedMachine>, Error> {
        match domain.metadata(METADATA_ELEMENT, Some(mark::NAMESPACE), 0) {
            Ok(element) => Ok(self.lab.read(machine, &element)),
            Err(e) if is(&e, &[ErrorNumber::NoDomain, ErrorNumber::NoDomainMetadata]) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list_segments(&self, link: &Link) -> Result<BTreeMap<SegmentName, ObservedSegment>, Error> {
        let access = |name: &SegmentName| name.kind() == SegmentKind::Access;
        let bridges = segment::bridges().into_iter().filter(access);
        let links = link::list(&self.lab).into_iter();
        let mut segments: BTreeMap<SegmentName, ObservedSegment> =
            links.map(|(name, whole)| (name, ObservedSegment { whole })).collect();
        let mut foreign = BTreeSet::new();
        for (flag, active) in [
            (sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE, true),
            (sys::VIR_CONNECT_LIST_NETWORKS_INACTIVE, false),
        ] {
            for network in link.connect.list_all_networks(flag)? {
                let name = network.name()?;
                match self.lab.segment_of(&name, network.uuid()?) {
                    Some(segment) => {
                        let whole = active && segment::is_up(&segment);
                        segments.insert(segment, ObservedSegment { whole });
                    }
                    None => {
                        foreign.insert(name);
                    }
                }
            }
        }
        for bridge in bridges {
            if !foreign.contains(bridge.as_str()) {
                segments.entry(bridge).or_insert(ObservedSegment { whole: false });
            }
        }
        Ok(segments)
    }

    /// Makes `segment` exist: its bridge is up, with DHCP for `hosts` and
    /// DNS for `names` alone, and from it is routed if one of them lies elsewhere. Repeatable.
    pub fn create_segment(
        &self,
        segment: &Segment,
        hosts: &[SegmentHost],
        names: &BTreeMap<String, Ipv4Addr>,
    ) -> Result<(), HostError> {
        let name = &segment.name;
        let doing = || format!("create segment {name} ({})", segment.net);
        let created = self.work.with(|link| match self.network(link, name)? {
            Some(network) if network.is_active()? => Ok(Ok(())),
            Some(network) => network.create().map(Ok),
            None => {
                if let Err(e) = segment::remove_bare(name) {
                    return Ok(Err(e));
                }
                let xml = segment::network_xml(&self.lab, segment, hosts, names);
                link.connect.create_network_xml(&xml).map(|_| Ok(()))
            }
        });
        created.map_err(|e| explain(doing(), e))?.map_err(|e| HostError::new(doing(), e))?;
        let routed = names.values().any(|address| *address != segment.host());
        segment::harden(name, routed).map_err(|e| HostError::new(doing(), e))
    }

    /// Makes the link `segment` exist: a bridge that is up and has nothing of the host on it.
    /// Repeatable.
    pub fn create_link(&self, segment: &SegmentName) -> Result<(), HostError> {
        link::create(&self.lab, segment)
            .map_err(|e| HostError::new(format!("create link {segment}"), e))
    }

    /// Makes `segment` not exist. Repeatable.
    pub fn remove_segment(&self, segment: &SegmentName) -> Result<(), HostError> {
        let doing = || format!("remove segment {segment}");
        if segment.kind() == SegmentKind::Link {
            return link::remove(&self.lab, segment).map_err(|e| HostError::new(doing(), e));
        }
        let removed = self.work.with(|link| {
            let Some(network) = self.network(link, segment)? else { return Ok(()) };
            if network.is_active()? {
                network.destroy()?;
            }
            // One that somebody made persistent is still defined.
            match network.undefine() {
                Err(e) if !is(&e, &[ErrorNumber::NoNetwork, ErrorNumber::OperationInvalid]) => {
                    Err(e)
                }
                _ => Ok(()),
            }
        });
        removed.map_err(|e| explain(doing(), e))?;
        segment::remove_bare(segment).map_err(|e| HostError::new(doing(), e))
    }

    /// Whether a guest of `machine` runs, of whatever generation.
    pub fn runs(&self, machine: MachineId) -> Result<bool, HostError> {
        let found = self.work.with(|link| Ok(self.domain(link, machine)?.is_some()));
        found.map_err(|e| explain(format!("look for the guest of {machine}"), e))
    }

    /// Starts the guest of `machine`. Repeatable; one that runs on the same generation already
    /// is left alone.
    ///
    /// Errors: it runs on another generation; libvirt or QEMU refuses.
    pub fn start_machine(
        &self,
        machine: &DesiredMachine,
        image: &ImageManifest,
        image_dir: &Path,
        disk: &Path,
        disc: Option<&Path>,
        uefi: Option<Uefi<'_>>,
    ) -> Result<(), HostError> {
        let doing = || format!("start {}", machine.id);
        let guest = Guest {
            lab: &self.lab,
            machine,
            image,
            image_dir,
            disk,
            disc,
            uefi,
            agent_dir: &self.agent_dir,
            accelerator: &self.accelerator,
        };
        for file in image.files() {
            let path = image_dir.join(&file.file);
            open_to_others(&path).map_err(|closed| closed.while_doing(doing()))?;
        }
        let xml = domain_xml(&guest);
        let _starting = StartingGuard::new(&self.starting, machine.id);
        self.watch.wait_until_listening(LISTENING);
        let runs = self.work.with(|link| {
            if let Some(domain) = self.domain(link, machine.id)?
                && let Some(mark) = self.read_mark(machine.id, &domain)?
            {
                return Ok(Some(mark.generation));
            }
            link.connect.create_domain_xml(&xml, sys::VIR_DOMAIN_NONE)?;
            Ok(None)
        });
        match runs.map_err(|e| explain(doing(), e))? {
            Some(generation) if generation != machine.generation => Err(HostError::new(
                doing(),
                format!(
                    "its guest still runs on generation {generation}, not {}",
                    machine.generation
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the guest of `machine` at once. Repeatable.
    pub fn stop_machine(&self, machine: MachineId) -> Result<(), HostError> {
        let stopped = self.work.with(|link| {
            let Some(domain) = self.domain(link, machine)? else { return Ok(()) };
            self.watch.ends(|ends| ends.destroying(machine));
            let destroyed = domain.destroy();
            if destroyed.is_err() {
                self.watch.ends(|ends| ends.not_destroyed(machine));
            }
            absent_is_fine(destroyed)
        });
        stopped.map_err(|e| explain(format!("stop {machine}"), e))?;
        self.watch.ends(|ends| ends.stopped(machine));
        self.remove_sockets(machine);
        Ok(())
    }

    /// Presses the power button of `machine`; its guest may take its time, or not care.
    pub fn shutdown_machine(&self, machine: MachineId) -> Result<(), HostError> {
        let asked = self.work.with(|link| match self.domain(link, machine)? {
            None => Ok(()),
            Some(domain) => {
                let button = sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN;
                absent_is_fine(domain.shutdown_flags(button))
            }
        });
        asked.map_err(|e| explain(format!("ask {machine} to power off"), e))
    }

    /// Presses the reset button of `machine`; nothing happens to one that does not run.
    pub fn reset_machine(&self, machine: MachineId) -> Result<(), HostError> {
        let reset = self.work.with(|link| match self.domain(link, machine)? {
            None => Ok(()),
            Some(domain) => absent_is_fine(domain.reset().map(|_| ())),
        });
        reset.map_err(|e| explain(format!("reset {machine}"), e))
    }

    /// A connection to the display of `machine`'s guest; None if it does not run.
    ///
    /// A second one takes the input from the first, whose listener must be dropped.
    pub fn open_display(&self, machine: MachineId) -> Result<Option<OwnedFd>, HostError> {
        let opened = self.work.with(|link| match self.domain(link, machine)? {
            None => Ok(None),
            Some(domain) => {
                let (ours, theirs) = match UnixStream::pair() {
                    Ok(pair) => pair,
                    Err(e) => return Ok(Some(Err(e))),
                };
                let flags = sys::VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH;
                match domain.open_graphics(0, theirs.as_raw_fd(), flags) {
                    Ok(_) => Ok(Some(Ok(OwnedFd::from(ours)))),
                    Err(e) if is(&e, &[ErrorNumber::NoDomain, ErrorNumber::OperationInvalid]) => {
                        Ok(None)
                    }
                    Err(e) => Err(e),
                }
            }
        });
        let doing = || format!("open the display of {machine}");
        opened.map_err(|e| explain(doing(), e))?.transpose().map_err(|e| HostError::new(doing(), e))
    }

    fn domain(&self, link: &Link, machine: MachineId) -> Result<Option<Domain>, Error> {
        let found = link.connect.lookup_domain_by_uuid(self.lab.machine(machine));
        none_if(found, ErrorNumber::NoDomain)
    }

    fn network(&self, link: &Link, segment: &SegmentName) -> Result<Option<Network>, Error> {
        let found = link.connect.lookup_network_by_uuid(self.lab.segment(segment));
        none_if(found, ErrorNumber::NoNetwork)
    }

    /// Machines that have sockets, and how many starts had begun before the look.
    fn sockets(&self) -> (u64, Vec<(MachineId, PathBuf)>) {
        let begun = lock(&self.starting).begun;
        let Ok(entries) = fs::read_dir(&self.agent_dir) else { return (begun, Vec::new()) };
        let of = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(".sock")?;
            let machine = name.strip_suffix(".test").unwrap_or(name).parse().ok()?;
            Some((machine, path))
        };
        (begun, entries.flatten().filter_map(|e| of(e.path())).collect())
    }

    fn remove_sockets(&self, machine: MachineId) {
        let of_cards =
            (0..SegmentKind::ALL.len()).map(|n| card_socket(&self.agent_dir, machine, n));
        for socket in
            [agent_socket(&self.agent_dir, machine), test_socket(&self.agent_dir, machine)]
                .into_iter()
                .chain(of_cards)
        {
            let _ = fs::remove_file(socket);
        }
    }

    /// Removes the sockets of guests that have ended by themselves: QEMU may not.
    fn remove_stale(
        &self,
        (begun, sockets): (u64, Vec<(MachineId, PathBuf)>),
        running: &BTreeSet<MachineId>,
    ) {
        // Held while removing, so that no start makes its sockets meanwhile. One that began
        // since the look may have made some already and be done: the next call sees to the rest.
        let starting = lock(&self.starting);
        if starting.begun != begun || !starting.now.is_empty() {
            return;
        }
        for (machine, socket) in sockets {
            if !running.contains(&machine) {
                let _ = fs::remove_file(socket);
            }
        }
    }
}

/// What lies in the drive of a guest; None if it has none, or has just gone.
fn what_is_in(domain: &Domain) -> Result<Option<Option<InjectionId>>, Error> {
    match domain.xml_desc(0) {
        Ok(xml) => Ok(drive::in_drive(&xml)),
        Err(e) if is(&e, &[ErrorNumber::NoDomain]) => Ok(None),
        Err(e) => Err(e),
    }
}

const URI: &str = "qemu:///system";

/// How long to wait for the connection of events where there is none.
const LISTENING: Duration = Duration::from_secs(1);

/// How often to look for what mends itself: a guest whose disk is still full pauses at once again.
const MENDING: Duration = Duration::from_secs(5);

const METADATA_ELEMENT: i32 = sys::VIR_DOMAIN_METADATA_ELEMENT as i32;

/// A machine that is being started, for as long as this is held.
struct StartingGuard<'a> {
    starting: &'a Mutex<Starting>,
    machine: MachineId,
}

impl<'a> StartingGuard<'a> {
    fn new(starting: &'a Mutex<Starting>, machine: MachineId) -> Self {
        let mut state = lock(starting);
        state.begun += 1;
        state.now.insert(machine);
        drop(state);
        StartingGuard { starting, machine }
    }
}

impl Drop for StartingGuard<'_> {
    fn drop(&mut self) {
        lock(self.starting).now.remove(&self.machine);
    }
}

fn is(error: &Error, numbers: &[ErrorNumber]) -> bool {
    error.code().is_known_and(|code| numbers.contains(&code))
}

fn none_if<T>(found: Result<T, Error>, number: ErrorNumber) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if is(&e, &[number]) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A transient guest that ended between two calls is no error: it is gone, or not running.
fn absent_is_fine(result: Result<(), Error>) -> Result<(), Error> {
    let gone = [ErrorNumber::NoDomain, ErrorNumber::OperationInvalid];
    match result {
        Err(e) if is(&e, &gone) => Ok(()),
        other => other,
    }
}

fn explain(doing: String, failure: Failure) -> HostError {
    let help = match &failure {
        Failure::Unreachable { .. } => {
            "is libvirtd running? start it with `systemctl start libvirtd`, then see `journalctl -u libvirtd`; guests keep running meanwhile"
        }
        Failure::Refused(_) => "",
    };
    HostError::new(doing, failure).help(help)
}
