//! Our programs and nginx beside them, on one disk.

use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    net::{SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Both, until they are dropped.
pub(super) struct Servers {
    dir: PathBuf,
    ground: Child,
    nginx: Child,
    told: Told,
    peer: SocketAddrV4,
}

/// What the ground says of itself.
#[derive(Debug, Deserialize)]
struct Told {
    inside: SocketAddrV4,
    outside: SocketAddrV4,
    processes: Vec<u32>,
}

impl Servers {
    /// Starts them.
    pub(super) fn start() -> Result<Servers> {
        let target = workspace::target()?;
        let dir = target.join("bench-dav");
        // What a killed run has left.
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        for name in ["files", "coming"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let mut ground = held(&target.join("release/examples/ground"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("ours.log"))?)
            .spawn()
            .context("start our programs")?;
        let mut line = String::new();
        let out = ground.stdout.take().context("it has an output")?;
        BufReader::new(out).read_line(&mut line).context("hear where our programs are")?;
        let told = serde_json::from_str(&line)
            .with_context(|| format!("our programs did not start: {}/ours.log", dir.display()))?;
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let peer = SocketAddrV4::new([127, 0, 0, 1].into(), free);
        let nginx = nginx(&dir, peer)?;
        Ok(Servers { dir, ground, nginx, told, peer })
    }

    /// Where machines write.
    pub(super) fn inside(&self) -> SocketAddrV4 {
        self.told.inside
    }

    /// Where researchers read.
    pub(super) fn outside(&self) -> SocketAddrV4 {
        self.told.outside
    }

    /// Where nginx is.
    pub(super) fn peer(&self) -> SocketAddrV4 {
        self.peer
    }

    /// The folder of nginx's files.
    pub(super) fn peer_files(&self) -> PathBuf {
        self.dir.join("files")
    }

    /// What both our programs held at most, in MB.
    pub(super) fn memory_ours(&self) -> Result<f64> {
        let most = |id: &u32| -> Result<f64> {
            let status = fs::read_to_string(format!("/proc/{id}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            Ok(kib.context("the kernel tells no VmHWM")?.parse::<f64>()? * 1024.0 / 1e6)
        };
        self.told.processes.iter().map(most).sum()
    }
}

/// A command that ends with us, however we end.
fn held(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn nginx(dir: &Path, address: SocketAddrV4) -> Result<Child> {
    let (at, file) = (dir.display(), dir.join("nginx.conf"));
    let text = format!(
        "user root;\nworker_processes auto;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
         daemon off;\nevents {{ worker_connections 768; }}\nhttp {{\n  sendfile on;\n  \
         tcp_nopush on;\n  types_hash_max_size 2048;\n  access_log {at}/access.log;\n  \
         client_body_temp_path {at}/coming;\n  client_max_body_size 0;\n  \
         server {{ listen {address}; root {at}/files; dav_methods PUT DELETE; }}\n}}\n"
    );
    fs::write(&file, text)?;
    // Its workers end with it, however it ends.
    let child = held(Path::new("unshare"))
        .args(["-p", "--fork", "--kill-child=KILL", "--", "nginx", "-c"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(File::create(dir.join("nginx.log"))?)
        .spawn()
        .context("start nginx")?;
    let begun = Instant::now();
    while TcpStream::connect(address).is_err() {
        if begun.elapsed() > Duration::from_secs(10) {
            bail!("nginx does not listen: {at}/nginx.log");
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}

impl Drop for Servers {
    fn drop(&mut self) {
        // It ends with its input, and takes its programs along.
        drop(self.ground.stdin.take());
        let begun = Instant::now();
        while matches!(self.ground.try_wait(), Ok(None)) {
            if begun.elapsed() > Duration::from_secs(10) {
                let _gone_meanwhile = self.ground.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ended_already = self.nginx.kill();
        let _reaped = self.nginx.wait();
        let _left_for_the_next_run = fs::remove_dir_all(&self.dir);
    }
}
