//! What our tables must hold, for whoever compares the kernel with it: the rules, and the elements
//! that a number of grants come to.

use super::{
    Firewall, HELP,
    elements::{COUNTS, elements, is_constant},
};
use crate::HostError;
use nonstop_plan::Grant;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A set of ours: the family of its table `nonstop`, and its name.
pub type SetName = (String, String);

/// Our tables as they are loaded, without a grant.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// As `nft -j list ruleset` lists them where nothing else is loaded; without handles.
    pub rules: Value,
    /// The sets whose elements are grants.
    pub sets: BTreeSet<SetName>,
}

impl Firewall {
    /// How this host's nft lists the rules of this version, asked in an empty network namespace.
    ///
    /// Errors: `nft` cannot be run, or does not take our rules.
    pub fn expected(&self) -> Result<Expected, HostError> {
        let listed = self
            .as_listed()
            .map_err(|e| HostError::new("ask nft how it lists our tables", e).help(HELP))?;
        let sets = listed.iter().filter_map(|object| object.get("set"));
        let of_grants =
            sets.filter(|set| !is_constant(set) && !COUNTS.iter().any(|n| set["name"] == *n));
        let name = |set: &Value| {
            Some((set["family"].as_str()?.to_string(), set["name"].as_str()?.to_string()))
        };
        Ok(Expected {
            sets: of_grants.filter_map(name).collect(),
            rules: serde_json::json!({ "nftables": listed }),
        })
    }
}

/// The elements that `grants` come to, by set, each as nft writes it: its fields joined by ` . `,
/// then its limit, if it has one.
pub fn elements_of<'a>(
    grants: impl IntoIterator<Item = &'a Grant>,
) -> BTreeMap<SetName, BTreeSet<String>> {
    let mut sets: BTreeMap<SetName, BTreeSet<String>> = BTreeMap::new();
    for element in grants.into_iter().flat_map(elements) {
        let (family, set, mut text) = element.name();
        if let Some(rate) = element.rate {
            text = format!("{text} limit rate over {rate}/second burst {rate} packets");
        }
        sets.entry((family, set)).or_default().insert(text);
    }
    sets
}
