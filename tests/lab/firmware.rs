//! What a guest writes beside its files: UEFI variables, its TPM, and the sector and the partition
//! that firmware starts from. All of it is the machine's own, stays as long as the generation does,
//! and is gone after a revert.

use anyhow::{Context, Result};
use nonstop_testkit::place::wait_for;
use nonstop_tests::{Environment, GuestShell, World, disguised_from};
use std::{
    fs,
    time::{Duration, Instant},
};

/// The image `debuggee`, with the shell that tests need, and an address of the lab's so that no
/// debugger need be there.
const TEMPLATE: &str = "version: 1\ntitle: firmware\nrdp: none\nmachines:\n\
    - {role: analyst, image: debuggee-test, profile: uefi, memory_mib: 384}\n";

const VARIABLE: &str = "/sys/firmware/efi/efivars/Implant-7a0e0b5e-5e0c-4c0e-9d0a-6d616c776172";

fn world(name: &str) -> Result<World> {
    let mut world = World::off(name, "grace_seconds: 1")?;
    disguised_from(&world.lab, "debuggee", "debuggee-test", |manifest| {
        manifest["test_channel"] = true.into();
    })?;
    fs::write(world.lab.dir().join("templates/firmware.yaml"), TEMPLATE)?;
    world.lab.start()?;
    world.lab.researcher("alice", 10)?;
    Ok(world)
}

/// Where something written by malware was found again.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    variable: bool,
    tpm: bool,
    boot_sector: bool,
    firmware_partition: bool,
}

const EVERYWHERE: Found =
    Found { variable: true, tpm: true, boot_sector: true, firmware_partition: true };
const NOWHERE: Found =
    Found { variable: false, tpm: false, boot_sector: false, firmware_partition: false };

/// Writes everywhere.
fn infect(shell: &mut GuestShell) -> Result<()> {
    for line in [
        // Kept over power cycles, for the loader and the system (NV, BS, RT).
        format!("printf '\\007\\000\\000\\000implant' >{VARIABLE}"),
        "tpm2_nvdefine 0x1500016 -C o -s 7 -a 'ownerread|ownerwrite'".into(),
        "printf implant >/run/word; tpm2_nvwrite 0x1500016 -C o -i /run/word".into(),
        "modprobe -a vfat nls_ascii; mount -t vfat /dev/vda1 /mnt && \
         printf implant >/mnt/EFI/BOOT/extra.efi && umount /mnt"
            .into(),
        // Last: its flush takes all that came before to the host.
        "printf implant | dd of=/dev/vda bs=7 count=1 conv=notrunc,fsync".into(),
    ] {
        let said = shell.run(&format!("{{ {line}; }} && echo 'it is done'"))?;
        assert!(said.ends_with("it is done"), "{line}: {said}");
    }
    Ok(())
}

fn look(shell: &mut GuestShell) -> Result<Found> {
    let mut holds = |line: &str| anyhow::Ok(shell.run(line)?.contains("implant"));
    Ok(Found {
        variable: holds(&format!("cat {VARIABLE}"))?,
        tpm: holds("tpm2_nvread 0x1500016 -C o -s 7")?,
        boot_sector: holds("head -c 7 /dev/vda")?,
        firmware_partition: holds(
            "modprobe -a vfat nls_ascii; mount -t vfat -o ro /dev/vda1 /mnt; \
             cat /mnt/EFI/BOOT/extra.efi; umount /mnt",
        )?,
    })
}

/// Uid (or pid) of the programs whose command line begins with `words`.
fn programs(world: &World, which: &str, words: &str) -> Result<Vec<String>> {
    let listed = world.lab.enter(&["ps", "-eo", &format!("{which}=,args=")])?;
    let of = |line: &str| {
        let (number, args) = line.trim().split_once(' ')?;
        let args = args.trim_start();
        args.trim_start_matches("/usr/bin/").starts_with(words).then(|| number.to_owned())
    };
    Ok(listed.lines().filter_map(of).collect())
}

fn uids(world: &World, words: &str) -> Result<Vec<String>> {
    programs(world, "uid", words)
}

/// A shell, in a guest that has booted since.
fn fresh_shell(world: &World, environment: &Environment) -> Result<GuestShell> {
    world.machine_in(&environment.id, "ready")?;
    world.shell(environment)
}

fn power(world: &World, environment: &Environment, how: &str) -> Result<()> {
    world.lab.cli(&["environment", "power", &environment.id, how]).map(drop)
}

#[test]
fn what_malware_writes_into_firmware_tpm_and_boot_sector_is_gone_after_a_revert() -> Result<()> {
    let world = world("firmware")?;
    let begun = Instant::now();
    let environment = world.environment("alice", "firmware")?;
    let mut shell = world.shell(&environment)?;
    eprintln!("a machine with firmware was up {:?} after it was asked for", begun.elapsed());
    let id = environment.id.as_str();
    let machine = environment.machine.as_str();

    // Its TPM and its QEMU run as one user, nobody else's, and none of them is root.
    let tpm = uids(&world, "swtpm socket")?;
    assert_eq!(tpm.len(), 1, "{tpm:?}");
    assert_eq!(tpm, uids(&world, "qemu-system-x86_64 -name")?);
    assert_ne!(tpm[0], "0");

    assert_eq!(look(&mut shell)?, NOWHERE, "a fresh machine");
    infect(&mut shell)?;
    assert_eq!(look(&mut shell)?, EVERYWHERE, "just written");
    drop(shell);

    power(&world, &environment, "reset")?;
    let mut shell = fresh_shell(&world, &environment)?;
    let up: f32 = shell.run("cut -d' ' -f1 /proc/uptime")?.parse()?;
    assert!(up < 60.0, "it was reset, but is up for {up} s");
    assert_eq!(look(&mut shell)?, EVERYWHERE, "a reset keeps what was written");
    drop(shell);

    power(&world, &environment, "off")?;
    world.machine_in(id, "off")?;
    wait_for("the TPM to end with its machine", Duration::from_secs(20), || {
        Ok(uids(&world, "swtpm socket")?.is_empty().then_some(()))
    })?;
    let begun = Instant::now();
    power(&world, &environment, "on")?;
    let mut shell = fresh_shell(&world, &environment)?;
    eprintln!("power on to an address and a shell: {:?}", begun.elapsed());
    assert_eq!(look(&mut shell)?, EVERYWHERE, "so does switching off and on");
    drop(shell);

    let begun = Instant::now();
    world.lab.cli(&["environment", "revert", id])?;
    wait_for("the new generation", Duration::from_secs(60), || {
        let shown = world.lab.cli(&["environment", "show", id])?;
        let machine = &shown["machines"][0];
        Ok((machine["generation"] == 2 && machine["state"] == "ready").then_some(()))
    })?;
    let mut shell = world.shell(&environment)?;
    eprintln!("revert to an address and a shell: {:?}", begun.elapsed());
    assert_eq!(look(&mut shell)?, NOWHERE, "a revert carries nothing over");
    drop(shell);

    // The old generation is not kept anywhere.
    let kept = fs::read_dir(world.lab.state().join("machines").join(machine))?;
    let kept: Vec<_> = kept.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(kept, ["2"]);
    world.end(id)?;
    assert_eq!(world.left_over()?, Vec::<String>::new());
    assert_eq!(uids(&world, "swtpm socket")?, Vec::<String>::new());
    Ok(())
}

#[test]
fn a_tpm_outlives_the_daemon_and_none_is_left_by_a_killed_qemu() -> Result<()> {
    let world = world("tpm")?;
    let environment = world.environment("alice", "firmware")?;
    let mut shell = world.shell(&environment)?;
    infect(&mut shell)?;
    world.lab.kill_service("nonstopd", 9)?;
    let read = shell.run("tpm2_nvread 0x1500016 -C o -s 7")?;
    assert_eq!(read, "implant", "without the daemon");
    world.lab.lab_box()?.wait_ready(Duration::from_secs(30))?;
    world.in_state(&environment.id, "ready")?;
    assert_eq!(look(&mut shell)?, EVERYWHERE, "a daemon that came back leaves it alone");
    drop(shell);

    let qemu = programs(&world, "pid", "qemu-system-x86_64 -name")?.pop().context("no QEMU")?;
    world.lab.enter(&["kill", "-9", &qemu])?;
    // A machine that crashed is started again; its TPM with it, over the same state.
    wait_for("another QEMU", Duration::from_secs(60), || {
        let now = programs(&world, "pid", "qemu-system-x86_64 -name")?;
        Ok(now.iter().any(|pid| *pid != qemu).then_some(()))
    })?;
    assert_eq!(uids(&world, "swtpm socket")?.len(), 1, "the one before has ended");
    let mut shell = fresh_shell(&world, &environment)?;
    assert_eq!(look(&mut shell)?, EVERYWHERE, "what was written before a crash is there");
    Ok(())
}
