//! A disk that really is full: a small file system of its own.

use crate::lab::{E1, World, at, wait};
use nonstop_api::airlock::DenialKind;
use nonstop_model::{ExportState, Root};
use nonstop_store::Which;
use nonstopd::publisher::Steady;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

const LAB: &str = "\
version: 1
name: small
capacity: { reserve_mib: 8 }
airlock: { quiet_seconds: 1, import_mib: 64, export_mib: 64, file_mib: 64 }
";
const MIB: usize = 1 << 20;

/// A file system of `mib`, for as long as it is held.
struct Small {
    dir: tempfile::TempDir,
}

impl Small {
    fn new(mib: u32) -> Small {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a folder");
        let size = std::ffi::CString::new(format!("size={mib}m")).expect("no zero");
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), size.as_c_str()).expect("mounted");
        Small { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).expect("asked");
        stat.f_bavail * stat.f_frsize
    }

    /// Fills it up; what is returned goes to make room.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).expect("made");
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn what_machines_give_leaves_the_reserve_alone_and_imports_have_their_own() {
    let small = Small::new(48);
    let world = World::at(small.path(), LAB, Arc::new(Steady));
    world.transfers.run().expect("threads");
    let (machine, alice) = (world.machine(), world.alice());
    let mut given = 0;
    let denial = loop {
        match machine.put(at(E1, Root::Export, &format!("f{given}")), &vec![given; 4 * MIB]) {
            Ok(_) => given += 1,
            Err(denial) => break denial,
        }
    };
    assert_eq!(denial.kind, DenialKind::NoRoom, "{denial}");
    assert!(given >= 5 && small.free() >= 8 * MIB as u64, "{given} files, {} free", small.free());
    let (_, room) = machine.quota(at(E1, Root::Export, ""));
    assert!(room < 4 * MIB as u64, "{room}");
    // Without a length it is stopped before it eats the reserve.
    let (ticket, mut file) = machine.create(at(E1, Root::Export, "endless"), None).expect("a file");
    while small.free() > 4 * MIB as u64 && file.write_all(&[1; 1 << 16]).is_ok() {}
    wait("the file to be emptied", || (small.free() >= 8 * MIB as u64).then_some(()));
    drop(file);
    machine.commit(ticket).expect_err("it is dead");
    // Outside is told of its quota alone, and has room.
    assert_eq!(alice.quota(at(E1, Root::Import, "")), (0, 64 << 20));
    alice.put(at(E1, Root::Import, "tool"), &vec![1; 3 * MIB]).expect("kept");
    wait("all to be done", || {
        let exports = world.db.read(|r| r.exports(None, None, Which::All)).expect("read");
        let done = exports.iter().filter(|e| e.state == ExportState::Released).count();
        (done == usize::from(given)).then_some(())
    });
    for n in 0..given {
        assert_eq!(alice.get(at(E1, Root::Export, &format!("f{n}"))), Ok(vec![n; 4 * MIB]));
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing_and_goes_on_once_there_is_room() {
    let small = Small::new(32);
    let world = World::at(small.path(), LAB, Arc::new(Steady));
    world.transfers.run().expect("threads");
    let (machine, alice) = (world.machine(), world.alice());
    machine.put(at(E1, Root::Export, "before"), b"kept").expect("put");
    let (ticket, mut file) = machine.create(at(E1, Root::Export, "while"), None).expect("a file");
    let ballast = small.fill();
    // An upload that meets the full disk fails where it is written, or where it is committed.
    let _ = file.write_all(&vec![2; 2 * MIB]);
    drop(file);
    machine.commit(ticket).expect_err("no room");
    for client in [&machine, &alice] {
        let root = if std::ptr::eq(client, &machine) { Root::Export } else { Root::Import };
        let denial = client.put(at(E1, root, "more"), b"more").expect_err("no room");
        assert_eq!(denial.kind, DenialKind::NoRoom, "{denial}");
    }
    assert_eq!(machine.get(at(E1, Root::Export, "before")), Ok(b"kept".to_vec()));
    std::thread::sleep(std::time::Duration::from_secs(2));
    fs::remove_file(ballast).expect("room");
    let export = world.until(1, ExportState::Released);
    assert_eq!(export.path.as_str(), "before");
    assert_eq!(alice.get(at(E1, Root::Export, "before")), Ok(b"kept".to_vec()));
    machine.put(at(E1, Root::Export, "after"), b"after").expect("room again");
    world.until(2, ExportState::Released);
    assert_eq!(machine.names(at(E1, Root::Export, "")), Ok(vec!["after".into(), "before".into()]));
    assert_eq!(world.db.read(|r| r.verify_trace()).expect("read").broken_at, None);
    let files = fs::read_dir(world.lab.exports().join("files")).expect("a folder").count();
    assert_eq!(files, 2, "nothing is left over");
}
