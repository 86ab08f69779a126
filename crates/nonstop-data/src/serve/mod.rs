//! `nonstop-data serve`: keeps the servers of all data domains of this host running.
//!
//! For each of them a keeper enters the network of its data domain and starts it there, again and
//! again ([`keeper`]). A server ends with this program, however this ends. What servers report of
//! fetches goes on to `nonstopd` ([`relay`]); how far each is stands in `RUN/data/status.json`
//! for `nonstop check`, and this program's lock beside it says whether that is still true.

mod board;
mod keeper;
mod relay;

use anyhow::{Context, Result, bail};
use board::Board;
use clap::Parser;
use keeper::Keeper;
use nonstop_api::{fetch, serving::Serving};
use nonstop_model::{Lab, Resource};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    fs::{self, DirBuilder, File},
    net::SocketAddrV4,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Keeps the servers of this lab's data domains running; as root.
#[derive(Debug, Parser)]
pub struct Args {
    /// The lab's file.
    #[arg(long, default_value = "/etc/nonstop/lab.yaml")]
    lab: PathBuf,
}

/// What serves samples, and what is known of them: a program of its own beside this one, for it reads
/// their index with SQLite.
const SAMPLES: &str = "nonstop-samples";

/// The program that serves `resource` as `server`, its words, and what its log calls it; None for what
/// is not served by us.
fn served_by(resource: Resource, server: &str) -> Result<Option<(PathBuf, Vec<String>, String)>> {
    let me = std::env::current_exe().context("find this program")?;
    let verb = |verb: &str| Some((me.clone(), vec![verb.into()], verb.into()));
    Ok(match resource {
        Resource::Pcap => verb("pcap"),
        Resource::Rdb => verb("rdb"),
        // Several of them may be of one resource, with and without bytes.
        Resource::Samples | Resource::Reports => {
            let words = ["serve", "--server", server].map(String::from).into();
            Some((me.with_file_name(SAMPLES), words, server.into()))
        }
        Resource::Live => None,
    })
}

/// Runs until it is told to end.
pub fn run(args: &Args) -> ExitCode {
    match serve(&args.lab) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("nonstop-data serve: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: &Path) -> Result<()> {
    let lab = Lab::load(file)?;
    let run = lab.run.join("data");
    folder(&run)?;
    let lock = Serving::lock(&lab.run);
    let lock = File::create(&lock).with_context(|| format!("make {}", lock.display()))?;
    if lock.try_lock().is_err() {
        bail!("another `nonstop-data serve` runs already");
    }
    let over = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&over)).context("hear signals")?;
    }
    let board = Arc::new(Board::new(Serving::path(&lab.run)));
    let relay = relay::start(fetch::socket(&lab.run))?;
    let mut keepers = Vec::new();
    for (name, domain) in lab.data_domains.iter().filter(|(_, domain)| domain.here) {
        for (server, at, resource) in domain.ours() {
            let Some((program, words, called)) = served_by(resource, server)? else { continue };
            folder(&run.join(name))?;
            let port = *at.tcp.first().context("a server without a port")?;
            keepers.push(Keeper {
                file: file.into(),
                domain: name.clone(),
                program,
                words,
                called,
                address: SocketAddrV4::new(at.address, port),
                place: board.add(name, server),
                board: Arc::clone(&board),
                relay: relay.clone(),
                over: Arc::clone(&over),
            });
        }
    }
    board.write()?;
    let keepers = keepers.into_iter().map(|keeper| {
        thread::Builder::new().spawn(move || keeper.keep()).context("start a keeper")
    });
    for keeper in keepers.collect::<Result<Vec<_>>>()? {
        if keeper.join().is_err() {
            bail!("a keeper panicked");
        }
    }
    // Without any server it still runs, as its unit has it.
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A folder on the way to sockets that other users of ours reach.
fn folder(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    made.and_then(|()| fs::set_permissions(path, open))
        .with_context(|| format!("make {}", path.display()))
}
