//! Templates of the benches' own beside the shipped ones: the desktop whose guest serves RDP itself,
//! which is what the peers do.

use anyhow::{Context, Result};
use nonstop_testkit::lab::Lab;
use std::fs;

/// The desktop by the guest's own server.
pub(super) const RAW: &str = "raw";

/// The desktop as it is shipped.
pub(super) const SHIPPED: &str = "macro";

const RAW_TEMPLATE: &str = "\
version: 1
title: the desktop by its guest's own server
rdp: guest
rdp_reason: a peer of the measurement
machines:
  - {role: analyst, image: desktop, memory_mib: 768, vcpus: 2}
";

const SHIPPED_TEMPLATE: &str = include_str!("../../../../templates/macro.yaml");
const MICRO_TEMPLATE: &str = include_str!("../../../../templates/micro.yaml");

/// `lab` with these templates.
pub(super) fn with_templates(lab: Lab) -> Result<Lab> {
    let folder = lab.dir().join("templates");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for (name, text) in
        [(RAW, RAW_TEMPLATE), (SHIPPED, SHIPPED_TEMPLATE), ("micro", MICRO_TEMPLATE)]
    {
        let file = folder.join(format!("{name}.yaml"));
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(lab.templates(folder))
}
