//! Looks at a desktop by hand: `desktop PORT USER PASSWORD FOLDER`, with the machine's RDP on
//! 127.0.0.1:PORT. For work on images; the same eyes that `demo --check` has.

use anyhow::{Context, Result};
use nonstop_testkit::{
    place::Place,
    rdp::{Desktop, Look, look},
};
use std::{path::Path, time::Duration};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, user, password, folder] = args.as_slice() else {
        anyhow::bail!("usage: desktop PORT USER PASSWORD FOLDER");
    };
    let desktop =
        Desktop { fingerprint: None, port: port.parse().context("PORT")?, user, password };
    let frames = look(
        &Place::here(),
        &desktop,
        &Look::of_ours(),
        Path::new(folder),
        Duration::from_secs(60),
    )?;
    println!("{frames:#?}");
    Ok(())
}
