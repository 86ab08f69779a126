//! The broker with a QEMU that behaves: pixels, pointer, typing, sizes.

mod desk;

use desk::{
    Desk,
    fake::{Fake, LISTENER, XRGB, memory, paint, socket},
    until,
};
use nonstop_display::{
    control::{Order, Report, ViewerId, ViewerKind},
    link::{Button, Input, Rect, Show, Told},
    wire,
};
use nonstop_rdp::broker::dbus::{Kind, Writer};
use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_millis(150);
const RED: [u8; 3] = [0, 0, 255];
const GREEN: [u8; 3] = [0, 255, 0];

/// A desk with an owner that sees 800x600 of mapped memory.
fn mapped(budget: Option<u64>) -> (Desk, desk::Viewer, Fake, OwnedFd) {
    let mut desk = Desk::new(budget);
    let mut viewer = desk.viewer(0, ViewerKind::Owner);
    let (ours, theirs) = socket();
    desk.attach(&theirs);
    drop(theirs);
    let mut fake = Fake::attached(ours);
    let memory = memory(800 * 600 * 4);
    paint(&memory, 0, RED);
    let serial = fake.scanout_map(&memory, 0, [800, 600, 3200, XRGB]);
    assert_eq!(fake.await_answer(serial).kind, Kind::Return);
    desk.await_report(|r| *r == Report::Attached);
    viewer.await_size(800, 600);
    viewer.await_pixel(0, 0, RED);
    (desk, viewer, fake, memory)
}

#[test]
fn what_changes_in_lent_memory_is_shown_and_nothing_else() {
    let (_desk, mut viewer, mut fake, memory) = mapped(None);
    viewer.shows.clear();
    let at = |x: u64, y: u64| (y * 800 + x) * 4;
    paint(&memory, at(100, 200), GREEN);
    paint(&memory, at(700, 500), GREEN);
    fake.update_map([90, 190, 20, 20]);
    viewer.await_pixel(100, 200, GREEN);
    let rects: Vec<_> = viewer.shows.iter().filter_map(rects).flatten().collect();
    assert_eq!(rects, [Rect { x: 90, y: 190, width: 20, height: 20 }]);
    assert_eq!(viewer.pixel(700, 500), Some([0, 0, 0]), "what was not named is not copied");
    // Partly outside: cut.
    fake.update_map([-50, 490, 10_000, 10_000]);
    viewer.await_pixel(700, 500, GREEN);
}

fn rects(show: &Show) -> Option<Vec<Rect>> {
    match show {
        Show::Damage { rects, .. } => Some(rects.clone()),
        _ => None,
    }
}

#[test]
fn other_strides_offsets_and_formats_are_shown_as_they_are() {
    let (_desk, mut viewer, mut fake, _) = mapped(None);
    let lent = memory(1 << 20);
    // 16 bits, rows with a gap, not at the start.
    rustix::io::pwrite(&lent, &[0, 0xf8], 4096 + 7 * 1000 + 3 * 2).expect("painted");
    fake.scanout_map(&lent, 4096, [320, 200, 1000, 0x1002_0565]);
    viewer.await_size(320, 200);
    viewer.await_pixel(3, 7, RED);
    // 32 bits with a gap.
    paint(&lent, 10 * 2000 + 5 * 4, GREEN);
    fake.scanout_map(&lent, 0, [400, 300, 2000, XRGB]);
    viewer.await_size(400, 300);
    viewer.await_pixel(5, 10, GREEN);
    // In the message itself, and a part of it that begins outside.
    fake.scanout([64, 64, 64 * 3, 0x1802_0888], &RED.repeat(64 * 64));
    viewer.await_size(64, 64);
    viewer.await_pixel(63, 63, RED);
    let mut part = vec![0; 8 * 32];
    part[5 * 32 + 6 * 4..][..3].copy_from_slice(&GREEN);
    let serial = fake.update([-4, -3, 8, 8], [32, XRGB], &part);
    assert_eq!(fake.await_answer(serial).kind, Kind::Return);
    viewer.await_pixel(2, 2, GREEN);
    assert_eq!(viewer.pixel(10, 10), Some(RED));
    // Off, and larger than can be shown: dark, and alive.
    fake.say(LISTENER, "Disable", "", Writer::new(), None);
    viewer.await_pixel(63, 63, [0x22, 0x1c, 0x18]);
    fake.scanout_map(&lent, 0, [8192, 10, 32768, XRGB]);
    fake.scanout_map(&lent, 0, [400, 300, 2000, XRGB]);
    viewer.await_size(400, 300);
    viewer.await_pixel(5, 10, GREEN);
}

#[test]
fn the_pointer_looks_as_the_machine_says() {
    let (_desk, mut viewer, mut fake, _) = mapped(None);
    let shape = |size: i32| {
        let body = Writer::new().i32(size).i32(size).i32(500).i32(-1);
        body.bytes(&vec![7; usize::try_from(size * size * 4).expect("small")])
    };
    fake.say(LISTENER, "CursorDefine", "iiiiay", shape(128), None);
    let cursor = until("a pointer", || {
        viewer.look();
        viewer.shows.iter().rev().find_map(|show| match show {
            Show::Cursor(Some(cursor)) => Some(cursor.clone()),
            _ => None,
        })
    });
    assert_eq!((cursor.width, cursor.height, cursor.hot_x, cursor.hot_y), (96, 96, 95, 0));
    assert_eq!(cursor.pixels.len(), 96 * 96 * 4);
    viewer.shows.clear();
    for shown in [1, 0] {
        fake.say(LISTENER, "MouseSet", "iii", Writer::new().i32(1).i32(2).i32(shown), None);
    }
    until("no pointer", || {
        viewer.look();
        viewer.shows.contains(&Show::Cursor(None)).then_some(())
    });
}

#[test]
fn what_is_typed_arrives_and_what_is_held_is_released_when_the_session_ends() {
    let (mut desk, viewer, mut fake, _) = mapped(None);
    let key = |qnum, down| Told::Input(Input::Key { qnum, down });
    viewer.tell(&Told::Opened);
    desk.await_report(|r| matches!(r, Report::Opened { viewer: ViewerId(0) }));
    viewer.tell(&key(0x1e, true));
    viewer.tell(&key(0x1e, false));
    viewer.tell(&Told::Input(Input::Button { button: Button::WheelDown, down: true }));
    viewer.tell(&Told::Pointer { x: 5000, y: 20 });
    viewer.tell(&key(0x9d, true));
    fake.answer(SOON);
    let asked = |name: &str, numbers: &[i32]| (name.to_owned(), numbers.to_vec());
    let expected = [
        asked("Press", &[0x1e]),
        asked("Release", &[0x1e]),
        asked("Press", &[4]),
        asked("Release", &[4]),
        asked("SetAbsPosition", &[799, 20]),
        asked("Press", &[0x9d]),
    ];
    assert_eq!(fake.asked, expected);
    fake.asked.clear();
    viewer.tell(&Told::Closed(Default::default()));
    fake.answer(SOON);
    assert_eq!(fake.asked, [asked("Release", &[0x9d])]);
    desk.await_report(|r| matches!(r, Report::Closed { viewer: ViewerId(0), .. }));

    // Without a tablet: by steps.
    fake.asked.clear();
    fake.absolute = false;
    std::thread::sleep(Duration::from_millis(1100));
    viewer.tell(&Told::Pointer { x: 10, y: 10 });
    fake.answer(SOON);
    fake.asked.clear();
    viewer.tell(&Told::Pointer { x: 13, y: 6 });
    fake.answer(SOON);
    assert_eq!(fake.asked, [asked("RelMotion", &[3, -4])]);

    // A worker that is gone holds nothing down either.
    viewer.tell(&key(0x2a, true));
    fake.answer(SOON);
    fake.asked.clear();
    drop(viewer);
    desk.await_report(|r| *r == Report::Bad { viewer: ViewerId(0) });
    fake.answer(SOON);
    assert_eq!(fake.asked, [asked("Release", &[0x2a])]);
}

#[test]
fn a_guest_types_nothing_and_a_recorder_hears_what_the_owner_types() {
    let (desk, owner, mut fake, _) = mapped(None);
    let (guest, mut recorder) =
        (desk.viewer(1, ViewerKind::Guest), desk.viewer(2, ViewerKind::Recorder));
    recorder.await_size(800, 600);
    guest.tell(&Told::Input(Input::Key { qnum: 1, down: true }));
    guest.tell(&Told::Resize { width: 1000, height: 1000 });
    recorder.tell(&Told::Input(Input::Key { qnum: 2, down: true }));
    owner.tell(&Told::Input(Input::Key { qnum: 3, down: true }));
    fake.answer(SOON);
    assert_eq!(fake.asked, [("Press".to_owned(), vec![3])]);
    until("what was typed", || {
        recorder.look();
        let typed = Show::Typed(Input::Key { qnum: 3, down: true });
        recorder.shows.contains(&typed).then_some(())
    });
    let typed = recorder.shows.iter().filter(|s| matches!(s, Show::Typed(_))).count();
    assert_eq!(typed, 1);
}

#[test]
fn the_window_s_size_is_asked_for_within_bounds_and_again_after_a_power_cycle() {
    let (mut desk, mut viewer, mut fake, _) = mapped(None);
    viewer.tell(&Told::Resize { width: 0, height: 9000 });
    fake.answer(SOON);
    let (name, numbers) = fake.asked.pop().expect("asked");
    assert_eq!(name, "SetUIInfo");
    assert_eq!(numbers[numbers.len() - 2..], [640, 4096]);
    drop(fake);
    desk.await_report(|r| *r == Report::Lost);
    viewer.await_card();
    let (ours, theirs) = socket();
    desk.attach(&theirs);
    let mut fake = Fake::attached(ours);
    fake.answer(SOON);
    assert_eq!(fake.asked[0].0, "SetUIInfo");
    assert_eq!(fake.asked[0].1[numbers.len() - 2..], [640, 4096]);
}

#[test]
fn a_slow_viewer_holds_up_nobody_and_gets_what_it_missed_in_one() {
    let (mut desk, mut owner, mut fake, memory) = mapped(None);
    let mut slow = desk.viewer(1, ViewerKind::Guest);
    slow.await_size(800, 600);
    slow.quick = false;
    slow.look();
    let (before, start) = ((owner.updates, slow.updates), Instant::now());
    for y in 0..60 {
        paint(&memory, (y * 800 + 5) * 4, GREEN);
        fake.update_map([0, i32::try_from(y).expect("small"), 800, 1]);
        std::thread::sleep(Duration::from_millis(20));
        owner.look();
        slow.look();
    }
    owner.await_pixel(5, 59, GREEN);
    let (owners, slows) = (owner.updates - before.0, slow.updates - before.1);
    let most = 35.0 * start.elapsed().as_secs_f64();
    assert!(owners >= 10 && owners as f64 <= most, "about thirty a second: {owners}");
    assert!(slows <= 1, "{slows}");
    slow.shows.clear();
    // It says what it owes: all else comes in one.
    slow.quick = true;
    slow.tell(&Told::Ready { serial: slow.updates });
    until("the rest", || {
        slow.look();
        (!slow.shows.is_empty()).then_some(())
    });
    std::thread::sleep(Duration::from_millis(100));
    slow.look();
    let rest: Vec<_> = slow.shows.iter().filter_map(rects).collect();
    assert_eq!(rest.len(), 1, "{rest:?}");
    // Removed: not one frame more.
    desk.order(&Order::RemoveViewer { viewer: ViewerId(1) }, None);
    until("the end of the link", || {
        matches!(wire::receive::<Show>(&slow.link), Err(wire::WireError::Gone)).then_some(())
    });
    desk.listen();
    assert!(!desk.reports.contains(&Report::Bad { viewer: ViewerId(1) }));
}

#[test]
fn a_still_screen_costs_nearly_nothing() {
    let (mut desk, mut viewer, _fake, _memory) = mapped(None);
    std::thread::sleep(Duration::from_millis(300));
    viewer.look();
    desk.listen();
    desk.reports.clear();
    let (cpu, shown, start) = (desk.cpu_seconds(), viewer.shows.len(), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    viewer.look();
    desk.listen();
    let seconds = start.elapsed().as_secs_f64();
    let used = (desk.cpu_seconds() - cpu) / seconds;
    assert!(used < 0.02, "{used}");
    assert_eq!(viewer.shows.len(), shown, "nothing is shown while nothing changes");
    let alive = desk.reports.iter().filter(|r| **r == Report::Alive).count();
    assert!(alive >= 4 && alive as f64 <= 2.0 * seconds + 1.0, "twice a second: {alive}");
    println!("a still screen: {:.2} % of a core, {} kB", used * 100.0, desk.rss_kb());
}

#[test]
fn a_session_above_its_budget_is_slowed_down_and_told_once() {
    let (mut desk, mut viewer, mut fake, memory) = mapped(Some(3_600_000));
    let meter = |bytes_out| nonstop_display::link::Meter { frames: 1, bytes_out, keys_in: 0 };
    viewer.tell(&Told::Opened);
    viewer.tell(&Told::Metered(meter(1_000_000)));
    let report = desk.await_report(|r| matches!(r, Report::Metered { .. }));
    assert_eq!(report, Report::Metered { viewer: ViewerId(0), meter: meter(1_000_000) });
    // The bucket has refilled by a thousand bytes a second since.
    viewer.tell(&Told::Metered(meter(3_602_500)));
    desk.await_report(|r| matches!(r, Report::OverBudget { viewer: ViewerId(0), .. }));
    viewer.look();
    let before = viewer.updates;
    let start = Instant::now();
    let mut sent = 3_602_500;
    while start.elapsed() < Duration::from_secs(6) {
        paint(&memory, 4, GREEN);
        fake.update_map([0, 0, 10, 10]);
        std::thread::sleep(Duration::from_millis(20));
        viewer.look();
        sent += 1;
        viewer.tell(&Told::Metered(meter(sent)));
    }
    let (updates, seconds) = (viewer.updates - before, start.elapsed().as_secs_f64());
    assert!(updates >= 2 && updates as f64 <= seconds + 1.0, "one a second: {updates}");
    desk.listen();
    assert!(!desk.reports.iter().any(|r| matches!(r, Report::OverBudget { .. })));
    // A debt: one in ten seconds. A worker begun anew does not fill the bucket.
    viewer.tell(&Told::Metered(meter(8_000_000)));
    std::thread::sleep(Duration::from_millis(100));
    let mut again = desk.viewer(0, ViewerKind::Owner);
    again.await_size(800, 600);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        fake.update_map([0, 0, 10, 10]);
        std::thread::sleep(Duration::from_millis(20));
        again.look();
    }
    assert_eq!(again.updates, 0);
}

#[test]
fn it_ends_with_nonstopd() {
    let desk = Desk::new(None);
    let mut child = desk.release();
    let status = until("its end", || child.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
}
