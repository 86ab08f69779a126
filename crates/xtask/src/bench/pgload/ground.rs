//! A data domain's PostgreSQL as a lab has it, writer and reader, in namespaces of its own.

use crate::run::run;
use anyhow::{Context, Result, bail};
use nonstop_testkit::interrupt;
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const DOMAIN: &str = "bench";

const LAB: &str = "version: 1
name: bench
state: FOLDER/state
run: FOLDER/run
data_domains:
  bench:
    interface: nsd0
    network: 10.78.0.0/24
    servers:
      rdb: { address: 10.78.0.10, tcp: [5432] }
";

/// Users as a host has them, and the address of the rdb; waits for the end of its input.
const HOLD: &str = r#"
set -e
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/userdb
for user in nonstop-data:64103 nonstop-rdb:64104 nonstop-loader:64105; do
  name=${user%:*} id=${user#*:}
  echo "{\"userName\":\"$name\",\"uid\":$id,\"gid\":$id,\"homeDirectory\":\"/\",\"shell\":\"/usr/sbin/nologin\",\"disposition\":\"system\"}" > /run/userdb/$name.user
  echo "{\"groupName\":\"$name\",\"gid\":$id,\"disposition\":\"system\"}" > /run/userdb/$name.group
  ln -s $name.user /run/userdb/$id.user; ln -s $name.group /run/userdb/$id.group
done
sed -E '/^(passwd|group):/{/systemd/!s/$/ systemd/}' /etc/nsswitch.conf > /run/nsswitch.conf
mount --bind /run/nsswitch.conf /etc/nsswitch.conf
ip link set lo up
ip address add 10.78.0.10/24 dev lo
echo ready
exec cat > /dev/null
"#;

/// Both servers, until it is dropped.
pub(super) struct Ground {
    folder: PathBuf,
    program: PathBuf,
    holder: Child,
    _life: ChildStdin,
    rdb: Child,
}

impl Ground {
    /// Starts both in `folder`, whose name is short, by `program`.
    pub(super) fn new(folder: &Path, program: &Path) -> Result<Ground> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let lab = folder.join("lab.yaml");
        fs::write(&lab, LAB.replace("FOLDER", &folder.display().to_string()))?;
        let mut holder = Command::new("unshare")
            .args(["-m", "-n", "--propagation", "private", "--", "sh", "-c", HOLD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("make namespaces")?;
        let life = holder.stdin.take().context("piped")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("piped")?).read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("namespaces could not be made: {line}");
        }
        let log = fs::File::create(folder.join("log"))?;
        let rdb = inside(&holder)
            .arg(program)
            .args(["rdb", "--domain", DOMAIN, "--lab"])
            .arg(&lab)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("start the rdb")?;
        let ground =
            Ground { folder: folder.into(), program: program.into(), holder, _life: life, rdb };
        ground.settle()?;
        Ok(ground)
    }

    /// Begins one of our verbs that speaks with the writer.
    pub(super) fn verb(&self, verb: &str) -> Command {
        let mut command = inside(&self.holder);
        command.arg(&self.program).arg(verb).arg("--socket").arg(self.socket());
        command
    }

    /// Begins a psql as the loader, or another role.
    pub(super) fn psql(&self, role: &str) -> Command {
        let mut command = inside(&self.holder);
        command.args(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", "darknet", "-U", role, "-h"]);
        command.arg(self.socket()).env("PGOPTIONS", "-c client_min_messages=warning");
        command
    }

    /// Begins a shell, which finds the writer by PGHOST.
    pub(super) fn shell(&self, script: &str) -> Command {
        let mut command = inside(&self.holder);
        command.args(["sh", "-c", script]).env("PGHOST", self.socket()).env("TZ", "UTC");
        command
    }

    /// Waits until the reader has all that the writer has, and everything is on the disk.
    pub(super) fn settle(&self) -> Result<()> {
        let followed = "select bool_and(replay_lsn >= pg_current_wal_flush_lsn()) \
                        from pg_stat_replication where application_name = 'reader'";
        let since = Instant::now();
        loop {
            interrupt::check()?;
            let output = self.psql("nonstop").args(["-c", followed]).output().context("psql")?;
            if output.stdout.starts_with(b"t") {
                break;
            }
            if since.elapsed() > Duration::from_secs(600) {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("the reader does not follow:\n{log}");
            }
            thread::sleep(Duration::from_millis(200));
        }
        run("a checkpoint", self.psql("nonstop").args(["-c", "checkpoint"]))
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run/data").join(DOMAIN).join("rdb-load")
    }
}

fn inside(holder: &Child) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-m", "-n", "-t", &holder.id().to_string(), "--"]);
    command
}

impl Drop for Ground {
    fn drop(&mut self) {
        for child in [&mut self.rdb, &mut self.holder] {
            let _ended_already = child.kill();
            let _ = child.wait();
        }
        thread::sleep(Duration::from_millis(300));
        let _ = fs::remove_dir_all(&self.folder);
    }
}
