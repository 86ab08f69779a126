//! What the machines of a link have sent, as the kernel counts it: to each other, refused, and past
//! the link.

use super::{Firewall, HELP, nft};
use crate::HostError;
use nonstop_model::{EnvironmentId, MachineId, SegmentKind, SegmentName, network::link_tap};
use serde_json::Value;
use std::{collections::BTreeMap, fs};

/// The set of what was for the other machine of the link.
pub(super) const BETWEEN: &str = "link_between";
/// The set of what our rules refused.
pub(super) const REFUSED: &str = "link_refused";
/// The set of what no filter refused, and was not for the other machine.
pub(super) const LEFT: &str = "link_left";

/// Packets that the machines of one link have sent, since our tables were loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCounts {
    /// Which load of our tables counts: two counts can be compared if this is the same in both. It
    /// differs after each load, also after the host has started anew.
    pub tables: String,
    /// Packets for the other machine of the link.
    pub between: u64,
    /// Attempts that were refused: to reach the host, to speak with another card's address, or faster
    /// than a link may. The copies of broadcasts that the host does not hear are none.
    pub refused: u64,
    /// Packets that passed every filter and went elsewhere than to the other machine: counted after
    /// all filters, so that a rule which lets them out does not hide them. None do.
    pub left: u64,
}

impl Firewall {
    /// What `machines` have sent on the link segment of `environment`. None while our tables are not
    /// loaded.
    ///
    /// Errors: `nft` cannot be run.
    pub fn link_counts(
        &self,
        environment: EnvironmentId,
        machines: &[MachineId],
    ) -> Result<Option<LinkCounts>, HostError> {
        let mut names: Vec<String> = machines.iter().map(|machine| link_tap(*machine)).collect();
        names.push(SegmentName::of_kind(SegmentKind::Link, environment).to_string());
        let doing = |e| HostError::new("ask the kernel what a link has sent", e).help(HELP);
        loop {
            let Some(tables) = self.loaded().map_err(doing)? else { return Ok(None) };
            let mut counts = BTreeMap::from([(BETWEEN, 0), (REFUSED, 0), (LEFT, 0)]);
            for (family, set) in SETS {
                let listed = nft::list_set(family, set).map_err(doing)?;
                *counts.entry(set).or_default() += packets(listed.as_ref(), &names);
            }
            // Unless they were loaded anew meanwhile.
            if self.loaded().map_err(doing)?.as_ref() == Some(&tables) {
                let [between, refused, left] = [BETWEEN, REFUSED, LEFT].map(|set| counts[set]);
                return Ok(Some(LinkCounts { tables, between, refused, left }));
            }
        }
    }

    /// Which load of our tables this is; None if there are none.
    fn loaded(&self) -> Result<Option<String>, nft::NftError> {
        let listed = nft::list_tables()?;
        let objects = listed.as_ref().and_then(|all| all["nftables"].as_array());
        let ours = objects.into_iter().flatten().filter_map(|object| object.get("table"));
        let handles: Vec<String> = ours
            .filter(|table| table["name"] == "nonstop")
            .filter_map(|table| table["handle"].as_u64())
            .map(|handle| handle.to_string())
            .collect();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok((!handles.is_empty()).then(|| format!("{} {}", boot.trim(), handles.join("."))))
    }
}

/// Where each is counted.
const SETS: [(&str, &str); 6] = [
    ("bridge", BETWEEN),
    ("bridge", REFUSED),
    ("inet", REFUSED),
    ("bridge", LEFT),
    ("inet", LEFT),
    ("arp", LEFT),
];

/// What a listed set has counted for `names`.
fn packets(listed: Option<&Value>, names: &[String]) -> u64 {
    let objects = listed.and_then(|all| all["nftables"].as_array());
    let elements = objects
        .into_iter()
        .flatten()
        .filter_map(|object| object["set"]["elem"].as_array())
        .flatten()
        .map(|element| &element["elem"]);
    elements
        .filter(|element| names.iter().any(|name| element["val"] == **name))
        .filter_map(|element| element["counter"]["packets"].as_u64())
        .sum()
}
