//! A data domain of its own for each test: a network namespace for the servers, one for each
//! machine, users as a real host has them, and the real PostgreSQL.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The address of the rdb.
pub(crate) const RDB: &str = "10.78.0.10";

/// The data domain of the lab.
pub(crate) const DOMAIN: &str = "darkdom";

/// Our program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_nonstop-data");

const LAB: &str = "
version: 1
name: test
state: STATE
run: RUN
gateway: { address: 192.0.2.1 }
network: { pool: 10.77.0.0/16 }
data_domains:
  darkdom:
    interface: nsd0
    network: 10.78.0.0/24
    servers:
      rdb: { address: 10.78.0.10, tcp: [5432] }
    rdb: LIMITS
";

/// What the namespaces need before anything runs in them; says `ready` and waits for its end.
const HOLD: &str = r#"
set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/userdb
user() {
  echo "{\"userName\":\"$1\",\"uid\":$2,\"gid\":$2,\"homeDirectory\":\"/\",\"shell\":\"/usr/sbin/nologin\",\"disposition\":\"system\"}" > /run/userdb/$1.user
  echo "{\"groupName\":\"$1\",\"gid\":$2,\"disposition\":\"system\"}" > /run/userdb/$1.group
  ln -s $1.user /run/userdb/$2.user; ln -s $1.group /run/userdb/$2.group
}
user nonstop-data 64103; user nonstop-rdb 64104; user nonstop-loader 64105
sed -E '/^(passwd|group):/{/systemd/!s/$/ systemd/}' /etc/nsswitch.conf > /run/nsswitch.conf
mount --bind /run/nsswitch.conf /etc/nsswitch.conf
ip link set lo up
ip address add 10.78.0.10/24 dev lo
echo ready
exec cat > /dev/null
"#;

/// One lab with one data domain. Its end ends everything of it.
pub(crate) struct World {
    /// Where everything of it lies.
    pub(crate) folder: tempfile::TempDir,
    holder: Holder,
    rdb: Option<Child>,
    machines: u8,
}

struct Holder {
    child: Child,
    _life: ChildStdin,
}

impl Holder {
    fn new(flags: &[&str], script: &str) -> Holder {
        let mut child = Command::new("unshare")
            .args(flags)
            .args(["--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare: tests of the rdb need root");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready", "the namespaces of a test are made");
        Holder { _life: child.stdin.take().expect("piped"), child }
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A machine: a namespace with an address of a segment of its own.
pub(crate) struct Machine {
    holder: Holder,
    /// Its address.
    pub(crate) address: String,
}

impl World {
    /// A lab whose rdb has these limits, not yet started.
    pub(crate) fn new(limits: &str) -> World {
        // A short name: a unix socket's may have 107 bytes.
        let folder = tempfile::Builder::new().prefix("rdb").tempdir_in("/tmp").expect("a folder");
        World::in_folder(limits, folder)
    }

    fn in_folder(limits: &str, folder: tempfile::TempDir) -> World {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let lab = LAB.replace("STATE", &path("state")).replace("RUN", &path("run"));
        fs::write(path("lab.yaml"), lab.replace("LIMITS", limits)).expect("write lab.yaml");
        let holder = Holder::new(&["-m", "-n", "--propagation", "private"], HOLD);
        World { folder, holder, rdb: None, machines: 0 }
    }

    /// One that runs, with its tables.
    pub(crate) fn running(limits: &str) -> World {
        let mut world = World::new(limits);
        world.start();
        world.settle();
        world
    }

    /// Starts `nonstop-data rdb`.
    pub(crate) fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log"));
        let child = self
            .inside()
            .args([PROGRAM, "rdb", "--domain", DOMAIN, "--lab"])
            .arg(self.path("lab.yaml"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(self.path("fetches")).expect("a file"))
            .stderr(log.expect("a log"))
            .spawn()
            .expect("start the rdb");
        self.rdb = Some(child);
    }

    /// The `nonstop-data rdb` itself.
    pub(crate) fn rdb(&mut self) -> &mut Child {
        self.rdb.as_mut().expect("started")
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the loader finds the writer.
    pub(crate) fn load_socket(&self) -> PathBuf {
        self.path("run/data").join(DOMAIN).join("rdb-load")
    }

    /// Where the front finds the reader.
    pub(crate) fn read_socket(&self) -> PathBuf {
        self.path("run/data").join(DOMAIN).join("rdb-read")
    }

    /// Begins a command in the servers' namespaces.
    pub(crate) fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-n", "-t", &self.holder.pid(), "--"]);
        command
    }

    /// What root learns from the writer.
    pub(crate) fn writer(&self, sql: &str) -> String {
        self.root(&self.load_socket(), sql)
    }

    /// What root learns from the reader.
    pub(crate) fn reader(&self, sql: &str) -> String {
        self.root(&self.read_socket(), sql)
    }

    fn root(&self, socket: &Path, sql: &str) -> String {
        let output = self
            .inside()
            .args(["psql", "-qAtX", "-U", "nonstop", "-d", "darknet", "-c", sql, "-h"])
            .arg(socket)
            .output()
            .expect("psql");
        told(&output)
    }

    /// Waits until both servers are there and the reader follows.
    pub(crate) fn settle(&self) {
        let since = Instant::now();
        loop {
            let there = self.reader("select count(*) from days");
            if there.trim().parse::<u32>().is_ok()
                && self.writer("select count(*) from pg_stat_replication where state = 'streaming' and application_name = 'reader'").trim() == "1"
            {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(60),
                "the rdb comes up: {there}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What it reported of fetches.
    pub(crate) fn fetches(&self) -> String {
        fs::read_to_string(self.path("fetches")).unwrap_or_default()
    }

    /// Another machine, on the next segment.
    pub(crate) fn machine(&mut self) -> Machine {
        self.machines += 1;
        let base = self.machines * 16;
        let (host, address) = (format!("10.77.0.{}", base + 1), format!("10.77.0.{}", base + 2));
        let holder = Holder::new(&["-n"], "ip link set lo up; echo ready; exec cat > /dev/null");
        let run = |command: &mut Command, line: &str| {
            let output = command.args(line.split(' ')).output().expect("run ip");
            assert!(output.status.success(), "{line}: {}", told(&output));
        };
        let (n, pid) = (self.machines, holder.pid());
        run(&mut self.inside(), &format!("ip link add m{n} type veth peer name eth0 netns {pid}"));
        run(&mut self.inside(), &format!("ip address add {host}/28 dev m{n}"));
        run(&mut self.inside(), &format!("ip link set m{n} up"));
        let machine = Machine { holder, address };
        run(&mut machine.inside(), &format!("ip address add {}/28 dev eth0", machine.address));
        run(&mut machine.inside(), "ip link set eth0 up");
        run(&mut machine.inside(), &format!("ip route add 10.78.0.0/24 via {host}"));
        machine
    }

    /// Processes of this world's PostgreSQL, by what they call themselves.
    pub(crate) fn processes(&self, title: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            let ours = cwd.starts_with(self.folder.path())
                || line.contains(&self.folder.path().display().to_string());
            if ours && line.contains(title) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut rdb) = self.rdb.take() {
            let _ = rdb.kill();
            let _ = rdb.wait();
        }
        if std::thread::panicking() {
            eprintln!("the rdb logged:\n{}", self.log());
        }
        // The kernel ends its processes; their files are removed with the folder.
        let since = Instant::now();
        while !self.processes("").is_empty() && since.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Machine {
    /// Begins a command in it.
    pub(crate) fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-n", "-t", &self.holder.pid(), "--"]);
        command
    }

    /// A psql that asks `sql`, not yet started.
    pub(crate) fn psql(&self, sql: &str) -> Command {
        let mut command = self.inside();
        let to = format!("host={RDB} user=whoever dbname=darknet connect_timeout=20");
        command.args(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", &to, "-c", sql]);
        command
    }

    /// What the rdb answers to `sql`, or its refusal.
    pub(crate) fn ask(&self, sql: &str) -> String {
        told(&self.psql(sql).output().expect("psql"))
    }

    /// A psql that goes on taking lines.
    pub(crate) fn session(&self) -> Session {
        let to = format!("host={RDB} user=whoever dbname=darknet connect_timeout=20");
        let mut child = self
            .inside()
            .args(["psql", "-qAtX", "-d", &to])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql");
        let stdin = child.stdin.take();
        Session { child, stdin }
    }
}

/// A psql at work.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Session {
    /// Gives it a line.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it still listens");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("psql reads");
    }

    /// All that it said, once it has ended; no more lines come.
    pub(crate) fn end(mut self) -> String {
        drop(self.stdin.take());
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        self.child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
        let _ = self.child.wait();
        out + &err
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first process of the server `part`.
pub(crate) fn postmaster(world: &World, part: &str) -> Vec<i32> {
    world.processes(&format!("rdb/{part}.conf"))
}

/// What a program said, its errors behind its output.
pub(crate) fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).trim_end().to_string()
}

/// Waits until `there` is, for as long as `seconds`.
pub(crate) fn eventually(seconds: u64, what: &str, mut there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !there() {
        assert!(since.elapsed() < Duration::from_secs(seconds), "{what}: not in {seconds} s");
        std::thread::sleep(Duration::from_millis(50));
    }
}
