//! How fast accounts move bytes through the gateway: both ways, shared by all sessions of one.
//!
//! What sshd forwards for an account passes the host's own interfaces as connections of that
//! account's uid. There they are marked when they open; the packets of marked ones, and of no others,
//! take a detour over one IFB device, on which HTB has the classes (`decisions/0021`). So no qdisc of
//! anybody else's interface is touched, and the desktop does not wait behind a bulk transfer.
//! Everything lies in the kernel and outlives the daemon; a power cut takes it away with the
//! gateway's files, which come back after it.

mod programs;
mod render;

use crate::HostError;
use nonstop_plan::{Desk, Shaping};
use programs::{ShapingError, run, sorted_listing};
use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The device on which packets wait, and which nobody else uses.
pub const DEVICE: &str = "nsq";

/// What limits bandwidth on this host.
#[derive(Debug, Default)]
pub struct Shaper(Mutex<Option<Applied>>);

/// What was made last, and how the kernel lists it.
#[derive(Debug)]
struct Applied {
    shaping: Shaping,
    listing: Vec<String>,
}

/// What the kernel holds of limits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShaperState {
    /// What is there; nothing where it is not known to be whole.
    pub shaping: Shaping,
    /// What somebody changed by hand, in a sentence.
    pub drift: Option<String>,
}

impl Shaper {
    /// What the kernel holds of the limits that were applied last, by this object.
    ///
    /// Errors: the kernel's tables, classes or devices cannot be listed.
    pub fn observe(&self) -> Result<ShaperState, HostError> {
        let applied = self.applied();
        let Some(Applied { shaping, listing }) = &*applied else {
            return Ok(ShaperState::default());
        };
        let listed = sorted_listing(run("sh", &["-u"], &render::list()))
            .map_err(|e| HostError::new("list the limits of bandwidth", e).help(HELP))?;
        if listed == *listing {
            return Ok(ShaperState { shaping: shaping.clone(), drift: None });
        }
        // A bridge that goes takes its name out of our chains.
        let gone = |desk: &Desk| !exists(desk.segment.as_str());
        let drift = (!shaping.desks.iter().any(gone))
            .then(|| "the limits of accounts' bandwidth; they are made anew".to_string());
        Ok(ShaperState { shaping: Shaping::default(), drift })
    }

    /// Makes exactly the limits of `shaping` hold, for connections that are open too. Repeatable;
    /// nobody has no limit meanwhile who had one.
    ///
    /// Errors: the kernel has no IFB, HTB or TBF, or cannot forward at the hook egress; a bridge is not
    /// there; something else is called like our device.
    pub fn apply(&self, shaping: &Shaping) -> Result<(), HostError> {
        let mut applied = self.applied();
        *applied = None;
        let listing =
            self.make(shaping).map_err(|e| HostError::new(format!("{shaping}"), e).help(HELP))?;
        *applied = Some(Applied { shaping: shaping.clone(), listing });
        Ok(())
    }

    fn make(&self, shaping: &Shaping) -> Result<Vec<String>, ShapingError> {
        // How the kernel lists it where nothing else is, so that leftovers of others show.
        let elsewhere = ["--net", "--", "sh", "-eu"];
        let script = [render::stand_ins(shaping), render::make(shaping), render::list()].concat();
        let wanted = sorted_listing(run("unshare", &elsewhere, &script))?;
        let here = || {
            let script = [render::make(shaping), self.leftovers(shaping)?].concat();
            run("sh", &["-eu"], &script)?;
            sorted_listing(run("sh", &["-u"], &render::list()))
        };
        match here() {
            Ok(listed) if listed == wanted => return Ok(wanted),
            Ok(_) => {}
            Err(e) => tracing::warn!("limits of bandwidth are made from nothing: {e}"),
        }
        // From nothing: packets of limited accounts are dropped until it is there again.
        run("sh", &["-eu"], &render::remove_device())?;
        let listed = here()?;
        if listed == wanted {
            return Ok(wanted);
        }
        let differs = |of: &[String], from: &[String]| {
            let from: BTreeSet<_> = from.iter().collect();
            of.iter().find(|line| !from.contains(line)).cloned().unwrap_or_default()
        };
        Err(ShapingError::Differs {
            wanted: differs(&wanted, &listed),
            found: differs(&listed, &wanted),
        })
    }

    /// Commands that remove classes which nobody wants any more.
    fn leftovers(&self, shaping: &Shaping) -> Result<String, ShapingError> {
        if shaping.limited().next().is_none() || !exists(DEVICE) {
            return Ok(String::new());
        }
        let listed = run("tc", &["class", "show", "dev", DEVICE], "")?;
        Ok(render::leftovers(&listed, shaping))
    }

    fn applied(&self) -> MutexGuard<'_, Option<Applied>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HELP: &str = "limits of bandwidth need `ip`, `tc` and `nft`, and a kernel of 5.16 or later with \
     ifb, sch_htb, sch_tbf, nf_tables at the hook egress and nft_fwd_netdev; without them set \
     `gateway.bandwidth_kbit` to null, and give no account a limit of its own";

/// Whether there is an interface called `name`.
fn exists(name: &str) -> bool {
    std::path::Path::new("/proc/sys/net/ipv4/conf").join(name).exists()
}
