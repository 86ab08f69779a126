//! Both programs of the airlock before the daemon's real core, screening by confined children: what
//! `cargo xtask bench dav` measures. Says where in a line of JSON, and ends with its standard input.
//! Needs root.

#[allow(dead_code, reason = "the lab of the tests has more than is measured")]
#[path = "../tests/clients/lab.rs"]
mod lab;

use lab::{ALICE, World, built};
use nonstop_airlock::target::Side;
use nonstopd::screening::{Confined, Screener};
use std::{
    io::{Read, Write},
    sync::Arc,
};

/// The user of the screening's children here.
const SCREEN: (u32, u32) = (63_813, 63_813);
/// More than is measured.
const ROOM: &str = "quiet_seconds: 1, import_mib: 65536, export_mib: 65536, file_mib: 8192, \
                    day_mib: 1048576, period_mib: 1048576";

fn main() {
    let programs = built().display().to_string();
    let world = World::screened_by(ROOM, &programs, |lab, db| {
        Arc::new(Confined::new(Arc::new(lab.clone()), SCREEN, Arc::clone(db))) as Arc<dyn Screener>
    });
    let told = serde_json::json!({
        "inside": world.address(Side::Inside, ALICE).to_string(),
        "outside": world.address(Side::Outside, ALICE).to_string(),
        "processes": world.processes(),
    });
    println!("{told}");
    std::io::stdout().flush().expect("whoever started this listens");
    // Until whoever started this goes.
    let _over = std::io::stdin().read_to_end(&mut Vec::new());
}
