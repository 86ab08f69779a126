//! The power lost with all that was not written: the transfers in a guest whose QEMU is killed, while
//! clients outside of it put files and keep what they were told.

use anyhow::{Context, Result, bail, ensure};
use nonstop_testkit::{
    labbox::built_programs,
    net::Namespace,
    place::{Place, wait_for},
    turn::Turn,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

const OUTSIDE: u16 = 19_081;
const INSIDE: u16 = 18_443;
/// A start without KVM, beside others.
const BOOT: Duration = Duration::from_secs(180);
const ROUNDS: u64 = 4;
/// How names begin that are put more than once.
const OFTEN: &str = "again";

/// First program of the guest: drivers, the disk that the power is lost for, one card.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /dev /sys /proc /run /tmp /data /etc
$b mount -t devtmpfs dev /dev
$b mount -t sysfs sysfs /sys
$b mount -t proc proc /proc
exec >/dev/ttyS0 2>&1
for module in /modules/*.ko; do case $module in *drm*|*gpu*) ;; *) $b insmod $module ;; esac; done
until [ -b /dev/vda ]; do $b usleep 20000; done
$b mount -t tmpfs run /run
$b mount -t ext4 -o noatime /dev/vda /data || exec $b sh -c 'echo no disk; sleep 3600'
$b ip link set lo up
$b ip link set eth0 up
$b ip addr add 10.0.2.15/24 dev eth0
export LD_LIBRARY_PATH=/lib PATH=/bin
/bin/transfers-alone /lab.yaml || echo ended
exec $b sleep 3600
"#;

const LAB: &str = "version: 1\nname: alone\nstate: /data/state\nrun: /run/nonstop\n\
    programs: /bin\ncapacity: { reserve_mib: 16 }\n\
    airlock: { quiet_seconds: 1, import_mib: 2048, export_mib: 2048 }\n";

/// A guest that runs: it ends with this, and with the test's process.
struct Running(Child);

impl Running {
    /// Cuts the power.
    fn cut(mut self) -> Result<()> {
        self.0.kill().context("cut the power")?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// The guest's kernel, its first programs, and its disk.
struct Machine {
    kernel: PathBuf,
    initrd: PathBuf,
    disk: PathBuf,
    log: PathBuf,
    network: Namespace,
}

impl Machine {
    fn new(folder: &Path) -> Result<Machine> {
        let image = nonstop_tests::built_images()?.join("desktop/current");
        let (tree, initrd) = (folder.join("tree"), folder.join("initrd"));
        fs::create_dir_all(tree.join("bin"))?;
        fs::write(tree.join("init"), INIT)?;
        fs::write(tree.join("lab.yaml"), LAB)?;
        let programs = built_programs()?;
        let names = ["transfers-alone", "nonstop-airlock", "nonstop-screen"];
        let words = names.map(|name| programs.join(name).display().to_string()).join(" ");
        let line = format!(
            "set -e; cd {tree}; chmod 755 init; mkdir -p lib lib64
             for p in {words}; do
                 strip -o bin/$(basename $p) $p
                 ldd $p | grep -o '/[^ ]*' | xargs -I% cp -Lnu % lib/
             done
             cp -L /lib64/ld-linux-x86-64.so.2 lib64/
             (cat {base}; find . | cpio --quiet -o -H newc -R 0:0) > {initrd}
             truncate -s 2G {disk}; mke2fs -q -t ext4 {disk}; rm -r {tree}",
            tree = tree.display(),
            base = image.join("initrd").display(),
            initrd = initrd.display(),
            disk = folder.join("disk").display(),
        );
        Place::here().run(&["sh", "-c", &line])?;
        Ok(Machine {
            kernel: image.join("kernel"),
            initrd,
            disk: folder.join("disk"),
            log: folder.join("console"),
            network: Namespace::new()?,
        })
    }

    /// Switches it on; returns once both sides listen, with the number of rows in its trace.
    fn start(&self) -> Result<(Running, u64)> {
        let forward = |near, far| format!("hostfwd=tcp:127.0.0.1:{near}-10.0.2.15:{far}");
        let network =
            format!("user,id=n,restrict=on,{},{}", forward(OUTSIDE, 9081), forward(INSIDE, 8443));
        let disk = format!("file={},format=raw,if=virtio,cache=writeback", self.disk.display());
        let log = File::create(&self.log)?;
        let mut command = self.network.place().command("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
            .args(["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "768"])
            .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", "console=ttyS0 quiet no_timer_check panic=-1 rdinit=/init"])
            .args(["-drive", &disk, "-netdev", &network, "-device", "virtio-net-pci,netdev=n"])
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null());
        let mut running = Running(command.spawn().context("start QEMU")?);
        let up = wait_for("the transfers in the guest", BOOT, || {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let over = running.0.try_wait()?.is_some();
            let rows =
                said.lines().find_map(|line| line.trim().strip_prefix("trace ")?.parse().ok());
            let ready = said.lines().any(|line| line.trim() == "ready");
            match (ready, over || said.contains("ended")) {
                (true, _) => rows.map(Some).with_context(|| said.clone()),
                (false, true) => bail!("it ended: {said}"),
                (false, false) => Ok(None),
            }
        });
        Ok((running, up.with_context(|| fs::read_to_string(&self.log).unwrap_or_default())?))
    }
}

/// One request and its whole answer: status and body.
fn ask(port: u16, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let host = if port == INSIDE { "airlock" } else { "localhost" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    let end = said.windows(4).position(|w| w == b"\r\n\r\n").context("no whole answer")?;
    let head = String::from_utf8_lossy(&said[..end]).into_owned();
    let status = head.split_whitespace().nth(1).context("no status")?.parse()?;
    Ok((status, said[end + 4..].to_vec()))
}

/// The text that file `number` consists of: from a few bytes to a few hundred kilobytes.
fn text(number: u32) -> Vec<u8> {
    let lines = [1, 20, 700, 9000, 25_000][number as usize % 5];
    (0..lines).flat_map(|n| format!("{number} {n}\n").into_bytes()).collect()
}

/// What clients were told of.
#[derive(Default)]
struct Told {
    /// By side and name: the file of which number is there for sure.
    kept: BTreeMap<(bool, String), u32>,
    /// What was being put when the power went.
    open: BTreeMap<(bool, String), u32>,
}

/// Puts files until `ended`, each over a connection of its own, and one of four under the name `often`,
/// which nobody else puts: what is there then is what was last told of, or what was under way.
fn put(told: &Mutex<Told>, numbers: &AtomicU32, ended: &AtomicBool, inside: bool, often: &str) {
    while !ended.load(Ordering::SeqCst) {
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        let name = if number.is_multiple_of(4) { often.into() } else { format!("{number}.txt") };
        let (port, folder) =
            if inside { (INSIDE, "/export/") } else { (OUTSIDE, "/dav/e1/import/") };
        let key = (inside, name.clone());
        told.lock().expect("whole").open.insert(key.clone(), number);
        let done = ask(port, "PUT", &format!("{folder}{name}"), &text(number));
        let mut told = told.lock().expect("whole");
        match done {
            Ok((201 | 204, _)) => {
                told.kept.insert(key.clone(), number);
                told.open.remove(&key);
            }
            // Not taken, and said so: what was there before is there.
            Ok(_) => drop(told.open.remove(&key)),
            // The power is gone: either is there.
            Err(_) => break,
        }
    }
}

/// Every file that a client was told of is there and correct; nothing else was made of it.
fn all_there(told: &Told) -> Result<()> {
    for ((inside, name), number) in &told.kept {
        let (port, folder) =
            if *inside { (INSIDE, "/export/") } else { (OUTSIDE, "/dav/e1/import/") };
        let (status, body) = ask(port, "GET", &format!("{folder}{name}"), b"")?;
        let open = told.open.get(&(*inside, name.clone()));
        let good = body == text(*number) || open.is_some_and(|open| body == text(*open));
        ensure!(status == 200 && good, "{folder}{name} ({number}): {status}, {} bytes", body.len());
    }
    Ok(())
}

/// What is seen outside was told of, is whole, and nothing that has to be blocked.
fn nothing_else_outside(told: &Told, sealed: &[String]) -> Result<usize> {
    let (status, listed) = ask(OUTSIDE, "GET", "/dav/e1/export/", b"")?;
    ensure!(status == 200, "{status}");
    let listed = String::from_utf8_lossy(&listed).into_owned();
    for name in sealed {
        let (status, body) = ask(OUTSIDE, "GET", &format!("/dav/e1/export/{name}"), b"")?;
        ensure!(status == 404 && !listed.contains(name), "{name}: {status}, {} bytes", body.len());
    }
    let mut seen = 0;
    for ((inside, name), number) in told.kept.iter().filter(|((inside, _), _)| *inside) {
        let (status, body) = ask(OUTSIDE, "GET", &format!("/dav/e1/export/{name}"), b"")?;
        // A name that is written again shows the last version that was released.
        let often = name.starts_with(OFTEN);
        let good = often || body == text(*number);
        ensure!(status == 404 || good, "{inside} {name}: {} bytes", body.len());
        if often && status == 200 {
            let first = String::from_utf8_lossy(&body);
            let number = first.split(' ').next().and_then(|word| word.parse().ok());
            ensure!(number.is_some_and(|n| body == text(n)), "{} bytes of it", body.len());
        }
        seen += usize::from(status == 200);
    }
    Ok(seen)
}

#[test]
fn every_acknowledged_file_is_there_when_the_power_went_with_all_that_was_not_written() -> Result<()>
{
    let _turn = Turn::take();
    let folder = built_programs()?.parent().context("no parent")?.join("labs");
    // Named as those of labs are, so that what a killed run left is swept like theirs.
    let folder = folder.join(format!("lost-{}-0", std::process::id()));
    let state = folder.join("state");
    fs::create_dir_all(&state)?;
    let machine = Machine::new(&state)?;
    let network = File::open(format!("/proc/{}/ns/net", machine.network.holder()))?;
    // This thread, and those that it starts, are where the guest's ports are.
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let (told, numbers) = (Arc::<Mutex<Told>>::default(), Arc::<AtomicU32>::default());
    let (mut sealed, mut rows) = (Vec::new(), 0);
    let (mut running, _) = machine.start()?;
    for round in 0..ROUNDS {
        let ended = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = [false, true, false, true]
            .into_iter()
            .enumerate()
            .map(|(client, inside)| {
                let (told, numbers, ended) =
                    (Arc::clone(&told), Arc::clone(&numbers), Arc::clone(&ended));
                let often = format!("{OFTEN}-{round}-{client}.txt");
                thread::spawn(move || put(&told, &numbers, &ended, inside, &often))
            })
            .collect();
        let name = format!("sealed-{round}.bin");
        let secret =
            [b"Salted__".as_slice(), &Sha256::digest(name.as_bytes()).repeat(2000)].concat();
        let (status, _) = ask(INSIDE, "PUT", &format!("/export/{name}"), &secret)?;
        ensure!(status == 201, "{status}");
        sealed.push(name);
        // At no round moment: some of it screened, some on its way.
        thread::sleep(Duration::from_millis(4000 + 1777 * round));
        let enough = 10 * (round + 1);
        wait_for("enough to be put", Duration::from_secs(180), || {
            Ok((told.lock().expect("whole").kept.len() as u64 > enough).then_some(()))
        })?;
        running.cut()?;
        ended.store(true, Ordering::SeqCst);
        for client in clients {
            ensure!(client.join().is_ok(), "a client panicked");
        }
        let (again, found) = machine.start()?;
        running = again;
        ensure!(found >= rows, "the trace had {rows} rows, and has {found}");
        rows = found;
        let told = told.lock().expect("whole");
        eprintln!("round {round}: {} files told of, {rows} rows of trace", told.kept.len());
        all_there(&told)?;
        let _released_so_far = nothing_else_outside(&told, &sealed)?;
    }
    // What was submitted before a loss is screened after it.
    let mut told = told.lock().expect("whole");
    told.open.clear();
    let all = told.kept.keys().filter(|(inside, _)| *inside).count();
    let released = wait_for("all exports outside", Duration::from_secs(900), || {
        // Each look costs the machine that screens.
        thread::sleep(Duration::from_secs(2));
        match nothing_else_outside(&told, &sealed)? {
            seen if seen == all => Ok(Some(seen)),
            seen => bail!("{seen} of {all}"),
        }
    })?;
    eprintln!("{released} released");
    running.cut()?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}
