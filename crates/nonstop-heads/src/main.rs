//! `nonstop-heads`: puts heads of the trace out of this host's reach, into a folder, a mail or a host of
//! the lab's.
//!
//! It is the only program of ours with a way out, and so it has nothing but what it brings: it asks
//! `nonstopd` which heads a place lacks, brings them, oldest first, and says so. It keeps nothing
//! itself: killed at any instant, it asks again. A place may then get a head twice, and never misses
//! one. One thread a place: a mail server that hangs keeps no folder waiting.

mod daemon;
mod folder;
mod helper;
mod mail;
mod post;

use clap::Parser;
use daemon::Daemon;
use nonstop_api::heads::{Errand, Parcel};
use nonstop_model::{Lab, trace::Heads};
use std::{path::PathBuf, thread, time::Duration};
use tracing::{info, warn};

/// How often it asks while there is nothing to bring.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Puts heads of the trace out of this host's reach, as `trace.heads` of lab.yaml says.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file that describes the lab.
    #[arg(long, env = "NONSTOP_LAB", default_value = "/etc/nonstop/lab.yaml")]
    lab: PathBuf,
}

/// A second place.
#[derive(Debug, Clone)]
enum Place {
    Folder(PathBuf),
    Mail { address: String, sendmail: PathBuf },
    Post(String),
}

/// Why a place did not take a head, for people to read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Refused {
    fn io(doing: impl std::fmt::Display, e: &std::io::Error) -> Refused {
        Refused(format!("{doing}: {e}"))
    }
}

fn main() -> miette::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // A log that lies on a full disk must not end the program.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    if rustix::process::geteuid().is_root() {
        return Err(miette::miette!(
            help = "start it by systemd, or with `setpriv` as the user of `trace.heads.user`",
            "nonstop-heads does not run as root: it alone has a way out"
        ));
    }
    let lab = Lab::load(&args.lab)?;
    let places = places(&lab.trace.heads);
    if places.is_empty() {
        info!("lab.yaml names no second place for heads: there is nothing to do");
    }
    let threads: Vec<_> = places
        .into_iter()
        .map(|(name, place)| {
            let daemon = Daemon::new(lab.heads_socket());
            thread::spawn(move || keep_bringing(&daemon, &name, &place))
        })
        .collect();
    threads.into_iter().for_each(|thread| {
        let _ended = thread.join();
    });
    // A unit that is to run always is not started over and over for nothing.
    loop {
        thread::park();
    }
}

fn places(heads: &Heads) -> Vec<(String, Place)> {
    let folder = heads.folder.iter().map(|path| Place::Folder(path.clone()));
    let mail = heads
        .mail
        .iter()
        .map(|address| Place::Mail { address: address.clone(), sendmail: heads.sendmail.clone() });
    let url = heads.url.iter().map(|url| Place::Post(url.clone()));
    heads.places().into_iter().zip(folder.chain(mail).chain(url)).collect()
}

fn keep_bringing(daemon: &Daemon, name: &str, place: &Place) -> ! {
    let (mut said, mut wait) = (String::new(), ASK_EVERY);
    loop {
        let failed = match daemon.errand(name) {
            Ok(None) => None,
            Ok(Some(errand)) => bring(daemon, &errand, place).err().map(|e| e.0),
            Err(e) => Some(format!("nonstopd: {e}")),
        };
        match failed {
            None => (said, wait) = (String::new(), ASK_EVERY),
            Some(why) => {
                if why != said {
                    warn!("{name} does not take heads: {why}");
                }
                (said, wait) = (why, (wait * 2).min(LONGEST_WAIT));
            }
        }
        thread::sleep(wait);
    }
}

/// Brings what `errand` holds, and tells the daemon of each success and of the failure that ends it.
fn bring(daemon: &Daemon, errand: &Errand, place: &Place) -> Result<(), Refused> {
    let mut brought = None;
    let result = match place {
        Place::Folder(folder) => each(errand, &mut brought, |head| folder::put(folder, head)),
        Place::Post(url) => each(errand, &mut brought, |head| post::post(url, head)),
        Place::Mail { address, sendmail } => {
            let sent = mail::send(sendmail, address, errand);
            if sent.is_ok() {
                brought = errand.heads.last().map(|head| head.seq);
            }
            sent
        }
    };
    let told = |e: std::io::Error| Refused::io("tell nonstopd", &e);
    if let Some(seq) = brought {
        daemon.sent(&errand.place, seq).map_err(told)?;
        info!("{} has the heads up to row {seq}", errand.place);
    }
    if let Err(why) = &result {
        daemon.failed(&errand.place, &why.0).map_err(told)?;
    }
    result
}

fn each(
    errand: &Errand,
    brought: &mut Option<u64>,
    put: impl Fn(&Parcel) -> Result<(), Refused>,
) -> Result<(), Refused> {
    for head in &errand.heads {
        put(head)?;
        *brought = Some(head.seq);
    }
    Ok(())
}
