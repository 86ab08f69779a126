//! The same against a PIV applet that others wrote: Nitrokey's, built from the package registry.
//!
//! It makes EC keys alone: its RSA keys need a backend that no registry has. It keeps nothing
//! without power, so that it is issued, used, blocked and opened in one go.

mod office;

use anyhow::{Context, Result, ensure};
use nonstop_card::{
    CardError, Pin,
    desk::Desk,
    issue::{self, IssueError},
    key::KeyAlgorithm,
};
use nonstop_testkit::{
    labbox::built_programs,
    place::{Place, wait_for},
    reader::{Alone, Reader, alone, pkcs11},
};
use office::{Office, Refused};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

/// Builds the applet, once; what it took is kept beside what else was built.
fn build() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/applet/Cargo.toml");
    let programs = built_programs()?;
    let target = programs.parent().context("the build's folder")?.join("applet");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(&manifest)
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("run cargo")?;
    ensure!(status.success(), "the applet was not built: {status} (it wants libclang)");
    Ok(target.join("debug/nonstop-applet"))
}

/// The applet in the first slot.
struct Inserted(Child);

impl Drop for Inserted {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn insert(reader: &Reader, program: &Path) -> Result<Inserted> {
    let inserted =
        Inserted(Command::new(program).arg("35963").spawn().context("start the applet")?);
    wait_for("the applet to be seen", Duration::from_secs(10), || {
        Ok((reader.slots()?.first() == Some(&true)).then_some(()))
    })?;
    Ok(inserted)
}

#[test]
fn an_applet_that_others_wrote_is_issued_used_blocked_and_opened() -> Result<()> {
    let program = build()?;
    if alone("an_applet_that_others_wrote_is_issued_used_blocked_and_opened")? == Alone::Done {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let reader = Reader::here(dir.path())?;
    let _in = insert(&reader, &program)?;
    let mut office = Office::new(dir.path())?;
    // What is refused once is issued by the same again.
    office.refuse = Some("certify");
    let cut = Desk::open()?.with_card(None, |p| issue::issue(p, &mut office, KeyAlgorithm::EcP256));
    let cut = cut.map(drop);
    ensure!(cut == Err(IssueError::Office(Refused)), "{cut:?}");
    office.refuse = None;
    let issued =
        Desk::open()?.with_card(None, |p| issue::issue(p, &mut office, KeyAlgorithm::EcP256))?;
    ensure!(office.active && issued.own_management, "{issued:?}");
    let guid = Desk::open()?.with_card(None, |piv| piv.guid())?;
    ensure!(guid == Some(issued.guid), "{guid:?}");

    let pkcs11 = pkcs11()?;
    let shown = Place::here().run(&["ssh-keygen", "-D", &pkcs11])?;
    let same = office.openssh_key(&issued.key)?;
    ensure!(shown.contains(&same), "{shown} has not {same}");
    let login = ["pkcs11-tool", "--module", &pkcs11, "--login", "--pin", issued.pin.reveal()];
    Place::here().run(&[&login[..], &["--test"]].concat())?;

    let sign = |pin: &Pin| {
        Desk::open()?.with_card(None, |piv| issue::enrol::<_, Refused>(piv, pin, b"challenge"))
    };
    let (key, signature) = sign(&issued.pin)?;
    office.check(&key, b"challenge", &signature)?;
    let wrong = Pin::parse("000000").context("a PIN")?;
    let mut left = Vec::new();
    let blocked = loop {
        match sign(&wrong) {
            Err(IssueError::Card(CardError::WrongPin { left: n })) => left.push(n),
            other => break other,
        }
    };
    ensure!(blocked.map(drop) == Err(CardError::PinBlocked.into()), "after {left:?}");
    let down: Vec<u8> = left.iter().flatten().copied().collect();
    let one_by_one = down.windows(2).all(|pair| pair[1] + 1 == pair[0]);
    ensure!(one_by_one && down.last() == Some(&1) && down.len() == left.len(), "{left:?}");
    let fresh = Pin::random();
    let puk = office.puk();
    Desk::open()?.with_card(None, |piv| piv.set_pin(&puk, &fresh))?;
    sign(&fresh)?;
    Ok(())
}
