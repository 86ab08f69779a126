//! The broker with the real QEMU: from the firmware's first words on.

#![expect(clippy::unwrap_used, reason = "a test")]

mod desk;

use desk::{Desk, Viewer, until};
use nonstop_display::{
    control::{Report, ViewerKind},
    link::{Input, Rect, Told},
};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use std::{
    io::{BufRead, BufReader, IoSlice, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A machine without a disk: its firmware speaks, offers a menu and finds nothing.
struct Machine {
    child: Child,
    monitor: BufReader<UnixStream>,
}

impl Machine {
    fn new(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor");
        let child = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-machine", "q35,accel=tcg", "-m", "64"])
            .args(["-display", "dbus,p2p=yes", "-boot", "menu=on,splash-time=60000"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", path.display()))
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let stream = until("QEMU's monitor", || UnixStream::connect(&path).ok());
        let mut machine = Self { child, monitor: BufReader::new(stream) };
        machine.answer();
        machine.ask(r#"{"execute":"qmp_capabilities"}"#, None);
        machine
    }

    fn ask(&mut self, command: &str, file: Option<&OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files: Vec<_> = file.into_iter().map(AsFd::as_fd).collect();
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&files));
        }
        let words = [IoSlice::new(command.as_bytes())];
        sendmsg(self.monitor.get_ref(), &words, &mut ancillary, SendFlags::empty()).unwrap();
        self.monitor.get_ref().flush().unwrap();
        let answer = self.answer();
        assert!(answer.contains("return"), "{command}: {answer}");
    }

    /// The next line that is not an event.
    fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.monitor.read_line(&mut line).unwrap();
            if !line.contains("\"event\"") {
                return line;
            }
        }
    }

    /// A connection to the display.
    fn display(&mut self) -> OwnedFd {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        self.ask(r#"{"execute":"getfd","arguments":{"fdname":"display"}}"#, Some(&theirs));
        self.ask(
            r#"{"execute":"add_client","arguments":{"protocol":"@dbus-display","fdname":"display"}}"#,
            None,
        );
        ours
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bright pixels of the picture.
fn ink(viewer: &Viewer) -> usize {
    let Some((_, width, height)) = viewer.picture else { return 0 };
    let all = viewer.part(Rect { x: 0, y: 0, width, height });
    all.chunks_exact(4).filter(|p| p[..3].iter().all(|c| *c > 0x80)).count()
}

fn press(viewer: &Viewer, qnum: u8) {
    for down in [true, false] {
        viewer.tell(&Told::Input(Input::Key { qnum, down }));
    }
}

#[test]
fn the_firmware_is_seen_its_menu_is_opened_by_a_key_and_a_power_cycle_keeps_the_viewer() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    viewer.await_card();

    let mut machine = Machine::new(&["-vga", "std"]);
    let display = machine.display();
    let start = Instant::now();
    desk.attach(&display);
    drop(display);
    let first = {
        viewer.await_size(720, 400);
        start.elapsed()
    };
    desk.await_report(|r| *r == Report::Attached);
    until("the firmware's words", || {
        viewer.look();
        (ink(&viewer) > 500).then_some(())
    });
    println!("attach to first picture {first:?}, to the firmware's words {:?}", start.elapsed());

    std::thread::sleep(Duration::from_millis(500));
    viewer.look();
    let before = ink(&viewer);
    let start = Instant::now();
    press(&viewer, 1);
    until("the menu", || {
        viewer.look();
        (ink(&viewer) > before + 300).then_some(())
    });
    println!("key to its picture {:?}", start.elapsed());

    let (cpu, start) = (desk.cpu_seconds(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let used = (desk.cpu_seconds() - cpu) / start.elapsed().as_secs_f64();
    println!("a still text console: {:.1} % of a core, {} kB", used * 100.0, desk.rss_kb());
    assert!(used < 0.05, "{used}");

    drop(machine);
    desk.await_report(|r| *r == Report::Lost);
    viewer.await_card();
    assert_eq!(viewer.picture.as_ref().map(|p| (p.1, p.2)), Some((720, 400)), "the size is kept");

    let mut machine = Machine::new(&["-device", "virtio-vga", "-device", "virtio-tablet-pci"]);
    desk.attach(&machine.display());
    desk.await_report(|r| *r == Report::Attached);
    until("the next machine's words", || {
        viewer.look();
        (ink(&viewer) > 500 && !viewer.sees_card()).then_some(())
    });
    // What this card does not do, and moves that go nowhere, harm nobody.
    viewer.tell(&Told::Resize { width: 1280, height: 800 });
    for x in 0..200 {
        viewer.tell(&Told::Pointer { x: x * 20, y: 3000 });
    }
    let before = ink(&viewer);
    press(&viewer, 1);
    until("the menu", || {
        viewer.look();
        (ink(&viewer) > before + 300).then_some(())
    });
}
