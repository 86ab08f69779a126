//! A gateway in namespaces of its own, with a daemon that the test plays.

#![allow(dead_code, reason = "each test program uses a part of it")]

use nonstop_api::{LoginEvent, LoginReply, LoginRequest, heard::Heard};
use nonstop_host::{
    firewall::{Firewall, FirewallConfig},
    gate::{Gate, GateConfig, HostKeys},
};
use nonstop_model::PublicKey;
use nonstop_plan::{AccountGate, GateKey, Grant};
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Runs `act` as the test `name` in mount, network and process namespaces of its own: the test
/// program starts itself there once more.
pub(crate) fn in_a_box(name: &str, act: impl FnOnce()) {
    if std::env::var_os("NONSTOP_TEST_BOX").is_some() {
        build_box();
        act();
        return;
    }
    let me = std::env::current_exe().expect("this program");
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(me)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("NONSTOP_TEST_BOX", "1")
        .stdin(Stdio::null())
        .status()
        .expect("unshare runs");
    assert!(status.success(), "in the box: {status}");
}

fn build_box() {
    sh("mount --make-rprivate /; ip link set lo up
        mount -t tmpfs -o mode=0755 tmpfs /run; mkdir /run/pam.d /run/nonstop
        cp -r /etc/pam.d/. /run/pam.d; mount --bind /run/pam.d /etc/pam.d
        sed -E '/^(passwd|group):/ { /systemd/! s/$/ systemd/ }' /etc/nsswitch.conf > /run/nsswitch.conf
        mount --bind /run/nsswitch.conf /etc/nsswitch.conf
        { cat /etc/passwd; echo nonstop-gate:x:64106:64106::/:/usr/sbin/nologin; } > /run/passwd
        mount --bind /run/passwd /etc/passwd");
    let service = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../systemd/pam.d/nonstop-sshd");
    let text = fs::read_to_string(service).expect("the PAM service");
    let hook = env!("CARGO_BIN_EXE_nonstop-gate");
    let text = text.replace("/usr/lib/nonstop/nonstop-gate", hook);
    fs::write("/etc/pam.d/nonstop-sshd", text).expect("written");
}

/// Runs shell commands, which must succeed.
pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Yes,
    No,
    NoToOpening,
    HangAt(LoginEvent),
    Silent,
}

struct Daemon {
    mood: Mood,
    told: Vec<(LoginEvent, String)>,
    heard: Vec<Heard>,
    deaf: bool,
}

/// sshd, firewall, a portal that says `portal`, and a daemon.
pub(crate) struct Lab {
    firewall: Firewall,
    gate: Gate,
    host_keys: HostKeys,
    daemon: Arc<Mutex<Daemon>>,
    dir: tempfile::TempDir,
    servers: Vec<Child>,
}

const PORT: u16 = 2222;
const ACCOUNTS: [(&str, u32); 2] = [("alice", 70_001), ("bob", 70_002)];

impl Lab {
    /// One whose firewall lets one source open as much as a test likes.
    pub(crate) fn new() -> Lab {
        Lab::with_share(10_000, 100_000)
    }

    /// One whose firewall gives each source this share of the gateway.
    pub(crate) fn with_share(connections_per_source: u32, new_per_minute: u32) -> Lab {
        let firewall = Firewall::new(FirewallConfig {
            gateway: SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT),
            connections_per_source,
            new_per_minute,
            pool: "10.77.0.0/16".parse().expect("a network"),
            domains: Default::default(),
            airlock_port: 8443,
            program_uids: vec![64_101, 64_102],
            dnsmasq_uids: vec![],
            display_uids: 65_600..=69_999,
            machine_uids: 80_000..=99_999,
            account_uids: 70_000..=79_999,
        });
        firewall.load().expect("loaded");
        for (_, uid) in ACCOUNTS {
            let grant = Grant::Portal { uid, address: address(uid), port: 8080 };
            firewall.grant(&grant, Some(Duration::from_secs(3600))).expect("granted");
        }
        let here = Grant::Source { net: "127.0.0.0/8".parse().expect("a network") };
        firewall.grant(&here, Some(Duration::from_secs(3600))).expect("granted");
        let config = GateConfig {
            run: "/run/nonstop/gate".into(),
            state: "/run/state/gate".into(),
            userdb: "/run/userdb".into(),
            listen: SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT),
            pam: "/etc/pam.d/nonstop-sshd".into(),
            account_uids: 70_000..=79_999,
        };
        let host_keys = HostKeys::new(config.clone());
        let gate = Gate::new(config);
        gate.prepare().expect("prepared");
        let daemon = Arc::new(Mutex::new(Daemon {
            mood: Mood::Yes,
            told: Vec::new(),
            heard: Vec::new(),
            deaf: false,
        }));
        serve_logins(&daemon);
        serve_gateway(&daemon);
        serve_portal();
        let dir = tempfile::tempdir_in("/run").expect("a folder");
        sh(&format!("ssh-keygen -q -t ed25519 -N '' -f {}/id", dir.path().display()));
        let mut lab = Lab { firewall, gate, host_keys, daemon, dir, servers: Vec::new() };
        lab.start_sshd("/run/nonstop/gate/sshd_config", PORT);
        lab
    }

    fn start_sshd(&mut self, config: &str, port: u16) {
        let log = fs::File::create(self.dir.path().join(format!("sshd-{port}.log")));
        let sshd = Command::new(env!("CARGO_BIN_EXE_nonstop-gate"))
            .args(["watch", "--", "/usr/sbin/sshd", "-D", "-e", "-f", config])
            .stderr(log.expect("a log"))
            .spawn();
        self.servers.push(sshd.expect("sshd runs"));
        self.eventually("sshd listens", || {
            let hex = format!(":{port:04X} 00000000:0000 0A");
            fs::read_to_string("/proc/net/tcp").is_ok_and(|t| t.contains(&hex))
        });
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn firewall(&self) -> &Firewall {
        &self.firewall
    }

    /// Where the test's keys lie.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Whether it comes to be so in time.
    pub(crate) fn within(&self, time: Duration, is: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !is() {
            if begun.elapsed() > time {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    pub(crate) fn host_keys(&self) -> &HostKeys {
        &self.host_keys
    }

    /// A file of known hosts that knows the gateway by `key`.
    pub(crate) fn known_hosts(&self, name: &str, key: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("[127.0.0.1]:{PORT} {key}\n")).expect("written");
        path
    }

    /// Whether a client that knows the gateway by `known_hosts`, and by nothing else, logs in. It
    /// learns what it is told.
    pub(crate) fn logs_in_knowing(&self, user: &str, known_hosts: &Path) -> bool {
        let file = format!("UserKnownHostsFile={}", known_hosts.display());
        let options = ["-o", &file, "-o", "StrictHostKeyChecking=yes", "-o", "UpdateHostKeys=yes"];
        // The first to name an option wins.
        let mut command = Command::new("ssh");
        command.args(["-F", "none"]).args(options);
        let rest = self.client(user, PORT, &["-N", "-L", "9099:127.64.0.1:8080"]);
        command.args(rest.get_args().skip(2)).stdin(Stdio::null()).stderr(Stdio::null());
        let mut tunnel = Tunnel { client: command.spawn().expect("ssh runs") };
        let in_it = tunnel.ask(9099).is_some();
        // What it is told of keys it writes down right after it has logged in.
        thread::sleep(Duration::from_millis(300));
        in_it
    }

    /// The host key that is shown to whoever connects.
    pub(crate) fn shown_host_key(&self) -> String {
        let shown =
            sh(&format!("ssh-keyscan -q -t ed25519 -p {PORT} 127.0.0.1 2>/dev/null || true"));
        shown.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ")
    }

    fn lock(&self) -> MutexGuard<'_, Daemon> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answer(&self, yes: bool) {
        self.lock().mood = if yes { Mood::Yes } else { Mood::No };
    }

    pub(crate) fn answer_but_not_opening(&self) {
        self.lock().mood = Mood::NoToOpening;
    }

    pub(crate) fn hang_at(&self, event: LoginEvent) {
        self.lock().mood = Mood::HangAt(event);
    }

    pub(crate) fn stop_answering(&self) {
        self.lock().mood = Mood::Silent;
    }

    pub(crate) fn told(&self) -> Vec<(LoginEvent, String)> {
        self.lock().told.clone()
    }

    pub(crate) fn forget_told(&self) {
        self.lock().told.clear();
    }

    /// What was heard of sshd so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.lock().heard.clone()
    }

    /// Whether the daemon takes nothing of what is heard.
    pub(crate) fn be_deaf(&self, deaf: bool) {
        self.lock().deaf = deaf;
    }

    pub(crate) fn eventually(&self, what: &str, is: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(format!("sshd-{PORT}.log"))).unwrap_or_default()
    }

    /// Opens the gate to one of [`ACCOUNTS`].
    pub(crate) fn open(&self, name: &str) {
        let (_, uid) = ACCOUNTS.iter().find(|(n, _)| *n == name).expect("an account");
        self.try_open(name, *uid).expect("opened");
    }

    pub(crate) fn try_open(&self, name: &str, uid: u32) -> Result<(), String> {
        let key = fs::read_to_string(self.dir.path().join("id.pub")).expect("a key");
        let key = key.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let gate = AccountGate {
            name: name.parse().expect("a name"),
            uid,
            address: address(uid),
            keys: vec![GateKey { key: PublicKey(key), until: None }],
            sources: vec!["127.0.0.0/8".parse().expect("a network")],
            targets: vec![(address(uid), 8080)],
        };
        self.gate.open(&gate).map_err(|e| {
            format!("{e}: {}", e.source.as_ref().map(|s| s.to_string()).unwrap_or_default())
        })
    }

    pub(crate) fn close(&self, name: &str) {
        self.gate.close(&name.parse().expect("a name")).expect("closed");
    }

    pub(crate) fn key_file(&self, name: &str) -> PathBuf {
        Path::new("/run/nonstop/gate/keys").join(name)
    }

    /// Gives `user` the key file of `name`, as a careless hand would.
    pub(crate) fn write_key_of(&self, name: &str, user: &str) {
        let text = fs::read_to_string(self.key_file(name)).expect("there");
        fs::write(self.key_file(user), text).expect("written");
        sh(&format!("chmod 640 {0}; chgrp 70001 {0}", self.key_file(user).display()));
    }

    /// Names that the gate is open to.
    pub(crate) fn accounts(&self) -> Vec<String> {
        let seen = self.gate.observe().expect("observed");
        seen.accounts.into_keys().map(String::from).collect()
    }

    /// Uids with a session.
    pub(crate) fn sessions(&self) -> Vec<u32> {
        let open = self.gate.observe().expect("observed").sessions;
        let uids: std::collections::BTreeSet<u32> = open.into_values().collect();
        uids.into_iter().collect()
    }

    /// The processes that lead sessions of `uid`.
    pub(crate) fn leaders(&self, uid: u32) -> Vec<u32> {
        let open = self.gate.observe().expect("observed").sessions;
        open.into_iter().filter(|(_, of)| *of == uid).map(|(pid, _)| pid).collect()
    }

    fn client(&self, user: &str, port: u16, args: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "IdentityAgent=none", "-o", "IdentitiesOnly=yes"])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5", "-i"])
            .arg(self.dir.path().join("id"))
            .args(["-l", user, "-p", &port.to_string()])
            .stdin(Stdio::null());
        // A remote command stands behind the host's name.
        let split = args.iter().position(|a| !a.starts_with('-') && args[0] == *a);
        match split {
            Some(_) => command.arg("127.0.0.1").args(args),
            None => command.args(args).arg("127.0.0.1"),
        };
        command
    }

    /// A client that stays.
    pub(crate) fn ssh(&self, user: &str, args: &[&str]) -> Tunnel {
        self.tunnel(user, PORT, args)
    }

    fn tunnel(&self, user: &str, port: u16, args: &[&str]) -> Tunnel {
        let client = self.client(user, port, args).stderr(Stdio::null()).spawn();
        Tunnel { client: client.expect("ssh runs") }
    }

    /// A client that must end; Err if it failed. One that stays for three seconds has got in.
    pub(crate) fn ssh_to_its_end(&self, user: &str, args: &[&str]) -> Result<String, String> {
        let mut client = self
            .client(user, PORT, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ssh runs");
        let begun = Instant::now();
        while client.try_wait().expect("waited").is_none() {
            if begun.elapsed() > Duration::from_secs(6) {
                client.kill().expect("killed");
                client.wait().expect("buried");
                return Ok("it got in and stayed".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let output = client.wait_with_output().expect("ended");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// A session of another sshd of the host, whose tunnel leads to its own portal.
    pub(crate) fn foreign_session(&mut self, local: u16) -> Tunnel {
        let dir = self.dir.path().display().to_string();
        sh(&format!(
            "chmod 755 {dir}; cp {dir}/id.pub {dir}/keys
             printf '%s\\n' 'ListenAddress 127.0.0.1:2200' 'PidFile none' 'HostKey /run/state/gate/ssh_host_ed25519_key' 'AuthorizedKeysFile {dir}/keys' > {dir}/foreign"
        ));
        self.start_sshd(&format!("{dir}/foreign"), 2200);
        self.tunnel("root", 2200, &["-N", "-L", &format!("{local}:127.0.0.1:8081")])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("sshd said:\n{}", self.log());
        }
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

fn address(uid: u32) -> Ipv4Addr {
    Ipv4Addr::new(127, 64, 0, (uid % 1000) as u8)
}

fn serve_logins(daemon: &Arc<Mutex<Daemon>>) {
    let listener = UnixListener::bind("/run/nonstop/login.sock").expect("a socket");
    let daemon = Arc::clone(daemon);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let Ok(request) = nonstop_api::receive::<LoginRequest>(&socket) else { continue };
            let mood = {
                let mut daemon = daemon.lock().unwrap_or_else(PoisonError::into_inner);
                daemon.told.push((request.event, request.user.clone()));
                daemon.mood
            };
            let allow = match mood {
                Mood::Yes => true,
                Mood::No => false,
                Mood::NoToOpening => request.event != LoginEvent::Open,
                Mood::HangAt(event) if event == request.event => {
                    thread::spawn(move || {
                        thread::sleep(Duration::from_secs(5));
                        drop(socket);
                    });
                    continue;
                }
                Mood::HangAt(_) => true,
                Mood::Silent => continue,
            };
            let reply = LoginReply { allow, reason: "the test says so".into() };
            drop(nonstop_api::send(&socket, &reply));
        }
    });
}

fn serve_gateway(daemon: &Arc<Mutex<Daemon>>) {
    let listener = UnixListener::bind("/run/nonstop/gateway.sock").expect("a socket");
    let daemon = Arc::clone(daemon);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let Ok(heard) = nonstop_api::receive::<Vec<Heard>>(&socket) else { continue };
            let mut daemon = daemon.lock().unwrap_or_else(PoisonError::into_inner);
            if !daemon.deaf {
                daemon.heard.extend(heard);
                drop(socket.write_all(b"1"));
            }
        }
    });
}

fn serve_portal() {
    for port in [8080, 8081] {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("listening");
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                thread::spawn(move || {
                    drop(socket.write_all(b"portal\n"));
                    drop(socket.read(&mut [0]));
                });
            }
        });
    }
}

/// An ssh client with forwarded ports; ended when dropped.
pub(crate) struct Tunnel {
    client: Child,
}

impl Tunnel {
    /// What the server behind the forwarded `port` says first; None if nobody is there.
    pub(crate) fn ask(&mut self, port: u16) -> Option<String> {
        let mut stream = self.connect(port)?;
        let mut text = [0; 7];
        stream.read_exact(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// A connection through `port` that stays open.
    pub(crate) fn hold(&mut self, port: u16) -> Held {
        let mut stream = self.connect(port).expect("forwarded");
        stream.read_exact(&mut [0; 7]).expect("the portal answers");
        Held(stream)
    }

    fn connect(&mut self, port: u16) -> Option<TcpStream> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(8) {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
                return Some(stream);
            }
            if self.client.try_wait().expect("waited").is_some() {
                return None;
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        drop(self.client.kill());
        drop(self.client.wait());
    }
}

/// An open forwarded connection.
pub(crate) struct Held(TcpStream);

impl Held {
    /// Whether it has ended.
    pub(crate) fn is_cut(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        match self.0.read(&mut [0]) {
            Ok(n) => n == 0,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
