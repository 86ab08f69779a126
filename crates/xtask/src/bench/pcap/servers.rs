//! Our server and nginx beside it, over one folder of published days.

use super::super::routed::Routed;
use crate::workspace;
use anyhow::{Context, Result};
use nonstop_testkit::place::{Place, wait_for};
use serde_json::json;
use std::{
    fs::{self, File, Permissions},
    io::{self, Read},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 3);
pub(super) const OURS: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 80);
pub(super) const NGINX: SocketAddrV4 = SocketAddrV4::new(ADDRESS, 8080);

/// Both, until they are dropped.
pub(super) struct Servers {
    dir: PathBuf,
    children: Vec<Child>,
}

impl Servers {
    /// Starts both over `days` of so many bytes.
    pub(super) fn start(routed: &Routed, program: &Path, days: &[(&str, u64)]) -> Result<Servers> {
        let dir = workspace::target()?.join("bench-pcap");
        // What a killed run has left.
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        let published = dir.join("state/data/bench/published/pcap");
        fs::create_dir_all(&published)?;
        for folder in [&dir, &published] {
            fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        }
        for (day, bytes) in days {
            publish(&published, day, *bytes)?;
        }
        let mut servers = Servers { dir, children: Vec::new() };
        servers.ours(routed, program)?;
        servers.nginx(routed, &published)?;
        let there = routed.servers();
        wait_for("both to listen", Duration::from_secs(20), || {
            let found = there.line("ss -Hltn")?;
            Ok((found.contains(":80 ") && found.contains(":8080 ")).then_some(()))
        })?;
        Ok(servers)
    }

    fn ours(&mut self, routed: &Routed, program: &Path) -> Result<()> {
        let at = self.dir.display();
        let lab = format!(
            "version: 1\nname: bench\nstate: {at}/state\nrun: {at}/run\ndata_domains:\n  bench:\n    \
             interface: nsd0\n    network: 10.80.0.0/24\n    servers:\n      \
             pcap: {{ address: {ADDRESS}, tcp: [80] }}\n"
        );
        fs::write(self.dir.join("lab.yaml"), lab)?;
        let mut users = fs::read_to_string("/etc/passwd")?;
        users.push_str("nonstop-data:x:64103:64103::/:/usr/sbin/nologin\n");
        fs::write(self.dir.join("passwd"), users)?;
        // The first one of a name counts; where there is none this gives it one.
        let script = format!(
            "mount --make-rprivate / && mount --bind {at}/passwd /etc/passwd && \
             exec {} pcap --lab {at}/lab.yaml --domain bench",
            program.display()
        );
        self.run(routed, "ours", &["unshare", "-m", "--", "sh", "-c", &script])
    }

    fn nginx(&mut self, routed: &Routed, published: &Path) -> Result<()> {
        let at = self.dir.display();
        let file = self.dir.join("nginx.conf");
        let text = format!(
            "user root;\nworker_processes auto;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\n\
             daemon off;\nevents {{ worker_connections 768; }}\nhttp {{\n  sendfile on;\n  \
             tcp_nopush on;\n  types_hash_max_size 2048;\n  access_log {at}/access.log;\n  \
             server {{ listen {NGINX}; root {}; }}\n}}\n",
            published.display()
        );
        fs::write(&file, text)?;
        let file = file.display().to_string();
        // Its workers end with it, however it ends.
        let words = ["unshare", "-p", "--fork", "--kill-child=KILL", "--", "nginx", "-c", &file];
        self.run(routed, "nginx", &words)
    }

    fn run(&mut self, routed: &Routed, name: &str, words: &[&str]) -> Result<()> {
        let log = File::create(self.dir.join(format!("{name}.log")))?;
        // Either ends with us, however we end.
        let mut command = routed.servers().command("setpriv");
        let command = command.args(["--pdeathsig", "KILL", "--"]).args(words);
        let child = command.stdout(Stdio::from(log.try_clone()?)).stderr(log).spawn();
        self.children.push(child.with_context(|| format!("start {name}"))?);
        Ok(())
    }
}

/// A day of `bytes` that do not repeat, as `nonstopd` publishes it.
fn publish(published: &Path, day: &str, bytes: u64) -> Result<()> {
    let folder = published.join(day);
    fs::create_dir(&folder)?;
    let name = format!("{day}.pcap");
    let path = folder.join(&name);
    let source = File::open("/dev/urandom")?;
    io::copy(&mut source.take(bytes), &mut File::create(&path)?)?;
    let sum = Place::here().run(&["sha256sum".as_ref(), path.as_os_str()])?;
    let note = json!({
        "day": day, "file": name, "format": "pcap", "bytes": bytes, "packets": 1,
        "first": format!("{day}T00:00:00Z"), "last": format!("{day}T23:59:59Z"),
        "sha256": sum.split(' ').next(), "published": format!("{day}T12:00:00Z"),
        "publication": "p1",
    });
    Ok(fs::write(folder.join("day.json"), note.to_string())?)
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ended_already = child.kill();
            let _reaped = child.wait();
        }
        let _left_for_the_next_run = fs::remove_dir_all(&self.dir);
    }
}
