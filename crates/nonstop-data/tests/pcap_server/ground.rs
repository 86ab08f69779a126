//! A lab's data domain without the lab: a network with its servers in it, kept by the real
//! `nonstop-data serve`, and machines of several segments before it. Needs root.

use anyhow::{Context, Result, ensure};
use nonstop_api::{
    day::Day,
    serving::{ServedState, Serving},
};
use nonstop_testkit::{
    net::Namespace,
    place::{Place, wait_for},
};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    net::{AddressFamily, SocketType, bind, connect, socket},
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, Permissions},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

/// Where the server answers.
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 80, 0, 3), 80);
/// Machines of two segments.
pub(crate) const ONE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 18);
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 34);

/// The user `nonstop-data` of these tests, which the machine that runs them need not have.
const UID: u32 = 64103;

/// A data domain with its servers kept running; gone when dropped.
pub(crate) struct Ground {
    dir: tempfile::TempDir,
    servers: Namespace,
    machines: Namespace,
    serve: Child,
    count: u32,
}

impl Ground {
    /// One with a pcap server that listens.
    pub(crate) fn new() -> Result<Ground> {
        let dir = tempfile::Builder::new().prefix("pcap-").tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        let (servers, machines) = (Namespace::new()?, Namespace::new()?);
        let (there, here) = (servers.place(), machines.place());
        there.line(&format!(
            "ip link add servers type veth peer name eth0 netns {}",
            machines.holder()
        ))?;
        there.line("ip address add 10.80.0.3/24 dev servers")?;
        there.line("ip link set servers up")?;
        here.line("ip address add 10.80.0.1/24 dev eth0")?;
        for machine in [ONE, OTHER] {
            here.line(&format!("ip address add {machine}/32 dev eth0"))?;
        }
        here.line("ip link set eth0 up")?;
        there.line("ip route add default via 10.80.0.1")?;
        let at = dir.path().display();
        let lab = format!(
            "version: 1\nname: a test\nstate: {at}/state\nrun: {at}/run\ndata_domains:\n  \
             intermediate:\n    interface: nsd0\n    network: 10.80.0.0/24\n    servers:\n      \
             pcap: {{ address: 10.80.0.3, tcp: [80] }}\n      \
             live: {{ address: 10.80.0.2, tcp: [7000] }}\n"
        );
        fs::write(dir.path().join("lab.yaml"), lab)?;
        let mut users = fs::read_to_string("/etc/passwd")?;
        users.push_str(&format!("nonstop-data:x:{UID}:{UID}::/:/usr/sbin/nologin\n"));
        fs::write(dir.path().join("passwd"), users)?;
        let serve = started(dir.path(), &servers)?;
        let ground = Ground { dir, servers, machines, serve, count: 0 };
        ground.listens(Duration::from_secs(30))?;
        Ok(ground)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Where days lie.
    pub(crate) fn published(&self) -> PathBuf {
        self.path().join("state/data/intermediate/published/pcap")
    }

    /// What `serve` and its servers have said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    /// Waits until the server listens, and whoever asks is told so.
    pub(crate) fn listens(&self, limit: Duration) -> Result<()> {
        let waited = wait_for("the server to listen", limit, || {
            let serving = Serving::read(&self.run())?.context("serve does not run")?;
            let [served] = &serving.servers[..] else { return Ok(None) };
            let up = serving.ready && served.state == ServedState::Listens;
            Ok((up && self.server().is_ok()).then_some(()))
        });
        waited.with_context(|| self.log())
    }

    /// The process of the server.
    pub(crate) fn server(&self) -> Result<u32> {
        let serve = self.serve_pid()?;
        children(serve)?.first().copied().context("there is no server")
    }

    /// The process of `nonstop-data serve`: `unshare` has become it.
    fn serve_pid(&self) -> Result<u32> {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.serve.id()))?;
        ensure!(name.starts_with("nonstop-data"), "{name} runs");
        Ok(self.serve.id())
    }

    /// Ends the process `pid` at once.
    pub(crate) fn kill(&self, pid: u32) -> Result<()> {
        Place::here().line(&format!("kill -KILL {pid}")).map(drop)
    }

    /// Ends `serve` at once.
    pub(crate) fn kill_serve(&mut self) -> Result<()> {
        self.serve.kill()?;
        self.serve.wait()?;
        Ok(())
    }

    /// Starts it again.
    pub(crate) fn start_serve(&mut self) -> Result<()> {
        self.serve = started(self.dir.path(), &self.servers)?;
        Ok(())
    }

    /// Publishes `bytes` as the file of `day`, as `nonstopd` does; gives its hash.
    pub(crate) fn publish(&mut self, day: &str, bytes: &[u8]) -> Result<String> {
        self.count += 1;
        let folder = self.published();
        let new = folder.join(format!(".new-{}", self.count));
        fs::create_dir(&new)?;
        let sha256 = hex::encode(Sha256::digest(bytes));
        let (file, first) = (format!("{day}.pcap"), format!("{day}T00:00:01Z").parse()?);
        let note = Day {
            day: day.parse()?,
            file: file.clone(),
            format: "pcap".into(),
            bytes: bytes.len() as u64,
            packets: 3,
            first,
            last: first,
            sha256: sha256.clone(),
            published: format!("2026-11-28T03:00:{:02}Z", self.count % 60).parse()?,
            publication: self.count.to_string(),
        };
        fs::write(new.join(&file), bytes)?;
        fs::write(new.join(format!("{file}.sha256")), format!("{sha256}  {file}\n"))?;
        fs::write(new.join(Day::FILE), serde_json::to_vec(&note)?)?;
        let to = folder.join(day);
        match to.exists() {
            false => fs::rename(&new, &to)?,
            true => {
                renameat_with(CWD, &new, CWD, &to, RenameFlags::EXCHANGE)?;
                fs::remove_dir_all(&new)?;
            }
        }
        Ok(sha256)
    }

    /// Runs a line of shell on the machines.
    pub(crate) fn sh(&self, line: &str) -> Result<Output> {
        self.machines.place().output(&["sh", "-c", line])
    }

    /// The same, which must succeed; gives what it printed.
    pub(crate) fn said(&self, line: &str) -> Result<String> {
        self.machines.place().run(&["sh", "-c", line])
    }

    /// Starts a line of shell on the machines.
    pub(crate) fn start(&self, line: &str) -> Result<Child> {
        let mut command = self.machines.place().command("sh");
        Ok(command.args(["-c", line]).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Does `act` on the machines' network.
    pub(crate) fn there<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let network = File::open(format!("/proc/{}/ns/net", self.machines.holder()))?;
        thread::scope(|scope| {
            let run = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(network.as_fd(), None)?;
                act()
            });
            run.join().expect("no panic there")
        })
    }

    /// A connection to the server from `machine`.
    pub(crate) fn connect(&self, machine: Ipv4Addr) -> Result<TcpStream> {
        self.there(|| connect_from(machine))
    }
}

/// A connection to the server from `machine`, by a thread in its network.
pub(crate) fn connect_from(machine: Ipv4Addr) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(machine, 0))?;
    connect(&socket, &SERVER).context("connect")?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// `nonstop-data serve` with the user that it needs, and the network of its data domain where
/// `nonstopd` would put it.
fn started(dir: &Path, servers: &Namespace) -> Result<Child> {
    let at = dir.display();
    let script = format!(
        "mount --make-rprivate / && mount --bind {at}/passwd /etc/passwd && \
         mount -t tmpfs tmpfs /run && mkdir /run/netns && touch /run/netns/nonstop-intermediate && \
         mount --bind /proc/{}/ns/net /run/netns/nonstop-intermediate && \
         exec {} serve --lab {at}/lab.yaml",
        servers.holder(),
        env!("CARGO_BIN_EXE_nonstop-data")
    );
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
    let mut command = Command::new("unshare");
    command.args(["-m", "--", "sh", "-c", &script]).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log).spawn().context("start serve")
}

/// The processes that `pid` started.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let list = fs::read_to_string(entry?.path().join("children"));
        found.extend(list.unwrap_or_default().split_whitespace().flat_map(str::parse::<u32>));
    }
    Ok(found)
}

impl Drop for Ground {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("serve said:\n{}", self.log());
        }
        let _ended_already = self.kill_serve();
    }
}

/// A file of `count` packets, as a sensor would have written it.
pub(crate) fn packets(count: u32) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002_u32, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for number in 0..count {
        // UDP from 198.51.100.7 to a darknet address: 8 bytes of nothing.
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 198, 51, 100, 7, 203, 0, 113]);
        frame.extend([(number % 251) as u8, 0x30, 0x39, 0, 53, 0, 16, 0, 0]);
        frame.extend(u64::from(number).to_be_bytes());
        let length = frame.len() as u32;
        for word in [1_795_651_200 + number / 100, number % 100 * 10_000, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

/// Bytes that do not repeat.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.by_ref().take(length.div_ceil(8)).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// Hash of the file at `path`.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    Ok(hex::encode(Sha256::digest(fs::read(path)?)))
}
