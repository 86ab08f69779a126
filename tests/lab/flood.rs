//! Malware that does its worst to the host that it runs on, beside somebody else's desktop: it spins
//! its processors, writes its disk full again and again, and floods its link.

use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    place::wait_for,
    rdp::{Desktop, Session},
    screen::Eye,
    ssh::{Forward, Tunnel},
    turn::Alone,
};
use nonstop_tests::{Environment, GuestShell, World};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

/// Four times as many processors as the smallest host has, so that without limits the flood would
/// get nearly all of it. Its image is the one of `debuggee`, with a shell for the test.
const PAIR: &str = "version: 1\ntitle: pair\nrdp: none\nmachines:\n\
    - {role: debugger, image: micro, memory_mib: 96, networks: [access, link]}\n\
    - {role: debuggee, image: screen, memory_mib: 256, vcpus: 8, networks: [link]}\n";

/// Draws most of its screen light and dark in turn: a frame each.
const DRAW: &str = r#"
exec >/dev/tty1 2>/dev/null
mkfifo /run/never; exec 3<>/run/never
line=$(printf '%159s' ''); page=
for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do page="$page$line\r\n"; done
printf '\033[?25l\033[2J'
while :; do
    printf "\033[H\033[7m$page\033[0m"; read -t 0.04 -u 3
    printf "\033[H$page"; read -t 0.04 -u 3
done
"#;

/// A pixel of the fifth line of that.
const PIXEL: (u16, u16) = (100, 70);

/// Sends frames of one kind as fast as the machine can: its own MAC, then the debugger's.
const SEND: &str = r#"
my ($kind, $own, $to) = @ARGV;
my ($mac, $other) = map { pack 'H12', s/://gr } $own, $to;
socket(my $s, 17, 3, 0x0300) or die "no socket: $!";
open my $f, '<', '/sys/class/net/eth0/ifindex'; my $index = <$f> + 0;
my $at = pack 'S n l x2 C C x8', 17, 3, $index, 0, 6;
sub sum { my $s = unpack '%32n*', $_[0] . "\0"; $s = ($s >> 16) + ($s & 0xffff) while $s >> 16; 0xffff & ~$s }
sub ip { my ($from, $to, $kind, $what) = @_;
    my $h = pack 'C C n n n C C n a4 a4', 0x45, 0, 20 + length $what, rand 65535, 0, 64, $kind, 0, $from, $to;
    substr $h, 10, 2, pack 'n', sum($h);
    "\x08\x00$h$what" }
my ($me, $debugger, $all) = map { pack 'C4', split /\./ } '192.168.99.2', '192.168.99.1', '255.255.255.255';
my %make = (
    syn => sub { my $t = pack 'n n N N C C n n n', 1024 + rand 60000, 80, rand 2**32, 0, 0x50, 2, 64240, 0, 0;
        my $from = pack 'C4', 192, 168, 99, 2 + rand 250;
        substr $t, 16, 2, pack 'n', sum($from . $debugger . pack('n n', 6, length $t) . $t);
        $other . $mac . ip($from, $debugger, 6, $t) },
    arp => sub { ("\xff" x 6) . $mac . pack 'n n n C C n a6 a4 x6 C4',
        0x806, 1, 0x800, 6, 4, 1, $mac, $me, 10, 77, rand 256, rand 256 },
    dhcp => sub { my $d = pack 'C4 N n n x16 a6 x10 x192 N C3 C', 1, 1, 6, 0, rand 2**32, 0, 0x8000,
            pack('C6', 2, map { rand 256 } 1 .. 5), 0x63825363, 53, 1, 1, 255;
        ("\xff" x 6) . $mac . ip("\0\0\0\0", $all, 17, pack('n n n n', 68, 67, 8 + length $d, 0) . $d) },
);
my @frames = map { $make{$kind}->() } 1 .. 100;
while (1) { send $s, $_, 0, $at for @frames }
"#;

/// Everything at once; each part notes its process so that it can be ended. The disk is full already,
/// and written over again and again.
const FLOOD: &str = r#"
note() { echo $! >>/run/flooding; }
for kind in syn arp dhcp; do perl /run/send $kind $1 $2 >/run/said.$kind 2>&1 & note; done
sleep 1
(while :; do dd if=/dev/zero of=/full bs=1M conv=notrunc; done >/dev/null 2>&1) & note
for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & note; done
"#;

const END: &str = "kill -9 $(cat /run/flooding); pkill -9 -x dd; rm /run/flooding; true";

/// How long frames are counted at once.
const WATCHED: Duration = Duration::from_secs(10);

/// Something else of the host may take the processors for a while: the best of these counts.
const ROUNDS: usize = 3;

/// Frames a second that are a flood: several times what a machine may send to everybody.
const FLOODED: u64 = 300;

/// What is to be left of the frame rate.
const ENOUGH: f64 = 0.7;

/// Puts `text` into a file of the guest.
fn put(shell: &mut GuestShell, path: &str, text: &str) -> Result<()> {
    for (n, part) in text.lines().enumerate() {
        let quoted = part.replace('\'', r"'\''");
        let how = if n == 0 { ">" } else { ">>" };
        shell.run(&format!("printf '%s\\n' '{quoted}' {how}{path}"))?;
    }
    Ok(())
}

/// Bob's client, at his desktop.
struct Looking {
    eye: Eye,
    session: Session,
    _tunnel: Tunnel,
}

impl Looking {
    fn at(world: &World, environment: &Environment, pc: &nonstop_testkit::pc::Pc) -> Result<Self> {
        let shown = world.lab.cli(&["environment", "show", &environment.id])?;
        let desktop = &shown["machines"][0]["desktop"];
        let address = desktop["address"].as_str().context("no address")?;
        let forward = Forward { port: 4001, target: format!("{address}:{}", desktop["port"]) };
        let tunnel = pc.tunnel(&world.host_key()?, &[forward])?;
        let fingerprint = desktop["fingerprint"].as_str();
        let desktop = Desktop { port: 4001, fingerprint, user: "researcher", password: "" };
        let session = Session::open(&pc.place(), &desktop, &world.lab.dir().join("look"))?;
        Ok(Looking { eye: session.screen().eye()?, session, _tunnel: tunnel })
    }

    /// Whether the drawn part of the client's screen is light now.
    fn is_light(&self) -> Result<bool> {
        Ok(self.eye.part(PIXEL, 1)?[0] > 90)
    }

    /// Frames a second that the client shows.
    fn rate(&mut self) -> Result<f64> {
        if let Some(ended) = self.session.ended()? {
            bail!("the client ended: {ended}");
        }
        let (mut frames, mut last) = (0, self.is_light()?);
        let began = Instant::now();
        while began.elapsed() < WATCHED {
            thread::sleep(Duration::from_millis(2));
            let now = self.is_light()?;
            frames += i32::from(now != last);
            last = now;
        }
        Ok(f64::from(frames) / began.elapsed().as_secs_f64())
    }
}

/// The machine that floods, and what the host counts of it.
struct Flood<'a> {
    world: &'a World,
    /// Its number, and that of its debugger.
    machines: (u32, u32),
    /// The bridge of their link.
    link: String,
    shell: GuestShell,
    macs: String,
}

/// What the host has counted of it since it was started.
#[derive(Debug, Clone, Copy)]
struct Counted {
    when: Instant,
    /// Frames that it sent, and that its debugger's card took.
    sent: u64,
    got: u64,
    /// Frames for everybody that were passed on: the bridge hears these too.
    for_all: u64,
    /// How long its QEMU has been on a processor, in seconds.
    processor: f64,
}

impl<'a> Flood<'a> {
    /// A pair of alice's, of which the debuggee has everything ready.
    fn new(world: &'a World) -> Result<Self> {
        let id = world.grant("alice", "pair")?;
        let shown = world.in_state(&id, "ready")?;
        let number = |role: &str| -> Result<u32> {
            let machines = shown["machines"].as_array().context("no machines")?;
            let machine = machines.iter().find(|m| m["role"] == role).context("no such role")?;
            Ok(machine["id"].as_str().context("no id")?[1..].parse()?)
        };
        let machines = (number("debuggee")?, number("debugger")?);
        let mut debugger = GuestShell::connect(&world.lab, &format!("m{}", machines.1))?;
        debugger.run("ip addr add 192.168.99.1/24 dev eth1; (nc -ll -p 80 -e cat &)")?;
        let mut shell = GuestShell::connect(&world.lab, &format!("m{}", machines.0))?;
        let mac = |shell: &mut GuestShell, card: &str| {
            shell.run(&format!("cat /sys/class/net/{card}/address"))
        };
        let macs = format!("{} {}", mac(&mut shell, "eth0")?, mac(&mut debugger, "eth1")?);
        put(&mut shell, "/run/send", SEND)?;
        put(&mut shell, "/run/flood", FLOOD)?;
        let link = format!("nsl{:05}", id[1..].parse::<u32>()?);
        Ok(Flood { world, machines, link, shell, macs })
    }

    /// Writes its disk full; gives the bytes that the host's disk holds of it then.
    fn fill(&mut self) -> Result<u64> {
        let line = "dd if=/dev/zero of=/full bs=1M; sync; df / | tail -n 1";
        // 1.7 GiB, which took three minutes beside other labs.
        let said = self.shell.run_for(line, Duration::from_secs(600))?;
        ensure!(said.contains("No space left") && said.contains("100%"), "not full: {said}");
        let machine = self.world.lab.state().join(format!("machines/m{}", self.machines.0));
        Ok(fs::metadata(machine.join("1/disk.qcow2"))?.blocks() * 512)
    }

    fn begin(&mut self) -> Result<()> {
        self.shell.run(&format!("sh /run/flood {} >/dev/null 2>&1", self.macs))?;
        wait_for("a flood", Duration::from_secs(60), || {
            let before = self.counted()?.sent;
            thread::sleep(Duration::from_secs(1));
            let sent = self.counted()?.sent - before;
            ensure!(sent > FLOODED, "{sent} frames in a second are no flood");
            Ok(Some(()))
        })
    }

    fn end(&mut self) -> Result<()> {
        self.shell.run_for(END, Duration::from_secs(60)).map(drop)
    }

    fn counted(&self) -> Result<Counted> {
        let lab = &self.world.lab;
        let (machine, debugger) = self.machines;
        let frames = |card: &str, way: &str| -> Result<u64> {
            let file = format!("/sys/class/net/{card}/statistics/{way}_packets");
            Ok(lab.enter(&["cat", &file])?.trim().parse()?)
        };
        let line = format!("cat /proc/$(pgrep -f '[g]uest=nonstop-m{machine},')/stat");
        let stat = lab.enter(&["sh", "-c", &line])?;
        // After the name in brackets: utime and stime are the fourteenth and fifteenth of all.
        let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |n: usize| -> Result<f64> { Ok(words.get(n).context("stat")?.parse()?) };
        let sent = frames(&format!("nsk{machine:05}"), "rx")?;
        let got = frames(&format!("nsk{debugger:05}"), "tx")?;
        let for_all = frames(&self.link, "rx")?;
        let processor = (ticks(11)? + ticks(12)?) / 100.0;
        Ok(Counted { when: Instant::now(), sent, got, for_all, processor })
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    (of[(of.len() - 1) / 2] + of[of.len() / 2]) / 2.0
}

#[test]
fn malware_that_spins_writes_and_floods_leaves_another_desktop_its_frames() -> Result<()> {
    let mut world = World::off("flood", "")?;
    fs::write(world.lab.dir().join("templates/pair.yaml"), PAIR)?;
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    let bob = world.lab.researcher("bob", 11)?;
    let of_bob = world.environment("bob", "screen")?;
    let mut flood = Flood::new(&world)?;
    let mut shell = world.shell(&of_bob)?;
    put(&mut shell, "/run/draw", DRAW)?;
    shell.run("setsid bash /run/draw >/dev/null 2>&1 & true")?;
    let mut looking = Looking::at(&world, &of_bob, &bob)?;
    wait_for("frames", Duration::from_secs(30), || {
        let was = looking.is_light()?;
        thread::sleep(Duration::from_millis(150));
        Ok((looking.is_light()? != was).then_some(()))
    })?;

    let filled = flood.fill()?;
    println!("the host keeps {} MiB for the full disk", filled >> 20);

    let alone = Alone::wait();
    let mut best: f64 = 0.0;
    for round in 1..=ROUNDS {
        let (mut quiet, mut under) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            quiet.push(looking.rate()?);
            flood.begin()?;
            let before = flood.counted()?;
            under.push(looking.rate()?);
            it_was_a_flood(before, flood.counted()?)?;
            if round == 1 && under.len() == 1 {
                the_lab_goes_on(&world, &mut shell)?;
            }
            flood.end()?;
        }
        println!("frames a second, quiet {quiet:.1?}, under the flood {under:.1?}");
        let (quiet, under) = (median(quiet), median(under));
        ensure!(quiet > 4.0, "without a flood there are only {quiet:.1} frames a second");
        best = best.max(under / quiet);
        if best >= ENOUGH {
            break;
        }
    }
    drop(alone);
    println!("{best:.2} of its frame rate were left");
    assert!(best >= ENOUGH, "only {best:.2} of the frame rate are left");
    assert_eq!(flood.shell.run("echo alive")?, "alive", "who floods runs on");
    let verified = world.lab.cli(&["trace", "verify"])?;
    assert!(verified["broken_at"].is_null(), "{verified}");
    Ok(())
}

/// The host has seen what it takes for the test to mean something; and it has passed on less.
fn it_was_a_flood(before: Counted, after: Counted) -> Result<()> {
    let seconds = (after.when - before.when).as_secs_f64();
    let each = |from: u64, to: u64| (to - from) as f64 / seconds;
    let (sent, got) = (each(before.sent, after.sent), each(before.got, after.got));
    let for_all = each(before.for_all, after.for_all);
    let processors = (after.processor - before.processor) / seconds;
    println!(
        "a flood: {sent:.0} frames/s sent, {got:.0} got by the debugger, {for_all:.0} for everybody; \
         {processors:.2} processors"
    );
    ensure!(sent > FLOODED as f64 / 2.0, "{sent:.0} frames a second are no flood");
    ensure!(processors > 0.3, "{processors:.2} processors are not spun");
    // 50 of each of the two machines: the debugger asks for the addresses that the SYNs pretend.
    ensure!(for_all < 150.0, "{for_all:.0} broadcasts a second were passed on");
    Ok(())
}

/// A decision is committed and traced, another machine has its services, and nothing of the host's
/// is full or other than it should be.
fn the_lab_goes_on(world: &World, shell: &mut GuestShell) -> Result<()> {
    world.lab.researcher("carol", 12)?;
    let asked = Instant::now();
    world.lab.cli(&["account", "suspend", "carol", "--reason", "lost card"])?;
    let took = asked.elapsed();
    println!("a suspension was committed after {took:?}");
    ensure!(took < Duration::from_secs(2), "a suspension took {took:?}");
    let rows = world.lab.cli(&["trace", "list"])?;
    let of_carol = |row: &&Value| row["action"] == "account.state" && row["subject"] == "carol";
    let traced = rows.as_array().into_iter().flatten().find(of_carol).map(|row| &row["detail"]);
    ensure!(traced.is_some_and(|detail| detail["state"] == "suspended"), "{traced:?}");

    let said = shell.run("busybox udhcpc -n -q -f -i eth0 -s /bin/true -t 5 -T 2")?;
    ensure!(said.contains("lease of"), "no DHCP: {said}");
    let gate = shell.run("ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'")?;
    let said = shell.run(&format!("busybox nslookup no-such-name.example {gate}"))?;
    ensure!(said.contains("NXDOMAIN") || said.contains("can't find"), "no DNS: {said}");

    let proof = world.lab.cli(&["reach", "prove"])?;
    ensure!(proof["holds"] == true, "{}", proof["differences"]);
    let number = |file: &str| -> Result<u64> {
        Ok(world.lab.enter(&["cat", &format!("/proc/sys/net/netfilter/{file}")])?.trim().parse()?)
    };
    let (flows, most) = (number("nf_conntrack_count")?, number("nf_conntrack_max")?);
    let neighbours = world.lab.enter(&["ip", "neighbour", "show"])?.lines().count();
    println!("{flows} flows of {most}, {neighbours} neighbours");
    ensure!(flows < most / 10 && neighbours < 64, "{flows} of {most}, {neighbours} neighbours");

    let free = rustix::fs::statvfs(world.lab.state())?;
    ensure!(free.f_bavail > 0, "the host's disk is full");
    Ok(())
}
