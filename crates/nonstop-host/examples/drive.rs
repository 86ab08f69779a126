//! Drives libvirt and disks against the real thing and prints what it saw and how long it took.
//!
//! `drive IMAGES STATE [GUESTS [boot|starve|many]]`, as root, where libvirtd runs and nothing else of a lab does:
//! in a box of namespaces. Uses the image `micro`.

use nonstop_host::{
    accelerator::probe_accelerator,
    disks::Disks,
    domain::{agent_socket, test_socket},
    images::Images,
    libvirt::{LabMark, Libvirt, Listing},
};
use nonstop_model::{EnvironmentId, ImageManifest, MachineId, Power, Segment, Slot};
use nonstop_plan::{DesiredMachine, Disk, EndReason, SegmentHost};
use std::{
    error::Error,
    fs,
    io::{Read, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

type Tried = Result<(), Box<dyn Error>>;

static QUESTIONS: AtomicU32 = AtomicU32::new(40);

struct Lab {
    libvirt: Libvirt,
    disks: Disks,
    images: Images,
    agents: PathBuf,
    digest: String,
    image: ImageManifest,
    events: Mutex<mpsc::Receiver<Instant>>,
}

fn main() -> Tried {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [images, state, rest @ ..] = &args[..] else {
        return Err("usage: drive IMAGES STATE [GUESTS]".into());
    };
    let guests: u32 = rest.first().map_or(Ok(4), |n| n.parse())?;
    let images = Images::new(images.into());
    let name = "micro".parse()?;
    let (digest, _) = images.current(&name)?;
    let (dir, image) = timed("verify the image", || images.verified(&name, &digest))?;
    timed("verify it again", || images.verified(&name, &digest))?;
    let accelerator = timed("probe KVM", || Ok(probe_accelerator(&dir, &image)))?;
    println!("  {accelerator:?}");
    let (tell, events) = mpsc::channel();
    let wake = Box::new(move || {
        let _ = tell.send(Instant::now());
    });
    let agents = PathBuf::from("/run/nonstop-drive/agents");
    let libvirt = Libvirt::connect(LabMark::of("drive"), agents.clone(), accelerator, wake)?;
    let state = Path::new(state);
    let disks = Disks::new(state.join("machines"), state.join("quarantine"), 1 << 20);
    let lab = Lab { libvirt, disks, images, agents, digest, image, events: Mutex::new(events) };
    timed("observe, first", || lab.libvirt.observe())?;
    match rest.get(1).map(String::as_str) {
        Some("boot") => lab.boots()?,
        Some("starve") => lab.starves(state)?,
        Some("many") => lab.many(guests)?,
        _ => {
            lab.one_guest()?;
            lab.libvirtd_dies()?;
            lab.many(guests)?;
        }
    }
    println!("all well");
    Ok(())
}

fn timed<T>(
    what: &str,
    act: impl FnOnce() -> Result<T, nonstop_host::HostError>,
) -> Result<T, Box<dyn Error>> {
    let start = Instant::now();
    let result = act();
    println!("{:8.1} ms  {what}", start.elapsed().as_secs_f64() * 1000.0);
    result.map_err(|e| {
        let mut text = e.to_string();
        let mut source = Error::source(&e);
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        format!("{text} (help: {})", e.help).into()
    })
}

fn check(holds: bool, what: &str) -> Tried {
    if holds { Ok(()) } else { Err(what.into()) }
}

impl Lab {
    fn machine(&self, n: u32) -> (DesiredMachine, Segment) {
        let environment = EnvironmentId(n);
        let pool = "10.77.0.0/16".parse().expect("a network");
        let segment = Segment::new(environment, pool, Slot(n)).expect("in the pool");
        let machine = DesiredMachine {
            id: MachineId(n),
            environment,
            role: nonstop_model::MachineRole::Analyst,
            image: self.image.name.clone(),
            image_digest: self.digest.clone(),
            profile: Default::default(),
            uid: nonstop_model::lab::MACHINE_UIDS + n,
            address: Some(segment.machine(0)),
            networks: vec![nonstop_model::SegmentKind::Access],
            reach: Vec::new(),
            limits: Default::default(),
            memory_mib: 96,
            vcpus: 1,
            generation: 1,
            power: Power::On,
            force_off_at: jiff::Timestamp::UNIX_EPOCH,
            reset_pending: false,
            preparation: None,
            desktop: None,
            viewers: Vec::new(),
            origin: None,
            resume: None,
            frozen: Vec::new(),
            agent: true,
            drive: false,
            disc: None,
            seen_in: None,
        };
        (machine, segment)
    }

    fn start(&self, machine: &DesiredMachine) -> Result<(), nonstop_host::HostError> {
        let (dir, image) = self.images.verified(&machine.image, &machine.image_digest)?;
        let disk = self.disks.overlay(machine.id, machine.generation);
        self.libvirt.start_machine(machine, &image, &dir, &disk, None, None)
    }

    fn hosts(&self, machine: &DesiredMachine) -> Vec<SegmentHost> {
        let host = |address| SegmentHost { machine: machine.id, address };
        machine.address.into_iter().map(host).collect()
    }

    /// Observes until `seen` is content; how long it took since `since`.
    fn until(&self, what: &str, since: Instant, seen: impl Fn(&Listing) -> bool) -> Tried {
        loop {
            let listing = self.libvirt.observe();
            if listing.as_ref().is_ok_and(&seen) {
                println!("{:8.1} ms  until {what}", since.elapsed().as_secs_f64() * 1000.0);
                return Ok(());
            }
            if since.elapsed() > Duration::from_secs(20) {
                return Err(format!("waited for {what}; last saw {listing:?}").into());
            }
            let _ = self.events.lock().expect("no panic").recv_timeout(Duration::from_secs(5));
        }
    }

    fn one_guest(&self) -> Tried {
        let (m, segment) = self.machine(7);
        let (dir, image) = self.images.verified(&m.image, &m.image_digest)?;
        timed("create segment", || {
            self.libvirt.create_segment(&segment, &self.hosts(&m), &Default::default())
        })?;
        timed("create it again", || {
            self.libvirt.create_segment(&segment, &self.hosts(&m), &Default::default())
        })?;
        timed("create disk", || self.disks.create(&m, &image, &dir))?;
        timed("create it again", || self.disks.create(&m, &image, &dir))?;
        check(self.disks.observe()?.get(&(m.id, 1)) == Some(&Disk::Whole), "the disk is whole")?;
        timed("start", || self.start(&m))?;
        timed("start again", || self.start(&m))?;
        let mut other = m.clone();
        other.generation = 2;
        check(self.start(&other).is_err(), "another generation is refused")?;
        timed("observe", || self.libvirt.observe())?;
        let dnsmasq = format!("/run/libvirt/network/{}.pid", segment.name);
        let first = fs::read_to_string(&dnsmasq)?;
        Command::new("kill").args(["-9", first.trim()]).status()?;
        self.until("a killed dnsmasq is started again", Instant::now(), |_| {
            fs::read_to_string(&dnsmasq).is_ok_and(|now| now != first)
        })?;
        timed("observe, mark known", || self.libvirt.observe())?;
        let listing = self.libvirt.observe()?;
        println!("  {listing:?}");
        check(listing.machines[&m.id].generation == 1, "generation")?;
        check(listing.segments[&segment.name].whole, "segment is whole")?;
        for socket in [agent_socket(&self.agents, m.id), test_socket(&self.agents, m.id)] {
            match fs::metadata(&socket) {
                Ok(s) => println!("  {} {}:{} {:o}", socket.display(), s.uid(), s.gid(), s.mode()),
                Err(e) => println!("  {}: {e}", socket.display()),
            }
        }
        println!(
            "{:8.1} ms  until its shell answers",
            self.ask(&m, "ip -4 addr show dev eth0; ip route; nslookup example.org")?
        );

        let qemu = qemu_pid(&m)?;
        let killed = Instant::now();
        Command::new("kill").args(["-9", &qemu.to_string()]).status()?;
        self.until("the kill -9 of QEMU counts as a crash", killed, |l| {
            l.ended.get(&m.id) == Some(&EndReason::Crashed)
        })?;
        timed("start", || self.start(&m))?;
        self.ask(&m, "true")?;
        self.libvirt.observe()?;
        let off = Instant::now();
        timed("press the power button", || self.libvirt.shutdown_machine(m.id))?;
        self.until("the guest has powered itself off", off, |l| {
            l.ended.get(&m.id) == Some(&EndReason::Shutdown)
        })?;
        check(!agent_socket(&self.agents, m.id).exists(), "its socket is gone")?;
        timed("start", || self.start(&m))?;
        self.ask(&m, "true")?;
        timed("reset", || self.libvirt.reset_machine(m.id))?;
        self.ask(&m, "true")?;
        self.libvirt.observe()?;
        let qemu = qemu_pid(&m)?;
        let off = Instant::now();
        Command::new("kill").arg(qemu.to_string()).status()?;
        self.until("a QEMU told to end by the host counts as a crash", off, |l| {
            l.ended.get(&m.id) == Some(&EndReason::Crashed)
        })?;
        timed("start", || self.start(&m))?;
        self.libvirt.observe()?;
        timed("stop", || self.libvirt.stop_machine(m.id))?;
        timed("stop again", || self.libvirt.stop_machine(m.id))?;
        thread::sleep(Duration::from_millis(300));
        let listing = self.libvirt.observe()?;
        check(listing.ended.is_empty() && listing.machines.is_empty(), "stopped without a crash")?;
        timed("remove segment", || self.libvirt.remove_segment(&segment.name))?;
        timed("remove it again", || self.libvirt.remove_segment(&segment.name))?;
        timed("quarantine", || self.disks.quarantine(m.id, 1))?;
        check(self.disks.observe()?.is_empty(), "no disk is left")?;
        check(self.libvirt.observe()? == Listing::default(), "nothing is left")
    }

    /// Boots a guest again and again: how long until its shell answers.
    fn boots(&self) -> Tried {
        let (m, segment) = self.machine(5);
        let (dir, image) = self.images.verified(&m.image, &m.image_digest)?;
        self.libvirt.create_segment(&segment, &self.hosts(&m), &Default::default())?;
        self.disks.create(&m, &image, &dir)?;
        for _ in 0..5 {
            timed("start", || self.start(&m))?;
            println!(
                "{:8.1} ms  until its shell answers",
                self.ask(&m, "cat /proc/uptime; dmesg | grep -E 'Run /init'")?
            );
            timed("stop", || self.libvirt.stop_machine(m.id))?;
        }
        self.libvirt.remove_segment(&segment.name)?;
        self.disks.destroy(m.id, 1)?;
        Ok(())
    }

    /// Fills the file system of `state` while a guest writes; it holds a file `filler`.
    fn starves(&self, state: &Path) -> Tried {
        let (m, segment) = self.machine(6);
        let (dir, image) = self.images.verified(&m.image, &m.image_digest)?;
        self.libvirt.create_segment(&segment, &self.hosts(&m), &Default::default())?;
        self.disks.create(&m, &image, &dir)?;
        self.start(&m)?;
        thread::scope(|scope| {
            let write = "dd if=/dev/urandom of=/dev/vda bs=1M count=20 conv=fsync";
            let writer = scope.spawn(move || self.ask(&m, write).map_err(|e| e.to_string()));
            for _ in 0..15 {
                thread::sleep(Duration::from_secs(1));
                let seen = self.libvirt.observe();
                println!("  seen: {:?}", seen.map(|l| l.machines.len()));
            }
            check(!writer.is_finished(), "it cannot write")?;
            fs::remove_file(state.join("filler"))?;
            let freed = Instant::now();
            while !writer.is_finished() && freed.elapsed() < Duration::from_secs(30) {
                thread::sleep(Duration::from_millis(500));
                self.libvirt.observe()?;
            }
            check(writer.join().is_ok_and(|done| done.is_ok()), "it wrote in the end")
        })?;
        let m = self.machine(6).0;
        self.libvirt.stop_machine(m.id)?;
        self.libvirt.remove_segment(&segment.name)?;
        Ok(self.disks.destroy(m.id, 1)?)
    }

    fn libvirtd_dies(&self) -> Tried {
        let (m, segment) = self.machine(9);
        let (dir, image) = self.images.verified(&m.image, &m.image_digest)?;
        self.libvirt.create_segment(&segment, &self.hosts(&m), &Default::default())?;
        self.disks.create(&m, &image, &dir)?;
        self.start(&m)?;
        self.ask(&m, "true")?;
        self.libvirt.observe()?;
        println!("libvirtd is killed");
        kill_libvirtd()?;
        let e = timed("observe without it", || self.libvirt.observe()).expect_err("it is dead");
        println!("  {e}");
        let e = timed("stop without it", || self.libvirt.stop_machine(m.id)).expect_err("dead");
        println!("  {e}");
        start_libvirtd()?;
        let since = Instant::now();
        self.until("the guest is seen again", since, |l| l.machines.contains_key(&m.id))?;
        check(self.ask(&m, "true").is_ok(), "the guest ran on")?;
        println!("libvirtd is killed, then QEMU, then libvirtd comes back");
        kill_libvirtd()?;
        Command::new("kill").args(["-9", &qemu_pid(&m)?.to_string()]).status()?;
        start_libvirtd()?;
        self.until("the crash is told", Instant::now(), |l| {
            l.ended.get(&m.id) == Some(&EndReason::Crashed)
        })?;
        self.start(&m)?;
        self.ask(&m, "true")?;
        self.libvirt.observe()?;
        println!("libvirtd is killed, the guest powers itself off, libvirtd comes back");
        kill_libvirtd()?;
        let mut shell = UnixStream::connect(test_socket(&self.agents, m.id))?;
        writeln!(shell, "poweroff -f")?;
        thread::sleep(Duration::from_millis(1500));
        start_libvirtd()?;
        let since = Instant::now();
        self.until("it is told how it ended", since, |l| {
            if !l.ended.is_empty() {
                println!("  {:?}", l.ended);
            }
            l.ended.contains_key(&m.id)
        })?;
        println!("libvirtd is killed at some instant of starts and stops");
        for delay in (0..400).step_by(40) {
            let killer = thread::spawn(move || {
                thread::sleep(Duration::from_millis(delay));
                let _ = kill_libvirtd();
                thread::sleep(Duration::from_millis(100));
                let _ = start_libvirtd();
            });
            let work = || -> Result<(), nonstop_host::HostError> {
                self.libvirt.remove_segment(&segment.name)?;
                self.libvirt.create_segment(&segment, &self.hosts(&m), &Default::default())?;
                self.start(&m)?;
                self.libvirt.stop_machine(m.id)
            };
            let began = Instant::now();
            let mut failed = 0;
            loop {
                match work() {
                    Ok(()) => break,
                    Err(e) => {
                        failed += 1;
                        if began.elapsed() > Duration::from_secs(15) {
                            return Err(format!("it does not heal: {e:?}").into());
                        }
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
            killer.join().expect("no panic");
            println!(
                "  after {delay} ms: healed after {failed} failures, {:.1} s",
                began.elapsed().as_secs_f64()
            );
        }
        println!("libvirtd stands still");
        let libvirtd = libvirtd_pid()?;
        Command::new("kill").args(["-STOP", &libvirtd]).status()?;
        let e = timed("observe", || self.libvirt.observe()).expect_err("it does not answer");
        println!("  {e}");
        let e = timed("observe again", || self.libvirt.observe()).expect_err("nor now");
        println!("  {e}");
        Command::new("kill").args(["-CONT", &libvirtd]).status()?;
        self.until("it answers again", Instant::now(), |_| true)?;
        self.start(&m)?;
        self.libvirt.stop_machine(m.id)?;
        self.libvirt.remove_segment(&segment.name)?;
        self.disks.destroy(m.id, 1)?;
        check(self.libvirt.observe()?.machines.is_empty(), "nothing is left")
    }

    fn many(&self, guests: u32) -> Tried {
        let start = Instant::now();
        let machines: Vec<_> = (100..100 + guests).map(|n| self.machine(n)).collect();
        let queue = Mutex::new(machines.iter());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let Some((m, segment)) = queue.lock().expect("no panic").next() else {
                            return;
                        };
                        let made = || -> Result<(), nonstop_host::HostError> {
                            let (dir, image) = self.images.verified(&m.image, &m.image_digest)?;
                            self.libvirt.create_segment(
                                segment,
                                &self.hosts(m),
                                &Default::default(),
                            )?;
                            self.disks.create(m, &image, &dir)?;
                            self.start(m)
                        };
                        made().expect("made");
                    }
                });
            }
        });
        println!("{:8.1} ms  {guests} guests started", start.elapsed().as_secs_f64() * 1000.0);
        for _ in 0..3 {
            timed("observe them", || self.libvirt.observe())?;
        }
        let listing = self.libvirt.observe()?;
        check(listing.machines.len() == guests as usize, "all run")?;
        let start = Instant::now();
        thread::scope(|scope| {
            for (m, segment) in &machines {
                scope.spawn(move || {
                    self.libvirt.stop_machine(m.id).expect("stopped");
                    self.libvirt.remove_segment(&segment.name).expect("removed");
                    self.disks.destroy(m.id, 1).expect("destroyed");
                });
            }
        });
        println!("{:8.1} ms  {guests} guests removed", start.elapsed().as_secs_f64() * 1000.0);
        check(self.libvirt.observe()? == Listing::default(), "nothing is left")?;
        check(self.disks.observe()?.is_empty(), "no disk is left")
    }

    /// Waits until the shell in `machine` has done `command`; milliseconds it took.
    fn ask(&self, machine: &DesiredMachine, command: &str) -> Result<f64, Box<dyn Error>> {
        let start = Instant::now();
        let mut stream = UnixStream::connect(test_socket(&self.agents, machine.id))?;
        stream.set_read_timeout(Some(Duration::from_millis(250)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        // Answers to earlier questions may still be in the guest's channel.
        let number = QUESTIONS.fetch_add(2, Ordering::Relaxed);
        let answer = format!("done-{}", number + 1);
        let mut heard = String::new();
        while start.elapsed() < Duration::from_secs(30) {
            writeln!(stream, "{command}; echo done-$(({number}+1))")?;
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                heard += &String::from_utf8_lossy(&buffer[..n]);
                if heard.contains(&answer) {
                    if command != "true" {
                        println!("  {}", heard.trim().replace('\n', "\n  "));
                    }
                    return Ok(start.elapsed().as_secs_f64() * 1000.0);
                }
            }
        }
        Err(format!("no answer from {}: {heard:?}", machine.id).into())
    }
}

fn qemu_pid(machine: &DesiredMachine) -> Result<u32, Box<dyn Error>> {
    let file = format!("/run/libvirt/qemu/{}.pid", nonstop_host::libvirt::domain_name(machine.id));
    Ok(fs::read_to_string(file)?.trim().parse()?)
}

fn libvirtd_pid() -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string("/run/libvirtd.pid")?.trim().to_owned())
}

fn kill_libvirtd() -> Tried {
    let pid = libvirtd_pid()?;
    Command::new("kill").args(["-9", &pid]).status()?;
    while Path::new(&format!("/proc/{pid}/exe")).exists() {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn start_libvirtd() -> Tried {
    let mut daemon =
        Command::new("libvirtd").stderr(fs::File::create("/run/libvirtd.log")?).spawn()?;
    thread::spawn(move || daemon.wait());
    Ok(())
}
