//! The two servers' files and words: made whole or not at all, and told anew at each start.

use crate::rdb::{DATABASE, KEEPER, LOADER, places::Places};
use anyhow::{Context as _, bail};
use nonstop_model::RdbLimits;
use std::{
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Takes days from the loader.
    Writer,
    /// Follows the writer and answers machines.
    Reader,
}

impl Part {
    /// Its word in paths and the log.
    pub fn word(self) -> &'static str {
        match self {
            Part::Writer => "writer",
            Part::Reader => "reader",
        }
    }

    /// Its files.
    pub fn folder(self, places: &Places) -> PathBuf {
        places.clusters.join(self.word())
    }

    /// Where its socket is.
    pub fn socket(self, places: &Places) -> &Path {
        match self {
            Part::Writer => &places.load,
            Part::Reader => &places.read,
        }
    }
}

/// How much the reader gives way to what else the host does.
const NICE: &str = "10";

/// Connections that the reader has room for; the front gives out fewer.
pub const READER_CONNECTIONS: u32 = 300;

/// Backends that the writer has room for.
const WRITER_CONNECTIONS: u32 = 20;

/// The folder of the programs of PostgreSQL that fit the files in `folder`; the newest ones if
/// there are none yet.
pub fn programs(folder: &Path) -> anyhow::Result<PathBuf> {
    let base = Path::new("/usr/lib/postgresql");
    let bin = |version: &str| base.join(version).join("bin");
    if let Ok(version) = fs::read_to_string(folder.join("PG_VERSION")) {
        let version = version.trim();
        if bin(version).join("postgres").exists() {
            return Ok(bin(version));
        }
        bail!(
            "{} was made by PostgreSQL {version}, which is not installed: install \
             postgresql-{version}, or remove the folder of both servers and load the published \
             days again",
            folder.display()
        );
    }
    let newest = fs::read_dir(base)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| bin(&version.to_string()).join("initdb").exists())
        .max();
    let newest = newest.context("PostgreSQL is not installed: apt-get install postgresql")?;
    Ok(bin(&newest.to_string()))
}

/// Makes the writer's files exist, empty ones if there are none.
///
/// Repeatable. What a power cut left of an earlier try is thrown away.
pub fn ensure_writer(places: &Places) -> anyhow::Result<()> {
    let folder = Part::Writer.folder(places);
    if folder.exists() {
        return Ok(());
    }
    let new = folder.with_extension("new");
    remove(places, &new)?;
    let output = as_owner(places, &programs(&new)?.join("initdb"))
        .args(["--auth=reject", "--data-checksums", "--no-locale", "--encoding=UTF8"])
        .args(["--username", KEEPER, "--pgdata"])
        .arg(&new)
        .output()
        .context("run initdb")?;
    if !output.status.success() {
        bail!("initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    put_in_place(&new, &folder)
}

/// The program that copies the writer to `reader.new`; [`adopt_copy`] makes it the reader.
pub fn copy_of_writer(places: &Places) -> anyhow::Result<Command> {
    let new = Part::Reader.folder(places).with_extension("new");
    remove(places, &new)?;
    let bin = programs(&Part::Writer.folder(places))?;
    let mut command = as_owner(places, &bin.join("pg_basebackup"));
    command
        .args(["--username=reader", "--checkpoint=fast", "--wal-method=stream", "--no-password"])
        .args(["--slot", SLOT, "--write-recovery-conf"])
        .arg("--host")
        .arg(&places.load)
        .arg("--pgdata")
        .arg(&new);
    Ok(command)
}

/// Puts the finished copy in place of the reader, which does not run.
pub fn adopt_copy(places: &Places) -> anyhow::Result<()> {
    let folder = Part::Reader.folder(places);
    remove(places, &folder)?;
    put_in_place(&folder.with_extension("new"), &folder)
}

/// The slot by which the writer keeps what the reader has not got yet.
pub const SLOT: &str = "reader";

fn remove(places: &Places, folder: &Path) -> anyhow::Result<()> {
    remove_all(places, &[folder.into()])
}

/// Removes files of PostgreSQL's, as their owner.
pub(crate) fn remove_all(places: &Places, paths: &[PathBuf]) -> anyhow::Result<()> {
    let status = as_owner(places, Path::new("rm")).arg("-rf").arg("--").args(paths).status();
    match status.context("run rm")?.success() {
        true => Ok(()),
        false => bail!("{paths:?} cannot be removed"),
    }
}

fn put_in_place(new: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::rename(new, folder).with_context(|| format!("rename to {}", folder.display()))?;
    let parent = folder.parent().expect("both lie in the folder of the clusters");
    fs::File::open(parent).and_then(|f| f.sync_all()).context("sync the folder of the clusters")
}

/// A program that runs as PostgreSQL's user.
fn as_owner(places: &Places, program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .uid(places.owner.uid)
        .gid(places.owner.gid)
        .current_dir("/")
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

/// The server's program. Its words are written anew; whatever of an earlier run is left in its
/// folder is cleared away: the caller knows that nothing of it runs.
pub fn server(places: &Places, part: Part, limits: RdbLimits) -> anyhow::Result<Command> {
    let folder = part.folder(places);
    let words = |kind: &str| places.words.join(format!("{}.{kind}", part.word()));
    let own = match part {
        Part::Writer => writer_words(places)?,
        Part::Reader => reader_words(places, limits),
    };
    let mut text = common_words(places, part);
    for (file, kind) in [("hba_file", "hba"), ("ident_file", "ident")] {
        say(&mut text, file, &words(kind).display().to_string());
    }
    for (key, value) in own {
        say(&mut text, key, &value);
    }
    for (kind, text) in [("conf", text), ("hba", admission(part)), ("ident", identities())] {
        let path = words(kind);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    // In a new namespace of processes its number may be another's by now.
    match fs::remove_file(folder.join("postmaster.pid")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).context("remove postmaster.pid of an earlier run");
        }
        _ => {}
    }
    let program = programs(&folder)?.join("postgres");
    let mut command = match part {
        Part::Writer => as_owner(places, &program),
        // Inherited by the process of every connection, and not to be raised by it. What is
        // shared does not count as data.
        Part::Reader => {
            let bytes = u64::from(limits.memory_mib) << 20;
            let mut command = as_owner(places, Path::new("prlimit"));
            command.arg(format!("--data={bytes}")).args(["--core=0", "nice", "-n", NICE]);
            command.arg(&program);
            command
        }
    };
    command.arg("-D").arg(&folder).arg("-c");
    command.arg(format!("config_file={}", words("conf").display()));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

fn say(text: &mut String, key: &str, value: &str) {
    let value = value.replace('\\', "\\\\").replace('\'', "''");
    writeln!(text, "{key} = '{value}'").expect("writing to a string");
}

fn common_words(places: &Places, part: Part) -> String {
    let mut text = String::new();
    let socket = part.socket(places).display().to_string();
    let prefix = format!("{} [%p] ", part.word());
    for (key, value) in [
        ("listen_addresses", ""),
        ("unix_socket_directories", &socket),
        // The folder says who.
        ("unix_socket_permissions", "0777"),
        ("superuser_reserved_connections", "3"),
        // Whether a worker is free would be told by one role to another; none is planned for.
        ("max_worker_processes", "0"),
        ("max_parallel_workers_per_gather", "0"),
        ("max_logical_replication_workers", "0"),
        // A query over years locks each part and its indexes.
        ("max_locks_per_transaction", "256"),
        ("wal_level", "replica"),
        ("max_wal_senders", "4"),
        ("jit", "off"),
        // Nobody can switch on what cannot be found.
        ("jit_provider", "none_of_ours"),
        ("cluster_name", part.word()),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("datestyle", "ISO"),
        ("logging_collector", "off"),
        ("log_line_prefix", &prefix),
        ("log_min_error_statement", "panic"),
        ("log_checkpoints", "off"),
        // A day that is loaded has many.
        ("checkpoint_warning", "0"),
        ("log_autovacuum_min_duration", "-1"),
        ("checkpoint_timeout", "15min"),
    ] {
        say(&mut text, key, value);
    }
    text
}

fn writer_words(places: &Places) -> anyhow::Result<Vec<(&'static str, String)>> {
    let wal = wal_mib(&places.clusters)?;
    Ok(vec![
        ("max_connections", WRITER_CONNECTIONS.to_string()),
        ("log_min_messages", "log".into()),
        ("shared_buffers", "128MB".into()),
        ("maintenance_work_mem", "256MB".into()),
        ("wal_compression", "on".into()),
        ("max_wal_size", format!("{wal}MB")),
        ("min_wal_size", format!("{}MB", (wal / 4).max(32))),
        // A reader that is away longer than this is made anew.
        ("max_slot_wal_keep_size", format!("{wal}MB")),
        ("max_replication_slots", "2".into()),
    ])
}

fn reader_words(places: &Places, limits: RdbLimits) -> Vec<(&'static str, String)> {
    let memory_mib = rustix::system::sysinfo().totalram >> 20;
    let wal = wal_mib(&places.clusters).unwrap_or(64);
    vec![
        ("hot_standby", "on".into()),
        ("primary_conninfo", format!("host='{}' user=reader", places.load.display())),
        ("primary_slot_name", SLOT.into()),
        // What a query still needs is not cleaned away under it; the watchdog ends queries.
        ("hot_standby_feedback", "on".into()),
        // Only a day that is replaced or removed waits for queries, and new ones wait meanwhile.
        ("max_standby_streaming_delay", "15s".into()),
        ("wal_receiver_status_interval", "1s".into()),
        ("wal_retrieve_retry_interval", "1s".into()),
        ("max_connections", READER_CONNECTIONS.to_string()),
        // What machines do and write fills no log.
        ("log_min_messages", "fatal".into()),
        ("shared_buffers", format!("{}MB", (memory_mib / 32).clamp(64, 1024))),
        ("effective_cache_size", format!("{}MB", (memory_mib / 4).max(128))),
        ("max_wal_size", format!("{wal}MB")),
        ("min_wal_size", "32MB".into()),
        ("temp_file_limit", format!("{}MB", limits.temporary_mib)),
        // Advice, which a role may change: the watchdog holds.
        ("statement_timeout", format!("{}s", limits.query_seconds)),
        ("work_mem", format!("{}MB", (limits.memory_mib / 8).clamp(4, 256))),
        // Who is gone needs no answer.
        ("client_connection_check_interval", "5s".into()),
    ]
}

/// MiB of log that the writer may keep, and the reader, by the size of the disk.
fn wal_mib(clusters: &Path) -> anyhow::Result<u64> {
    let disk = rustix::fs::statvfs(clusters).context("look at the disk")?;
    Ok((((disk.f_blocks * disk.f_frsize) >> 20) / 50).clamp(64, 2048))
}

/// Who may connect: known by the user of the process at the other end, and by who may enter the
/// folder of the socket.
fn admission(part: Part) -> String {
    match part {
        Part::Writer => format!(
            "local {DATABASE} {LOADER} peer map=nonstop\n\
             local all {KEEPER} peer map=nonstop\n\
             local replication reader peer map=nonstop\n"
        ),
        // The folder of the socket is entered by the servers' user alone, who may be any machine.
        Part::Reader => format!(
            "local all {KEEPER} peer map=nonstop\n\
             local {DATABASE} +machine trust\n"
        ),
    }
}

fn identities() -> String {
    format!(
        "nonstop root {KEEPER}\n\
         nonstop root {LOADER}\n\
         nonstop nonstop-loader {LOADER}\n\
         nonstop nonstop-rdb reader\n"
    )
}
