//! Boxes with the real libvirtd alone: started, cut off, started again, two side by side.

use anyhow::Result;
use nonstop_testkit::{init::is_gone, lab::Lab, place::wait_for};
use std::{fs, process::Command, time::Duration};

const NETWORK: &str = "<network><name>look</name><forward mode='open'/>\
    <bridge name='nsb00001'/><ip address='10.77.0.1' netmask='255.255.255.240'>\
    <dhcp><range start='10.77.0.2' end='10.77.0.2'/></dhcp></ip></network>";

const MACHINE: &str = "<domain type='qemu'><name>look</name><memory unit='MiB'>64</memory>\
    <os><type arch='x86_64' machine='q35'>hvm</type></os>\
    <cputune><shares>512</shares></cputune>\
    <seclabel type='static' model='dac' relabel='no'><label>+80001:+80001</label></seclabel>\
    <devices><interface type='network'><source network='look'/></interface></devices></domain>";

fn with_a_machine(lab: &Lab) -> Result<()> {
    fs::write(lab.dir().join("network.xml"), NETWORK)?;
    fs::write(lab.dir().join("machine.xml"), MACHINE)?;
    let xml = |name: &str| lab.dir().join(name).display().to_string();
    lab.enter(&["virsh", "net-create", &xml("network.xml")])?;
    lab.enter(&["virsh", "create", &xml("machine.xml")])?;
    Ok(())
}

fn processes_of(lab: &Lab) -> Vec<u32> {
    let group = format!("nonstop-box-{}", lab.lab_box().expect("runs").spec().name);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let group_of = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        if group_of.contains(&group) {
            found.push(pid);
        }
    }
    found
}

#[test]
fn a_power_cut_leaves_nothing_and_the_same_host_starts_again_twice() -> Result<()> {
    let mut lab = Lab::temporary("power")?.only(&["libvirtd"]);
    lab.start()?;
    for _ in 0..2 {
        with_a_machine(&lab)?;
        assert!(lab.enter(&["virsh", "list", "--name"])?.contains("look"));
        assert!(lab.enter(&["ip", "link", "show", "nsb00001"])?.contains("nsb00001"));
        let before = processes_of(&lab);
        assert!(before.len() >= 4, "PID 1, libvirtd, dnsmasq, QEMU: {before:?}");
        lab.power_cut()?;
        let alive: Vec<&u32> = before.iter().filter(|pid| !is_gone(**pid)).collect();
        assert!(alive.is_empty(), "{alive:?}");
        lab.start()?;
        assert_eq!(lab.enter(&["virsh", "list", "--name", "--all"])?.trim(), "");
        assert_eq!(lab.enter(&["virsh", "net-list", "--name", "--all"])?.trim(), "");
    }
    Ok(())
}

#[test]
fn two_labs_side_by_side_share_no_name() -> Result<()> {
    let mut one = Lab::temporary("one")?.only(&["libvirtd"]);
    let mut two = Lab::temporary("two")?.only(&["libvirtd"]);
    one.start()?;
    two.start()?;
    with_a_machine(&one)?;
    with_a_machine(&two)?;
    one.power_cut()?;
    assert!(two.enter(&["virsh", "list", "--name"])?.contains("look"));
    Ok(())
}

#[test]
fn a_killed_service_comes_back_and_guests_stay() -> Result<()> {
    let mut lab = Lab::temporary("kill")?.only(&["libvirtd"]);
    lab.start()?;
    with_a_machine(&lab)?;
    let pid = |lab: &Lab| lab.services().map(|s| s[0].pid);
    let before = pid(&lab)?;
    lab.kill_service("libvirtd", 9)?;
    wait_for("libvirtd to come back", Duration::from_secs(20), || {
        let services = lab.services()?;
        Ok((services[0].ready && services[0].pid != before).then_some(()))
    })?;
    assert!(lab.enter(&["virsh", "list", "--name"])?.contains("look"));
    lab.stop_service("libvirtd")?;
    assert_eq!(pid(&lab)?, None);
    lab.start_service("libvirtd")?;
    lab.auto_restart("libvirtd", false)?;
    lab.kill_service("libvirtd", 9)?;
    wait_for("libvirtd to be gone", Duration::from_secs(5), || {
        Ok(pid(&lab)?.is_none().then_some(()))
    })?;
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(pid(&lab)?, None);
    Ok(())
}

#[test]
fn the_box_ends_with_whoever_started_it() -> Result<()> {
    let mut lab = Lab::temporary("lifeline")?.only(&["libvirtd"]);
    lab.power_on()?;
    // The spec on disk with another starter, whose pipe is closed at once.
    let running = lab.lab_box()?.spec().clone();
    lab.power_cut()?;
    let status = Command::new(running.programs.join("nonstop-box"))
        .arg("start")
        .arg(nonstop_testkit::spec::BoxSpec::path(&running.dir))
        .stdin(std::process::Stdio::null())
        .status()?;
    assert!(status.success(), "{status}");
    lab.start()
}

#[test]
fn pcs_reach_the_gateways_address_and_users_of_ours_exist() -> Result<()> {
    let mut lab = Lab::temporary("street")?.only(&["libvirtd"]);
    lab.start()?;
    let alice = lab.pc("alice", 10)?;
    alice.run(&["busybox", "ping", "-c", "1", "-W", "2", "198.51.100.1"])?;
    assert!(lab.enter(&["id", "nonstop-portal"])?.contains("64101"));
    assert!(lab.enter(&["cat", "/etc/pam.d/nonstop-sshd"])?.contains("/run/nonstop-box/bin"));
    lab.power_cut()?;
    assert!(alice.run(&["busybox", "ping", "-c", "1", "-W", "1", "198.51.100.1"]).is_err());
    lab.start()?;
    alice.run(&["busybox", "ping", "-c", "1", "-W", "2", "198.51.100.1"])?;
    // Nothing but the street: a lab has no way out.
    assert_eq!(lab.enter(&["ip", "route", "show", "default"])?.trim(), "");
    Ok(())
}

#[test]
fn machines_can_reach_a_lab_whose_folder_lies_in_a_closed_home() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700))?;
    let mut lab = Lab::new(&home.path().join("lab"))?.only(&["libvirtd"]);
    fs::write(lab.state().join("disk"), "bytes")?;
    lab.start()?;
    let disk = lab.state().join("disk").display().to_string();
    let read = lab.enter(&["setpriv", "--reuid=80001", "--clear-groups", "cat", &disk])?;
    assert_eq!(read, "bytes");
    Ok(())
}
