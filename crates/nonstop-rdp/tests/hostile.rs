//! The broker with a QEMU and with viewers that mean harm. After each it lives, is bounded, and
//! serves the next machine.

mod desk;

use desk::{
    Desk, Viewer,
    fake::{Fake, LISTENER, LISTENER_MAP, XRGB, memory, paint, socket},
    until,
};
use nonstop_display::{
    control::{Report, ViewerId, ViewerKind},
    link::{Input, Meter, Show, Told},
    wire,
};
use nonstop_rdp::broker::dbus::{Kind, Said, Writer};
use rustix::{
    fs::ftruncate,
    io::Errno,
    net::{SendFlags, SocketFlags, SocketType},
};
use std::{
    io::Write,
    os::fd::{AsFd, OwnedFd},
    thread::sleep,
    time::{Duration, Instant},
};

const GREEN: [u8; 3] = [0, 255, 0];

/// Kilobytes above which the broker counts as grown. The largest picture has 65,536, a message of
/// the same size too, and the buffer of the latter may be half empty.
const MOST_KB: u64 = 300_000;

fn attach(desk: &mut Desk) -> (Fake, OwnedFd) {
    let (ours, theirs) = socket();
    desk.attach(&theirs);
    drop(theirs);
    let mut fake = Fake::attached(ours);
    let lent = memory(800 * 600 * 4);
    paint(&lent, 0, GREEN);
    fake.scanout_map(&lent, 0, [800, 600, 3200, XRGB]);
    desk.await_report(|r| *r == Report::Attached);
    (fake, lent)
}

/// The next machine is shown: the broker has outlived the last.
fn outlives(desk: &mut Desk, viewer: &mut Viewer) {
    let (mut fake, lent) = attach(desk);
    viewer.await_size(800, 600);
    let at = 800 * 599 * 4;
    paint(&lent, at, GREEN);
    fake.update_map([0, 599, 1, 1]);
    viewer.await_pixel(0, 599, GREEN);
}

fn numbers(all: &[i32]) -> Writer {
    all.iter().fold(Writer::new(), |body, n| body.i32(*n))
}

#[test]
fn whatever_no_display_would_say_ends_the_connection_and_nothing_else() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    type Harm = (&'static str, fn(&mut Fake));
    let harms: [Harm; 22] = [
        ("garbage", |fake| raw(fake, &[0xde; 64])),
        ("garbage on the main connection", |fake| {
            fake.main.stream.write_all(&[0xde; 64]).expect("sent");
        }),
        ("a message of 4 GB", |fake| {
            raw(fake, b"l\x01\0\x01\xff\xff\xff\xff\x01\0\0\0\0\0\0\0");
        }),
        ("header fields of 4 GB", |fake| {
            raw(fake, b"l\x01\0\x01\0\0\0\0\x01\0\0\0\xff\xff\xff\xff");
        }),
        ("big-endian", |fake| raw(fake, b"B\x01\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0")),
        ("other types", |fake| {
            _ = fake.say(LISTENER, "Scanout", "s", Writer::new().text("x"), None)
        }),
        ("types that the body does not have", |fake| {
            fake.say(LISTENER, "Scanout", "uuuuay", numbers(&[1, 1]), None);
        }),
        ("bytes that are not there", |fake| {
            let body = numbers(&[4, 4, 16, 0x2002_0888, i32::MAX]);
            fake.say(LISTENER, "Scanout", "uuuuay", body, None);
        }),
        ("a mode of no size", |fake| _ = fake.scanout([0, 10, 0, XRGB], &[])),
        ("fewer pixels", |fake| _ = fake.scanout([100, 100, 400, XRGB], &[0; 400])),
        ("rows that overlap", |fake| _ = fake.scanout([100, 100, 4, XRGB], &[0; 4000])),
        ("a huge stride", |fake| _ = fake.scanout([100, 100, u32::MAX, XRGB], &[0; 4000])),
        ("a format of no pixel", |fake| _ = fake.scanout([100, 100, 400, 7], &[0; 400])),
        ("an update of negative size", |fake| {
            fake.scanout([400, 300, 1600, XRGB], &[0; 1600 * 300]);
            fake.update([5, 5, -3, 2], [40, XRGB], &[0; 400]);
        }),
        ("an update of huge size", |fake| {
            fake.scanout([400, 300, 1600, XRGB], &[0; 1600 * 300]);
            fake.update([0, 0, i32::MAX, i32::MAX], [u32::MAX, XRGB], &[0; 400]);
        }),
        ("lent memory of negative size", |fake| _ = fake.update_map([0, 0, -1, i32::MIN])),
        ("rows longer than any", |fake| {
            fake.scanout_map(&memory(4096), 0, [10, 10, 1 << 20, XRGB]);
        }),
        ("rows shorter than they are", |fake| {
            fake.scanout_map(&memory(4096), 0, [1000, 10, 1000, XRGB]);
        }),
        ("no file", |fake| {
            let body = numbers(&[0, 0, 10, 10, 40, 0x2002_0888]);
            fake.say(LISTENER_MAP, "ScanoutMap", "huuuuu", body, None);
        }),
        ("a pipe in place of memory", |fake| {
            let (pipe, _other) = rustix::pipe::pipe().expect("a pipe");
            fake.scanout_map(&pipe, 0, [10, 10, 40, XRGB]);
        }),
        ("a file of a disk in place of memory", |fake| {
            let file = std::fs::File::open(std::env::current_exe().expect("a path"));
            fake.scanout_map(&OwnedFd::from(file.expect("a file")), 0, [10, 10, 40, XRGB]);
        }),
        ("a pointer of no size", |fake| {
            let body = numbers(&[-1, 1 << 30, 0, 0]).bytes(&[0; 8]);
            fake.say(LISTENER, "CursorDefine", "iiiiay", body, None);
        }),
    ];
    for (name, harm) in harms {
        println!("{name}");
        let (mut fake, _lent) = attach(&mut desk);
        // Else the card of before would do.
        viewer.await_size(800, 600);
        viewer.await_pixel(0, 0, GREEN);
        desk.reports.clear();
        harm(&mut fake);
        desk.await_report(|r| *r == Report::Lost);
        viewer.await_card();
        until("the end of both connections", || {
            (fake.main.is_closed() && fake.listener.is_closed()).then_some(())
        });
        viewer.shows.clear();
    }
    outlives(&mut desk, &mut viewer);
    assert!(desk.rss_kb() < 30_000, "{} kB", desk.rss_kb());
}

fn raw(fake: &mut Fake, bytes: &[u8]) {
    fake.listener.try_raw(bytes, None, SendFlags::NOSIGNAL).expect("sent");
}

#[test]
fn files_that_no_message_names_end_the_connection() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    let (mut fake, lent) = attach(&mut desk);
    for _ in 0..100 {
        // Each with a file beside a byte that begins a message which never ends.
        let begun = if fake.listener.try_raw(b"l", Some(lent.as_fd()), SendFlags::NOSIGNAL).is_ok()
        {
            fake.listener.try_raw(&[1, 0, 1], None, SendFlags::NOSIGNAL)
        } else {
            break;
        };
        if begun.is_err() {
            break;
        }
    }
    desk.await_report(|r| *r == Report::Lost);
    outlives(&mut desk, &mut viewer);
}

#[test]
fn memory_that_shrinks_or_ends_early_is_read_as_far_as_it_goes() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    let (mut fake, lent) = attach(&mut desk);
    viewer.await_size(800, 600);
    viewer.await_pixel(0, 0, GREEN);
    ftruncate(&lent, 0).expect("shrunk");
    let serial = fake.update_map([0, 0, 800, 600]);
    assert_eq!(fake.await_answer(serial).kind, Kind::Return);
    ftruncate(&lent, 800 * 600 * 4).expect("grown");
    paint(&lent, 4, GREEN);
    fake.update_map([1, 0, 1, 1]);
    viewer.await_pixel(1, 0, GREEN);
    fake.listener.drain();
    // Far outside of it.
    fake.scanout_map(&lent, u32::MAX, [1000, 600, 4000, XRGB]);
    viewer.await_size(1000, 600);
    // While it is read.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        for bytes in [0, 4096, 800 * 600 * 4] {
            ftruncate(&lent, bytes).expect("changed");
            fake.scanout_map(&lent, 0, [800, 600, 3200, XRGB]);
        }
        viewer.look();
    }
    desk.listen();
    assert!(!desk.reports.contains(&Report::Lost));
}

#[test]
fn one_that_does_not_answer_is_given_up() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    viewer.await_card();
    let (ours, theirs) = socket();
    let start = Instant::now();
    desk.attach(&theirs);
    drop(theirs);
    desk.await_report(|r| *r == Report::Lost);
    assert!(start.elapsed() > Duration::from_secs(9));
    drop(ours);
    // A refused handshake, one without end, and what is no socket.
    for words in [&b"REJECTED EXTERNAL\r\n"[..], &[b'x'; 2000]] {
        let (mut ours, theirs) = socket();
        desk.attach(&theirs);
        ours.write_all(words).expect("said");
        desk.await_report(|r| *r == Report::Lost);
    }
    desk.attach(&memory(10));
    desk.await_report(|r| *r == Report::Lost);
    outlives(&mut desk, &mut viewer);
}

/// Runs `harm` again and again for two seconds; the broker reports, is bounded in memory and
/// processor, and its viewer is shown about thirty pictures a second at most.
fn flood(name: &str, desk: &mut Desk, viewer: &mut Viewer, mut harm: impl FnMut()) {
    viewer.look();
    desk.listen();
    desk.reports.clear();
    let (cpu, shown, start) =
        (desk.cpu_seconds(), viewer.updates + viewer.pictures, Instant::now());
    let (mut most_kb, mut turns, mut silent) = (0, 0u64, Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        harm();
        turns += 1;
        viewer.look();
        desk.listen();
        if !desk.reports.is_empty() {
            assert!(silent.elapsed() < Duration::from_millis(1500), "{name}: silent");
            silent = Instant::now();
            desk.reports.retain(|r| *r == Report::Lost);
        }
        most_kb = most_kb.max(desk.rss_kb());
    }
    let seconds = start.elapsed().as_secs_f64();
    let used = (desk.cpu_seconds() - cpu) / seconds;
    let shown = (viewer.updates + viewer.pictures - shown) as f64 / seconds;
    let used = used * 100.0;
    println!(
        "{name}: {turns} turns, {used:.0} % of a core, {most_kb} kB, {shown:.0} shown a second"
    );
    assert!(most_kb < MOST_KB, "{name}: {most_kb} kB");
    assert!(used < 85.0, "{name}: {used} %");
    assert!(shown < 40.0, "{name}: {shown}");
    assert!(silent.elapsed() < Duration::from_millis(1500), "{name}: silent");
}

fn push(fake: &mut Fake, bytes: &[u8], file: Option<&OwnedFd>) {
    let file = file.map(AsFd::as_fd);
    fake.listener.try_raw(bytes, file, SendFlags::NOSIGNAL).expect("the broker has not closed");
}

fn call(
    interface: &str,
    member: &str,
    signature: &str,
    body: Writer,
    file: Option<OwnedFd>,
) -> Vec<u8> {
    let path = "/org/qemu/Display1/Listener";
    Said { path, interface, member, signature, body, file, ..Said::default() }.encode(1)
}

#[test]
fn floods_of_a_display_are_bounded() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    let (mut fake, _lent) = attach(&mut desk);
    viewer.await_size(800, 600);
    fake.listener.drain();

    let all = call(LISTENER_MAP, "UpdateMap", "iiii", numbers(&[0, 0, 800, 600]), None).repeat(200);
    flood("all of lent memory", &mut desk, &mut viewer, || push(&mut fake, &all, None));

    let mut scattered = Vec::new();
    for n in 0..200 {
        let rect = numbers(&[n * 37 % 790, n * 91 % 590, 1 + n % 9, 1 + n % 7]);
        scattered.extend(call(LISTENER_MAP, "UpdateMap", "iiii", rect, None));
    }
    flood("scattered parts", &mut desk, &mut viewer, || push(&mut fake, &scattered, None));

    let large = memory(4096 * 4096 * 4);
    let mut odd = false;
    flood("the largest modes, in turn", &mut desk, &mut viewer, || {
        odd = !odd;
        let size = if odd { 4096 } else { 4095 };
        let body = numbers(&[0, 0, size, 4096, 4096 * 4, 0x2002_0888]);
        let file = large.try_clone().ok();
        let bytes = call(LISTENER_MAP, "ScanoutMap", "huuuuu", body, file);
        push(&mut fake, &bytes, Some(&large));
    });

    let pixels = vec![0x55; 4096 * 4096 * 4];
    let body = numbers(&[4096, 4096, 4096 * 4, 0x2002_0888]).bytes(&pixels);
    let bytes = call(LISTENER, "Scanout", "uuuuay", body, None);
    flood("the largest pictures", &mut desk, &mut viewer, || push(&mut fake, &bytes, None));

    let mut shape = 0u8;
    viewer.shows.clear();
    flood("pointers", &mut desk, &mut viewer, || {
        shape = shape.wrapping_add(1);
        let body = numbers(&[64, 64, 0, 0]).bytes(&[shape; 64 * 64 * 4]);
        push(&mut fake, &call(LISTENER, "CursorDefine", "iiiiay", body, None), None);
    });
    let pointers = viewer.shows.iter().filter(|s| matches!(s, Show::Cursor(_))).count();
    println!("{pointers} pointers shown");
    assert!((10..100).contains(&pointers));

    let unknown = call("a.b", "C", "", Writer::new(), None).repeat(100);
    flood("calls that nobody knows", &mut desk, &mut viewer, || push(&mut fake, &unknown, None));
    desk.listen();
    assert!(!desk.reports.contains(&Report::Lost));
    drop(fake);
    desk.await_report(|r| *r == Report::Lost);
    outlives(&mut desk, &mut viewer);
}

#[test]
fn a_display_that_does_not_read_its_answers_fills_nothing() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    let (mut fake, _lent) = attach(&mut desk);
    viewer.await_size(800, 600);
    let unknown = call("a.b", "C", "", Writer::new(), None);
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    flood("answers that are not read", &mut desk, &mut viewer, || {
        let ended = fake.listener.try_raw(&unknown, None, flags);
        if ended == Err(Errno::AGAIN) {
            sleep(Duration::from_millis(1));
        }
    });
    // Nor does one that takes no input: what is typed is bounded, and the rest goes on.
    for n in 0..50_000u32 {
        let down = n % 2 == 0;
        let told = Told::Input(Input::Key { qnum: (n / 2 % 128) as u8, down });
        if wire::send(&viewer.link, &told, None).is_err() {
            sleep(Duration::from_millis(1));
        }
    }
    desk.await_report(|r| *r == Report::Alive);
    assert!(desk.rss_kb() < 30_000, "{} kB", desk.rss_kb());
    drop(fake);
    desk.await_report(|r| *r == Report::Lost);
    outlives(&mut desk, &mut viewer);
}

#[test]
fn a_viewer_that_takes_nothing_pins_one_picture() {
    let mut desk = Desk::new(None);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    let mut mute = desk.viewer(1, ViewerKind::Guest);
    let (mut fake, lent) = attach(&mut desk);
    viewer.await_size(800, 600);
    for n in 0..60 {
        fake.scanout_map(&lent, 0, [600 + n, 400, 3200, XRGB]);
        let body = numbers(&[8, 8, 0, 0]).bytes(&[n as u8; 256]);
        fake.say(LISTENER, "CursorDefine", "iiiiay", body, None);
        viewer.await_size(600 + n as u16, 400);
    }
    mute.quick = false;
    mute.look();
    assert_eq!(mute.pictures, 1, "the first, and none before that is confirmed");
    mute.quick = true;
    mute.tell(&Told::Ready { serial: 0 });
    mute.await_size(659, 400);
    assert_eq!(mute.pictures, 2, "then the newest");
}

#[test]
fn a_viewer_that_breaks_the_rules_is_ended_and_the_others_see_on() {
    let mut desk = Desk::new(None);
    let mut owner = desk.viewer(0, ViewerKind::Owner);
    let (mut fake, lent) = attach(&mut desk);
    owner.await_size(800, 600);
    type Harm = (&'static str, fn(&mut Viewer));
    let harms: [Harm; 6] = [
        ("garbage", |v| _ = rustix::net::send(&v.link, &[0xff; 100], SendFlags::NOSIGNAL)),
        ("an empty packet", |v| _ = rustix::net::send(&v.link, &[], SendFlags::NOSIGNAL)),
        ("a file", |v| {
            let told = Told::Ready { serial: 0 };
            wire::send(&v.link, &told, Some(v.link.as_fd())).expect("sent");
        }),
        ("ready for what was not shown", |v| v.tell(&Told::Ready { serial: 1 << 40 })),
        ("figures that shrink", |v| {
            v.tell(&Told::Opened);
            v.tell(&Told::Metered(Meter { frames: 5, bytes_out: 5, keys_in: 0 }));
            v.tell(&Told::Metered(Meter { frames: 5, bytes_out: 4, keys_in: 0 }));
        }),
        ("its end", |v| {
            let (other, _) = rustix::net::socketpair(
                rustix::net::AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )
            .expect("a pair");
            v.link = other;
        }),
    ];
    for (n, (name, harm)) in harms.into_iter().enumerate() {
        println!("{name}");
        let id = ViewerId(1);
        let mut bad = desk.viewer(id.0, ViewerKind::Guest);
        harm(&mut bad);
        desk.await_report(|r| *r == Report::Bad { viewer: id });
        let x = u16::try_from(n).expect("small") + 10;
        paint(&lent, u64::from(x) * 4, GREEN);
        fake.update_map([x.into(), 0, 1, 1]);
        owner.await_pixel(x, 0, GREEN);
    }
    // A flood of words: the broker reports on, and the owner sees.
    let flooder = desk.viewer(2, ViewerKind::Guest);
    flood("a viewer's words", &mut desk, &mut owner, || {
        for _ in 0..500 {
            _ = wire::send(&flooder.link, &Told::Pointer { x: 1, y: 1 }, None);
        }
    });
    paint(&lent, 400, GREEN);
    fake.update_map([100, 0, 1, 1]);
    owner.await_pixel(100, 0, GREEN);
}

#[test]
fn it_is_confined() {
    let mut desk = Desk::new(None);
    desk.await_report(|r| *r == Report::Alive);
    let status = std::fs::read_to_string(format!("/proc/{}/status", desk.pid())).expect("status");
    let uid = desk::UID;
    for line in [
        format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        format!("Gid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        "Groups:\t ".to_owned(),
        "CapEff:\t0000000000000000".to_owned(),
        "CapPrm:\t0000000000000000".to_owned(),
        "NoNewPrivs:\t1".to_owned(),
        "Seccomp:\t2".to_owned(),
        "Threads:\t1".to_owned(),
    ] {
        assert!(status.contains(&format!("\n{line}\n")), "{line} is not in\n{status}");
    }
    for space in ["net", "ipc", "mnt"] {
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{space}")).expect("a link");
        assert_ne!(of("self"), of(&desk.pid().to_string()), "{space}");
    }
}
